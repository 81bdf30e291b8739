// Package schema checks event data against JSON Schemas (drafts 4 to 2020-12). A schema
// may refer to itself and to the drafts' own, and to nothing else: no file and no URL is
// ever read.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// MaxBytes is how large a schema may be.
const MaxBytes = 256 << 10

// Schema is a compiled JSON Schema. It is safe for concurrent use.
type Schema struct{ compiled *jsonschema.Schema }

// Problem says what is wrong with a value.
type Problem struct {
	Path    string // where, as "items[0].price"; empty for the whole value
	Message string
}

const schemaURL = "switchhook:///schema"

// Compile reads a JSON Schema. The error says what is wrong with it, for people.
func Compile(source []byte) (*Schema, error) {
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
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
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
		return nil, errors.New(strings.ReplaceAll(err.Error(), schemaURL, "schema"))
	}
	return &Schema{compiled}, nil
}

type noLoader struct{}

// Load refuses: a schema must not make the router read files or ask other servers.
func (noLoader) Load(url string) (any, error) {
	return nil, errors.New("schemas are not loaded from elsewhere: put what it refers to under $defs")
}

// Validate checks a JSON value, which must be well formed; nil says that it is fine.
func (s *Schema) Validate(data []byte) *Problem {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return &Problem{Message: err.Error()}
	}
	err = s.compiled.Validate(doc)
	if err == nil {
		return nil
	}
	var v *jsonschema.ValidationError
	if !errors.As(err, &v) {
		return &Problem{Message: err.Error()}
	}
	p := deepest(v)
	return &p
}

var english = message.NewPrinter(language.English)

// deepest follows the first cause down to the one that says what is wrong.
func deepest(v *jsonschema.ValidationError) Problem {
	for len(v.Causes) > 0 {
		v = v.Causes[0]
	}
	return Problem{Path: path(v.InstanceLocation), Message: v.ErrorKind.LocalizedString(english)}
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
