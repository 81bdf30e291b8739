package filter

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr/vm"

	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
)

// Input is one event prepared for many filters. Each value that a filter reads is looked up
// once and shared with later filters. An Input must not be used concurrently.
type Input struct {
	event      *scripts.Event
	root       jsonindex.Value
	rooted     bool
	env        map[string]any // flat: "data.customer.country" → its value; and the metered functions
	filled     []string       // the names in env that belong to this event
	found      []jsonindex.Value
	parsed     bool          // the payload was parsed into doc
	doc        jsonindex.Doc // the payload, if the event came without a parsed Doc
	vm         vm.VM
	used       bool // the vm ran a predicate, and may keep references to elements of the payload
	budgetLeft int  // work units left to the running filter
}

// Inputs that grew larger than this are not reused.
const (
	maxPooledNames  = 512
	maxPooledValues = 1 << 14
)

var inputPool = sync.Pool{New: func() any {
	in := &Input{env: make(map[string]any, 32)}
	in.bind()
	return in
}}

// NewInput prepares an event. The event must not change until Release.
func NewInput(e *scripts.Event) *Input {
	in := inputPool.Get().(*Input)
	in.event = e
	in.root, in.rooted = e.Doc, e.Doc.Exists()
	return in
}

// Release returns the Input to the pool for the next event.
func (in *Input) Release() {
	if len(in.filled) > maxPooledNames || in.doc.Values() > maxPooledValues {
		return
	}
	for _, name := range in.filled {
		delete(in.env, name)
	}
	clear(in.filled)
	in.filled = in.filled[:0]
	clear(in.found[:cap(in.found)])
	if in.parsed {
		_ = in.doc.Reset([]byte("0"), jsonindex.Limits{}) // releases the payload, keeps the memory
	}
	if in.used {
		in.vm = vm.VM{} // its scopes can't be cleared otherwise
	} else {
		clear(in.vm.Stack[:cap(in.vm.Stack)])
	}
	in.event, in.root, in.rooted, in.parsed, in.used = nil, jsonindex.Value{}, false, false, false
	inputPool.Put(in)
}

// fill looks up the values that f reads and that are not in env yet.
func (in *Input) fill(f *Filter) error {
	for _, p := range f.names {
		in.set(p[0].name, in.named(p[0].name))
	}
	for _, name := range f.headers {
		in.set(path{{name: "headers"}, {name: name}}.String(), in.header(name))
	}
	if f.data == nil {
		return nil
	}
	root, err := in.data()
	if err != nil {
		return err
	}
	in.extract(f.data, root)
	return nil
}

func (in *Input) set(name string, value any) {
	if _, have := in.env[name]; !have {
		in.env[name] = value
		in.filled = append(in.filled, name)
	}
}

func (in *Input) named(name string) any {
	switch name {
	case "type":
		return in.event.Type
	case "id":
		return in.event.ID
	case "account":
		return in.event.Account
	case "time":
		return in.event.Time.UTC().Format(time.RFC3339Nano)
	case "headers":
		if in.event.Headers == nil {
			return map[string]string{}
		}
		return in.event.Headers
	}
	return nil
}

// header returns a header by its exact name, or otherwise in any case (RFC 9110, section
// 5.1); of several that differ in case only, the first in alphabetical order.
func (in *Input) header(name string) any { return headerOf(in.event.Headers, name) }

// headerOf returns a header by its name in any case, nil if there is none.
func headerOf(headers map[string]string, name string) any {
	if value, ok := headers[name]; ok {
		return value
	}
	var best string
	var value any
	for other, v := range headers {
		if strings.EqualFold(other, name) && (value == nil || other < best) {
			best, value = other, v
		}
	}
	return value
}

// data returns the payload, which it parses on first use.
func (in *Input) data() (jsonindex.Value, error) {
	if !in.rooted {
		if err := in.doc.Reset(in.event.Data, jsonindex.Limits{}); err != nil {
			return jsonindex.Value{}, &fault{"the event's data is not valid JSON: " + err.Error()}
		}
		in.root, in.rooted, in.parsed = in.doc.Root(), true, true
	}
	return in.root, nil
}

// extract puts the values of t and its children into the environment.
func (in *Input) extract(t *trie, v jsonindex.Value) {
	if t.key != "" {
		if _, have := in.env[t.key]; !have {
			in.env[t.key] = wrap(v)
			in.filled = append(in.filled, t.key)
		}
	}
	if len(t.children) == 0 {
		return
	}
	if tooManyEscapes(v) {
		in.markUnreadable(t)
		return
	}
	from := len(in.found)
	for range t.children {
		in.found = append(in.found, jsonindex.Value{})
	}
	t.find(v, in.found[from:])
	for i, c := range t.children {
		in.extract(c.to, in.found[from+i])
	}
	in.found = in.found[:from]
}

// maxEscapes bounds the backslashes in an object whose names are searched: a name with an
// escape costs about 300 ns to read, a plain one 5 ns.
const maxEscapes = 10_000

// tooManyEscapes reports whether v is a wide object whose names would take too long to read.
func tooManyEscapes(v jsonindex.Value) bool {
	return v.Kind() == jsonindex.Object && v.Len() > maxEscapes && bytes.Count(v.Raw(), []byte{'\\'}) > maxEscapes
}

// markUnreadable marks all values below t as unreadable; reading one is an error.
func (in *Input) markUnreadable(t *trie) {
	for _, c := range t.children {
		if c.to.key != "" {
			in.set(c.to.key, unreadable{})
		}
		in.markUnreadable(c.to)
	}
}

// unreadable represents a value in an object that is too costly to search.
type unreadable struct{}
