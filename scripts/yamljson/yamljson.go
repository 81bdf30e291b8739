// Package yamljson reads a YAML text as JSON. The JSON is made from the syntax tree and not
// from decoded values, so that numbers keep their digits and every value knows its line.
//
// Constructs that JSON can't represent are refused: tags, merge keys, infinity, several
// documents, a member that is there twice. Texts are untrusted, so size, nesting and alias
// expansion are bounded.
package yamljson

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is a mistake in a YAML text.
type Error struct {
	Line    int // 1-based, 0 if unknown
	Message string
}

// Error returns the message, without the line.
func (e *Error) Error() string { return e.Message }

// Limits bounds what Parse accepts; 0 means the default.
type Limits struct {
	Bytes     int // of the text; default MaxBytes
	JSONBytes int // of the JSON, which nested aliases can expand exponentially; default 2 MiB
}

// MaxBytes is the maximum size of a text if Limits sets none.
const MaxBytes = 512 << 10

const (
	maxJSON  = 2 << 20
	maxDepth = 100
	// The library compares each directive with all before it.
	maxTagDirectives = 500

	tooDeep = "the YAML is nested too deep"
)

// Doc is a YAML text as JSON.
type Doc struct {
	JSON    []byte
	places  []position // by offset
	root    *yaml.Node // nil for an empty text
	depth   int
	maxJSON int
}

// position is the line in the YAML text of the JSON value at an offset.
type position struct{ offset, line int }

// Parse reads a YAML text; an empty one is null.
func Parse(text []byte, limits Limits) (*Doc, *Error) {
	limits = Limits{cmp.Or(limits.Bytes, MaxBytes), cmp.Or(limits.JSONBytes, maxJSON)}
	if len(text) > limits.Bytes {
		return nil, &Error{Message: fmt.Sprintf("is larger than %d KiB", limits.Bytes>>10)}
	}
	if bytes.Count(text, []byte("%TAG")) > maxTagDirectives {
		return nil, &Error{Message: "has too many %TAG directives; tags are not allowed"}
	}
	d := &Doc{maxJSON: limits.JSONBytes}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, syntaxError(text, err)
		}
		switch body := document.Content[0]; {
		case body.Tag == "!!null" && body.Value == "": // nothing but comments
		case d.root != nil:
			return nil, refuse(body, "must hold one YAML document, but holds several")
		default:
			d.root = body
		}
	}
	if d.root == nil {
		d.JSON = []byte("null")
		return d, nil
	}
	if err := d.write(d.root); err != nil {
		return nil, err
	}
	return d, nil
}

// syntaxError finds the line of the library's error: those of its grammar count lines from 0, and
// a missing anchor has none.
func syntaxError(text []byte, err error) *Error {
	e := &Error{Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	var anchor string
	if _, err := fmt.Sscanf(e.Message, "line %d:", &e.Line); err == nil {
		_, e.Message, _ = strings.Cut(e.Message, ": ")
		if strings.HasPrefix(e.Message, "did not find expected") {
			e.Line++
		}
		e.Line = min(e.Line, 1+bytes.Count(bytes.TrimRight(text, "\n"), []byte("\n"))) // the end is a line of its own
	} else if _, err := fmt.Sscanf(e.Message, "unknown anchor '%s", &anchor); err == nil {
		anchor = strings.TrimSuffix(anchor, "'")
		before, _, _ := bytes.Cut(text, []byte("*"+anchor))
		return &Error{1 + bytes.Count(before, []byte("\n")), fmt.Sprintf("there is no anchor %q before this", anchor)}
	}
	if strings.Contains(e.Message, "exceeded max depth") {
		return &Error{e.Line, tooDeep}
	}
	e.Message = "not valid YAML: " + e.Message
	return e
}

// Line returns the line of the value whose JSON begins at offset, 0 if unknown.
func (d *Doc) Line(offset int) int {
	i, found := slices.BinarySearchFunc(d.places, offset, func(p position, offset int) int { return p.offset - offset })
	if !found {
		return 0
	}
	return d.places[i].line
}

// BlockKey returns the position of a member's key, for rewriting the text from there: line
// and column are 1-based. The path consists of member names and element indexes; aliases are
// resolved. ok is true only if the whole path is in block style, so that the key begins a
// line, apart from dashes.
func (d *Doc) BlockKey(path ...any) (line, column int, ok bool) {
	var key *yaml.Node
	n := d.root
	for _, step := range path {
		if n != nil && n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n == nil || n.Style&yaml.FlowStyle != 0 {
			return 0, 0, false
		}
		at := -1
		switch i, isIndex := step.(int); {
		case n.Kind == yaml.SequenceNode && isIndex && i < len(n.Content):
			key, at = nil, i
		case n.Kind == yaml.MappingNode:
			for k := 0; k < len(n.Content) && at < 0; k += 2 {
				if n.Content[k].Value == step {
					key, at = n.Content[k], k+1
				}
			}
		}
		if at < 0 {
			return 0, 0, false
		}
		n = n.Content[at]
	}
	if key == nil {
		return 0, 0, false
	}
	return key.Line, key.Column, true
}

func refuse(n *yaml.Node, format string, args ...any) *Error {
	return &Error{n.Line, fmt.Sprintf(format, args...)}
}

// write appends a node's value as JSON.
func (d *Doc) write(n *yaml.Node) *Error {
	if d.depth++; d.depth > maxDepth || len(d.JSON) > d.maxJSON {
		return refuse(n, tooDeep+", or its aliases make it too large")
	}
	defer func() { d.depth-- }()
	if n.Kind == yaml.AliasNode {
		return d.write(n.Alias)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return refuse(n, "tags are not allowed")
	}
	d.places = append(d.places, position{len(d.JSON), n.Line})
	switch n.Kind {
	case yaml.MappingNode:
		return d.writeMapping(n.Content)
	case yaml.SequenceNode:
		d.JSON = append(d.JSON, '[')
		for i, e := range n.Content {
			if i > 0 {
				d.JSON = append(d.JSON, ',')
			}
			if err := d.write(e); err != nil {
				return err
			}
		}
		d.JSON = append(d.JSON, ']')
		return nil
	}
	scalar, err := scalarJSON(n)
	d.JSON = append(d.JSON, scalar...)
	return err
}

func (d *Doc) writeMapping(keysAndValues []*yaml.Node) *Error {
	d.JSON = append(d.JSON, '{')
	lines := map[string]int{}
	for i := 0; i < len(keysAndValues); i += 2 {
		key, value := keysAndValues[i], keysAndValues[i+1]
		switch {
		case key.Tag == "!!merge":
			return refuse(key, "merge keys (<<) are not allowed: write the members out")
		case key.Kind != yaml.ScalarNode:
			return refuse(key, "the name of a member must be a text")
		case lines[key.Value] > 0:
			return refuse(key, "%q is already defined in line %d", key.Value, lines[key.Value])
		}
		lines[key.Value] = key.Line
		if i > 0 {
			d.JSON = append(d.JSON, ',')
		}
		d.JSON = append(append(d.JSON, marshal(key.Value)...), ':') // all names are strings: 1 becomes "1"
		if err := d.write(value); err != nil {
			return err
		}
	}
	d.JSON = append(d.JSON, '}')
	return nil
}

// scalarJSON returns a scalar as JSON. A number keeps its digits if they are valid JSON.
func scalarJSON(n *yaml.Node) ([]byte, *Error) {
	var v any
	switch n.Tag {
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return []byte(n.Value), nil
		}
		if err := n.Decode(&v); err != nil {
			return nil, refuse(n, "%q can't be read as a number", n.Value)
		}
		if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return nil, refuse(n, "JSON has no such number")
		}
		return marshal(v), nil
	case "!!null":
		return []byte("null"), nil
	case "!!bool":
		return []byte(strings.ToLower(n.Value)), nil
	}
	return marshal(n.Value), nil
}

// marshal encodes a text or a finite number, which can't fail.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}
