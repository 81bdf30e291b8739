package filter

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/expr-lang/expr/ast"

	"switchhook/scripts/jsonindex"
)

// path leads from a name in scope to a value: data, customer, country. Its text is both the
// name of the value in the flat environment and its form in messages.
type path []step

// step is one member name or one array index.
type step struct {
	name    string
	index   int // a negative one counts from the end
	isIndex bool
}

// String returns the path in the syntax of filters; different paths have different texts.
func (p path) String() string {
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.isIndex:
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case !plainName(s.name):
			b.WriteString("[" + strconv.Quote(s.name) + "]")
		case i == 0:
			b.WriteString(s.name)
		default:
			b.WriteString("." + s.name)
		}
	}
	return b.String()
}

func plainName(name string) bool {
	for i, r := range name {
		if r != '_' && r != '$' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return name != ""
}

// pathOf reads a chain of members as a path; false if a part of it is only known when the
// filter runs, or if it starts with something other than a name in scope.
func pathOf(n ast.Node) (path, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return path{{name: n.Value}}, true
	case *ast.ChainNode:
		return pathOf(n.Node)
	case *ast.MemberNode:
		base, ok := pathOf(n.Node)
		if !ok {
			return nil, false
		}
		if name, ok := n.Property.(*ast.StringNode); ok {
			return append(base, step{name: name.Value}), true
		}
		if index, ok := integer(n.Property); ok {
			return append(base, step{index: index, isIndex: true}), true
		}
	}
	return nil, false
}

// integer reads an integer literal with an optional sign.
func integer(n ast.Node) (int, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return n.Value, true
	case *ast.UnaryNode:
		if i, ok := integer(n.Node); ok && n.Operator == "-" {
			return -i, true
		}
	}
	return 0, false
}

// trie holds the payload paths of one filter, so that one walk over the objects on these
// paths finds all values.
type trie struct {
	key      string // name of this node's value in the environment, "" for an intermediate node
	children []child
	byName   map[string]int // index into children, if there are many
}

type child struct {
	step
	to *trie
}

// manyChildren is the number from which a map lookup is faster than comparing names in turn.
const manyChildren = 6

func (t *trie) add(p path, key string) {
	if len(p) == 0 {
		t.key = key
		return
	}
	for _, c := range t.children {
		if c.step == p[0] {
			c.to.add(p[1:], key)
			return
		}
	}
	c := child{p[0], &trie{}}
	t.children = append(t.children, c)
	c.to.add(p[1:], key)
	if len(t.children) <= manyChildren {
		return
	}
	t.byName = make(map[string]int, len(t.children))
	for i, c := range t.children {
		if !c.isIndex {
			t.byName[c.name] = i
		}
	}
}

// member returns the index of the child for a member's name, -1 if there is none.
func (t *trie) member(name string) int {
	if t.byName != nil {
		if i, ok := t.byName[name]; ok {
			return i
		}
		return -1
	}
	for i := range t.children {
		if c := &t.children[i]; c.name == name && !c.isIndex {
			return i
		}
	}
	return -1
}

// find stores the value of each child in found. It visits each member or element of v once;
// of members with the same name the last one counts.
func (t *trie) find(v jsonindex.Value, found []jsonindex.Value) {
	switch v.Kind() {
	case jsonindex.Object:
		if len(t.children) == 1 {
			if c := &t.children[0]; !c.isIndex {
				found[0] = v.Get(c.name)
			}
			return
		}
		for name, member := range v.Members() {
			if i := t.member(name); i >= 0 {
				found[i] = member
			}
		}
	case jsonindex.Array:
		t.findElements(v, found)
	}
}

// findElements walks an array once, in step with the sorted indexes of the children.
func (t *trie) findElements(v jsonindex.Value, found []jsonindex.Value) {
	type wanted struct{ at, child int }
	var few [4]wanted
	places := few[:0]
	for i, c := range t.children {
		if at := c.at(v.Len()); c.isIndex && at >= 0 && at < v.Len() {
			places = append(places, wanted{at, i})
		}
	}
	slices.SortFunc(places, func(a, b wanted) int { return a.at - b.at })
	for at, element := range v.Elements() {
		for len(places) > 0 && places[0].at == at {
			found[places[0].child] = element
			places = places[1:]
		}
		if len(places) == 0 {
			return
		}
	}
}

// at resolves an index that counts from the end of n elements.
func (s step) at(n int) int {
	if s.index < 0 {
		return n + s.index
	}
	return s.index
}
