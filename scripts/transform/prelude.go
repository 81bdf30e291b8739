package transform

import (
	_ "embed"
	"sync"
	"unicode/utf8"

	"switchhook/scripts/weburl"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// maxURL is the maximum size of a URL or query parameter that a script may parse, in bytes.
const maxURL = 16 << 10

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

func installURL(r *run) {
	made := r.start(urlProgram(),
		func(call goja.FunctionCall) goja.Value { // parse(url, base)
			var base *weburl.URL
			if v := call.Argument(1); !goja.IsUndefined(v) {
				var ok bool
				if base, ok = weburl.Parse(r.textOf(v, "URL: base", maxURL), nil); !ok {
					return goja.Null()
				}
			}
			u, ok := weburl.Parse(r.textOf(call.Argument(0), "URL", maxURL), base)
			if !ok {
				return goja.Null()
			}
			return r.urlParts(u)
		},
		func(call goja.FunctionCall) goja.Value { // change(href, part, value)
			value := r.textOf(call.Argument(2), "URL: "+call.Argument(1).String(), maxURL)
			u, ok := weburl.Parse(call.Argument(0).String(), nil)
			if !ok {
				return goja.Null() // href comes from a URL, so it is valid
			}
			u.Set(call.Argument(1).String(), value)
			if len(u.Href()) > 4*maxURL {
				r.throwRange("URL is longer than %d bytes", 4*maxURL)
			}
			return r.urlParts(u)
		},
		func(call goja.FunctionCall) goja.Value { // encode(text)
			return r.vm.ToValue(weburl.EncodeForm(r.textOf(call.Argument(0), "URLSearchParams: text", maxURL)))
		},
		func(call goja.FunctionCall) goja.Value { // decode(text)
			return r.vm.ToValue(weburl.DecodeForm(r.textOf(call.Argument(0), "URLSearchParams: text", maxURL)))
		},
	)
	r.setAll(made, "URL", "URLSearchParams")
}

func (r *run) urlParts(u *weburl.URL) goja.Value {
	return r.vm.NewArray(u.Href(), u.Origin(), u.Protocol(), u.Username(), u.Password(), u.Host(),
		u.Hostname(), u.Port(), u.Pathname(), u.Search(), u.Hash())
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
				return r.vm.ToValue(weburl.DecodeUTF8(b))
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
