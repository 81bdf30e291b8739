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

// Input is one event made ready for many filters. What a filter reads of the event is
// looked up once and shared by the filters that come after it. An Input is for one
// goroutine at a time.
type Input struct {
	event  *scripts.Event
	root   jsonindex.Value
	rooted bool
	env    map[string]any // flat: "data.customer.country" → its value; and the metered functions
	filled []string       // the names in env that belong to this event
	found  []jsonindex.Value
	read   bool          // it was read into doc
	doc    jsonindex.Doc // where the event came unread
	vm     vm.VM
	used   bool // the vm ran a predicate, and may hold on to elements of the payload
	fuel   int  // work units left to the running filter
}

// Inputs that grew larger than this are not kept for reuse.
const (
	maxPooledNames  = 512
	maxPooledValues = 1 << 14
)

var inputs = sync.Pool{New: func() any {
	in := &Input{env: make(map[string]any, 32)}
	in.bind()
	return in
}}

// NewInput makes an event ready. The event must not change until Release.
func NewInput(e *scripts.Event) *Input {
	in := inputs.Get().(*Input)
	in.event = e
	in.root, in.rooted = e.Doc, e.Doc.Exists()
	return in
}

// Release gives the Input's memory back for the next event.
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
	if in.read {
		_ = in.doc.Reset([]byte("0"), jsonindex.Limits{}) // lets go of the payload, keeps the memory
	}
	if in.used {
		in.vm = vm.VM{} // its scopes can't be cleared from outside
	} else {
		clear(in.vm.Stack[:cap(in.vm.Stack)])
	}
	in.event, in.root, in.rooted, in.read, in.used = nil, jsonindex.Value{}, false, false, false
	inputs.Put(in)
}

// fill looks up all that f reads and is not there yet.
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

// header finds a header by its exact name, or else in any case (RFC 9110, section 5.1);
// of several that differ in case only, the first by the alphabet.
func (in *Input) header(name string) any { return headerOf(in.event.Headers, name) }

// headerOf finds a header by its name in any case, nil if there is none.
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

// data is the payload, read now if nobody has read it before.
func (in *Input) data() (jsonindex.Value, error) {
	if !in.rooted {
		if err := in.doc.Reset(in.event.Data, jsonindex.Limits{}); err != nil {
			return jsonindex.Value{}, &fault{"the event's data is not valid JSON: " + err.Error()}
		}
		in.root, in.rooted, in.read = in.doc.Root(), true, true
	}
	return in.root, nil
}

// extract puts the values that lie at t and below it into the environment.
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

// maxEscapes bounds the backslashes in an object whose names are looked through: a
// name with an escape in it costs about 300 ns to read, a plain one 5 ns.
const maxEscapes = 10_000

// tooManyEscapes is asked of wide objects only, where reading the names could take long.
func tooManyEscapes(v jsonindex.Value) bool {
	return v.Kind() == jsonindex.Object && v.Len() > maxEscapes && bytes.Count(v.Raw(), []byte{'\\'}) > maxEscapes
}

// markUnreadable marks all values below t as out of reach; reading one is an error.
func (in *Input) markUnreadable(t *trie) {
	for _, c := range t.children {
		if c.to.key != "" {
			in.set(c.to.key, unreadable{})
		}
		in.markUnreadable(c.to)
	}
}

// unreadable stands for a value in an object that is too costly to look through.
type unreadable struct{}
