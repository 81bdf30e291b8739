// Package schema checks event data against JSON Schemas (drafts 4 to 2020-12). A schema
// may refer to itself and to the drafts' own, and to nothing else: no file and no URL is
// ever read.
//
// Both schemas and data come from users. What a schema costs to compile is bounded before
// it is compiled (limits.go), and what a check costs while it runs (checker.go).
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

// MaxBytes is how large a schema may be.
const MaxBytes = 256 << 10

// Schema is a compiled JSON Schema. It is safe for concurrent use.
type Schema struct {
	source []byte
	idle   chan *checker // those that check nothing at the moment
	made   atomic.Int32  // no more than idle has room for
}

// Problem says what is wrong with a value.
type Problem struct {
	Path    string // where, as "items[0].price"; empty for the whole value
	Message string
}

// Error gives the message, behind the path if there is one.
func (p *Problem) Error() string { return strings.TrimSpace(p.Path + " " + p.Message) }

const schemaURL = "switchhook:///schema"

// Compile reads a JSON Schema, and refuses one whose checks could take very long. The
// error says what is wrong with it, for people.
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

// Load is Compile for a schema that was stored: it takes what Compile would refuse for
// what its checks could take, since each check is bounded by itself.
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

// Validate checks a JSON value, which must be well formed. The error is a *Problem if the
// value does not fit, or takes more steps to check than values of its size may; it is
// that of ctx if ctx ended before the check did.
func (s *Schema) Validate(ctx context.Context, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return &Problem{Message: err.Error()}
	}
	c, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer func() { s.idle <- c }()
	return c.check(ctx, doc, len(data))
}

// take waits for a checker that is idle. As many as there are processors can be at work:
// a check does nothing but compute.
func (s *Schema) take(ctx context.Context) (*checker, error) {
	select {
	case c := <-s.idle:
		return c, nil
	default:
	}
	if n := s.made.Add(1); int(n) <= cap(s.idle) {
		if c, err := newChecker(s.source); err == nil { // which it was when the first was made
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

// compile reads a schema with the regular expressions of engine. The first that it gives is
// the schema; the others are what dynamic references in it may lead to.
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
			return nil, fmt.Errorf("is no JSON Schema: %s: %s", Join("schema", p.Path), p.Message)
		}
		return nil, errors.New(shorten(strings.ReplaceAll(err.Error(), schemaURL, "schema")))
	}
	roots = append(roots, compiled)
	for _, pointer := range size.anchors {
		// What can't be compiled is no schema that a reference could find, but data of its form.
		if s, err := c.Compile(schemaURL + "#" + pointer); err == nil {
			roots = append(roots, s)
		}
	}
	return roots, nil
}

type noLoader struct{}

// Load refuses: a schema must not make the router read files or ask other servers.
func (noLoader) Load(url string) (any, error) {
	return nil, errors.New("schemas are not loaded from elsewhere: put what it refers to under $defs")
}

var english = message.NewPrinter(language.English)

// deepest follows the first cause down to the one that says what is wrong.
func deepest(v *jsonschema.ValidationError) *Problem {
	for len(v.Causes) > 0 {
		v = v.Causes[0]
	}
	return &Problem{Path: path(v.InstanceLocation), Message: shorten(text(v.ErrorKind))}
}

// maxMessage bounds the text of a problem, which may quote the value.
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

// Join puts the path of a value behind the path of what holds it.
func Join(holder, path string) string {
	if holder == "" || path == "" || path[0] == '[' {
		return holder + path
	}
	return holder + "." + path
}
