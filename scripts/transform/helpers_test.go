package transform_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/scriptstest"
)

// value evaluates an expression and returns its value as JSON.
func value(t *testing.T, expression, data string) string {
	t.Helper()
	res, err := run(t, "export default (e) => ("+expression+")", data)
	var e *scripts.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return string(res.Body)
}

func TestHelpers_FollowStandards(t *testing.T) {
	cases := []struct{ expression, want string }{
		// RFC 6234
		{`crypto.sha256("abc")`, `ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad`},
		{`crypto.sha256("")`, `e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855`},
		{`crypto.sha256(new Uint8Array([97, 98, 99]), "base64")`, `ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=`},
		{`crypto.sha256("abc", "base64url")`, `ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0`},
		{`crypto.sha256("é", "hex") === crypto.sha256(new Uint8Array([0xc3, 0xa9]).buffer)`, `true`},
		{`crypto.sha256("\ud800") === crypto.sha256("\ufffd")`, `true`},
		{`crypto.sha256(new Uint8Array([0, 97, 98, 99]).subarray(1)) === crypto.sha256("abc")`, `true`},
		// RFC 4231, cases 1, 2, 3 and 6
		{`crypto.hmac("sha256", hex.decode("0b".repeat(20), "bytes"), "Hi There")`, `b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7`},
		{`crypto.hmac("sha512", hex.decode("0b".repeat(20), "bytes"), "Hi There")`, `87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854`},
		{`crypto.hmac("sha256", "Jefe", "what do ya want for nothing?")`, `5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843`},
		{`crypto.hmac("sha256", hex.decode("aa".repeat(20), "bytes"), hex.decode("dd".repeat(50), "bytes"), "hex")`, `773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe`},
		{`crypto.hmac("sha256", hex.decode("aa".repeat(131), "bytes"), "Test Using Larger Than Block-Size Key - Hash Key First")`, `60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54`},
		// RFC 2202, case 2
		{`crypto.hmac("sha1", "Jefe", "what do ya want for nothing?")`, `effcdf6ae5eb2fa2d27416d5f184df9c259a7c79`},
		{`[...crypto.hmac("sha1", "Jefe", "what do ya want for nothing?", "bytes").slice(0, 2)]`, `[239,252]`},
		// Standard Webhooks 1.0.0, its own example
		{`crypto.hmac("sha256", base64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "bytes"), "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}", "base64")`, `g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=`},
		{`crypto.hmac("md5", "k", "d")`, `TypeError: crypto.hmac: algorithm must be "sha256", "sha1" or "sha512"`},
		{`crypto.sha256("x", "hax")`, `TypeError: encoding must be "hex", "base64", "base64url" or "bytes"`},
		{`crypto.sha256(5)`, `TypeError: crypto.sha256: data must be a string or a Uint8Array`},
		{`crypto.sha256({})`, `TypeError: crypto.sha256: data must be a string or a Uint8Array`},
		{`crypto.sha256(e.data)`, `TypeError: crypto.sha256: data must be a string or a Uint8Array`},
		{`crypto.sha256(e.data.s)`, `2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881`},
		// RFC 4648, section 10
		{`["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(s => base64.encode(s))`, `["","Zg==","Zm8=","Zm9v","Zm9vYg==","Zm9vYmE=","Zm9vYmFy"]`},
		{`["", "Zg==", "Zg", " Zm\n8= ", "Zm9v"].map(s => base64.decode(s))`, `["","f","f","fo","foo"]`},
		{`base64.encode("ÿþ?>", "url") + base64.decode("w7_DvT8-") + base64.decode("w7/DvT8+")`, `w7_Dvj8-ÿý?>ÿý?>`},
		{`base64.decode("Zg=")`, `TypeError: base64.decode: this is not base64`},
		{`base64.decode("//8=")`, `TypeError: base64.decode: the bytes are not UTF-8 text: ask for "bytes"`},
		{`[...base64.decode("//8=", "bytes")]`, `[255,255]`},
		{`hex.encode("foobar") + hex.decode("666F6f626172")`, `666f6f626172foobar`},
		{`hex.decode("abc")`, `TypeError: hex.decode: this is not hex`},
		{`btoa("\xff\x00a") + atob("/wBh").charCodeAt(0) + btoa(12)`, `/wBh255MTI=`},
		{`btoa("é€")`, `TypeError: btoa: the text has a character above U+00FF: use base64.encode, which takes UTF-8`},
		{`atob("a b c")`, `i·`},
		{`atob("a")`, `TypeError: atob: this is not base64`},
		{`atob("-_-_")`, `TypeError: atob: this is not base64`},
		// https://encoding.spec.whatwg.org
		{`[...new TextEncoder().encode("é€😀\ud800")]`, `[195,169,226,130,172,240,159,152,128,239,191,189]`},
		{`new TextEncoder().encodeInto("a😀", new Uint8Array(4))`, `{"read":1,"written":1}`},
		{`new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xff, 0xe2, 0x82, 0x62, 0xf0, 0x9f, 0x98]))`, "a\ufffd\ufffdb\ufffd"},
		{`new TextDecoder().decode(new Uint8Array([0xed, 0xa0, 0x80, 0x61, 0xc0, 0x80, 0x61, 0xf4, 0x90, 0x80, 0x80, 0x61, 0xe0, 0x80]))`, "\ufffd\ufffd\ufffda\ufffd\ufffda\ufffd\ufffd\ufffd\ufffda\ufffd\ufffd"},
		{`new TextDecoder("utf8", {fatal: true}).decode(new Uint8Array([0xff]))`, `TypeError: TextDecoder: the bytes are not UTF-8 text`},
		{`new TextDecoder("latin1")`, `RangeError: TextDecoder: only utf-8 is supported, not latin1`},
		{`new TextDecoder().decode(new Uint8Array([97]).buffer) + new TextDecoder().decode()`, `a`},
		// formatDate
		{`formatDate(e.time, "yyyy-MM-dd HH:mm:ss")`, `2026-01-02 03:04:05`},
		{`formatDate(new Date(1767323045006), "EEEE, d MMMM yyyy, h:mm:ss.SSS a z", "America/New_York")`, `Thursday, 1 January 2026, 10:04:05.006 PM EST`},
		{`formatDate("2026-07-01", "EEE dd.MM.yy H'h' XXX xx '' 'o''clock'", "Europe/Berlin")`, `Wed 01.07.26 2h +02:00 +0200 ' o'clock`},
		{`formatDate("2026-03-29T01:00:00Z", "HH:mm z", "Europe/Berlin") + formatDate("2026-03-29T00:59:59Z", " HH:mm z", "Europe/Berlin")`, `03:00 CEST 01:59 CET`},
		{`formatDate(-1, "yyyy MMM M/d hh:m:s XXX", "UTC")`, `1969 Dec 12/31 11:59:59 Z`},
		{`formatDate("2026-01-02T03:04:05+05:45", "HH:mm", "Asia/Kathmandu")`, `03:04`},
		{`formatDate("tomorrow", "yyyy")`, `RangeError: formatDate: "tomorrow" is not an ISO 8601 date, such as 2026-01-02T15:04:05Z`},
		{`formatDate(new Date(NaN), "yyyy")`, `RangeError: formatDate: the date is invalid`},
		{`formatDate(NaN, "yyyy")`, `RangeError: formatDate: the date is invalid`},
		{`formatDate(0, "YYYY-DD")`, `TypeError: formatDate: the layout has "YYYY", but its letters must be of yyyy yy MMMM MMM MM M dd d EEEE EEE HH H hh h mm m ss s SSS a XXX xx z, or between apostrophes`},
		{`formatDate(0, "'")`, `TypeError: formatDate: the layout "'" has an apostrophe without its twin`},
		{`formatDate(0, "yyyy", "Europe/Brelin")`, `RangeError: formatDate: there is no time zone "Europe/Brelin": give a name such as Europe/Berlin`},
		{`formatDate(0, "yyyy", "Local")`, `RangeError: formatDate: there is no time zone "Local": give a name such as Europe/Berlin`},
		{`formatDate(0, "yyyy", "../../etc/passwd")`, `RangeError: formatDate: there is no time zone "../../etc/passwd": give a name such as Europe/Berlin`},
		// structuredClone
		{`structuredClone(e.data)`, `{"s":"x","big":9007199254740993,"list":[1,{"a":2}]}`},
		{`(() => { const c = structuredClone(e.data); c.list[1].a = 5; c.list.push(6); return [c, e.data, c !== e.data] })()`, `[{"s":"x","big":9007199254740993,"list":[1,{"a":5},6]},{"s":"x","big":9007199254740993,"list":[1,{"a":2}]},true]`},
		{`(() => { e.data.list[1].a = 7; const c = structuredClone(e.data); c.list[1].a++; return [c.list, e.data.list, c.big] })()`, `[[1,{"a":8}],[1,{"a":7}],9007199254740993]`},
		{`(() => { const a = {l: e.data.list, d: e.data}; const c = structuredClone(a); return [c.l === c.d.list, c.l !== e.data.list, c] })()`, `[true,true,{"l":[1,{"a":2}],"d":{"s":"x","big":9007199254740993,"list":[1,{"a":2}]}}]`},
		{`(() => { const a = {n: 1}; a.self = a; a.l = [a]; const c = structuredClone(a); return [c.self === c, c.l[0] === c, c !== a] })()`, `[true,true,true]`},
		{`(() => { const c = structuredClone({d: new Date(5), m: new Map([[{k: 1}, new Set([1, 2])]]), r: /x+/gi, b: 5n, u: undefined}); return [c.d, [...c.m.keys()], [...[...c.m.values()][0]], String(c.r), c.b, "u" in c] })()`, `["1970-01-01T00:00:00.005Z",[{"k":1}],[1,2],"/x+/gi",5,true]`},
		{`(() => { const b = new Uint8Array([1, 2, 3]), c = structuredClone({a: b, x: b.subarray(1)}); c.a[1] = 9; return [[...c.x], [...b]] })()`, `[[9,3],[1,2,3]]`},
		{`(() => { const x = structuredClone(new RangeError("no", {cause: [1]})); return [x instanceof RangeError, x.message, x.cause] })()`, `[true,"no",[1]]`},
		{`(() => { const e = new Error("x"); e.cause = e; const c = structuredClone(e); return [c.cause === c, c !== e] })()`, `[true,true]`},
		{`(() => { let a = []; for (let i = 0; i < 5000; i++) a = [a]; a = structuredClone(a); let n = 0; while (a.length) { a = a[0]; n++ } return n })()`, `5000`},
		{`(() => { const b = new Float64Array([1.5, 2]), v = new DataView(b.buffer, 8), c = structuredClone([b, v]); return [[...c[0]], c[1].getFloat64(0, true), c[1].buffer === c[0].buffer, c[0].buffer !== b.buffer] })()`, `[[1.5,2],2,true,true]`},
		{`structuredClone(new (class A { x = 1; get y() { return 2 } })())`, `{"x":1}`},
		{`structuredClone(Object.create(null, {a: {value: 1, enumerable: true}}))`, `{"a":1}`},
		{`structuredClone(new WeakMap())`, `TypeError: structuredClone: a WeakMap can't be cloned`},
		{`structuredClone({f() {}})`, `TypeError: structuredClone: a function can't be cloned`},
		{`structuredClone(Symbol("x"))`, `TypeError: structuredClone: a symbol can't be cloned`},
		{`structuredClone(Promise.resolve())`, `TypeError: structuredClone: a Promise can't be cloned`},
		{`structuredClone(JSON.parse('{"__proto__": {"x": 1}}')).x`, `transform returned nothing: did you forget ` + "`return`?"},
	}
	for _, c := range cases {
		got := value(t, c.expression, `{"s":"x","big":9007199254740993,"list":[1,{"a":2}]}`)
		if got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.expression, got, c.want)
		}
	}
}

func TestURL_BehavesLikeBrowsers(t *testing.T) {
	cases := []struct{ expression, want string }{
		{`new URL("../x?a=1&b=%2B+c#f", "https://Us:pw@EXAMPLE.com:443/a/b/")`, `"https://Us:pw@example.com/a/x?a=1&b=%2B+c#f"`},
		{`(u => [u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash])(new URL("http://a:b@h:81/p?q#f"))`, `["http://h:81","http:","a","b","h:81","h","81","/p","?q","#f"]`},
		{`String(new URL("//b/c", "https://a"))+ JSON.stringify({u: new URL("http://[2001:DB8::1]:80")})`, `https://b/c{"u":"http://[2001:db8::1]/"}`},
		{`new URL("nope")`, `TypeError: Invalid URL: nope`},
		{`[URL.canParse("nope"), URL.canParse("x", "http://a"), URL.parse("nope"), URL.parse("a:b").href]`, `[false,true,null,"a:b"]`},
		{`(u => { u.search = "?x=1"; u.searchParams.append("é", "a b&c"); u.hash = "top"; u.port = "8080"; u.hostname = "ex.org"; return u.href })(new URL("http://a/"))`, `http://ex.org:8080/?x=1&%C3%A9=a+b%26c#top`},
		{`(u => { const p = u.searchParams; u.search = "?y=2"; return [p.get("y"), p === u.searchParams, p.size] })(new URL("http://a/?x=1"))`, `["2",true,1]`},
		{`(u => { u.searchParams.delete("x"); return u.href })(new URL("http://a/?x=1#f"))`, `http://a/#f`},
		{`(u => { u.href = "https://b/?z"; try { u.href = "bad" } catch { return u.href + u.searchParams.has("z") } })(new URL("http://a/?x=1#f"))`, `https://b/?ztrue`},
		{`[...new URLSearchParams("?a=1&a=2&b=%F0%9F%98%80&&c&=d&e=%ff%2")]`, `[["a","1"],["a","2"],["b","😀"],["c",""],["","d"],["e","�%2"]]`},
		{`(p => { p.set("a", 9); p.append("0", "z"); p.sort(); return [p.toString(), p.getAll("a"), p.get("x"), p.has("a", "1"), p.size] })(new URLSearchParams([["a", "1"], ["b", "~*-._ é"], ["a", "2"]]))`, `["0=z&a=9&b=%7E*-._+%C3%A9",["9"],null,false,3]`},
		{`(p => { const seen = []; p.forEach((v, n) => seen.push(n + v)); return [seen, [...p.keys()], [...p.values()], [...p.entries()]] })(new URLSearchParams({a: 1, b: true}))`, `[["a1","btrue"],["a","b"],["1","true"],[["a","1"],["b","true"]]]`},
		{`new URLSearchParams([["a"]])`, `TypeError: URLSearchParams: each pair must have a name and a value`},
		{`new (class extends URL { constructor(p) { super(p, "https://api.example/v1/"); this.n = 5 } })("x").n`, `5`},
		{`Object.prototype.toString.call(new URL("a:b")) + (new URL("a:b") instanceof URL)`, `[object URL]true`},
		{`e.data.map(u => new URL(u).host)`, `["shop.example"]`},
	}
	for _, c := range cases {
		if got := value(t, c.expression, `["https://shop.example/x"]`); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.expression, got, c.want)
		}
	}
}

// The answers are those of Node.js, except for odd IPv4 addresses.
func TestURL_Parse(t *testing.T) {
	const invalid = "TypeError: Invalid URL: "
	cases := []struct{ url, base, want string }{
		{"http://example.com", "", "http://example.com/"},
		{"  HTTP://User:Pass@EXAMPLE.com:80/%7Efoo/../x?q=a b'\"#f`g  ", "", "http://User:Pass@example.com/x?q=a%20b%27%22#f%60g"},
		{"ht\ntp://e\tx/\r", "", "http://ex/"},
		{"https://h?x", "", "https://h/?x"},
		{"https://h/a;b=c,d/e:f@g?b=http://x/y?z%#w%", "", "https://h/a;b=c,d/e:f@g?b=http://x/y?z%#w%"},
		{"https://h/a'b(c)[d]{e}", "", "https://h/a'b(c)[d]%7Be%7D"},
		{"//x", "https://h/y", "https://x/"},
		{"/abs?q", "https://u@h:1/y/z?a#b", "https://u@h:1/abs?q"},
		{"rel", "https://u@h:1/y/z?a#b", "https://u@h:1/y/rel"},
		{"?new", "https://h/y/z?a#b", "https://h/y/z?new"},
		{"#new", "https://h/y/z?a#b", "https://h/y/z?a#new"},
		{"", "https://h/y/z?a#b", "https://h/y/z?a"},
		{"../../../../x/./y/.", "https://h/a/b/c", "https://h/x/y/"},
		{"mailto:a@b?x y", "", "mailto:a@b?x%20y"},
		{"x", "mailto:a@b", invalid + "x"},
		{"foo://[::1]:8080/x", "", "foo://[::1]:8080/x"},
		{"file:///x/../y", "", "file:///y"},
		{"http://a:b@c:d@h/", "", "http://a:b%40c%3Ad@h/"},
		{"http://:@h/", "", "http://h/"},
		{"http://user@/", "", invalid + "http://user@/"},
		{"http://h:65536/", "", invalid + "http://h:65536/"},
		{"http://h:8a/", "", invalid + "http://h:8a/"},
		{"http://h:0080/", "", "http://h/"},
		{"http://h:/", "", "http://h/"},
		{"http://", "", invalid + "http://"},
		{"http://a b/", "", invalid + "http://a b/"},
		{"http://a%00b/", "", invalid + "http://a%00b/"},
		{"http://a<b/", "", invalid + "http://a<b/"},
		{"http://[1::2::3]/", "", invalid + "http://[1::2::3]/"},
		{"http://[::1/", "", invalid + "http://[::1/"},
		{"http://Bücher.example/é", "", "http://xn--bcher-kva.example/%C3%A9"},
		{"http://faß.ExAmPlE/", "", "http://xn--fa-hia.example/"},
		{"http://xn--/", "", invalid + "http://xn--/"},
		{"1a:b", "", invalid + "1a:b"},
		{`http:\\h\x?\#\`, "", `http://h/x?\#\`},
		{`http://evil.example\@h/`, "", "http://evil.example/@h/"},
		{`\\x\y`, "https://h/z", "https://x/y"},
		{`foo:\x`, "", "foo:%5Cx"},
		{"http://[fe80::1%25eth0]/", "", invalid + "http://[fe80::1%25eth0]/"},
		// Node.js writes these as 127.0.0.1.
		{"http://127.1/", "", invalid + "http://127.1/"},
		{"http://2130706433", "", invalid + "http://2130706433"},
		{"http://0x7F.0.0.0X1.:80", "", invalid + "http://0x7F.0.0.0X1.:80"},
		{"http://h.0x/", "", invalid + "http://h.0x/"},
		{"http://127.0.0.1:81/", "", "http://127.0.0.1:81/"},
		{"http://1.2.3.4.example/", "", "http://1.2.3.4.example/"},
	}
	for _, c := range cases {
		expression := fmt.Sprintf("new URL(%q).href", c.url)
		if c.base != "" {
			expression = fmt.Sprintf("new URL(%q, %q).href", c.url, c.base)
		}
		if got := value(t, expression, `0`); got != c.want {
			t.Errorf("%q in %q: got %q, want %q", c.url, c.base, got, c.want)
		}
	}
	for url, want := range map[string]string{"https://u:p@h:8080/x": "https://h:8080", "file:///x": "null", "foo://h/": "null", "ftp://h/": "ftp://h"} {
		if got := value(t, fmt.Sprintf("new URL(%q).origin", url), `0`); got != want {
			t.Errorf("origin of %s: got %s, want %s", url, got, want)
		}
	}
}

// The answers are those of Node.js, except for odd IPv4 addresses.
func TestURL_Setters(t *testing.T) {
	cases := []struct{ url, part, value, want string }{
		{"http://h:443/", "protocol", "https", "https://h/"},
		{"http://h/", "protocol", "foo", "http://h/"},
		{"http://h/", "protocol", "wss:rest", "wss://h/"},
		{"http://u@h/", "protocol", "file", "http://u@h/"},
		{"http://h/", "username", "a:b", "http://a%3Ab@h/"},
		{"http://u:p@h/", "password", "", "http://u@h/"},
		{"file:///x", "username", "a", "file:///x"},
		{"http://h:1/", "host", "x:2/y", "http://x:2/"},
		{"http://h:1/", "host", "x", "http://x:1/"},
		{"http://h:1/", "host", "", "http://h:1/"},
		{"http://h/", "host", "a b", "http://h/"},
		{"http://h:1/", "hostname", "x:2", "http://h:1/"},
		{"http://h:1/", "hostname", "é.x", "http://xn--9ca.x:1/"},
		{"mailto:a", "host", "x", "mailto:a"},
		{"http://h/", "port", "8080abc", "http://h:8080/"},
		{"http://h:1/", "port", "80", "http://h/"},
		{"http://h:1/", "port", "99999", "http://h:1/"},
		{"http://h:1/", "port", "x", "http://h:1/"},
		{"http://h:1/", "port", "", "http://h/"},
		{"http://h/a?b", "pathname", "x y?#/..", "http://h/?b"},
		{"http://h/a?b", "pathname", "x y?#", "http://h/x%20y%3F%23?b"},
		{"http://h/a?b", "pathname", "", "http://h/?b"},
		{"http://h/", "search", "a#b", "http://h/?a%23b"},
		{"http://h/?x#y", "search", "", "http://h/#y"},
		{"http://h/?x#y", "hash", "#z z", "http://h/?x#z%20z"},
		{"http://h/?x#y", "hash", "", "http://h/?x"},
		{"http://h/", "nothing", "x", "http://h/"},
	}
	for _, c := range cases {
		if got := value(t, fmt.Sprintf("(u => { u[%q] = %q; return u.href })(new URL(%q))", c.part, c.value, c.url), `0`); got != c.want {
			t.Errorf("%s, %s = %q: got %s, want %s", c.url, c.part, c.value, got, c.want)
		}
	}
}

func TestModules_Helpers(t *testing.T) {
	cases := []struct{ name, source, want string }{
		{"names", `import { sha256, hmac as h } from "switchhook:crypto"; export default () => sha256("abc").slice(0, 4) + h("sha256", "Jefe", "x").length`, "ba7864"},
		{"a namespace", `import * as c from "switchhook:crypto"; export default () => c.sha256("abc").slice(0, 4)`, "ba78"},
		{"a default", `import hex from "switchhook:hex"; export default () => hex.encode("a")`, "61"},
		{"all", `import { drop, crypto, base64, hex, btoa, atob, URL, URLSearchParams, TextEncoder, TextDecoder, structuredClone, formatDate } from "switchhook"
			export default () => [drop, crypto, base64, hex, btoa, atob, URL, URLSearchParams, TextEncoder, TextDecoder, structuredClone, formatDate].map(x => typeof x).join()`,
			"function,object,object,object,function,function,function,function,function,function,function,function"},
		{"by computed name", `import * as s from "switchhook"; export default () => s["he" + "x"].encode("a")`, "61"},
		{"under another name", `import { drop as skip } from "switchhook"; export default () => { const drop = 1; skip("x") }`, "dropped: x"},
		{"dynamic", `export default async () => (await import("switchhook:base64")).encode("a")`, "YQ=="},
		{"require", `const { encode } = require("switchhook:base64"); module.exports = () => encode("a")`, "YQ=="},
		{"exported on", `export { drop } from "switchhook"; export default () => 5`, "5"},
		{"only types", `import type { Nothing } from "switchhook"; export default () => 5`, "5"},
		{"not a module", "\nimport { x } from \"switchhook:nope\"\nexport default () => x", `import of "switchhook:nope": there is no such helper module; the modules are switchhook, switchhook:base64, switchhook:crypto, switchhook:hex (line 2, column 19)`},
		{"another package", "import _ from \"lodash\"\nexport default () => _.x", `import of "lodash": a transform can't import modules but switchhook, switchhook:base64, switchhook:crypto, switchhook:hex (line 1, column 15)`},
		{"a mistyped name", "import { sha265 } from \"switchhook:crypto\"\nexport default () => {\n  return sha265(1) }", `"switchhook:crypto" has no export "sha265": did you mean "sha256"? (line 3, column 10)`},
		{"a name that is not there", "import * as s from \"switchhook\"\nexport default () => s.fetch(1)", `"switchhook" has no export "fetch"; it exports drop, crypto, base64, hex, btoa, atob, URL, URLSearchParams, TextEncoder, TextDecoder, structuredClone, formatDate (line 2, column 22)`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := run(t, c.source, `0`)
			got := string(res.Body)
			if res.Dropped {
				got = "dropped: " + res.DropReason
			}
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestHelpers_BoundInputSize(t *testing.T) {
	longest := 150 * time.Millisecond // CPU time including compiling; a call takes a tenth at most
	if raceEnabled {
		longest *= 2
	}
	for _, expression := range []string{
		`crypto.sha256("x".repeat(2**20))`, `crypto.sha256("é".repeat(2**19))`, `crypto.hmac("sha512", "k".repeat(2**20), new Uint8Array(2**20))`,
		`base64.encode("x".repeat(2**20)).length`, `base64.decode("eHh4".repeat(2**18)).length`, `hex.encode("x".repeat(2**20)).length`, `hex.decode("78".repeat(2**19)).length`,
		`btoa("ÿ".repeat(2**19)).length`, `atob("////".repeat(2**18)).length`,
		`new TextEncoder().encode("é".repeat(2**19)).length`, `new TextDecoder().decode(new Uint8Array(2**20).fill(255)).length`,
		`new URL("http://a/" + "x/../".repeat(3000)).href.length`, `new URL("http://" + "a@".repeat(8000) + "h/").href.length`, `new URL("http://a/" + "é/".repeat(5000)).href.length`,
		`(u => { u.hash = "x".repeat(16000); u.search = "'".repeat(5000); u.pathname = "\u00e9".repeat(5000); return u.href.length })(new URL("http://a"))`,
		`URL.canParse("http://" + "1.".repeat(8000))`, `URL.canParse("http://[" + "1:".repeat(8000) + "]")`, `URL.canParse("http://" + "9".repeat(16000))`,
		`URL.canParse("http://xn--" + "a".repeat(16000))`, `URL.canParse("http://" + "一丁丂七".repeat(1300))`,
		`new URLSearchParams("%".repeat(16000)).size`,
		`formatDate(0, "MMMM-".repeat(51)).length`,
	} {
		if raceEnabled { // an eighth of the input takes as long as all of it without the detector
			expression = strings.NewReplacer("2**20", "2**17", "2**19", "2**16", "2**18", "2**15").Replace(expression)
		}
		got := ""
		took := scriptstest.CPU(func() { got = value(t, expression, `0`) })
		t.Logf("%6.1f ms %s", took.Seconds()*1e3, expression)
		if took > longest || strings.Contains(got, "rror") {
			t.Errorf("%s: %.200s after %s", expression, got, took)
		}
	}
	for _, expression := range []string{
		`crypto.sha256("x".repeat(2**20+1))`, `crypto.sha256("é".repeat(2**19+1))`, `crypto.sha256(new Uint8Array(2**20+1))`, `crypto.hmac("sha256", "x".repeat(2**21), "")`, `crypto.sha256("x".repeat(2**24))`,
		`base64.encode("x".repeat(2**21))`, `base64.decode("x".repeat(2**21))`, `hex.encode("x".repeat(2**21))`, `hex.decode("x".repeat(2**21))`, `btoa("x".repeat(2**21))`, `atob("x".repeat(2**21))`,
		`new TextEncoder().encode("x".repeat(2**21))`, `new TextDecoder().decode(new Uint8Array(2**21))`,
		`new URL("http://a/" + "x".repeat(2**16))`, `URL.canParse("a", "http://a/" + "x".repeat(2**16))`, `new URL("http://a").hash = "x".repeat(2**17)`, `new URLSearchParams({a: "x".repeat(2**17)}).toString()`,
		`(u => { for (let i = 0; i < 9; i++) u.search = u.hash = "é".repeat(2**13 - 1); return u.href })(new URL("http://a"))`,
		`formatDate(0, "y".repeat(2000))`, `formatDate(0, "yyyy", "x".repeat(2000))`, `formatDate("0".repeat(2000), "yyyy")`,
	} {
		if got := value(t, expression, `0`); !strings.Contains(got, "RangeError") {
			t.Errorf("%s: %.200s", expression, got)
		}
	}
}

// TestRun_SharesNoStateWithNextRun lets a script corrupt every helper, and checks that they
// are unchanged in a second run of the same program and in one of another.
func TestRun_SharesNoStateWithNextRun(t *testing.T) {
	const honest = `[crypto.sha256("a"), base64.encode("a"), hex.encode("a"), btoa("a"), new URL("http://a/?b=1").searchParams.get("b"), new URL("http://a").evil ?? null,
		new TextDecoder().decode(new TextEncoder().encode("é")), structuredClone([1]), formatDate(0, "yyyy z", "Europe/Berlin"), typeof evil, [].evil ?? null, Object.keys(crypto)]`
	source := `import * as s from "switchhook"
		export default () => {
		const seen = JSON.stringify(` + honest + `)
		for (const c of [URL, URLSearchParams, TextEncoder, TextDecoder, Map, Array, Object, Uint8Array, RangeError]) {
			for (const n of ["get", "toString", "decode", "encode", "href", "set"]) try { Object.defineProperty(c.prototype, n, {value: () => "evil"}) } catch {}
			c.prototype.evil = 1
		}
		crypto.sha256 = crypto.hmac = base64.encode = hex.encode = () => "evil"
		crypto.evil = s.crypto.more = 1
		globalThis.evil = 1
		for (const n of Object.keys(s)) try { globalThis[n] = () => "evil" } catch {}
		globalThis.crypto = globalThis.Uint8Array = globalThis.RangeError = undefined
		return seen }`
	l := load(t, source)
	want := value(t, honest, `0`)
	for range 3 {
		res, err := l.Run(event(`0`), request(), scripts.DefaultLimits(), nil)
		if err != nil || string(res.Body) != want {
			t.Fatalf("got %s, %v, want %s", res.Body, err, want)
		}
	}
	if got := value(t, honest, `0`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRun_RemovingBuiltinsAffectsOnlyThatRun breaks the built-ins that helpers use.
func TestRun_RemovingBuiltinsAffectsOnlyThatRun(t *testing.T) {
	for _, source := range []string{
		`globalThis.Uint8Array = undefined; return crypto.sha256("a", "bytes")`,
		`globalThis.RangeError = undefined; return formatDate(NaN, "yyyy")`,
		`globalThis.RangeError = class { constructor() { throw 1 } }; return formatDate(NaN, "yyyy")`,
		`globalThis.crypto = 5; return require("switchhook:crypto")`,
		`delete globalThis.crypto; return require("switchhook:crypto") // crypto`,
		`globalThis.BigInt = undefined; return JSON.stringify(e.data)`,
		`Array.prototype.filter = () => { throw new Error("x") }; return new URLSearchParams("a=b").get("a")`,
		`String.prototype.split = () => 5; return new URL("http://a/?b").searchParams.get("b")`,
		`globalThis.Map = undefined; return structuredClone({a: 1})`,
		`return new TextDecoder({toString() { throw 5 }})`,
		`return crypto.sha256("x", {toString() { throw 5 }})`,
		`return crypto.hmac(Symbol(), "x", "y")`,
		`return btoa(Symbol())`,
		`return new URL({toString() { return new URL("bad") }})`,
		`return structuredClone(new Proxy({}, {ownKeys() { throw new Error("x") }}))`,
		`return URL.prototype.href`,
		`return URLSearchParams.prototype.get.call({}, "a")`,
	} {
		_, err := run(t, "export default (e) => { "+source+"\n}", `9007199254740993`)
		var e *scripts.Error
		if err != nil && (!errors.As(err, &e) || strings.Contains(e.Message, "script engine failed")) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestRun_ResultSharesNoMemoryWithEvent(t *testing.T) {
	ev := event(`{"a":"aaaaaaaa","b":["bbbbbbbb"]}`)
	l := load(t, `export default (e, r) => { r.headers["X-A"] = e.data.a; r.query.b = e.data.b; r.path = "/" + e.data.a; console.log(e.data.a); return e.data }`)
	res, err := l.Run(ev, request(), scripts.DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprintf("%s %+v %s", res.Body, *res.Request, res.Console)
	copy(ev.Data, bytes.Repeat([]byte("x"), len(ev.Data)))
	for range 10 { // the memory that runs reuse is not part of it
		if _, err := l.Run(event(`{"a":"cc","b":["d"]}`), request(), scripts.DefaultLimits(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if after := fmt.Sprintf("%s %+v %s", res.Body, *res.Request, res.Console); after != before {
		t.Errorf("was %s\nis  %s", before, after)
	}
}
