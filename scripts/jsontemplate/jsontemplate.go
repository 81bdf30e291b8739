// Package jsontemplate renders JSON with placeholders such as "$event.id".
//
// Any JSON is copied as written, except that
//
//   - a text "$name.member" is replaced by the value of that placeholder, as JSON, or null if
//     there is none; with "?" at its end the member with a missing or null value is left out;
//   - "$$" at the start of a text is one "$";
//   - a member "..." is replaced by the members of the data that it names. Members that the
//     template names itself win over the data's. Data that is not an object becomes the
//     member "data";
//   - the only element of a list is repeated for each entry of the list that its member
//     "$each" names. If it has a member "$item", that is the element.
package jsontemplate

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
)

const (
	spread = "..."
	each   = "$each"
	item   = "$item"
)

// Field appends the value of a placeholder, as JSON. Appending nothing means that it is missing.
type Field[S any] func(b []byte, scope S) []byte

// Language defines the placeholders of a template that is rendered for a scope S.
type Language[S any] struct {
	Members map[string][]string           // the names after "$", with their members for messages
	Field   func(path ...string) Field[S] // of a placeholder; nil if there is none
	Spread  string                        // the placeholder that "..." may name; empty: none
	Data    func(scope S) []byte          // the data of Spread
	Lists   map[string]List[S]            // the lists that $each may name
}

// List is a list that $each repeats an element for.
type List[S any] struct {
	Entries func(scope S) iter.Seq[S]
	Entry   *Language[S] // of the element
}

// Template is a compiled template. It is safe for concurrent use.
type Template[S any] struct{ root node[S] }

// node is one value of a template. One of literal, field, elements and members is set.
type node[S any] struct {
	literal  []byte // JSON without placeholders, as written
	field    Field[S]
	optional bool // of field: a member without value is left out
	elements []node[S]
	members  []member[S]
	own      []string                  // names of members, if "..." is among them
	list     string                    // the list that $each names
	entries  func(scope S) iter.Seq[S] // of list
}

type member[S any] struct {
	name  string
	value node[S]
	data  func(scope S) []byte // of "..."
}

// Error is a mistake in a template.
type Error struct {
	Value   jsonindex.Value
	Path    string // such as "a.b[]"; empty for the whole template
	Message string
}

// Error returns the path and the message.
func (e *Error) Error() string { return strings.TrimPrefix(e.Path+": "+e.Message, ": ") }

func wrong(v jsonindex.Value, path, format string, args ...any) *Error {
	return &Error{v, path, fmt.Sprintf(format, args...)}
}

// Join returns the path of a member of the value at path.
func Join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// Compile compiles a template. path is the path of v in error messages.
func Compile[S any](v jsonindex.Value, path string, l *Language[S]) (*Template[S], *Error) {
	root, err := l.node(v, path)
	return &Template[S]{root}, err
}

func (l *Language[S]) node(v jsonindex.Value, path string) (n node[S], err *Error) {
	fixed := true // no placeholders
	switch v.Kind() {
	case jsonindex.String:
		return l.text(v, path)
	case jsonindex.Array:
		for _, element := range v.Elements() {
			e, err := l.element(element, path+"[]", v.Len())
			if err != nil {
				return n, err
			}
			fixed = fixed && bytes.Equal(e.literal, element.Raw())
			n.elements = append(n.elements, e)
		}
	case jsonindex.Object:
		if list := v.Get(each); list.Exists() {
			return n, wrong(list, Join(path, each), "must be in the only element of a list")
		}
		if n, err = l.object(v, path); err != nil {
			return n, err
		}
		for _, m := range n.members {
			fixed = fixed && bytes.Equal(m.value.literal, v.Get(m.name).Raw())
		}
	}
	if fixed {
		return node[S]{literal: v.Raw()}, nil
	}
	return n, nil
}

// element compiles an element of a list.
func (l *Language[S]) element(v jsonindex.Value, path string, siblings int) (n node[S], err *Error) {
	name := v.Get(each)
	if !name.Exists() {
		return l.node(v, path)
	}
	list, ok := l.Lists[name.Text()]
	if !ok || siblings != 1 {
		if len(l.Lists) == 0 {
			return n, wrong(name, Join(path, each), "can't be used in this place")
		}
		return n, wrong(name, Join(path, each), `must be "%s", in the only element of a list`, strings.Join(slices.Sorted(maps.Keys(l.Lists)), `" or "`))
	}
	if only := v.Get(item); only.Exists() {
		n, err = list.Entry.node(only, Join(path, item))
	} else {
		n, err = list.Entry.object(v, path)
	}
	n.list, n.entries = name.Text(), list.Entries
	return n, err
}

func (l *Language[S]) object(v jsonindex.Value, path string) (n node[S], err *Error) {
	n.members = []member[S]{}
	for name, value := range v.Members() {
		m, at := member[S]{name: name}, Join(path, name)
		switch {
		case name == each:
			continue
		case name != spread || l.Spread == "":
			if m.value, err = l.node(value, at); err != nil {
				return n, err
			}
		case value.Text() != l.Spread:
			return n, wrong(value, at, "must be %q", l.Spread)
		case v.Get("data").Exists():
			return n, wrong(value, at, `can't be used with a member "data": data that is not an object is put there`)
		default:
			m.data = l.Data
		}
		n.members = append(n.members, m)
	}
	for _, m := range n.members {
		if m.data == nil {
			n.own = append(n.own, m.name)
		}
	}
	return n, nil
}

func (l *Language[S]) text(v jsonindex.Value, path string) (n node[S], err *Error) {
	text := v.Text()
	name, ok := strings.CutPrefix(text, "$")
	if !ok {
		for root := range l.Members {
			if strings.Contains(text, "$"+root+".") {
				return n, wrong(v, path, "%.60q: a placeholder must be the whole text", text)
			}
		}
		return node[S]{literal: v.Raw()}, nil
	}
	if strings.HasPrefix(name, "$") {
		return node[S]{literal: jsonindex.AppendString(nil, name)}, nil
	}
	name, n.optional = strings.CutSuffix(name, "?")
	names := strings.Split(name, ".")
	if n.field = l.Field(names...); n.field != nil {
		return n, nil
	}
	known, ok := l.Members[names[0]]
	switch {
	case !ok && len(l.Members) == 0:
		return n, wrong(v, path, `%.60q is not a placeholder; there is none in this place, and "$$" begins a text with "$"`, text)
	case !ok:
		return n, wrong(v, path, `%.60q is not a placeholder; there is $%s, and "$$" begins a text with "$"`, text, strings.Join(slices.Sorted(maps.Keys(l.Members)), " and $"))
	case len(names) > 1:
		if meant := suggest.Closest(names[1], known); meant != "" {
			return n, wrong(v, path, "%.60q is not a placeholder; did you mean %q?", text, "$"+names[0]+"."+meant)
		}
	}
	return n, wrong(v, path, "%.60q is not a placeholder; $%s has %s", text, names[0], strings.Join(known, ", "))
}

// Uses reports whether the template repeats an element for a list.
func (t *Template[S]) Uses(list string) bool { return t != nil && t.root.uses(list) }

func (n *node[S]) uses(list string) bool {
	return n.list == list || slices.ContainsFunc(n.elements, func(e node[S]) bool { return e.uses(list) }) ||
		slices.ContainsFunc(n.members, func(m member[S]) bool { return m.value.uses(list) })
}

// Append appends the JSON that the template renders for a scope.
func (t *Template[S]) Append(b []byte, scope S) []byte { return t.root.append(b, scope) }

func (n *node[S]) append(b []byte, scope S) []byte {
	switch {
	case n.literal != nil:
		return append(b, n.literal...)
	case n.field != nil:
		before := len(b)
		if b = n.field(b, scope); len(b) == before {
			b = append(b, "null"...)
		}
		return b
	case n.elements != nil:
		return n.appendList(append(b, '['), scope)
	}
	b = append(b, '{')
	empty := len(b)
	for i := range n.members {
		m := &n.members[i]
		before := len(b)
		if before > empty {
			b = append(b, ',')
		}
		begin := len(b)
		if m.data != nil {
			b = appendSpread(b, m.data(scope), n.own)
		} else {
			b = append(jsonindex.AppendString(b, m.name), ':')
			if value := len(b); m.value.optional {
				if b = m.value.append(b, scope); string(b[value:]) == "null" {
					b = b[:begin]
				}
			} else {
				b = m.value.append(b, scope)
			}
		}
		if len(b) == begin {
			b = b[:before] // nothing, so no comma
		}
	}
	return append(b, '}')
}

func (n *node[S]) appendList(b []byte, scope S) []byte {
	empty := len(b)
	add := func(e *node[S], scope S) {
		if len(b) > empty {
			b = append(b, ',')
		}
		b = e.append(b, scope)
	}
	for i := range n.elements {
		e := &n.elements[i]
		if e.entries == nil {
			add(e, scope)
			continue
		}
		for entry := range e.entries(scope) {
			add(e, entry)
		}
	}
	return append(b, ']')
}

// appendSpread appends the members of data, without those named in own.
func appendSpread(b, data []byte, own []string) []byte {
	doc, err := jsonindex.Parse(data, jsonindex.Limits{})
	if err != nil || doc.Root().Kind() != jsonindex.Object {
		return append(append(b, `"data":`...), data...)
	}
	clash := false
	for name := range doc.Root().Members() {
		clash = clash || slices.Contains(own, name)
	}
	if !clash {
		raw := doc.Root().Raw()
		return append(b, bytes.TrimSpace(raw[1:len(raw)-1])...)
	}
	begin := len(b)
	for name, value := range doc.Root().Members() {
		if slices.Contains(own, name) {
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b = append(append(jsonindex.AppendString(b, name), ':'), value.Raw()...)
	}
	return b
}
