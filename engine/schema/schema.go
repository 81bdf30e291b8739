// Package schema validates event data against JSON Schemas (drafts 4 to 2020-12). A schema
// may refer to itself and to the drafts' own schemas only: no file and no URL is ever read.
//
// Both schemas and data come from users. The cost of a schema is bounded before it is
// compiled (limits.go), the cost of a validation while it runs (checker.go).
package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// MaxBytes is the maximum size of a schema.
const MaxBytes = 256 << 10

// Schema is a compiled JSON Schema. It is safe for concurrent use.
type Schema struct {
	source []byte
	idle   chan *checker // the checkers that are not in use
	made   atomic.Int32  // at most cap(idle)
}

// Problem describes why a value is invalid.
type Problem struct {
	Path    string // of the invalid part, such as "items[0].price"; empty for the whole value
	Message string
}

// Error returns the path and the message.
func (p *Problem) Error() string { return strings.TrimSpace(p.Path + " " + p.Message) }

const schemaURL = "switchhook:///schema"

// Compile compiles a JSON Schema, and refuses one whose validations could take very long.
// The error text is for users.
func Compile(source []byte) (*Schema, error) {
	c, err := newChecker(source)
	if err != nil {
		return nil, err
	}
	if err := checkPaths(c.compiled); err != nil {
		return nil, err
	}
	return newSchema(source, c), nil
}

// Load compiles a stored schema. Unlike Compile it accepts schemas that may take long to
// validate against, because each validation is bounded as well.
func Load(source []byte) (*Schema, error) {
	c, err := newChecker(source)
	if err != nil {
		return nil, err
	}
	return newSchema(source, c), nil
}

func newSchema(source []byte, c *checker) *Schema {
	s := &Schema{source: source, idle: make(chan *checker, runtime.GOMAXPROCS(0))}
	s.made.Store(1)
	s.idle <- c
	return s
}

// Validate validates a well-formed JSON value. The error is a *Problem if the value is
// invalid, or takes more steps than a value of its size may; it is ctx's error if ctx ends
// first.
func (s *Schema) Validate(ctx context.Context, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return &Problem{Message: err.Error()}
	}
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { s.idle <- c }()
	return c.check(ctx, doc, len(data))
}

// acquire waits for an idle checker. There is one for each processor, because a validation
// only computes.
func (s *Schema) acquire(ctx context.Context) (*checker, error) {
	select {
	case c := <-s.idle:
		return c, nil
	default:
	}
	if n := s.made.Add(1); int(n) <= cap(s.idle) {
		if c, err := newChecker(s.source); err == nil { // it compiled before
			return c, nil
		}
	}
	s.made.Add(-1)
	select {
	case c := <-s.idle:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// compile compiles a schema, and its regular expressions by engine. The first root is the
// schema; the others are possible targets of its dynamic references.
func compile(source []byte, engine jsonschema.RegexpEngine) (roots []*jsonschema.Schema, err error) {
	if len(source) > MaxBytes {
		return nil, fmt.Errorf("is %d bytes, %d are allowed", len(source), MaxBytes)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(source))
	if err != nil {
		return nil, err
	}
	switch doc.(type) {
	case map[string]any, bool:
	default:
		return nil, errors.New("must be an object, or true or false")
	}
	size := measure{}
	if err := size.walk(doc); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(engine)
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		var invalid *jsonschema.SchemaValidationError
		var v *jsonschema.ValidationError
		if errors.As(err, &invalid) && errors.As(invalid.Err, &v) {
			p := deepest(v)
			return nil, fmt.Errorf("is not a JSON Schema: %s: %s", Join("schema", p.Path), p.Message)
		}
		return nil, errors.New(shorten(strings.ReplaceAll(err.Error(), schemaURL, "schema")))
	}
	roots = append(roots, compiled)
	for _, pointer := range size.anchors {
		// If it doesn't compile it is data, not a schema that a reference could find.
		if s, err := c.Compile(schemaURL + "#" + pointer); err == nil {
			roots = append(roots, s)
		}
	}
	return roots, nil
}

type noLoader struct{}

// Load fails: a schema must not make the router read files or call other servers.
func (noLoader) Load(url string) (any, error) {
	return nil, errors.New("schemas are not loaded from elsewhere: move the referenced schema to $defs")
}

var english = message.NewPrinter(language.English)

// deepest returns the innermost of the first causes, which is the most specific one.
func deepest(v *jsonschema.ValidationError) *Problem {
	for len(v.Causes) > 0 {
		v = v.Causes[0]
	}
	return &Problem{Path: path(v.InstanceLocation), Message: shorten(text(v.ErrorKind))}
}

// maxMessage is the maximum length of a problem's text, which may quote the value.
const maxMessage = 500

func shorten(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…"
}

func path(tokens []string) string {
	var p string
	for _, t := range tokens {
		if t != "" && strings.Trim(t, "0123456789") == "" {
			p += "[" + t + "]"
		} else {
			p = Join(p, t)
		}
	}
	return p
}

// Join appends the path of a value to the path of its parent.
func Join(parent, path string) string {
	if parent == "" || path == "" || path[0] == '[' {
		return parent + path
	}
	return parent + "." + path
}
