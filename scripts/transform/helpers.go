package transform

import (
	"strconv"
	"strings"

	"switchhook/scripts"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

var withoutSourceMaps = []parser.Option{parser.WithDisableSourceMaps}

// helper is a global that scripts have in addition to goja's. It is installed in a run only
// if the program's code mentions its name, so unused helpers cost nothing.
//
// A new helper needs a line in helpers, in modules and in scripts/dts; it must be pure: no
// clock, no files, no state between runs.
type helper struct {
	name    string // a program whose code contains it gets the helper
	install func(*run)
}

var helpers = []helper{
	{"console", installConsole},
	{"drop", installDrop},
	{"crypto", installCrypto},
	{"base64", installBase64},
	{"hex", installHex},
	{"btoa", installBtoa},
	{"atob", installAtob},
	{"URL", installURL}, // and URLSearchParams
	{"Text", installText},
	{"structuredClone", installStructuredClone},
	{"formatDate", installFormatDate},
	{"toLocale", installLocale},
	{"localeCompare", installLocaleCompare},
}

// installDrop installs drop(reason): the event is not sent. It ends the script immediately, so
// `return drop("…")` and a bare `drop("…")` are equivalent, and no catch or finally runs.
func installDrop(r *run) {
	_ = r.vm.Set("drop", func(call goja.FunctionCall) goja.Value {
		if !r.dropped {
			if v := call.Argument(0); !goja.IsUndefined(v) {
				r.dropReason = truncate(v.String())
			}
			r.dropped = true
			r.vm.Interrupt("dropped")
		}
		return goja.Undefined()
	})
}

// console collects the log lines of a run, within its limits.
type console struct {
	limits scripts.Limits
	lines  []string
	bytes  int
	lost   int
}

func installConsole(r *run) {
	o := r.vm.NewObject()
	for _, level := range []string{"log", "info", "warn", "error", "debug"} {
		_ = o.Set(level, func(call goja.FunctionCall) goja.Value {
			if r.console.full() {
				r.console.lost++ // lines beyond the limit are not formatted
			} else {
				r.console.add(level + ": " + r.format(call.Arguments))
			}
			return goja.Undefined()
		})
	}
	_ = r.vm.Set("console", o)
}

func (c *console) full() bool {
	return len(c.lines) >= c.limits.ConsoleLines || c.bytes >= c.limits.ConsoleBytes
}

func (c *console) add(line string) {
	if room := c.limits.ConsoleBytes - c.bytes; len(line) > room {
		line = strings.ToValidUTF8(line[:room], "") + "…"
	}
	c.bytes += len(line)
	c.lines = append(c.lines, line)
}

func (c *console) done() []string {
	if c.lost > 0 {
		c.lines = append(c.lines, "warn: "+strconv.Itoa(c.lost)+" more lines were not kept")
		c.lost = 0
	}
	return c.lines
}

// format formats arguments as a browser's console does, objects as JSON.
func (r *run) format(args []goja.Value) string {
	var b strings.Builder
	for i, v := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if b.Len() > r.limits.ConsoleBytes {
			break
		}
		b.WriteString(r.show(v))
	}
	return b.String()
}

func (r *run) show(v goja.Value) string {
	o, ok := v.(*goja.Object)
	if !ok {
		if s, ok := v.(goja.String); ok && s.Length() > r.limits.ConsoleBytes {
			return s.Substring(0, r.limits.ConsoleBytes).String()
		}
		return v.String()
	}
	if o.ClassName() == "Error" {
		return r.errorText(o)
	}
	enc := encoder{run: r, max: r.limits.ConsoleBytes}
	shown, err := enc.value(v)
	if err != nil && len(enc.buf) == 0 || !shown && err == nil {
		return "[" + o.ClassName() + "]"
	}
	return string(enc.buf)
}
