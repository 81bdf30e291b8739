package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
)

// BenchmarkBeside measures the commit latency of 500 events a second while the store is
// otherwise idle, while finished events are removed with the engine's pauses, and while
// backups run one after the other. The three alternate every half second, so that other
// load on the machine affects all of them alike.
func BenchmarkBeside(b *testing.B) {
	const preloaded, submitters, every, turn, turns = 150_000, 8, 16 * time.Millisecond, 500 * time.Millisecond, 60
	path := filepath.Join(b.TempDir(), "bench.db")
	s := open(b, path)
	preload(b, s, preloaded)
	removed, copies := 0, 0
	cursor := engine.ID(0)
	beside := []struct {
		name string
		do   func(context.Context)
	}{
		{"nothing", func(ctx context.Context) { <-ctx.Done() }},
		{"retention", func(ctx context.Context) {
			for ctx.Err() == nil {
				p, err := s.Prune(ctx, engine.PruneQuery{After: cursor, Before: preloaded + 1, Work: time.Millisecond, Remove: func(string, bool, time.Time) bool { return true }})
				if err == nil {
					cursor, removed = p.Last, removed+p.Events
				}
				time.Sleep(max(time.Millisecond, 9*p.Worked))
			}
		}},
		{"backup", func(ctx context.Context) {
			for ctx.Err() == nil {
				if _, err := Backup(ctx, path, filepath.Join(b.TempDir(), "copy.db"), true); err == nil {
					copies++
				}
			}
		}},
	}
	waits := make([][]time.Duration, len(beside))
	var mu sync.Mutex
	var next atomic.Int64
	next.Store(preloaded)
	b.ResetTimer()
	for n := range b.N * turns {
		i := n % len(beside)
		ctx, cancel := context.WithTimeout(b.Context(), turn)
		var wait sync.WaitGroup
		wait.Go(func() { beside[i].do(ctx) })
		for range submitters {
			wait.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					s.mustAppend(b, newEvent(int(next.Add(1)), 7))
					took := time.Since(began)
					mu.Lock()
					waits[i] = append(waits[i], took)
					mu.Unlock()
					time.Sleep(max(0, every-took))
				}
			})
		}
		wait.Wait()
		cancel()
	}
	b.StopTimer()
	for i, w := range waits {
		slices.Sort(w)
		b.ReportMetric(float64(w[len(w)/2].Microseconds())/1e3, fmt.Sprintf("%s-p50-ms", beside[i].name))
		b.ReportMetric(float64(w[len(w)*99/100].Microseconds())/1e3, fmt.Sprintf("%s-p99-ms", beside[i].name))
	}
	b.ReportMetric(float64(removed), "removed")
	b.ReportMetric(float64(copies), "copies")
}
