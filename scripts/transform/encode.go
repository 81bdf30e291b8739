package transform

import (
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	"switchhook/scripts"

	"github.com/dop251/goja"
)

// maxResultDepth is the maximum nesting of a result's arrays and objects.
const maxResultDepth = 500

// encoder encodes a script's value as JSON.stringify does, with three differences: it stops
// at a maximum size, so that a small graph of shared objects can't expand without end; it
// copies unchanged parts of the event, digit by digit; and BigInts are written as integers.
//
// Reading a value runs getters and toJSON functions: the caller must run inside goja's Try.
type encoder struct {
	run   *run
	max   int // bytes
	buf   []byte
	stack []*goja.Object // the containers of the value being written
}

var (
	lazyObjectType = reflect.TypeFor[*lazyObject]()
	lazyArrayType  = reflect.TypeFor[*lazyArray]()
)

// lazyOf returns the *lazyObject or *lazyArray behind v, or nil.
func lazyOf(v goja.Value) any {
	if o, ok := v.(*goja.Object); ok {
		if t := o.ExportType(); t == lazyObjectType || t == lazyArrayType {
			return o.Export()
		}
	}
	return nil
}

// value appends v. ok is false, and nothing is appended, for values that JSON omits:
// undefined, functions and symbols.
func (e *encoder) value(v goja.Value) (ok bool, err error) { return e.member("", v) }

func (e *encoder) member(key string, v goja.Value) (ok bool, err error) {
	switch x := v.(type) {
	case nil:
		return false, nil
	case goja.String:
		return true, e.text(x)
	case *goja.Object:
		return e.object(key, x)
	case *goja.Symbol:
		return false, nil
	}
	switch x := v.Export().(type) {
	case int64:
		e.buf = strconv.AppendInt(e.buf, x, 10)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			e.buf = append(e.buf, "null"...)
		} else {
			e.buf = append(e.buf, v.String()...)
		}
	case bool:
		e.buf = strconv.AppendBool(e.buf, x)
	case *big.Int:
		if x.BitLen()/4 > e.max { // a digit is less than four bits
			return false, e.tooLarge()
		}
		e.buf = x.Append(e.buf, 10)
	default:
		if !goja.IsNull(v) {
			return false, nil
		}
		e.buf = append(e.buf, "null"...)
	}
	return true, e.check()
}

func (e *encoder) check() error {
	if len(e.buf) > e.max {
		return e.tooLarge()
	}
	return nil
}

func (e *encoder) tooLarge() error { return e.run.limits.OutputError() }

func (e *encoder) object(key string, o *goja.Object) (ok bool, err error) {
	if e.run.stopped.Load() {
		return false, e.run.limits.TimeoutError()
	}
	class := o.ClassName()
	if class == "Date" || e.run.l.uses.toJSON {
		if call, ok := goja.AssertFunction(o.Get("toJSON")); ok {
			v, err := call(o, e.run.vm.ToValue(key))
			if err != nil {
				return false, err
			}
			if replaced, ok := v.(*goja.Object); !ok || !replaced.SameAs(o) {
				if ok {
					return e.container(replaced, replaced.ClassName())
				}
				return e.member(key, v)
			}
		}
	}
	return e.container(o, class)
}

func (e *encoder) container(o *goja.Object, class string) (ok bool, err error) {
	switch class {
	case "Object", "Array", "Error":
	case "Number":
		return e.member("", o.ToNumber())
	case "String":
		return e.member("", o.ToString())
	case "Boolean":
		return e.member("", e.run.vm.ToValue(o.Export()))
	case "RawJSON":
		e.buf = append(e.buf, o.Get("rawJSON").String()...)
		return true, e.check()
	default:
		if _, callable := goja.AssertFunction(o); callable {
			return false, nil
		}
	}
	lazy := lazyOf(o)
	if raw := untouched(lazy); raw != nil {
		e.buf = appendCompact(e.buf, raw)
		return true, e.check()
	}
	if len(e.stack) == maxResultDepth {
		return false, e.fault(fmt.Sprintf("the result nests deeper than %d", maxResultDepth))
	}
	for _, outer := range e.stack {
		if outer == o {
			return false, e.fault("the result holds itself: a circular structure has no JSON")
		}
	}
	e.stack = append(e.stack, o)
	if class == "Array" {
		err = e.array(o)
	} else {
		err = e.members(o)
	}
	e.stack = e.stack[:len(e.stack)-1]
	return true, err
}

func (e *encoder) fault(message string) error {
	return &scripts.Error{Phase: scripts.PhaseRun, Message: message}
}

// untouched returns the event's text for an unchanged object or array of the event.
func untouched(lazy any) []byte {
	switch l := lazy.(type) {
	case *lazyObject:
		if l.pristine() {
			return l.src.Raw()
		}
	case *lazyArray:
		if l.pristine() {
			return l.src.Raw()
		}
	}
	return nil
}

func (e *encoder) array(o *goja.Object) error {
	n := o.Get("length").ToInteger()
	e.buf = append(e.buf, '[')
	for i := int64(0); i < n; i++ {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		key := strconv.FormatInt(i, 10)
		ok, err := e.member(key, o.Get(key))
		if err != nil {
			return err
		}
		if !ok {
			e.buf = append(e.buf, "null"...)
		}
		if err := e.check(); err != nil {
			return err
		}
	}
	e.buf = append(e.buf, ']')
	return e.check()
}

func (e *encoder) members(o *goja.Object) error {
	e.buf = append(e.buf, '{')
	start := len(e.buf)
	for _, name := range o.Keys() {
		if e.run.stopped.Load() {
			return e.run.limits.TimeoutError()
		}
		mark := len(e.buf)
		if mark > start {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(appendQuoted(e.buf, name), ':')
		ok, err := e.member(name, o.Get(name))
		if err != nil {
			return err
		}
		if !ok {
			e.buf = e.buf[:mark]
		}
	}
	e.buf = append(e.buf, '}')
	return e.check()
}

func (e *encoder) text(s goja.String) error {
	if s.Length() > e.max-len(e.buf) {
		return e.tooLarge()
	}
	text := s.String()
	// Its length in bytes equals that in characters, so it is ASCII.
	if len(text) != s.Length() && strings.ContainsRune(text, '\ufffd') {
		e.buf = appendUTF16(e.buf, s)
	} else {
		e.buf = appendQuoted(e.buf, text)
	}
	return e.check()
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as a JSON string with only the necessary escapes.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[start:]...), '"')
}

// appendUTF16 appends a string that may contain lone surrogates, which UTF-8 can't represent:
// they are escaped, as in JSON.stringify.
func appendUTF16(b []byte, s goja.String) []byte {
	high := func(c uint16) bool { return c >= 0xd800 && c < 0xdc00 }
	low := func(c uint16) bool { return c >= 0xdc00 && c < 0xe000 }
	b = append(b, '"')
	start, n := 0, s.Length()
	flush := func(end int) {
		if start < end {
			quoted := appendQuoted(nil, s.Substring(start, end).String())
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		start = end + 1
	}
	for i := 0; i < n; i++ {
		c := s.CharAt(i)
		switch {
		case high(c) && i+1 < n && low(s.CharAt(i+1)):
			i++
		case high(c) || low(c):
			flush(i)
			b = append(b, '\\', 'u', hexDigits[c>>12], hexDigits[c>>8&15], hexDigits[c>>4&15], hexDigits[c&15])
		}
	}
	flush(n)
	return append(b, '"')
}

// appendCompact appends well-formed JSON without the white space between its values.
func appendCompact(b, raw []byte) []byte {
	start, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			b = append(b, raw[start:i]...)
			start = i + 1
		}
	}
	return append(b, raw[start:]...)
}
