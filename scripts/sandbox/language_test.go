package sandbox_test

import (
	"strings"
	"testing"
	"time"

	"switchhook/scripts/sandbox"
)

// TestPool_LaterRetryInOtherProcessSendsSameBytes runs one program over one event
// in two pools, with every feature whose result could differ between runs.
func TestPool_LaterRetryInOtherProcessSendsSameBytes(t *testing.T) {
	const source = `
import { hmac } from "switchhook:crypto"
const started = Date.now()
export default async function transform(event, request) {
  await null
  const u = new URL("https://x.example/?n=" + Math.random())
  u.searchParams.append("t", formatDate(new Date(), "EEE dd MMM yyyy HH:mm:ss.SSS z", "America/Sao_Paulo"))
  request.headers["X-Signature"] = hmac("sha256", base64.decode("AAEC", "bytes"), JSON.stringify(event.data) + Date.now())
  request.query.r = String(Math.random())
  return { started, now: Date.now(), made: new Date(), text: Date(), local: new Date().toString(), locale: new Date(2026, 6, 1).getTime(), zone: new Date().getTimezoneOffset(),
    dice: [Math.random(), Math.random(), Math.random()], u: u.href, keys: Object.keys(structuredClone(event.data)), headers: event.headers, sorted: ["b", "a", "ä"].sort(),
    order: [...new Set(Object.keys(event.data))], digest: crypto.sha256(event.id + event.time), zones: ["Europe/Berlin", "Asia/Kolkata", "UTC"].map(z => formatDate(event.time, "HH:mm XXX", z)) }
}`
	ev := event(`{"z":1,"a":9007199254740993,"10":[1.10,{"x":null}]}`)
	ev.Headers = map[string]string{"X-B": "1", "X-A": "2", "X-C": "3"}
	first := start(t, sandbox.Config{Processes: 2})
	prog := compile(t, first, source)
	want, err := first.Run(t.Context(), prog, ev, post)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(want.Body), `"now":1767323045600,"made":"2026-01-02T03:04:05.600Z"`) || !strings.Contains(string(want.Body), `"04:04 +01:00"`) {
		t.Errorf("got %s", want.Body)
	}
	time.Sleep(1100 * time.Millisecond) // equivalent to days: the wall clock shows another second
	for range 2 {
		other := start(t, sandbox.Config{Processes: 2})
		again := compile(t, other, source)
		if again.Hash != prog.Hash || again.Code != prog.Code {
			t.Error("the same source gave another program")
		}
		for range 3 {
			got, err := other.Run(t.Context(), again, ev, post)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Body) != string(want.Body) || got.Request.Headers["X-Signature"] != want.Request.Headers["X-Signature"] || got.Request.Query["r"][0] != want.Request.Query["r"][0] {
				t.Errorf("first %s %v\nthen  %s %v", want.Body, want.Request, got.Body, got.Request)
			}
		}
	}
}

// TestPool_HelperModules checks that time zones and the tables for host names are available,
// although a child may not open files.
func TestPool_HelperModules(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 2})
	res, err := p.Run(t.Context(), compile(t, p, `export default () => [formatDate(0, "z", "Pacific/Kiritimati"), new URL("http://bücher.example").host, new TextDecoder().decode(new Uint8Array([104])), structuredClone([1])]`), event(`0`), post)
	if err != nil || string(res.Body) != `["-1040","xn--bcher-kva.example","h",[1]]` {
		t.Errorf("got %s, %v", res.Body, err)
	}
	// An endless loop of helper calls is stopped at the time limit.
	for _, source := range []string{
		`export default () => { const s = "x".repeat(2**20); for (;;) crypto.hmac("sha512", s, s) }`,
		`export default () => { const u = new URL("http://a/"); for (;;) u.searchParams.append("a", "b") }`,
		`export default () => { const a = []; for (let i = 0; ; i++) { a.push({i}); structuredClone(a) } }`,
		`export default () => { for (;;) formatDate(0, "yyyy", "Europe/Berlin") }`,
	} {
		_, err := p.Run(t.Context(), compile(t, p, source), event(`0`), post)
		if err == nil || !strings.Contains(err.Error(), "timeout after 50 ms") && !strings.Contains(err.Error(), "larger than") && !strings.Contains(err.Error(), "longer than") && !strings.Contains(err.Error(), "memory limit") {
			t.Errorf("%s: %v", source, err)
		}
	}
}
