package filter

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/types"

	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
)

// shape is the part of a JSON Schema that a filter can be checked against. The zero shape
// allows any value.
type shape struct {
	kind   shapeKind
	fields map[string]*shape // of an object
	open   bool              // the object may have fields that are not listed
	elem   *shape            // of an array
}

type shapeKind uint8

const (
	anything shapeKind = iota
	boolean
	whole
	numeric
	textual
	array
	object
)

// The limits of reading schemas: a schema may refer to itself and expand without end.
const (
	maxSchemaBytes = 1 << 20
	maxShapeDepth  = 12
	maxShapes      = 2_000 // in one schema
)

// payloadShape merges the schemas of data: a field of any schema is known, and a field that
// two schemas describe differently may be anything.
func payloadShape(schemas [][]byte) (*shape, error) {
	if len(schemas) == 0 {
		return &shape{}, nil
	}
	var all *shape
	for _, text := range schemas {
		if len(text) > maxSchemaBytes {
			return &shape{}, nil
		}
		doc, err := jsonindex.Parse(text, jsonindex.Limits{})
		if err != nil {
			return nil, &scripts.Error{Phase: scripts.PhaseCompile, Message: fmt.Sprintf("the event type's schema is not valid JSON: %v", err)}
		}
		r := &schemaReader{root: doc.Root()}
		one := r.shape(doc.Root(), 0)
		if all == nil {
			all = one
		} else {
			all = merge(all, one)
		}
	}
	return all, nil
}

type schemaReader struct {
	root jsonindex.Value
	made int
}

func (r *schemaReader) shape(v jsonindex.Value, depth int) *shape {
	if r.made++; depth > maxShapeDepth || r.made > maxShapes || v.Kind() != jsonindex.Object {
		return &shape{}
	}
	if ref := v.Get("$ref"); ref.Exists() {
		return r.shape(r.resolve(ref.Text()), depth+1)
	}
	switch schemaType(v) {
	case "boolean":
		return &shape{kind: boolean}
	case "integer":
		return &shape{kind: whole}
	case "number":
		return &shape{kind: numeric}
	case "string":
		return &shape{kind: textual}
	case "array":
		if v.Get("prefixItems").Exists() || v.Get("items").Kind() != jsonindex.Object {
			return &shape{kind: array, elem: &shape{}}
		}
		return &shape{kind: array, elem: r.shape(v.Get("items"), depth+1)}
	case "object":
		return r.object(v, depth)
	}
	return &shape{}
}

// schemaType returns the only type that v allows besides null; "" for several or none.
func schemaType(v jsonindex.Value) string {
	t := v.Get("type")
	if t.Kind() == jsonindex.String {
		return t.Text()
	}
	one := ""
	for _, e := range t.Elements() {
		if e.Text() == "null" {
			continue
		}
		if one != "" {
			return ""
		}
		one = e.Text()
	}
	if one != "" || t.Exists() {
		return one
	}
	if v.Get("properties").Kind() == jsonindex.Object && !composed(v) {
		return "object"
	}
	return ""
}

// composed reports whether other parts of the schema may add fields.
func composed(v jsonindex.Value) bool {
	for _, word := range []string{"anyOf", "oneOf", "allOf", "if", "dependentSchemas", "dependencies", "patternProperties", "$dynamicRef"} {
		if v.Get(word).Exists() {
			return true
		}
	}
	return false
}

func (r *schemaReader) object(v jsonindex.Value, depth int) *shape {
	s := &shape{kind: object, fields: map[string]*shape{}}
	for name, field := range v.Get("properties").Members() {
		s.fields[name] = r.shape(field, depth+1)
	}
	// By the standard, a schema that lists fields without additionalProperties allows others;
	// here it does not, otherwise no misspelt field would ever be found.
	switch more := v.Get("additionalProperties"); more.Kind() {
	case jsonindex.Missing:
		s.open = len(s.fields) == 0
	case jsonindex.False:
	default:
		s.open = true
	}
	s.open = s.open || composed(v) || r.made > maxShapes
	return s
}

// resolve follows a reference within the schema: "#", "#/$defs/order".
func (r *schemaReader) resolve(ref string) jsonindex.Value {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return jsonindex.Value{}
	}
	if p, err := url.PathUnescape(pointer); err == nil {
		pointer = p
	}
	v := r.root
	for _, part := range strings.Split(pointer, "/")[1:] {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		if v.Kind() == jsonindex.Array {
			v = nth(v, part)
		} else {
			v = v.Get(part)
		}
	}
	return v
}

func nth(v jsonindex.Value, index string) jsonindex.Value {
	want, err := strconv.Atoi(index)
	for i, e := range v.Elements() {
		if err == nil && i == want {
			return e
		}
	}
	return jsonindex.Value{}
}

func merge(a, b *shape) *shape {
	switch {
	case a.kind == whole && b.kind == numeric || a.kind == numeric && b.kind == whole:
		return &shape{kind: numeric}
	case a.kind != b.kind:
		return &shape{}
	case a.kind == array:
		return &shape{kind: array, elem: merge(a.elem, b.elem)}
	case a.kind != object:
		return a
	}
	s := &shape{kind: object, fields: make(map[string]*shape, len(a.fields)), open: a.open || b.open}
	for name, field := range a.fields {
		if other, both := b.fields[name]; both {
			field = merge(field, other)
		}
		s.fields[name] = field
	}
	for name, field := range b.fields {
		if _, both := a.fields[name]; !both {
			s.fields[name] = field
		}
	}
	return s
}

// exprType returns the shape as a type of expr's checker.
func (s *shape) exprType() types.Type {
	switch s.kind {
	case boolean:
		return types.Bool
	case whole:
		return types.Int
	case numeric:
		return types.Float64
	case textual:
		return types.String
	case array:
		return types.Array(s.elem.exprType())
	case object:
		m := make(types.Map, len(s.fields)+1)
		for name, field := range s.fields {
			m[name] = field.exprType()
		}
		if s.open {
			m[types.Extra] = types.Any
		}
		return m
	}
	return types.Any
}
