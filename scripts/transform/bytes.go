package transform

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// maxInput is the maximum input of one helper call, in bytes. Go code can't be interrupted, so
// a call must be short: with this much input, most take 1 to 5 ms, and the slowest, a
// TextDecoder that must replace every byte, about 30.
const maxInput = 1 << 20

var (
	bytesType       = reflect.TypeFor[[]byte]()
	arrayBufferType = reflect.TypeFor[goja.ArrayBuffer]()
)

// bytesOf reads a helper's argument: a string is read as its UTF-8 bytes. what names the
// argument in the error that is thrown for other types.
func (r *run) bytesOf(v goja.Value, what string) []byte {
	switch x := v.(type) {
	case goja.String:
		return []byte(r.textOf(x, what, maxInput))
	case *goja.Object:
		if b, ok := binaryOf(x); ok {
			if len(b) > maxInput {
				r.throwRange("%s is larger than 1 MiB", what)
			}
			return b
		}
	}
	panic(r.vm.NewTypeError("%s must be a string or a Uint8Array", what))
}

// binaryOf returns the memory of a Uint8Array or ArrayBuffer.
func binaryOf(o *goja.Object) ([]byte, bool) {
	switch o.ExportType() {
	case bytesType:
		b, ok := o.Export().([]byte)
		return b, ok
	case arrayBufferType:
		b, ok := o.Export().(goja.ArrayBuffer)
		return b.Bytes(), ok
	}
	return nil, false
}

// textOf reads a string of at most limit bytes.
func (r *run) textOf(v goja.Value, what string, limit int) string {
	s, ok := v.(goja.String)
	if !ok {
		panic(r.vm.NewTypeError("%s must be a string", what))
	}
	// A character is at least a byte, so a huge string is refused without copying it.
	if s.Length() <= limit {
		if text := s.String(); len(text) <= limit {
			return text
		}
	}
	if limit == maxInput {
		r.throwRange("%s is larger than 1 MiB", what)
	}
	r.throwRange("%s is longer than %d bytes", what, limit)
	return ""
}

// asText converts a value to a string, as String() does in JavaScript.
func (r *run) asText(v goja.Value) goja.Value {
	if _, ok := v.(goja.String); ok {
		return v
	}
	return r.vm.ToValue(v.String())
}

// throwRange throws a RangeError.
func (r *run) throwRange(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if class, ok := r.vm.Get("RangeError").(*goja.Object); ok {
		if e, err := r.vm.New(class, r.vm.ToValue(message)); err == nil {
			panic(e)
		}
	}
	panic(r.vm.NewTypeError("%s", message)) // the script has removed RangeError
}

// uint8Array returns a Uint8Array that takes ownership of b.
func (r *run) uint8Array(b []byte) goja.Value {
	o, err := r.vm.New(r.vm.Get("Uint8Array"), r.vm.ToValue(r.vm.NewArrayBuffer(b)))
	if err != nil {
		panic(err)
	}
	return o
}

// encoded returns bytes in the given encoding; undefined means hex.
func (r *run) encoded(b []byte, encoding goja.Value) goja.Value {
	if goja.IsUndefined(encoding) {
		return r.vm.ToValue(hex.EncodeToString(b))
	}
	switch encoding.String() {
	case "hex":
		return r.vm.ToValue(hex.EncodeToString(b))
	case "base64":
		return r.vm.ToValue(base64.StdEncoding.EncodeToString(b))
	case "base64url":
		return r.vm.ToValue(base64.RawURLEncoding.EncodeToString(b))
	case "bytes":
		return r.uint8Array(b)
	}
	panic(r.vm.NewTypeError(`encoding must be "hex", "base64", "base64url" or "bytes"`))
}

// decoded returns bytes as UTF-8 text, or unchanged if as is "bytes".
func (r *run) decoded(b []byte, as goja.Value, what string) goja.Value {
	if !goja.IsUndefined(as) && as.String() != "text" {
		if as.String() != "bytes" {
			panic(r.vm.NewTypeError(`%s gives "text" or "bytes"`, what))
		}
		return r.uint8Array(b)
	}
	if !utf8.Valid(b) {
		panic(r.vm.NewTypeError(`%s: the bytes are not UTF-8 text: ask for "bytes"`, what))
	}
	return r.vm.ToValue(string(b))
}

// object returns a helper that is an object with functions.
func (r *run) object(name string, functions map[string]func(goja.FunctionCall) goja.Value, order ...string) {
	o := r.vm.NewObject()
	for _, f := range order {
		_ = o.Set(f, functions[f]) // a new object accepts any property
	}
	_ = r.vm.Set(name, o)
}

var hashes = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

func installCrypto(r *run) {
	r.object("crypto", map[string]func(goja.FunctionCall) goja.Value{
		"sha256": func(call goja.FunctionCall) goja.Value {
			sum := sha256.Sum256(r.bytesOf(call.Argument(0), "crypto.sha256: data"))
			return r.encoded(sum[:], call.Argument(1))
		},
		"hmac": func(call goja.FunctionCall) goja.Value {
			h := hashes[call.Argument(0).String()]
			if h == nil {
				panic(r.vm.NewTypeError(`crypto.hmac: algorithm must be "sha256", "sha1" or "sha512"`))
			}
			mac := hmac.New(h, r.bytesOf(call.Argument(1), "crypto.hmac: key"))
			mac.Write(r.bytesOf(call.Argument(2), "crypto.hmac: data"))
			return r.encoded(mac.Sum(nil), call.Argument(3))
		},
	}, "sha256", "hmac")
}

func installBase64(r *run) {
	r.object("base64", map[string]func(goja.FunctionCall) goja.Value{
		"encode": func(call goja.FunctionCall) goja.Value {
			b := r.bytesOf(call.Argument(0), "base64.encode: data")
			switch v := call.Argument(1); {
			case goja.IsUndefined(v):
				return r.vm.ToValue(base64.StdEncoding.EncodeToString(b))
			case v.String() == "url":
				return r.vm.ToValue(base64.RawURLEncoding.EncodeToString(b))
			}
			panic(r.vm.NewTypeError(`base64.encode: the second argument may only be "url"`))
		},
		"decode": func(call goja.FunctionCall) goja.Value {
			text := r.textOf(call.Argument(0), "base64.decode: text", maxInput)
			b, ok := decodeBase64(strings.NewReplacer("-", "+", "_", "/").Replace(text))
			if !ok {
				panic(r.vm.NewTypeError("base64.decode: this is not base64"))
			}
			return r.decoded(b, call.Argument(1), "base64.decode")
		},
	}, "encode", "decode")
}

// decodeBase64 implements the forgiving-base64 decode of https://infra.spec.whatwg.org: white
// space is skipped and padding is optional.
func decodeBase64(text string) ([]byte, bool) {
	src := make([]byte, 0, len(text))
	for i := range len(text) {
		switch c := text[i]; c {
		case '\t', '\n', '\f', '\r', ' ':
		default:
			src = append(src, c)
		}
	}
	if len(src)%4 == 0 {
		src = bytes.TrimSuffix(bytes.TrimSuffix(src, []byte("=")), []byte("="))
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(src)))
	n, err := base64.RawStdEncoding.Decode(out, src)
	return out[:n], err == nil
}

func installHex(r *run) {
	r.object("hex", map[string]func(goja.FunctionCall) goja.Value{
		"encode": func(call goja.FunctionCall) goja.Value {
			return r.vm.ToValue(hex.EncodeToString(r.bytesOf(call.Argument(0), "hex.encode: data")))
		},
		"decode": func(call goja.FunctionCall) goja.Value {
			b, err := hex.DecodeString(r.textOf(call.Argument(0), "hex.decode: text", maxInput))
			if err != nil {
				panic(r.vm.NewTypeError("hex.decode: this is not hex"))
			}
			return r.decoded(b, call.Argument(1), "hex.decode")
		},
	}, "encode", "decode")
}

// installBtoa installs btoa, whose text has one character for each byte.
func installBtoa(r *run) {
	_ = r.vm.Set("btoa", func(call goja.FunctionCall) goja.Value {
		text := r.textOf(r.asText(call.Argument(0)), "btoa: data", maxInput)
		b := make([]byte, 0, len(text))
		for _, c := range text {
			if c > 0xff {
				panic(r.vm.NewTypeError("btoa: the text has a character above U+00FF: use base64.encode, which takes UTF-8"))
			}
			b = append(b, byte(c))
		}
		return r.vm.ToValue(base64.StdEncoding.EncodeToString(b))
	})
}

func installAtob(r *run) {
	_ = r.vm.Set("atob", func(call goja.FunctionCall) goja.Value {
		b, ok := decodeBase64(r.textOf(r.asText(call.Argument(0)), "atob: text", maxInput))
		if !ok {
			panic(r.vm.NewTypeError("atob: this is not base64"))
		}
		text := make([]uint16, len(b))
		for i, c := range b {
			text[i] = uint16(c)
		}
		return goja.StringFromUTF16(text)
	})
}
