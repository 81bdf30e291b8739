package transform

import (
	"reflect"
	"strings"
	"unicode/utf8"

	"switchhook/scripts"

	"github.com/dop251/goja"
)

// maxMessage is the maximum length of a thrown message or drop reason, in bytes.
const maxMessage = 1000

var promiseType = reflect.TypeFor[*goja.Promise]()

// thrown describes a value that a script threw, which may be other than an Error. Reading it
// may run the script's code again (a getter, a toJSON) and throw again.
func (r *run) thrown(v goja.Value, stack []goja.StackFrame) *scripts.Error {
	e := &scripts.Error{Phase: scripts.PhaseRun, Message: "threw a value that can't be shown"}
	var text string
	_ = r.try(func() {
		text = ""
		e.Message = withHint(r.describe(v))
		if o, ok := v.(*goja.Object); ok && len(stack) == 0 {
			if s, ok := o.Get("stack").(goja.String); ok {
				text = s.String()
			}
		}
	})
	r.l.locate(e, stack)
	if e.Line == 0 && text != "" {
		r.l.locateText(e, text)
	}
	if r.stopped.Load() || r.noMatch != nil {
		stop := r.stopError()
		e.Phase, e.Message = stop.Phase, stop.Message
	}
	return e
}

// try runs f, which may touch the script's values, and reports whether it came to its
// end.
func (r *run) try(f func()) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return r.vm.Try(f) == nil
}

func (r *run) describe(v goja.Value) string {
	if v == nil {
		return "threw nothing"
	}
	if o, ok := v.(*goja.Object); ok {
		if o.ClassName() == "Error" || isText(o.Get("message")) {
			return r.errorText(o)
		}
	} else if s, ok := v.(goja.String); ok {
		return "threw " + truncate(s.String())
	}
	enc := encoder{run: r, max: maxMessage}
	shown, err := enc.value(v)
	switch {
	case err != nil && len(enc.buf) > 0:
		return "threw " + truncate(string(enc.buf)) + "…"
	case err != nil || !shown:
		return "threw " + truncate(v.String())
	}
	return "threw " + truncate(string(enc.buf))
}

// errorText returns the text of Error.prototype.toString, without calling the script's.
func (r *run) errorText(o *goja.Object) string {
	name, message := "Error", ""
	if s, ok := o.Get("name").(goja.String); ok && s.Length() > 0 {
		name = truncate(s.String())
	}
	if s, ok := o.Get("message").(goja.String); ok {
		message = truncate(s.String())
	}
	if message == "" {
		return name
	}
	return name + ": " + message
}

func isText(v goja.Value) bool {
	_, ok := v.(goja.String)
	return ok
}

// truncate cuts a text to maxMessage bytes, at the end of a character.
func truncate(s string) string {
	if len(s) <= maxMessage {
		return strings.Clone(s) // it may share the event's memory
	}
	n := maxMessage
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
