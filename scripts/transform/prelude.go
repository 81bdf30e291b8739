package transform

import (
	_ "embed"
	"sync"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
	"golang.org/x/text/encoding/unicode"
)

var (
	//go:embed url.js
	urlSource string
	//go:embed text.js
	textSource string
	//go:embed clone.js
	cloneSource string
)

// prelude compiles a helper that is written in JavaScript, on first use. Its source is a
// function that takes the parts implemented in Go and returns the helper.
func prelude(name, source string) func() *goja.Program {
	return sync.OnceValue(func() *goja.Program {
		tree, err := goja.Parse(name, source, parser.WithDisableSourceMaps)
		if err != nil {
			panic(err) // the sources are part of the program
		}
		program, err := goja.CompileAST(tree, true)
		if err != nil {
			panic(err)
		}
		return program
	})
}

var (
	urlProgram   = prelude("url.js", urlSource)
	textProgram  = prelude("text.js", textSource)
	cloneProgram = prelude("clone.js", cloneSource)
)

// start runs a prelude and returns the helper.
func (r *run) start(program *goja.Program, native ...func(goja.FunctionCall) goja.Value) *goja.Object {
	maker, err := r.vm.RunProgram(program)
	if err != nil {
		panic(err)
	}
	call, _ := goja.AssertFunction(maker)
	args := make([]goja.Value, len(native))
	for i, f := range native {
		args[i] = r.vm.ToValue(f)
	}
	made, err := call(goja.Undefined(), args...)
	if err != nil {
		panic(err)
	}
	return made.ToObject(r.vm)
}

func (r *run) setAll(from *goja.Object, names ...string) {
	for _, name := range names {
		_ = r.vm.GlobalObject().DefineDataProperty(name, from.Get(name), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	}
}

func installText(r *run) {
	made := r.start(textProgram(),
		func(call goja.FunctionCall) goja.Value { // bytes(text)
			return r.uint8Array(r.bytesOf(call.Argument(0), "TextEncoder: text"))
		},
		func(call goja.FunctionCall) goja.Value { // text(bytes, fatal)
			o, ok := call.Argument(0).(*goja.Object)
			if !ok {
				panic(r.vm.NewTypeError("TextDecoder: input must be a Uint8Array"))
			}
			b := r.bytesOf(o, "TextDecoder: input")
			if !utf8.Valid(b) {
				if call.Argument(1).ToBoolean() {
					panic(r.vm.NewTypeError("TextDecoder: the bytes are not UTF-8 text"))
				}
				b, _ = unicode.UTF8.NewDecoder().Bytes(b) // replaces what is not UTF-8
			}
			return r.vm.ToValue(string(b))
		},
	)
	r.setAll(made, "TextEncoder", "TextDecoder")
}

func installStructuredClone(r *run) {
	made := r.start(cloneProgram(),
		func(call goja.FunctionCall) goja.Value { // untouched(value)
			switch l := lazyOf(call.Argument(0)).(type) {
			case *lazyObject:
				if l.pristine() {
					return r.value(l.src)
				}
			case *lazyArray:
				if l.pristine() {
					return r.value(l.src)
				}
			}
			return goja.Undefined()
		},
		func(call goja.FunctionCall) goja.Value { // classOf(object)
			o, ok := call.Argument(0).(*goja.Object)
			switch {
			case !ok:
				return goja.Undefined()
			case o.ExportType() == arrayBufferType:
				return r.vm.ToValue("ArrayBuffer")
			}
			return r.vm.ToValue(o.ClassName())
		},
	)
	_ = r.vm.Set("structuredClone", made)
}
