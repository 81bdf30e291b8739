package sandbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

// TestPool_SlowRunIsNotRepeated checks that a child does not run the jobs that the pool
// reclaims from behind a slow run.
func TestPool_SlowRunIsNotRepeated(t *testing.T) {
	const slow = 20 * time.Millisecond
	limits := scripts.DefaultLimits()
	limits.Soft, limits.Hard = 2*time.Second, 4*time.Second // margin for a busy machine
	cases := []struct {
		name               string
		slow, fast, before int // before: fast runs of the slow program, which make it look fast
	}{
		{"many slow runs at once", 60, 0, 0},
		{"fast runs beside slow ones", 40, 160, 0},
		{"a program that was fast turns slow", 40, 0, 60},
		{"a program that was fast turns slow beside fast runs", 30, 200, 60},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, sandbox.Config{Processes: 3, Limits: limits})
			pids := listChildren()
			for range 100 {
				if len(pids) == 0 || len(pids) >= 3 {
					break // there is no /proc, or all children are running
				}
				time.Sleep(20 * time.Millisecond)
				pids = listChildren()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // instead of hanging
			defer cancel()
			count := compile(t, p, `export default e => { let x = 0; for (let i = 0; i < e.data; i++) x += i; return x }`)
			other := compile(t, p, `export default e => e.data + 1`)
			run := func(prog *scripts.Program, n int, want string) time.Duration {
				res, err := p.Run(ctx, prog, event(fmt.Sprint(n)), post)
				if err != nil || want != "" && string(res.Body) != want {
					t.Errorf("got %.100q, %v, want %s", res.Body, err, want)
				}
				return res.CPU
			}
			const probe = 20_000
			run(count, probe, "")
			n := probe
			if took := run(count, probe, ""); took > 0 {
				n = int(probe * slow / took)
			}
			for range c.before {
				run(count, 10, "45")
			}

			began := childrenCPU(pids)
			var wg sync.WaitGroup
			var mu sync.Mutex
			var own time.Duration
			for i := range c.slow + c.fast {
				wg.Go(func() {
					var took time.Duration
					if i*c.slow/(c.slow+c.fast) != (i+1)*c.slow/(c.slow+c.fast) { // evenly among the fast
						took = run(count, n, fmt.Sprint(n*(n-1)/2))
					} else {
						took = run(other, i, fmt.Sprint(i+1))
					}
					mu.Lock()
					own += took
					mu.Unlock()
				})
			}
			wg.Wait()
			used := childrenCPU(pids) - began
			t.Logf("%s in runs, %s in the children, %d turns each", own.Round(time.Millisecond), used.Round(time.Millisecond), n)
			if used > 2*own {
				t.Errorf("the children used %s for runs that took %s", used, own)
			}
		})
	}
}
