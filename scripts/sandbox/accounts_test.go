package sandbox_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine/testkit"
	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

// TestPool_AccountsShareTheProcesses runs an account with as much work as it likes beside one with a
// single short run at a time, and counts the runs of the first that end before each of the second.
func TestPool_AccountsShareTheProcesses(t *testing.T) {
	const children, callers = 2, 40
	cases := []struct {
		name    string
		hostile func(ctx context.Context, p *sandbox.Pool, programs []*scripts.Program, i int)
		source  string // of the hostile account's programs; %d makes them different
		most    int64  // runs of the hostile account before each of the other
	}{
		// What a child was given is not taken back, but lasts 5 ms at most unless it turns out slow.
		{"380 programs", run, `export default () => { let x = %d; for (let i = 0; i < 20000; i++) x += i; return x }`, 32 * children},
		{"endless runs", run, `export default () => { for (;;) { %d } }`, 2 * children},
		{"runs that end their process", run, `export default () => Array(2**32-1).indexOf(%d)`, 2 * children},
		{"endless compilations", func(ctx context.Context, p *sandbox.Pool, _ []*scripts.Program, i int) {
			_, _ = p.Compile(ctx, fmt.Sprintf(`for (;;) { %d } export default () => 1`, i))
		}, `export default () => %d`, 2 * children},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, sandbox.Config{Processes: children + 1})
			good := compile(t, p, `export default e => e.data`)
			hostile := scripts.ForAccount(t.Context(), "hostile")
			var programs []*scripts.Program
			for i := range 380 {
				programs = append(programs, compile(t, p, fmt.Sprintf(c.source, i)))
			}
			ctx, end := context.WithCancel(hostile)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer end()
			var ended atomic.Int64
			for n := range callers {
				wg.Go(func() {
					for i := n; ctx.Err() == nil; i += callers {
						c.hostile(ctx, p, programs, i)
						ended.Add(1)
					}
				})
			}
			testkit.WaitFor(t, "most wait", func() bool { return p.Stats().Queued >= callers/4 })
			for i := range 8 {
				before := ended.Load()
				ctx, cancel := context.WithTimeout(scripts.ForAccount(t.Context(), "good"), time.Minute)
				_, err := p.Run(ctx, good, event(fmt.Sprint(i)), post)
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				if n := ended.Load() - before; n > c.most {
					t.Errorf("%d runs of the other account ended before it", n)
				}
			}
		})
	}
}

func run(ctx context.Context, p *sandbox.Pool, programs []*scripts.Program, i int) {
	_, _ = p.Run(ctx, programs[i%len(programs)], event(`0`), post)
}
