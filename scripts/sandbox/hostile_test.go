package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

const (
	timeout    = "timeout after 50 ms"
	backtracks = "timeout after 50 ms in a regular expression"
	memory     = "memory limit 64 MiB"
	output     = "result larger than 1 MiB"
)

// hostile lists bodies of transforms that try to crash the router, and the accepted errors.
// If both time and memory run out, either error is accepted.
var hostile = []struct {
	name, body string
	reasons    []string
}{
	{"an endless loop", `for(;;){}`, []string{timeout}},
	{"an endless loop in finally", `for(;;) try { for(;;){} } finally { continue }`, []string{timeout}},
	{"a GiB of x", `return 'x'.repeat(2**30)`, []string{memory}},
	{"a TiB of x", `return 'x'.repeat(2**40)`, []string{memory}},
	{"a large ArrayBuffer", `return new ArrayBuffer(2**40)`, []string{memory}},
	{"sorting a sparse array", `return Array(2**32-1).sort()`, []string{memory}},
	{"joining a sparse array", `return Array(2**32-1).join('ab')`, []string{timeout, memory}},
	{"filling a sparse array", `return Array(2**32-1).fill(0)`, []string{timeout, memory}},
	{"searching a sparse array", `return Array(2**32-1).indexOf(1)`, []string{timeout}},
	{"a long array-like", `return Array.from({length:1e9})`, []string{timeout, memory}},
	{"spreading a sparse array", `return [...Array(1e9)]`, []string{timeout, memory}},
	{"a backtracking regular expression", `return /(?=a)(a+)+$/.test('a'.repeat(40)+'b')`, []string{backtracks}},
	{"a backtracking regular expression made of text", `return new RegExp("(?<=" + "a" + ")(a+)+b", "i").test('a'.repeat(40))`, []string{backtracks}},
	{"a large power", `const n = 100000000n; return 3n**n`, []string{timeout, memory}},
	{"a large shift", `const n = 2n**40n; return 1n<<n`, []string{memory}},
	{"a large BigInt text", `return BigInt('9'.repeat(5e6))`, []string{timeout, memory, output}},
	{"stringify of a wide graph", `let a = [1]; for (let i = 0; i < 30; i++) a = [a, a]; return JSON.stringify(a)`, []string{timeout, memory}},
	{"returning a wide graph", `let a = [1]; for (let i = 0; i < 30; i++) a = [a, a]; return a`, []string{output, timeout}},
	{"recursion", `const f = () => f(); return f()`, []string{"calls nest deeper than 256"}},
	{"recursion through map", `const f = () => [1].map(f); return f()`, []string{"calls nest deeper than 256"}},
	{"recursion through toString", `const o = { toString() { return '' + o } }; return '' + o`, []string{"calls nest deeper than 256"}},
	{"pushing without end", `const a = []; for(;;) a.push({x: 1})`, []string{timeout, memory}},
	{"doubling a string", `let s = 'x'; for(;;) s += s`, []string{timeout, memory}},
	{"a large replace", `return 'a'.repeat(1e7).replace(/a/g, 'bb')`, []string{timeout, memory, output}},
	{"a getter that loops on the result", `return { get a() { for(;;){} } }`, []string{timeout}},
	{"a toJSON that loops on the result", `return { toJSON() { for(;;){} } }`, []string{timeout}},
	{"a Proxy that loops on the result", `return new Proxy({}, { ownKeys() { for(;;){} } })`, []string{timeout}},
	{"a console flood", `for(;;) console.log('x'.repeat(1000))`, []string{timeout, memory}},
	{"a thrown object", `throw { code: 42 }`, []string{`threw {"code":42}`}},
	{"a thrown null", `throw null`, []string{`threw null`}},
	{"a thrown object that loops", `throw { get message() { for(;;){} } }`, []string{timeout}},
	{"a promise that never settles", `return new Promise(() => {})`, []string{"never settles"}},
	{"an endless chain of promises", `const f = () => Promise.resolve().then(f); return f()`, []string{timeout, memory}},
	{"deeply nested JSON", `return JSON.parse('['.repeat(1e7))`, []string{timeout, memory, "crashed: stack overflow"}},
	{"deeply nested eval", `return eval('('.repeat(1e6))`, []string{timeout, memory, "crashed: stack overflow"}},
	{"deeply nested Function", `return Function('return ' + '!'.repeat(1e6) + '1')()`, []string{timeout, memory, "crashed: stack overflow"}},
	{"a source map in eval", `return eval('null.x\n//# sourceMappingURL=file:///dev/zero')`, []string{"Cannot read property 'x'"}},
	{"a source map", "null.x }\n//# sourceMappingURL=file:///dev/zero\nfunction f() {", []string{"Cannot read property 'x'"}},
	{"a large sparse result", `const a = []; a.length = 2**32-1; return a`, []string{output, timeout}},
	{"a lengthened event array", `event.data.l.length = 2**31; return event.data`, []string{"dynamic"}},
	{"many keys", `const o = {}; for (let i = 0;; i++) o['k' + i] = i`, []string{timeout, memory}},
	{"a large typed array", `return new Uint8Array(2**32)`, []string{memory}},
	{"nested flat", `let a = []; for (let i = 0; i < 1e6; i++) a = [a]; return a.flat(Infinity)`, []string{timeout, memory, "crashed: stack overflow", "nests deeper"}},
	{"a deep result", `let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a`, []string{timeout, memory, "nests deeper than 500"}},
}

func TestPool_HostileScriptFailsAlone(t *testing.T) {
	p := start(t, sandbox.Config{})
	innocent := compile(t, p, `export default e => ({ id: e.data.id, lines: e.data.l.map(x => x + 1) })`)
	ev := event(`{"id": 7, "l": [1, 2, 3]}`)

	// Other scripts run concurrently, and none of them may be affected.
	var ran, slowest atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	var beside sync.WaitGroup
	for range 4 {
		beside.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				res, err := p.Run(context.Background(), innocent, ev, post)
				if err != nil || string(res.Body) != `{"id":7,"lines":[2,3,4]}` {
					t.Errorf("an innocent run: %q %v", res.Body, err)
					return
				}
				ran.Add(1)
				slowest.Store(max(slowest.Load(), int64(time.Since(began))))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			prog := compile(t, p, "export default (event, request) => {"+h.body+"\n}")
			began := time.Now()
			res, err := p.Run(t.Context(), prog, ev, post)
			took := time.Since(began).Round(time.Millisecond)
			var e *scripts.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %.100q, %v", res.Body, err)
			}
			if !slices.ContainsFunc(h.reasons, func(r string) bool { return strings.Contains(e.Message, r) }) {
				t.Errorf("after %s: %s: %q", took, e.Phase, e.Message)
			}
			t.Logf("%s: %s: %s", took, e.Phase, e)
		})
	}
	stop()
	beside.Wait()
	t.Logf("%d innocent runs beside, the slowest took %s", ran.Load(), time.Duration(slowest.Load()))
}

func TestPool_RefusesHostileSources(t *testing.T) {
	p := start(t, sandbox.Config{})
	cases := []struct {
		name, source string
		reasons      []string
	}{
		{"a wrapper escape", "return 1})(); globalThis.evil=1; (function(){", []string{`Unexpected "}"`}},
		{"too large", "export default () => 1 //" + strings.Repeat("x", 64<<10), []string{"source larger than 64 KiB"}},
		{"a million brackets", strings.Repeat("(", 1e6), []string{"source larger than 64 KiB"}},
		{"many brackets", strings.Repeat("[", 60_000), []string{"nests deeper than 256"}},
		{"many exclamation marks", "export default () => " + strings.Repeat("!", 60_000) + "1", []string{"crashed: stack overflow", "memory limit", "timeout after 200 ms"}},
		{"many sums", "export default () => 1" + strings.Repeat("+1", 30_000), []string{"crashed: stack overflow", "memory limit", "timeout after 200 ms", ""}},
		{"a power that the compiler folds", "export default () => 3n**100000000n", []string{"timeout after 200 ms", "memory limit"}},
		{"a shift that the compiler folds", "export default () => 1n<<(2n**40n)", []string{"memory limit"}},
		{"an endless top level", "for(;;){}; export default () => 1", []string{"timeout after 200 ms"}},
		{"a memory bomb at the top level", "'x'.repeat(2**40); export default () => 1", []string{"memory limit 64 MiB"}},
		{"no script", "", []string{"no transform function"}},
		{"bytes", "\xff\xfe", []string{"not valid UTF-8"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := p.Compile(t.Context(), c.source)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if !slices.ContainsFunc(c.reasons, func(r string) bool { return strings.Contains(message, r) && (message == "") == (r == "") }) {
				t.Errorf("got %v", err)
			}
			t.Log(err)
		})
	}
}

func TestPool_OnlyFaultyRunOfBatchFails(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 1}) // one child: all runs share it
	bad := compile(t, p, `export default e => Array(2**32-1).indexOf(1)`)
	worse := compile(t, p, `export default e => new ArrayBuffer(2**40)`)
	good := compile(t, p, `export default e => e.data + 1`)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			prog, want := good, fmt.Sprint(i+1)
			switch i {
			case 20:
				prog, want = bad, timeout
			case 40:
				prog, want = worse, memory
			}
			res, err := p.Run(context.Background(), prog, event(fmt.Sprint(i)), post)
			got := string(res.Body)
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("run %d: got %q, want %q", i, got, want)
			}
		})
	}
	wg.Wait()
}

// Neither a run that its child has started when its caller gives up, nor one that was
// reclaimed from behind a long one, may leave a hanging child unwatched.
func TestPool_ReplacesChildHangingWithoutRun(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 1})
	loop := compile(t, p, `export default e => Array(2**32-1).indexOf(1)`)
	good := compile(t, p, `export default e => 1`)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			defer cancel()
			_, _ = p.Run(ctx, loop, event(`0`), post) // it is not answered in time
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Run(ctx, good, event(`0`), post); err != nil {
		t.Error(err)
	}
}

func TestPool_RunsShareNoState(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 1})
	spoil := compile(t, p, `
		let runs = 0; const tag = s => s
		globalThis.count = (globalThis.count ?? 0) + 1
		export default (e, r) => {
			const seen = []
			const look = (name, was) => { if (was) seen.push(name) }
			look("global", globalThis.leak); globalThis.leak = 1
			look("eval global", (0, eval)("typeof leaked2") !== "undefined"); (0, eval)("var leaked2 = 1")
			look("Function global", Function("return typeof leaked3")() !== "undefined"); Function("leaked3 = 1")()
			look("closure", runs++)
			look("top level", globalThis.count > 1)
			for (const [name, o] of Object.entries({ Array, Function, String, Promise, RegExp, Error, Date, Symbol, BigInt, Object })) {
				look(name, Object.hasOwn(o, "leak")); o.leak = 1
				look(name + ".prototype", Object.hasOwn(o.prototype, "leak")); o.prototype.leak = 1
			}
			delete Object.prototype.leak; delete Function.prototype.leak; delete Symbol.prototype.leak; delete Array.prototype.leak
			look("iterator", Object.getPrototypeOf([][Symbol.iterator]()).leak); Object.getPrototypeOf([][Symbol.iterator]()).leak = 1
			look("generator", Object.getPrototypeOf(function*(){}).leak); Object.getPrototypeOf(function*(){}).leak = 1
			look("symbol", Symbol.for("s").leak || Object.getPrototypeOf(Symbol.for("s"))[Symbol.for("s")]); Symbol.prototype[Symbol.for("s")] = 1
			look("getter", Object.getOwnPropertyDescriptor(Object.prototype, "trap")); Object.defineProperty(Object.prototype, "trap", { get() { return 1 }, configurable: false })
			look("console", console.leak || console.log.leak); console.leak = console.log.leak = 1; 
			look("drop", drop.leak); drop.leak = 1
			look("template", tag`+"`x`"+`.leak); try { tag`+"`x`"+`.leak = 1 } catch {}
			look("regexp", /x/g.lastIndex); const re = /x/g; re.test("x")
			look("JSON", JSON.parse.leak); JSON.parse.leak = 1
			look("event", e.data.leak || e.leak); e.data.leak = e.leak = 1
			look("request", r.headers.leak); delete r.headers.leak
			Array.prototype.map = () => "evil"; JSON.stringify = () => "evil"; Math.random = () => 4
			console.log("once")
			return seen
		}`)
	look := compile(t, p, `export default e => [typeof leak, typeof count, ({}).leak ?? null, ({}).trap ?? null, [1].map(x => x + 1), JSON.stringify([1]), Math.random() < 1]`)
	ev := event(`{"a":1}`)
	for i := range 4 {
		res, err := p.Run(t.Context(), spoil, ev, post)
		if err != nil || string(res.Body) != `[]` || len(res.Console) != 1 {
			t.Errorf("run %d saw what an earlier one left: %s %q %v", i, res.Body, res.Console, err)
		}
		res, err = p.Run(t.Context(), look, ev, post)
		if err != nil || string(res.Body) != `["undefined","undefined",null,null,[2],"[1]",true]` {
			t.Errorf("another script saw it: %s %v", res.Body, err)
		}
	}
}

func TestPool_OutputIsDeterministic(t *testing.T) {
	const source = `export default async e => {
		const o = { now: Date.now(), date: new Date().toString(), local: new Date(2026, 6, 1).getTimezoneOffset(), dice: [Math.random(), Math.random()] }
		for (const k of Object.keys(e.data)) o[k] = e.data[k]
		return { ...o, headers: e.headers, set: [...new Set([3, 1, 2])], s: [3, 1, 2].sort(() => Math.random() - 0.5), t: (1234.5).toLocaleString() }
	}`
	ev := event(`{"z":1,"a":[1,2,9007199254740993],"m":{"q":1.10}}`)
	ev.Headers = map[string]string{"b": "1", "a": "2", "d": "3", "c": "4"}
	var first string
	for i := range 2 {
		p := start(t, sandbox.Config{Processes: 2})
		prog := compile(t, p, source)
		for range 20 {
			res, err := p.Run(t.Context(), prog, ev, post)
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = string(res.Body)
			}
			if string(res.Body) != first {
				t.Fatalf("pool %d:\n%s\nfirst:\n%s", i, res.Body, first)
			}
		}
	}
	t.Log(first)
}

func TestPool_CloseEndsRunningTransforms(t *testing.T) {
	before, goroutines := listChildren(), runtime.NumGoroutine()
	p := start(t, sandbox.Config{Processes: 2})
	loop := compile(t, p, `export default e => Array(2**32-1).indexOf(1)`)
	var wg sync.WaitGroup
	for range 80 {
		wg.Go(func() {
			_, err := p.Run(context.Background(), loop, event(`0`), post)
			var e *scripts.Error
			if !errors.As(err, &e) || e.Phase != scripts.PhaseBusy && e.Phase != scripts.PhaseTimeout {
				t.Errorf("got %v", err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := p.Run(t.Context(), loop, event(`0`), post); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
	if after := listChildren(); len(after) > len(before) {
		t.Errorf("children before %v, after %v", before, after)
	}
	after := runtime.NumGoroutine()
	for range 3000 { // a child that has reported its end may still execute its last instructions
		if after <= goroutines {
			return
		}
		time.Sleep(10 * time.Millisecond)
		after = runtime.NumGoroutine()
	}
	t.Errorf("goroutines before %d, after %d", goroutines, after)
}

func TestPool_ContextCancelsWait(t *testing.T) {
	limits := scripts.DefaultLimits()
	limits.Soft, limits.Hard = time.Minute, time.Minute // the context ends first
	p := start(t, sandbox.Config{Processes: 1, Limits: limits})
	loop := compile(t, p, `export default e => Array(2**32-1).indexOf(1)`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := p.Run(ctx, loop, event(`0`), post)
	var e *scripts.Error
	if !errors.As(err, &e) || e.Phase != scripts.PhaseBusy || e.ScriptFault() {
		t.Errorf("got %v", err)
	}
}

// listChildren returns the ids of this process's children.
func listChildren() []string {
	tasks, _ := os.ReadDir("/proc/self/task") // none if there is no /proc
	var all []string
	for _, task := range tasks {
		list, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err == nil {
			all = append(all, strings.Fields(string(list))...)
		}
	}
	return all
}
