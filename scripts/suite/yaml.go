package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// yamlDocument is a YAML text as JSON. The JSON is made from the syntax tree and not from
// decoded values, so that numbers keep their digits and every value knows its line.
type yamlDocument struct {
	json    []byte
	places  []place // by offset
	root    ast.Node
	anchors map[string]ast.Node
	depth   int
}

// place tells on which line of the YAML text the JSON value at an offset stands.
type place struct{ offset, line int }

const (
	largestYAML = largestFile // bytes of JSON: aliases of aliases grow without end
	deepestYAML = 100
)

func readYAML(text []byte) (*yamlDocument, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		wrong := &ParseError{Message: "not valid YAML: " + err.Error()}
		if at, ok := errors.AsType[yaml.Error](err); ok && at.GetToken() != nil {
			wrong.Line, wrong.Message = at.GetToken().Position.Line, "not valid YAML: "+at.GetMessage()
		}
		return nil, wrong
	}
	y := &yamlDocument{anchors: map[string]ast.Node{}}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	if len(docs) != 1 {
		return nil, &ParseError{Message: fmt.Sprintf("must hold one YAML document, but holds %d", len(docs))}
	}
	y.root = docs[0].Body
	if err := y.write(y.root); err != nil {
		return nil, err
	}
	return y, nil
}

// lineAt is the line of the value whose JSON begins at offset.
func (y *yamlDocument) lineAt(offset int) int {
	i, found := slices.BinarySearchFunc(y.places, offset, func(p place, offset int) int { return p.offset - offset })
	if !found {
		return 0
	}
	return y.places[i].line
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func refuse(n ast.Node, format string, args ...any) error {
	return &ParseError{Line: lineOf(n), Message: fmt.Sprintf(format, args...)}
}

// write appends a node's value as JSON.
func (y *yamlDocument) write(n ast.Node) error {
	if y.depth++; y.depth > deepestYAML || len(y.json) > largestYAML {
		return refuse(n, "the YAML is nested too deep, or its aliases make it too large")
	}
	defer func() { y.depth-- }()
	switch n := n.(type) {
	case *ast.AnchorNode:
		y.anchors[n.Name.GetToken().Value] = n.Value
		return y.write(n.Value)
	case *ast.AliasNode:
		to, ok := y.anchors[n.Value.GetToken().Value]
		if !ok {
			return refuse(n, "there is no anchor %s before this", n.Value.GetToken().Value)
		}
		return y.write(to)
	case *ast.TagNode:
		return refuse(n, "tags are not allowed")
	}
	if len(y.places) == 0 || y.places[len(y.places)-1].offset < len(y.json) {
		y.places = append(y.places, place{len(y.json), lineOf(n)})
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return y.writeMapping(n.Values)
	case *ast.MappingValueNode:
		return y.writeMapping([]*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		return y.writeSequence(n)
	}
	scalar, err := scalarJSON(n)
	y.json = append(y.json, scalar...)
	return err
}

func (y *yamlDocument) writeMapping(members []*ast.MappingValueNode) error {
	y.json = append(y.json, '{')
	for i, m := range members {
		if i > 0 {
			y.json = append(y.json, ',')
		}
		if _, merge := m.Key.(*ast.MergeKeyNode); merge {
			return refuse(m.Key, "merge keys (<<) are not allowed: write the members out")
		}
		name, err := marshal(keyText(m.Key))
		if err != nil {
			return err
		}
		y.json = append(append(y.json, name...), ':')
		if err := y.write(m.Value); err != nil {
			return err
		}
	}
	y.json = append(y.json, '}')
	return nil
}

// keyText is a member's name; JSON has no others than texts, so that 1 is "1".
func keyText(key ast.MapKeyNode) string {
	if s, ok := ast.Node(key).(*ast.StringNode); ok {
		return s.Value
	}
	return key.GetToken().Value
}

func (y *yamlDocument) writeSequence(n *ast.SequenceNode) error {
	y.json = append(y.json, '[')
	for i, e := range n.Values {
		if i > 0 {
			y.json = append(y.json, ',')
		}
		if err := y.write(e); err != nil {
			return err
		}
	}
	y.json = append(y.json, ']')
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
		if text := []byte(n.Token.Value); json.Valid(text) {
			return text, nil
		}
		return marshal(n.Value)
	case *ast.FloatNode:
		if text := []byte(n.Token.Value); json.Valid(text) {
			return text, nil
		}
		return marshal(n.Value)
	case *ast.InfinityNode, *ast.NanNode:
		return nil, refuse(n, "JSON has no such number")
	}
	return nil, refuse(n, "this YAML can't be a JSON value")
}
