package transform_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/transform"
)

func event(data string) *scripts.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
	return &scripts.Event{ID: "evt_1", Type: "order.created", Account: "default", Time: at, Received: at, Headers: map[string]string{"X-Source": "shop"}, Data: []byte(data)}
}

func request() scripts.Request {
	return scripts.Request{Method: "POST", Path: "/hook", Query: map[string][]string{"a": {"1"}, "b": {"1", "2"}}, Headers: map[string]string{"X-Shop": "1"}}
}

// load compiles and loads a program.
func load(t testing.TB, source string) *transform.Loaded {
	t.Helper()
	p, err := transform.Compile(source, scripts.DefaultLimits(), nil)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	l, err := transform.Load(p)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return l
}

func run(t *testing.T, source, data string) (scripts.Result, error) {
	t.Helper()
	p, err := transform.Compile(source, scripts.DefaultLimits(), nil)
	if err != nil {
		return scripts.Result{}, err
	}
	l, err := transform.Load(p)
	if err != nil {
		return scripts.Result{}, err
	}
	return l.Run(event(data), request(), scripts.DefaultLimits(), nil)
}

func TestCompile_TransformForms(t *testing.T) {
	cases := []struct{ name, source string }{
		{"export default function", `export default function transform(event) { return event.data.n }`},
		{"anonymous default function", `export default function (event) { return event.data.n }`},
		{"default arrow", `export default (event) => event.data.n`},
		{"default async arrow", `export default async (event) => { await null; return event.data.n }`},
		{"plain function", `function transform(event) { return event.data.n }`},
		{"const arrow", `const transform = event => event.data.n`},
		{"named export", `export function transform(event) { return event.data.n }`},
		{"export list", `function f(event) { return event.data.n } export { f as default }`},
		{"module.exports", `module.exports = event => event.data.n`},
		{"exports.default", `exports.default = event => event.data.n`},
		{"TypeScript", "interface E { data: { n: number } }\nenum Mode { A = 7 }\nexport default function transform(event: E): number { return (event.data.n as number) satisfies number }"},
		{"type import", `import type { E } from "somewhere"; export default (event: E) => event.data.n`},
		{"async generator and for await", `async function* g(n) { yield n } export default async function (event) { for await (const x of g(event.data.n)) return x }`},
		{"class with private and static", `class A { static #n = 7; static { A.m = () => A.#n } } export default () => A.m()`},
		{"optional chaining, logical sets", `export default (e) => { let x = e.data?.nope?.y; x ??= e.data.n; return x }`},
		{"decorators", `function d(v, c) { return v } class A { @d m() { return 7 } } export default () => new A().m()`},
		{"directive first", `"use strict"; export default (e) => e.data.n`},
		{"a look-alike export table", "export default (e) => { `\nmodule.exports = __toCommonJS(transform_exports);\n`; return e.data.n }"},
		{"a comment at the end", "export default (e) => e.data.n // the end"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := run(t, c.source, `{"n":7}`)
			if err != nil || string(res.Body) != "7" {
				t.Errorf("got %q, %v", res.Body, err)
			}
		})
	}
}

func TestRun_PreservesDigitsOrderAndCharacters(t *testing.T) {
	cases := []struct{ name, source, data, want string }{
		{"an untouched event is copied as it is written", `e => e.data`, ` { "z" : 1.50 , "a" : [ 9007199254740993 , "a b\u00e9" ] , "10":1, "2":2 } `, `{"z":1.50,"a":[9007199254740993,"a b\u00e9"],"10":1,"2":2}`},
		{"a large integer", `e => ({id: e.data.id})`, `{"id":12345678901234567890}`, `{"id":12345678901234567890}`},
		{"the largest safe integer is a number", `e => e.data + 0`, `9007199254740992`, `9007199254740992`},
		{"a large integer can be calculated with", `e => e.data + 1n`, `9007199254740993`, `9007199254740994`},
		{"JSON.stringify writes a large integer", `e => JSON.stringify({id: e.data})`, `-9007199254740993`, `{"id":-9007199254740993}`},
		{"a BigInt of the script's own", `() => ({a: 2n**64n})`, `0`, `{"a":18446744073709551616}`},
		{"order of keys", `e => ({z:1, ...e.data, a:2})`, `{"y":1,"b":2}`, `{"z":1,"y":1,"b":2,"a":2}`},
		{"markup is not escaped", `e => [e.data]`, `"<b>&\u2028"`, "[\"<b>&\u2028\"]"},
		{"control characters are", `e => ["\u0000\u001f\n\t\"\\"]`, `0`, `["\u0000\u001f\n\t\"\\"]`},
		{"emoji", `e => [e.data, "😀é"]`, `"\ud83d\ude00"`, `["😀","😀é"]`},
		{"half a surrogate pair", `() => ["a\ud800b😀\ufffd"]`, `0`, `["a\ud800b😀` + "\ufffd" + `"]`},
		{"scalar roots", `e => e.data`, `true`, `true`},
		{"null", `e => e.data`, `null`, `null`},
		{"array root", `e => e.data.map(x => x * 2)`, `[1,2,3]`, `[2,4,6]`},
		{"negative zero, infinity, not a number", `() => [-0, 1/0, NaN, undefined, () => 1, Symbol("x")]`, `0`, `[0,null,null,null,null,null]`},
		{"left out members", `() => ({a: undefined, b: () => 1, c: Symbol("x"), d: 1})`, `0`, `{"d":1}`},
		{"dates", `() => ({d: new Date(0)})`, `0`, `{"d":"1970-01-01T00:00:00.000Z"}`},
		{"toJSON", `() => ({a: {toJSON(k) { return k + "!" }}})`, `0`, `{"a":"a!"}`},
		{"toJSON that returns itself", `() => ({a: {x: 1, toJSON(k) { return this }}})`, `0`, `{"a":{"x":1}}`},
		{"boxed values", `() => [new Number(1), new String("s"), new Boolean(false)]`, `0`, `[1,"s",false]`},
		{"Map and Set are empty objects", `() => [new Map([[1,2]]), new Set([1])]`, `0`, `[{},{}]`},
		{"JSON.rawJSON", `() => ({a: JSON.rawJSON("1.10")})`, `0`, `{"a":1.10}`},
		{"getters", `() => ({get a() { return 1 }})`, `0`, `{"a":1}`},
		{"a proxy", `() => new Proxy({a: 1}, {get: () => 2})`, `0`, `{"a":2}`},
		{"typed arrays", `() => [new Uint8Array([1,2])]`, `0`, `[{"0":1,"1":2}]`},
		{"setting a member", `e => { e.data.a = 2; e.data.c = 3; return e.data }`, `{"a":1,"b":1}`, `{"a":2,"b":1,"c":3}`},
		{"setting a deep member", `e => { e.data.a.b[0].c = 2; return e.data }`, `{"a":{"b":[{"c":1},5]},"d":1.0}`, `{"a":{"b":[{"c":2},5]},"d":1}`},
		{"deleting and setting again", `e => { delete e.data.a; e.data.x = 1; delete e.data.x; e.data.a = 5; return e.data }`, `{"a":1,"b":2}`, `{"b":2,"a":5}`},
		{"pushing, popping, sorting", `e => { e.data.push(1); e.data.shift(); e.data.sort(); return e.data }`, `[9,3,2]`, `[1,2,3]`},
		{"splice and length", `e => { e.data.splice(1,1); e.data.length = 2; return [...e.data, e.data.length] }`, `[1,2,3,4]`, `[1,3,2]`},
		{"identity", `e => e.data.a === e.data.a && Array.isArray(e.data.l)`, `{"a":{},"l":[]}`, `true`},
		{"__proto__ is a member like others", `e => [Object.keys(e.data), ({}).x === undefined]`, `{"__proto__":{"x":1}}`, `[["__proto__"],true]`},
		{"a name that stands twice", `e => ({...e.data})`, `{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{"many members", `e => Object.keys(e.data).length + ("k7" in e.data)`, `{"k1":1,"k2":1,"k3":1,"k4":1,"k5":1,"k6":1,"k7":1,"k8":1,"k9":1,"k10":1,"k11":1,"k12":1,"k13":1,"k13":1}`, `14`},
		{"the rest of the event", `e => [e.id, e.type, e.account, e.time, e.headers]`, `0`, `["evt_1","order.created","default","2026-01-02T03:04:05.6Z",{"X-Source":"shop"}]`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := run(t, "export default "+c.source, c.data)
			if err != nil {
				t.Fatal(err)
			}
			if string(res.Body) != c.want {
				t.Errorf("got  %s\nwant %s", res.Body, c.want)
			}
		})
	}
}

func TestRun_SendsStringAsIs(t *testing.T) {
	res, err := run(t, `export default () => "a<b>"`, `0`)
	if err != nil || string(res.Body) != "a<b>" || res.ContentType != "text/plain; charset=utf-8" || res.Request != nil {
		t.Errorf("got %+v, %v", res, err)
	}
	res, err = run(t, `export default (e, r) => { r.headers["content-type"] = "text/csv"; return "a,b" }`, `0`)
	if err != nil || res.ContentType != "text/csv" || res.Request == nil || res.Request.Headers["content-type"] != "text/csv" {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestRun_DropEndsScript(t *testing.T) {
	for _, source := range []string{
		`export default () => { return drop("why") }`,
		`export default () => { drop("why"); throw new Error("not reached") }`,
		`export default () => { try { drop("why") } catch { return 1 } finally { return 2 } }`,
		`export default async () => { await null; drop("why"); return 3 }`,
		`export default () => [1, 2].map(() => drop("why"))`,
		`export default () => { for (;;) drop("why") }`,
		`export default () => Promise.resolve("why").then(drop)`,
		`export default () => ({ get a() { drop("why"); return 1 } })`,
	} {
		res, err := run(t, source, `0`)
		if err != nil || !res.Dropped || res.DropReason != "why" || res.Body != nil {
			t.Errorf("%s\ngot %+v, %v", source, res, err)
		}
	}
}

func TestRun_ChangesRequest(t *testing.T) {
	cases := []struct{ name, source, fails string }{
		{name: "method", source: `r.method = "put"`},
		{name: "path", source: `r.path = "/x/" + encodeURIComponent("a b")`},
		{name: "query", source: `r.query.c = 5; delete r.query.a; r.query.b.push("3")`},
		{name: "header", source: `r.headers["x-shop"] = 2; r.headers["X-New"] = "é"`},
		{name: "a method that is not allowed", source: `r.method = "TRACE"`, fails: "must be one of POST"},
		{name: "a path without slash", source: `r.path = "http://evil/"`, fails: "must start with one /"},
		{name: "a path that looks like a host", source: `r.path = "//evil/"`, fails: "must start with one /"},
		{name: "a path with query", source: `r.path = "/a?b"`, fails: "request.query"},
		{name: "a path with a bare percent sign", source: `r.path = "/100%"`, fails: "must be escaped"},
		{name: "a path with a line break", source: `r.path = "/a\r\nHost: evil"`, fails: "control characters"},
		{name: "a header with a line break", source: `r.headers.a = "b\r\nHost: evil"`, fails: "control character"},
		{name: "a bad header name", source: `r.headers["a b"] = "1"`, fails: "is not a header name"},
		{name: "a fixed header", source: `r.headers.host = "evil"`, fails: "set by the router"},
		{name: "a signature", source: `r.headers["Webhook-Signature"] = "v1,x"`, fails: "set by the router"},
		{name: "an object as header", source: `r.headers.a = {}`, fails: "must be a string"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := run(t, `export default (e, r) => { `+c.source+`; return 1 }`, `0`)
			switch {
			case c.fails != "":
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %+v, %v", res.Request, err)
				}
			case err != nil:
				t.Error(err)
			case res.Request == nil:
				t.Error("no change noted")
			default:
				t.Logf("%+v", *res.Request)
			}
		})
	}
	res, err := run(t, `export default (e, r) => ({ ...r })`, `0`)
	if err != nil || res.Request != nil || string(res.Body) != `{"method":"POST","path":"/hook","query":{"a":"1","b":["1","2"]},"headers":{"X-Shop":"1"}}` {
		t.Errorf("left alone: %s %+v %v", res.Body, res.Request, err)
	}
}

func TestError_PositionInAuthorsSource(t *testing.T) {
	cases := []struct {
		name, source string
		phase        scripts.Phase
		line, column int
		contains     string
	}{
		{"a syntax error", "export default () => {\n  return 1 +\n}", "compile", 3, 1, `Unexpected "}"`},
		{"a syntax error after wide characters", "export default () => \"é😀\" +* 1", "compile", 1, 28, `Unexpected "*"`},
		{"a wrapper escape", "return 1})(); globalThis.evil=1; (function(){", "compile", 1, 9, `Unexpected "}"`},
		{"an import", "\nimport _ from \"lodash\"\nexport default () => _.x", "compile", 2, 15, `import of "lodash"`},
		{"a helper module that is not there", "import { x } from \"switchhook:nope\"\nexport default () => x", "compile", 1, 19, `no such helper module`},
		{"a dynamic import", "export default async () => { await import(\"fs\") }", "compile", 1, 36, `import of "fs"`},
		{"a require", "export default () => require(\"fs\")", "compile", 1, 22, `import of "fs"`},
		{"a computed require", "export default () => require(\"f\" + \"s\")", "compile", 1, 22, `import of`},
		{"top-level await", "await 1; export default () => 1", "compile", 1, 1, "Top-level await"},
		{"no transform", "const x = 1", "compile", 0, 0, "no transform function"},
		{"a top level that throws", "null.x; export default () => 1", "compile", 1, 6, "Cannot read property 'x'"},
		{"a property class", "export default () => /\\p{L}/u.test('é')", "lint", 1, 22, `\p{…}`},
		{"a TypeError in TypeScript", "interface E {\n  data: any\n}\n\nexport default (event: E): number => {\n  const   s = \"é😀\";   return event.data.a.b.c\n}", "run", 6, 43, "Cannot read property 'b' of undefined"},
		{"a TypeError in a function", "function f(x) {\n\treturn x.y.z\n}\nexport default e => f({})", "run", 2, 13, "Cannot read property 'z'"},
		{"a rejected promise", "export default async e => {\n  await null\n  throw new RangeError(\"no\")\n}", "run", 3, 9, "RangeError: no"},
		{"a thrown object", "export default e => { throw {code: 42} }", "run", 1, 23, `threw {"code":42}`},
		{"a thrown string", "export default e => { throw 'oops' }", "run", 1, 23, `threw oops`},
		{"thrown undefined", "export default e => { throw undefined }", "run", 1, 23, `threw undefined`},
		{"a thrown object that throws", "export default e => { throw {get message() { throw 1 }} }", "run", 1, 23, `can't be shown`},
		{"endless recursion", "const f = () => f()\nexport default f", "run", 1, 19, "calls nest deeper than 256"},
		{"recursion through map", "const f = () => [1].map(f)\nexport default f", "run", 1, 25, "calls nest deeper than 256"},
		{"no return", "export default e => { e.data }", "run", 0, 0, "did you forget `return`?"},
		{"a function", "export default e => e => 1", "run", 0, 0, "transform returned a function"},
		{"a promise that never settles", "export default e => new Promise(() => {})", "run", 0, 0, "never settles"},
		{"an async function that never settles", "export default async e => { await new Promise(() => {}) }", "run", 0, 0, "never settles"},
		{"a circle", "export default e => { const a = {}; a.a = [a]; return a }", "run", 0, 0, "circular"},
		{"a deep result", "export default e => { let a = []; for (let i = 0; i < 600; i++) a = [a]; return a }", "run", 0, 0, "nests deeper than 500"},
		{"a throwing getter in the result", "export default e => ({\n  get a() { throw new Error('x') } })", "run", 2, 19, "Error: x"},
		{"a wide graph of shared objects", "export default e => { let a = [1]; for (let i = 0; i < 60; i++) a = [a, a]; return a }", "output", 0, 0, "result larger than 1 MiB"},
		{"a sparse array", "export default e => { let a = []; a.length = 2**32-1; return a }", "output", 0, 0, "result larger than 1 MiB"},
		{"a long string", "export default e => 'x'.repeat(1<<21)", "output", 0, 0, "result larger than 1 MiB"},
		{"too long a slice", "export default e => 'é'.repeat(2**50)", "memory", 0, 0, "memory limit 64 MiB"},
		{"a large source", "export default e => 1//" + strings.Repeat("x", 64<<10), "lint", 0, 0, "source larger than 64 KiB"},
		{"a deep source", "export default e => " + strings.Repeat("[", 300) + strings.Repeat("]", 300), "lint", 1, 277, "nests deeper than 256"},
		{"an undeclared variable", "export default e => { leak = 1; return leak }", "run", 1, 23, "leak is not defined"},
		{"a source map that names a file", "export default e => { null.x }\n//# sourceMappingURL=file:///dev/zero", "run", 1, 28, "Cannot read property 'x'"},
		{"an eval that names a file", "export default e => eval('null.x\\n//# sourceMappingURL=file:///dev/zero')", "run", 1, 26, "Cannot read property 'x'"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := run(t, c.source, `{}`)
			var e *scripts.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %q, %v", res.Body, err)
			}
			if e.Phase != c.phase || e.Line != c.line || e.Column != c.column || !strings.Contains(e.Message, c.contains) {
				t.Errorf("got %s %d:%d %q\n%s\n%q", e.Phase, e.Line, e.Column, e.Message, e.Snippet, e.Stack)
			}
		})
	}
}

func TestConsole_IsBounded(t *testing.T) {
	res, err := run(t, `export default e => { console.log("a", 1, {b: [2n]}, null, undefined, new TypeError("t"), () => 1); console.warn(e.data); return 1 }`, `{"x": 1}`)
	if err != nil || strings.Join(res.Console, "|") != `log: a 1 {"b":[2]} null undefined TypeError: t [Function]|warn: {"x":1}` {
		t.Errorf("got %q, %v", res.Console, err)
	}
	res, err = run(t, `export default e => { for (let i = 0; i < 1000; i++) console.log(i); return 1 }`, `0`)
	if err != nil || len(res.Console) != 101 || res.Console[100] != "warn: 900 more lines were not kept" {
		t.Errorf("got %d lines, %v", len(res.Console), err)
	}
	res, err = run(t, `export default e => { for (let i = 0; i < 30; i++) console.log("é".repeat(1e5)); return 1 }`, `0`)
	if n := len(strings.Join(res.Console, "")); err != nil || n > 17<<10 {
		t.Errorf("got %d bytes, %v", n, err)
	}
	_, err = run(t, `export default e => { console.log("before"); null.x }`, `0`)
	var e *scripts.Error
	if !errors.As(err, &e) || strings.Join(e.Console, "|") != "log: before" {
		t.Errorf("got %+v", err)
	}
}

func TestRun_ClockAndRandomComeFromEvent(t *testing.T) {
	const source = `export default e => [Date.now(), new Date().toISOString(), Math.random(), Math.random()]`
	first, err := run(t, source, `0`)
	if err != nil || !strings.HasPrefix(string(first.Body), `[1767323045600,"2026-01-02T03:04:05.600Z",0.`) {
		t.Fatalf("got %s, %v", first.Body, err)
	}
	again, _ := run(t, source, `0`)
	if string(again.Body) != string(first.Body) {
		t.Errorf("first %s, then %s", first.Body, again.Body)
	}
}

func TestRun_InterruptEndsIt(t *testing.T) {
	for _, source := range []string{
		`export default e => { for (;;) {} }`,
		`export default e => { for (;;) try { for (;;) {} } finally { continue } }`,
		`export default async e => { for (;;) await null }`,
		`export default e => ({ get a() { for (;;) {} } })`,
		`export default e => ({ toJSON() { for (;;) {} } })`,
		`export default e => { throw { get message() { for (;;) {} } } }`,
	} {
		l := load(t, source)
		_, err := l.Run(event(`0`), request(), scripts.DefaultLimits(), func(interrupt func()) { time.AfterFunc(20*time.Millisecond, interrupt) })
		var e *scripts.Error
		if !errors.As(err, &e) || e.Phase != scripts.PhaseTimeout || e.Message != "timeout after 50 ms" {
			t.Errorf("%s: got %#v", source, err)
		}
	}
}

func TestCompile_ReportsEveryError(t *testing.T) {
	_, err := transform.Compile("const a = 1\nlet é, a = 2\nexport default () => { const c = 1; c = 2; let d; let d }\nexport default 1", scripts.DefaultLimits(), nil)
	e, ok := errors.AsType[*scripts.Error](err)
	if !ok {
		t.Fatal(err)
	}
	got := []string{}
	for _, d := range e.Diagnostics("transform") {
		got = append(got, fmt.Sprintf("%d:%d-%d:%d %s", d.Line, d.Column, d.EndLine, d.EndColumn, d.Message))
	}
	want := []string{`2:8-2:9 The symbol "a" has already been declared`, `3:55-3:56 The symbol "d" has already been declared`, `4:8-4:15 Multiple exports with the same name "default"`}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
