// Package yamljson reads a YAML text as JSON. The JSON is made from the syntax tree and not
// from decoded values, so that numbers keep their digits and every value knows its line.
//
// Constructs that JSON can't represent are refused: tags, merge keys, infinity, several
// documents. Texts are untrusted, so size, nesting, alias expansion and time are bounded. A
// parser that is out of time can't be stopped and its goroutine is left running, which is
// acceptable in a command that ends soon, but not in a server.
package yamljson

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
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
	Bytes     int           // of the text; default MaxBytes
	JSONBytes int           // of the JSON, which nested aliases can expand exponentially; default 2 MiB
	Time      time.Duration // for parsing; default 5 s
}

// MaxBytes is the maximum size of a text if Limits sets none.
const MaxBytes = 512 << 10

const (
	maxJSON  = 2 << 20
	maxDepth = 100
	maxRun   = 20 // maximum number of consecutive "- ", "? ", "a: ", &anchors and !tags in a line

	// maxTime is enough for texts written by people, which take a second or two per megabyte,
	// but goccy/go-yaml takes quadratic time for some texts, such as one of quotes only.
	maxTime = 5 * time.Second
)

// Doc is a YAML text as JSON.
type Doc struct {
	JSON    []byte
	places  []position // by offset
	root    ast.Node   // nil for an empty text
	anchors map[string]ast.Node
	depth   int
	maxJSON int
}

// position is the line in the YAML text of the JSON value at an offset.
type position struct{ offset, line int }

// Parse reads a YAML text; an empty one is null. Errors are *Error.
func Parse(text []byte, limits Limits) (*Doc, error) {
	limits = Limits{cmp.Or(limits.Bytes, MaxBytes), cmp.Or(limits.JSONBytes, maxJSON), cmp.Or(limits.Time, maxTime)}
	if len(text) > limits.Bytes {
		return nil, &Error{Message: fmt.Sprintf("is larger than %d KiB", limits.Bytes>>10)}
	}
	if err := checkNesting(string(text)); err != nil {
		return nil, err
	}
	file, err := parse(text, limits.Time)
	if err != nil {
		return nil, err
	}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil || d.Body.Type() == ast.CommentType })
	switch len(docs) {
	case 0:
		return &Doc{JSON: []byte("null")}, nil
	case 1:
	default:
		return nil, &Error{Line: lineOf(docs[1].Body), Message: fmt.Sprintf("must hold one YAML document, but holds %d", len(docs))}
	}
	d := &Doc{root: docs[0].Body, anchors: map[string]ast.Node{}, maxJSON: limits.JSONBytes}
	if err := d.write(d.root); err != nil {
		return nil, err
	}
	return d, nil
}

func parse(text []byte, patience time.Duration) (*ast.File, error) {
	type result struct {
		file *ast.File
		err  error
	}
	done := make(chan result, 1)
	go func() {
		file, err := parser.ParseBytes(text, 0)
		done <- result{file, err}
	}()
	select {
	case r := <-done:
		if r.err == nil {
			return r.file, nil
		}
		// Error would format the source around the mistake, again in quadratic time.
		if at, ok := errors.AsType[yaml.Error](r.err); ok && at.GetToken() != nil {
			return nil, &Error{at.GetToken().Position.Line, "not valid YAML: " + at.GetMessage()}
		}
		return nil, &Error{Message: "not valid YAML: " + r.err.Error()}
	case <-time.After(patience):
		return nil, &Error{Message: fmt.Sprintf("takes more than %v to read", patience)}
	}
}

// checkNesting refuses, before parsing, a text so deeply nested that the parser would run
// out of stack. It does not recognize strings and comments, so its bounds are far above the
// nesting that people write.
func checkNesting(text string) error {
	open, number := 0, 0
	for line := range strings.Lines(text) {
		number++
		run := 0
		for word := range strings.FieldsSeq(line) {
			if word == "-" || word == "?" || strings.HasSuffix(word, ":") || word[0] == '&' || word[0] == '!' {
				run++
			} else {
				run = 0
			}
			for _, c := range []byte(word) {
				switch c {
				case '[', '{':
					open++
				case ']', '}':
					open = max(0, open-1)
				}
			}
			if run > maxRun || open > maxDepth*2 {
				return &Error{number, "the YAML is nested too deep"}
			}
		}
	}
	return nil
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
	var key ast.Node
	n := d.root
	for _, step := range path {
		key = nil
		switch at := d.resolve(n).(type) {
		case *ast.SequenceNode:
			i, isIndex := step.(int)
			if !isIndex || i >= len(at.Values) || at.IsFlowStyle {
				return 0, 0, false
			}
			n = at.Values[i]
		case *ast.MappingNode:
			i := slices.IndexFunc(at.Values, func(m *ast.MappingValueNode) bool { return keyText(m.Key) == step })
			if i < 0 || at.IsFlowStyle {
				return 0, 0, false
			}
			key, n = at.Values[i].Key, at.Values[i].Value
		case *ast.MappingValueNode:
			if keyText(at.Key) != step {
				return 0, 0, false
			}
			key, n = at.Key, at.Value
		default:
			return 0, 0, false
		}
	}
	if key == nil {
		return 0, 0, false
	}
	at := key.GetToken().Position
	return at.Line, at.Column, true
}

// resolve returns the node that an anchor or alias refers to.
func (d *Doc) resolve(n ast.Node) ast.Node {
	for {
		switch at := n.(type) {
		case *ast.AnchorNode:
			n = at.Value
		case *ast.AliasNode:
			n = d.anchors[at.Value.GetToken().Value]
		default:
			return n
		}
	}
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func refuse(n ast.Node, format string, args ...any) error {
	return &Error{Line: lineOf(n), Message: fmt.Sprintf(format, args...)}
}

// write appends a node's value as JSON.
func (d *Doc) write(n ast.Node) error {
	if d.depth++; d.depth > maxDepth || len(d.JSON) > d.maxJSON {
		return refuse(n, "the YAML is nested too deep, or its aliases make it too large")
	}
	defer func() { d.depth-- }()
	switch n := n.(type) {
	case *ast.AnchorNode:
		d.anchors[n.Name.GetToken().Value] = n.Value
		return d.write(n.Value)
	case *ast.AliasNode:
		to, ok := d.anchors[n.Value.GetToken().Value]
		if !ok {
			return refuse(n, "there is no anchor %q before this", n.Value.GetToken().Value)
		}
		return d.write(to)
	case *ast.TagNode:
		return refuse(n, "tags are not allowed")
	}
	if len(d.places) == 0 || d.places[len(d.places)-1].offset < len(d.JSON) {
		d.places = append(d.places, position{len(d.JSON), lineOf(n)})
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.writeMapping(n.Values)
	case *ast.MappingValueNode:
		return d.writeMapping([]*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		return d.writeSequence(n)
	}
	scalar, err := scalarJSON(n)
	d.JSON = append(d.JSON, scalar...)
	return err
}

func (d *Doc) writeMapping(members []*ast.MappingValueNode) error {
	if len(members) > 0 { // the node's token is its first colon, or its brace
		d.places[len(d.places)-1].line = lineOf(members[0].Key)
	}
	d.JSON = append(d.JSON, '{')
	for i, m := range members {
		if i > 0 {
			d.JSON = append(d.JSON, ',')
		}
		if _, merge := m.Key.(*ast.MergeKeyNode); merge {
			return refuse(m.Key, "merge keys (<<) are not allowed: write the members out")
		}
		name, err := marshal(keyText(m.Key))
		if err != nil {
			return err
		}
		d.JSON = append(append(d.JSON, name...), ':')
		if err := d.write(m.Value); err != nil {
			return err
		}
	}
	d.JSON = append(d.JSON, '}')
	return nil
}

// keyText returns a member's name; all names in JSON are strings, so that 1 becomes "1".
func keyText(key ast.MapKeyNode) string {
	if s, ok := ast.Node(key).(*ast.StringNode); ok {
		return s.Value
	}
	return key.GetToken().Value
}

func (d *Doc) writeSequence(n *ast.SequenceNode) error {
	d.JSON = append(d.JSON, '[')
	for i, e := range n.Values {
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

func scalarJSON(n ast.Node) ([]byte, error) {
	switch n := n.(type) {
	case *ast.NullNode:
		return []byte("null"), nil
	case *ast.BoolNode:
		return marshal(n.Value)
	case *ast.StringNode:
		return marshal(n.Value)
	case *ast.LiteralNode:
		return marshal(n.Value.Value)
	case *ast.IntegerNode:
		return number(n.Token.Value, n.Value)
	case *ast.FloatNode:
		return number(n.Token.Value, n.Value)
	case *ast.InfinityNode, *ast.NanNode:
		return nil, refuse(n, "JSON has no such number")
	}
	return nil, refuse(n, "this YAML can't be a JSON value")
}

// number keeps the digits as written if they are a valid JSON number.
func number(written string, value any) ([]byte, error) {
	if json.Valid([]byte(written)) {
		return []byte(written), nil
	}
	return marshal(value)
}

func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}
