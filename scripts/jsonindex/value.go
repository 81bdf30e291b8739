package jsonindex

import (
	"encoding/json"
	"iter"
	"math"
	"strconv"
	"unsafe"
)

// Kind is the type of a JSON value.
type Kind uint8

// The kinds of JSON values. Missing is the kind of a Value that does not exist.
const (
	Missing Kind = iota
	Null
	False
	True
	Number
	String
	Array
	Object
)

// String returns the name of the kind in JSON Schema.
func (k Kind) String() string {
	return [...]string{"missing", "null", "boolean", "boolean", "number", "string", "array", "object"}[k]
}

// Value is one value of a Doc. The zero Value is missing.
type Value struct {
	d *Doc
	i int32
}

// Root returns the value of the whole text.
func (d *Doc) Root() Value {
	if len(d.nodes) == 0 {
		return Value{}
	}
	return Value{d, 0}
}

// Values returns the number of values in the text, including containers.
func (d *Doc) Values() int { return len(d.nodes) }

// Kind returns the kind of v; Missing for the zero Value.
func (v Value) Kind() Kind {
	if v.d == nil {
		return Missing
	}
	return v.d.nodes[v.i].kind
}

// Exists reports whether v is in the text; null exists.
func (v Value) Exists() bool { return v.d != nil }

// Raw returns v's bytes as written in the text, a string's with its quotes. They share the
// text's memory.
func (v Value) Raw() []byte {
	if v.d == nil {
		return nil
	}
	n := &v.d.nodes[v.i]
	if n.kind == String {
		return v.d.src[n.start-1 : n.end+1]
	}
	return v.d.src[n.start:n.end]
}

// Offset returns the position of v in the text, in bytes.
func (v Value) Offset() int {
	if v.d == nil {
		return 0
	}
	if n := &v.d.nodes[v.i]; n.kind == String {
		return int(n.start) - 1
	}
	return int(v.d.nodes[v.i].start)
}

// Len returns the number of elements of an array or members of an object, otherwise 0.
func (v Value) Len() int {
	if v.d == nil {
		return 0
	}
	return int(v.d.nodes[v.i].count)
}

// Size returns the number of values in v's subtree including v, which is the number of
// values that decoding v creates. It is 0 if v is missing.
func (v Value) Size() int {
	if v.d == nil {
		return 0
	}
	return int(v.d.nodes[v.i].next - v.i)
}

// Members iterates over an object's members in the order of the text. Names are
// unescaped; a duplicate name occurs twice.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != Object {
			return
		}
		j := v.i + 1
		for k := int32(0); k < v.d.nodes[v.i].count; k++ {
			if !yield(v.d.key(j), Value{v.d, j}) {
				return
			}
			j = v.d.nodes[j].next
		}
	}
}

// Elements iterates over an array's elements.
func (v Value) Elements() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		if v.Kind() != Array {
			return
		}
		j := v.i + 1
		for k := 0; k < int(v.d.nodes[v.i].count); k++ {
			if !yield(k, Value{v.d, j}) {
				return
			}
			j = v.d.nodes[j].next
		}
	}
}

// Get returns the member called name; of duplicates the last one, as JSON.parse does. It
// searches the members linearly.
func (v Value) Get(name string) Value {
	var found Value
	if v.Kind() != Object {
		return found
	}
	nodes := v.d.nodes
	j := v.i + 1
	for k := int32(0); k < nodes[v.i].count; k++ {
		n := &nodes[j]
		if n.keyEscaped {
			if v.d.key(j) == name {
				found = Value{v.d, j}
			}
		} else if int(n.keyEnd-n.keyStart) == len(name) && string(v.d.src[n.keyStart:n.keyEnd]) == name {
			found = Value{v.d, j}
		}
		j = n.next
	}
	return found
}

// Text returns a string's characters, unescaped; for other kinds the empty string. A string
// without escapes shares the text's memory.
func (v Value) Text() string {
	if v.Kind() != String {
		return ""
	}
	n := &v.d.nodes[v.i]
	return v.d.text(n.start, n.end, n.escaped)
}

// Int64 returns a number that is written as an integer and fits in 64 bits.
func (v Value) Int64() (int64, bool) {
	if v.Kind() != Number {
		return 0, false
	}
	i, err := strconv.ParseInt(view(v.Raw()), 10, 64)
	return i, err == nil
}

// Float64 returns a number as the nearest double; one out of range is ±Inf.
func (v Value) Float64() float64 {
	if v.Kind() != Number {
		return math.NaN()
	}
	f, _ := strconv.ParseFloat(view(v.Raw()), 64)
	return f
}

// key returns the name of member j.
func (d *Doc) key(j int32) string {
	n := &d.nodes[j]
	return d.text(n.keyStart, n.keyEnd, n.keyEscaped)
}

func (d *Doc) text(start, end uint32, escaped bool) string {
	if !escaped {
		return view(d.src[start:end])
	}
	var s string
	// The parser has checked the escapes, and encoding/json decodes the surrogates.
	if json.Unmarshal(d.src[start-1:end+1], &s) != nil {
		return view(d.src[start:end])
	}
	return s
}

// view returns a string that shares b's memory, for texts that do not change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
