package dialect

import (
	"encoding/json"
	"slices"
	"strings"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
)

// Template is a response body: JSON with placeholders such as "$subscription.id". A list whose only
// element has a member "$each" is repeated for each entry of the list it names.
type Template struct{ root node }

// node is one value of a template. Exactly one of its fields is set, besides each.
type node struct {
	literal  []byte   // JSON without placeholders
	path     []string // of a value in the scope: "subscription", "id"
	optional bool     // the member is left out if the value is missing
	members  []member
	elements []node
	each     string // a list in the scope; the node is rendered once per entry
	object   bool
}

type member struct {
	name  string
	value node
}

// Scope holds the values of a template's placeholders by name, and lists by the name that $each uses; an
// entry of "event_types" is $event_type, one of "subscriptions" $subscription.
type Scope struct {
	Values map[string]jsonindex.Value
	Lists  map[string][]jsonindex.Value
}

// entries maps the lists that $each may name to the names of their entries.
var entries = map[string]string{"subscriptions": "subscription", "event_types": "event_type"}

var (
	// EventTypeMembers are the members of $event_type.
	EventTypeMembers = []string{"name", "description", "subscribed", "subscription"}
	// ErrorMembers are the members of $error.
	ErrorMembers = []string{"status", "code", "title", "detail", "field"}
)

// scope holds the names that a template may use.
type scope struct {
	values []string
	lists  bool
}

var (
	one        = scope{values: []string{"subscription"}}
	several    = scope{lists: true}
	errorScope = scope{values: []string{"error"}}
	nothing    = scope{}

	scopeOf = map[Action]scope{Subscribe: one, Update: one, Get: one, List: several, Catalogue: several, Unsubscribe: nothing}
)

var (
	whole   = &Template{node{path: []string{"subscription"}}}
	noValue = &Template{node{literal: []byte("{}")}}
	all     = &Template{node{elements: []node{{each: "subscriptions", path: []string{"subscription"}}}}}
	types   = &Template{node{elements: []node{{each: "event_types", path: []string{"event_type"}}}}}

	defaultAnswer = map[Action]*Template{Subscribe: whole, Update: whole, Get: whole, List: all, Catalogue: types, Unsubscribe: noValue}
)

func (r *reader) template(v jsonindex.Value, at string, within scope) *Template {
	return &Template{r.node(v, at, within)}
}

const each = "$each"

func (r *reader) node(v jsonindex.Value, at string, within scope) node {
	switch v.Kind() {
	case jsonindex.String:
		return r.placeholder(v, at, within)
	case jsonindex.Object:
		if v.Get(each).Exists() {
			r.wrong(v.Get(each), join(at, each), "must be in the only element of a list")
		}
		return r.members(v, at, within)
	case jsonindex.Array:
		n := node{elements: []node{}}
		for _, element := range v.Elements() {
			list := element.Get(each)
			if !list.Exists() {
				n.elements = append(n.elements, r.node(element, at+"[]", within))
				continue
			}
			if v.Len() != 1 || !within.lists || entries[list.Text()] == "" {
				r.wrong(list, join(at+"[]", each), `must be "subscriptions" or "event_types", in the only element of a list in the answer to list or catalogue`)
			}
			inner := scope{values: append(slices.Clone(within.values), entries[list.Text()])}
			made := r.members(element, at+"[]", inner)
			if item := element.Get("$item"); item.Exists() { // the entry is not an object
				made = r.node(item, join(at+"[]", "$item"), inner)
			}
			made.each = list.Text()
			n.elements = append(n.elements, made)
		}
		return n
	}
	return node{literal: v.Raw()}
}

func (r *reader) members(v jsonindex.Value, at string, within scope) node {
	n := node{object: true}
	for name, value := range v.Members() {
		if name != each && name != "$item" {
			n.members = append(n.members, member{name, r.node(value, join(at, name), within)})
		}
	}
	return n
}

func (r *reader) placeholder(v jsonindex.Value, at string, within scope) node {
	text := v.Text()
	name, ok := strings.CutPrefix(text, "$")
	if !ok {
		return node{literal: v.Raw()}
	}
	if strings.HasPrefix(name, "$") {
		return node{literal: quoted(name)}
	}
	name, optional := strings.CutSuffix(name, "?")
	path := strings.Split(name, ".")
	known := map[string][]string{"subscription": r.words.Subscription, "event_type": EventTypeMembers, "error": ErrorMembers}[path[0]]
	if !slices.Contains(within.values, path[0]) {
		there := "nothing to put in here"
		if len(within.values) > 0 {
			there = "$" + strings.Join(within.values, " and $")
		} else if within.lists {
			there = "what $each gives: $subscription or $event_type"
		}
		r.wrong(v, at, `%.60q is not known here; there is %s, and "$$" begins a text with "$"`, text, there)
	} else if len(path) > 1 && !slices.Contains(known, path[1]) {
		if meant := suggest.Closest(path[1], known); meant != "" {
			r.wrong(v, at, "%.60q is not known; did you mean %q?", text, "$"+path[0]+"."+meant)
		}
		r.wrong(v, at, "%.60q is not known; $%s has %s", text, path[0], strings.Join(known, ", "))
	}
	return node{path: path, optional: optional}
}

func quoted(text string) []byte {
	b, _ := json.Marshal(text)
	return b
}

// Uses reports whether the template repeats over a list of the scope.
func (t *Template) Uses(list string) bool { return t != nil && t.root.uses(list) }

func (n *node) uses(list string) bool {
	return n.each == list || slices.ContainsFunc(n.elements, func(e node) bool { return e.uses(list) }) ||
		slices.ContainsFunc(n.members, func(m member) bool { return m.value.uses(list) })
}

// Render renders the response. Values that the scope lacks are null.
func (t *Template) Render(s Scope) []byte { return t.root.append(nil, s) }

func (n *node) append(b []byte, s Scope) []byte {
	switch {
	case n.literal != nil:
		return append(b, n.literal...)
	case n.path != nil:
		if v := n.value(s); v.Exists() {
			return append(b, v.Raw()...)
		}
		return append(b, "null"...)
	case n.elements != nil:
		return n.appendList(b, s)
	}
	b = append(b, '{')
	empty := len(b)
	for _, m := range n.members {
		if v := m.value.value(s); m.value.optional && (!v.Exists() || v.Kind() == jsonindex.Null) {
			continue
		}
		if len(b) > empty {
			b = append(b, ',')
		}
		b = m.value.append(append(append(b, quoted(m.name)...), ':'), s)
	}
	return append(b, '}')
}

// value returns the value of the node's placeholder.
func (n *node) value(s Scope) (v jsonindex.Value) {
	if n.path == nil {
		return v
	}
	v = s.Values[n.path[0]]
	for _, name := range n.path[1:] {
		v = v.Get(name)
	}
	return v
}

func (n *node) appendList(b []byte, s Scope) []byte {
	b = append(b, '[')
	first := true
	add := func(e *node, s Scope) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = e.append(b, s)
	}
	for i := range n.elements {
		e := &n.elements[i]
		if e.each == "" {
			add(e, s)
			continue
		}
		for _, v := range s.Lists[e.each] {
			add(e, Scope{Values: map[string]jsonindex.Value{entries[e.each]: v}})
		}
	}
	return append(b, ']')
}
