package transform_test

import (
	"errors"
	"strings"
	"testing"

	"switchhook/scripts"
)

// A member or return value that would be ignored is an error with its line.
func TestRequest_RefusesIgnoredChanges(t *testing.T) {
	cases := []struct{ source, want string }{
		{`request.url = "https://other.example/"; return 1`, "request.url can't be changed: set target_url"},
		{`request.host = "x"; return 1`, "request.host can't be changed"},
		{`Object.assign(request, { URL: "x" }); return 1`, "request.URL can't be changed"},
		{`Object.defineProperty(request, "url", { value: "x" }); return 1`, ""},
		{`request.body = { a: 1 }; return request`, "request.body is not read: return the body"},
		{`request.payload = 1; return 1`, "request.payload is not read: return the body"},
		{`request.timeout = 5; return 1`, "request.timeout is not read: set policy.timeout"},
		{`request.header = {}; return 1`, "request.header is not read: did you mean request.headers?"},
		{`request.methd = "PUT"; return 1`, "request.methd is not read: did you mean request.method?"},
		{`request.zzz = 1; return 1`, "request.zzz is not read: the members are method, path, query, headers"},
		{`request["\u0000é"] = 1; return 1`, "is not read"},
		{`return request`, "transform returned its request: return the body"},
		{`return Promise.resolve(request)`, "transform returned its request: return the body"},
		{`return new Map([["a", 1]])`, "returned a Map, which has no JSON: return Object.fromEntries(map)"},
		{`return new Set([1])`, "returned a Set, which has no JSON"},
		{`return [1].values()`, "returned a Array Iterator, which has no JSON"},
		{`return (function* () { yield 1 })()`, "returned a Generator, which has no JSON"},
		{`return new Uint8Array([1, 2])`, "returned a Uint8Array, which has no JSON: return a text, such as base64.encode(bytes)"},
		{`return new TextEncoder().encode("a").buffer`, "returned a ArrayBuffer, which has no JSON"},
		{`return new TypeError("x")`, "returned a Error, which has no JSON: throw it"},
		{`return /a/`, "returned a RegExp, which has no JSON"},
		{`return new WeakMap()`, "returned a WeakMap, which has no JSON"},
	}
	for _, c := range cases {
		_, err := run(t, "export default (event, request) => {\n"+c.source+"\n}", `1`)
		var e *scripts.Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %v", c.source, err)
		} else if strings.HasPrefix(e.Message, "TypeError: request.") && e.Line != 2 {
			t.Errorf("%s: at line %d", c.source, e.Line)
		}
	}
}

func TestRequest_SendsAcceptedChanges(t *testing.T) {
	cases := []struct{ source, body, contentType string }{
		{`delete request.headers; request.headers = { a: "1" }; return 1`, `1`, "application/json"},
		{`request.method = "PUT"; return { request: { ...request, headers: 0 } }`, `{"request":{"method":"PUT","path":"/hook","query":{"a":"1","b":["1","2"]},"headers":0}}`, "application/json"},
		{`return new URLSearchParams({ a: "b c&", d: "é" })`, `a=b+c%26&d=%C3%A9`, "application/x-www-form-urlencoded"},
		{`request.headers["Content-Type"] = "application/x-www-form-urlencoded;charset=UTF-8"; return new URLSearchParams([["a", "1"], ["a", "2"]])`, `a=1&a=2`, "application/x-www-form-urlencoded;charset=UTF-8"},
		{`return new URL("https://a.example/?b").searchParams`, `b=`, "application/x-www-form-urlencoded"},
		{`return new URL("https://a.example/?b")`, `"https://a.example/?b"`, "application/json"},
		{`return new Date(0)`, `"1970-01-01T00:00:00.000Z"`, "application/json"},
		{`return new (class extends Map { toJSON() { return [...this] } })([["a", 1]])`, `[["a",1]]`, "application/json"},
		{`return new (class Order { constructor() { this.n = 1 } })()`, `{"n":1}`, "application/json"},
		{`return { get [Symbol.toStringTag]() { return "Shop" }, a: 1 }`, `{"a":1}`, "application/json"},
		{`return Object.assign(Object.create(null), { a: 1 })`, `{"a":1}`, "application/json"},
		{`return { m: new Map([[1, 2]]), e: new Error("x") }`, `{"m":{},"e":{}}`, "application/json"},
	}
	for _, c := range cases {
		res, err := run(t, "export default (event, request) => {\n"+c.source+"\n}", `1`)
		if err != nil || string(res.Body) != c.body || res.ContentType != c.contentType {
			t.Errorf("%s: %s %s %v", c.source, res.Body, res.ContentType, err)
		}
	}
}

// TestLocale_Methods checks that locale methods return the same as Node 20 or throw.
func TestLocale_Methods(t *testing.T) {
	cases := []struct{ expression, want string }{
		{`(1234567.5).toLocaleString()`, "1,234,567.5"}, {`(1.0005).toLocaleString()`, "1.001"}, {`(0.0005).toLocaleString()`, "0.001"},
		{`(-0.0004).toLocaleString()`, "-0"}, {`(-0).toLocaleString()`, "-0"}, {`(1e21).toLocaleString()`, "1,000,000,000,000,000,000,000"},
		{`(123456789012345680000).toLocaleString()`, "123,456,789,012,345,680,000"}, {`NaN.toLocaleString()`, "NaN"}, {`(-Infinity).toLocaleString()`, "-∞"},
		{`Infinity.toLocaleString()`, "∞"}, {`(999.9995).toLocaleString()`, "1,000"}, {`(1e-7).toLocaleString()`, "0"}, {`(12345.6785).toLocaleString()`, "12,345.679"},
		{`(2.0015).toLocaleString()`, "2.002"}, {`(1000).toLocaleString()`, "1,000"}, {`(-999999).toLocaleString(undefined)`, "-999,999"}, {`(0).toLocaleString()`, "0"},
		{`12345678901234567890n.toLocaleString()`, "12,345,678,901,234,567,890"}, {`(-5000n).toLocaleString()`, "-5,000"}, {`new Number(1234.5).toLocaleString()`, "1,234.5"},
		{`[1234.5, "a", null, -5000].toLocaleString()`, "1,234.5,a,,-5,000"}, {`({}).toLocaleString()`, "[object Object]"},
		{`"aé".toLocaleUpperCase()`, "AÉ"}, {`"AÉ".toLocaleLowerCase("de-DE")`, "aé"},
		{`["b", "a", "B", "ä"].sort((x, y) => x.localeCompare(y)).join()`, "a,ä,b,B"}, {`"a".localeCompare("b", "en-US", { numeric: false })`, "-1"}, {`"a".localeCompare("b", undefined, {})`, "-1"},

		{`(1299.5).toLocaleString("en-US", { style: "currency", currency: "USD" })`, "error: TypeError: options and locales of toLocaleString"},
		{`(1299.5).toLocaleString("de-DE")`, "error: TypeError: options and locales"}, {`(1.25).toLocaleString(undefined, { maximumFractionDigits: 1 })`, "error: TypeError: options and locales"},
		{`5n.toLocaleString("en")`, "error: TypeError: options and locales"}, {`Number.prototype.toLocaleString.call("a")`, "error: TypeError: Number.prototype.toLocaleString was called"},
		{`new Date(0).toLocaleString("en-US", { timeZone: "America/New_York" })`, "error: TypeError: toLocaleString of a Date isn't supported, as there are no locales: use formatDate(date, "},
		{`new Date(0).toLocaleString()`, "error: TypeError: toLocaleString of a Date"}, {`new Date(0).toLocaleDateString("en-US", { month: "long" })`, "error: TypeError: toLocaleDateString of a Date"},
		{`new Date(0).toLocaleTimeString()`, "error: TypeError: toLocaleTimeString of a Date"},
		{`"i".toLocaleUpperCase("tr-TR")`, `error: TypeError: toLocaleUpperCase("tr") isn't supported`},
		{`"a10".localeCompare("a2", undefined, { numeric: true })`, `error: TypeError: localeCompare with the option "numeric" isn't supported`},
		{`"a".localeCompare("A", undefined, { sensitivity: "base" })`, `error: TypeError: localeCompare with the option "sensitivity"`},
		{`"ä".localeCompare("z", "sv")`, `error: TypeError: localeCompare with the locale "sv"`},
		{`new Intl.NumberFormat("en-US").format(1)`, "error: ReferenceError: Intl is not defined: there are no locales; use formatDate"},
		{`typeof Intl`, "undefined"},
		{`Buffer.from("a").toString("base64")`, "error: ReferenceError: Buffer is not defined: use base64.encode"},
		{`process.env.TOKEN`, "error: ReferenceError: process is not defined: there is no environment"},
		{`nothing.at`, "error: ReferenceError: nothing is not defined"},
	}
	for _, c := range cases {
		res, err := run(t, `export default () => String(`+c.expression+`)`, `0`)
		got := string(res.Body)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want && !(strings.HasPrefix(c.want, "error: ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, not %q", c.expression, got, c.want)
		}
	}
}
