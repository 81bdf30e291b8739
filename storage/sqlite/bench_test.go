package sqlite

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"switchhook/engine"
)

// go test -run '^$' -bench . -benchtime 1s ./storage/sqlite

// cpu reports the CPU time of the process for each operation, including the submitters.
func cpu(b *testing.B) (stop func()) {
	var before syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	return func() {
		b.StopTimer()
		var after syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		used := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(used)/1e3/float64(b.N), "cpu-µs/op")
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	}
}

// submit runs do b.N times from several goroutines.
func submit(b *testing.B, submitters int, do func(n int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range submitters {
		wait.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				do(int(n))
			}
		})
	}
	wait.Wait()
}

func (s *Store) mustAppend(b *testing.B, n engine.NewEvent) {
	if _, err := s.Append(b.Context(), []engine.NewEvent{n}); err != nil {
		b.Error(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, submitters := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(submitters), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "bench.db"))
			defer cpu(b)()
			submit(b, submitters, func(n int) { s.mustAppend(b, newEvent(n, 7)) })
		})
	}
}

// BenchmarkPipeline stores an event, then its delivery and attempt.
func BenchmarkPipeline(b *testing.B) {
	for _, submitters := range []int{32, 256} {
		b.Run(fmt.Sprint(submitters), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "bench.db"))
			var recorded sync.WaitGroup
			recorded.Add(b.N)
			done := func(err error) {
				if err != nil {
					b.Error(err)
				}
				recorded.Done()
			}
			defer cpu(b)()
			submit(b, submitters, func(n int) {
				s.mustAppend(b, newEvent(n, 7))
				s.Record(succeeded(engine.ID(n), 7), done)
			})
			recorded.Wait()
		})
	}
}

// BenchmarkList reads a page of 50 of 100,000 deliveries, one percent of them failed.
func BenchmarkList(b *testing.B) {
	const events = 100_000
	s := open(b, filepath.Join(b.TempDir(), "bench.db"))
	var batch []engine.NewEvent
	var recorded sync.WaitGroup
	for i := 1; i <= events; i++ {
		batch = append(batch, newEvent(i, engine.ID(1+i%10)))
		if len(batch) < 1000 {
			continue
		}
		if _, err := s.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		for _, n := range batch {
			o := succeeded(n.Event.ID, n.Event.Targets[0])
			if n.Event.ID%100 == 0 {
				o.State = engine.StateDead
			}
			recorded.Add(1)
			s.Record(o, func(error) { recorded.Done() })
		}
		batch = batch[:0]
	}
	recorded.Wait()
	s.SetWatermark(0, events)
	for _, c := range []struct {
		name string
		q    engine.DeliveryQuery
	}{
		{"all", engine.DeliveryQuery{}},
		{"account", engine.DeliveryQuery{Account: "acme"}},
		{"subscription", engine.DeliveryQuery{Account: "acme", Subscription: 3}},
		{"dead", engine.DeliveryQuery{Account: "acme", State: engine.StateDead}},
		{"dead-of-subscription", engine.DeliveryQuery{Account: "acme", State: engine.StateDead, Subscription: 1}},
		{"account-from-the-middle", engine.DeliveryQuery{Account: "acme", Before: engine.DeliveryID{Event: events / 2}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.q.Limit = 50
			defer cpu(b)()
			for range b.N {
				if page, _, err := s.Deliveries(b.Context(), c.q); err != nil || len(page) != 50 {
					b.Fatal(len(page), err)
				}
			}
		})
	}
}
