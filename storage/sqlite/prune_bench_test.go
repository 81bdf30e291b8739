package sqlite

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
)

// BenchmarkPrune examines b.N events with a delivery and an attempt each, as fast as it goes, and
// removes all, every second one, or none:
//
//	go test -run '^$' -bench Prune -benchtime 1000000x ./storage/sqlite
func BenchmarkPrune(b *testing.B) {
	for _, c := range []struct {
		name   string
		remove func(n int) bool
	}{
		{"all", func(int) bool { return true }},
		{"half", func(n int) bool { return n%2 == 0 }},
		{"none", func(int) bool { return false }},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkPrune(b, c.remove) })
	}
}

func benchmarkPrune(b *testing.B, remove func(n int) bool) {
	s := open(b, filepath.Join(b.TempDir(), "bench.db"))
	preload(b, s, b.N)
	stop := cpu(b)
	cursor, n, steps, slowest := engine.ID(0), 0, 0, time.Duration(0)
	for more := true; more; steps++ {
		began := time.Now()
		p, err := s.Prune(b.Context(), engine.PruneQuery{After: cursor, Before: engine.ID(b.N + 1), Remove: func(string, bool, time.Time) bool { n++; return remove(n) }})
		if err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
		cursor, more = p.Last, p.More
	}
	stop()
	b.ReportMetric(float64(b.N)/float64(steps), "op/step")
	b.ReportMetric(float64(slowest.Microseconds())/1e3, "slowest-ms")
}

// preload stores events 1 to n, each delivered once.
func preload(b *testing.B, s *Store, n int) {
	var recorded sync.WaitGroup
	for i := 1; i <= n; i += 1000 {
		batch := make([]engine.NewEvent, min(1000, n+1-i))
		for j := range batch {
			batch[j] = newEvent(i+j, 7)
		}
		if _, err := s.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		recorded.Add(len(batch))
		for _, n := range batch {
			s.Record(succeeded(n.Event.ID, 7), func(error) { recorded.Done() })
		}
	}
	recorded.Wait()
	s.SetWatermark(0, engine.ID(n))
}
