package dispatch

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/watermark"
)

func TestBudget_AccountsShareWhatIsFree(t *testing.T) {
	b := newBudget(1600)
	fill := func(account string) int64 {
		for b.room(account) > 0 {
			b.add(account, 1)
		}
		return b.accounts[account]
	}
	for i, want := range []int64{1200, 300, 75} { // three quarters of what is left, each time
		if got := fill(fmt.Sprint("account", i)); got < want || got > want+1 {
			t.Errorf("account %d holds %d, want %d", i, got, want)
		}
	}
	b.add("account0", -400)
	if got := fill("account1"); got < 540 {
		t.Errorf("of what another account gave back, an account that held 300 has only %d", got)
	}
	for account, n := range b.accounts {
		b.add(account, -n)
	}
	if b.held != 0 || len(b.accounts) != 0 {
		t.Errorf("%d held by %v", b.held, b.accounts)
	}
}

// Deliveries come, are attempted, are put back, spilled and read again, in any order: memory never
// holds more than its budget and the few rows that each queue may read when it is short.
func TestScheduler_MemoryStaysWithinBudget(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			d := newTestScheduler()
			d.memory = newBudget(300)
			var fetches []*fetch // guarded by d.mu
			d.fetched = func(f *fetch) { fetches = append(fetches, f) }
			nextFetch := func() (f *fetch) {
				d.mu.Lock()
				defer d.mu.Unlock()
				if len(fetches) > 0 {
					f, fetches = fetches[0], fetches[1:]
				}
				return f
			}
			const queues = 8
			for id := range engine.ID(queues) {
				s := engine.Subscription{ID: id + 1, Account: fmt.Sprint(id % 3)}
				if id >= 6 {
					s.Policy.Ordering = engine.OrderingFIFO
				}
				r := d.addSubscription(s, catalog.EffectivePolicy{InFlight: 3})
				r.Grouping.Set(catalog.GroupingSpecOf(r.Sub))
				d.setSubscription(r)
			}
			d.startOrderedFetches()
			var flights []flight
			ids := newIDs(6000)
			inStore := map[engine.ID][]engine.ID{} // by subscription
			for n, id := range ids {
				target := engine.ID(random.IntN(queues)) + 1
				en := dispatchqueue.Entry{Event: id, Position: engine.PositionOf(id), Tracked: &watermark.Event{}, SpecHash: d.queues[target].compiled.Grouping.SpecHash}
				if place, q, _ := d.enqueue(target, en); place == enqueueInStore {
					inStore[target] = append(inStore[target], id)
					d.spillRecorded(q, en.Position)
				}
				if n%2 == 0 {
					flights = append(flights, d.start()...)
				}
				if len(flights) > 0 && random.IntN(2) == 0 {
					i := random.IntN(len(flights))
					f := flights[i]
					flights = append(flights[:i], flights[i+1:]...)
					if random.IntN(3) == 0 {
						d.requeue(&f, nil)
					} else {
						if f.batch.Queue != nil {
							d.completeOrdered(f.queue, &f.batch, func(int) dispatchqueue.Disposition { return dispatchqueue.Finished })
						}
						d.end(f, retry.Decision{Action: retry.ActionSucceed, Signal: retry.SignalHealthy})
						d.committed(f.queue, f.batch.First.Event)
					}
				}
				var f *fetch
				if random.IntN(3) == 0 {
					f = nextFetch()
				}
				if f != nil {
					rows := min(f.rows, len(inStore[f.queue.id]))
					var entries []dispatchqueue.Entry
					for _, id := range inStore[f.queue.id][:rows] {
						entries = append(entries, dispatchqueue.Entry{Event: id, Position: engine.PositionOf(id), SpecHash: f.compiled.Grouping.SpecHash})
					}
					inStore[f.queue.id] = inStore[f.queue.id][rows:]
					d.completeFetch(f, entries, len(inStore[f.queue.id]) == 0)
				}
				checkMemory(t, d.scheduler, 300+queues*leastFetch)
				time.Sleep(time.Millisecond)
			}
			for id := range engine.ID(queues) {
				d.removeSubscription(id + 1)
			}
			for f := nextFetch(); f != nil; f = nextFetch() {
				d.completeFetch(f, nil, true)
			}
			checkMemory(t, d.scheduler, 0)
			d.close()
		})
	}
}

// checkMemory checks that the budget counts what the queues hold, and that this is at most most.
func checkMemory(t *testing.T, s *scheduler, most int64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var held int64
	for _, q := range s.queues {
		held += int64(q.waiting.Len())
		if q.fetch != nil {
			held += int64(q.fetch.rows)
		}
	}
	if s.memory.held != held || held > most {
		t.Fatalf("the budget counts %d deliveries, the queues hold %d, the limit is %d", s.memory.held, held, most)
	}
}

// An account whose targets take nothing leaves room for the others, and so does a subscription for
// those of its account.
func TestScheduler_SlowAccountLeavesMemoryToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.memory, d.limits.soon = newBudget(16_000), soon
		for id, account := range map[engine.ID]string{1: "slow", 2: "slow", 3: "fast"} {
			d.addSubscription(engine.Subscription{ID: id, Account: account}, catalog.EffectivePolicy{})
		}
		ids := newIDs(20_000)
		kept := func(target engine.ID) (n int) {
			for _, id := range ids {
				if place, _, _ := d.enqueue(target, dispatchqueue.Entry{Event: id, Tracked: &watermark.Event{}}); place == enqueued {
					n++
				}
			}
			return n
		}
		first, second, other := kept(1), kept(2), kept(3)
		if first < 7500 || second < 3000 || other < 2400 {
			t.Errorf("%d of the first subscription wait in memory, %d of the second, %d of another account", first, second, other)
		}
		d.close()
	})
}

// Behind a delivery that has waited for its target for seconds, a queue keeps few others.
func TestScheduler_KeepsFewBehindOldDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.limits.soon = soon
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{})
		enqueue := func(n int) {
			for _, id := range newIDs(n) {
				d.enqueue(1, dispatchqueue.Entry{Event: id, Tracked: &watermark.Event{}})
			}
		}
		enqueue(5000)
		if n := d.waiting(1); n != 5000 {
			t.Errorf("%d deliveries of 5000 wait in memory", n)
		}
		time.Sleep(soon)
		enqueue(100)
		if n := d.waiting(1); n != 5000 {
			t.Errorf("a delivery is kept in memory behind one that has waited for %s: %d", soon, n)
		}
		d.close()
	})
}

func TestEventCache_SharesBytesByAccount(t *testing.T) {
	c := NewEventCache(160_000)
	ev := func(account string) *engine.Event {
		return &engine.Event{Account: account, Data: make([]byte, 1000-256)}
	}
	var held []dispatchqueue.Payload
	fill := func(account string) (n int) {
		for {
			p := c.Add(ev(account), 2)
			if p == nil {
				return n
			}
			held = append(held, p)
			n++
		}
	}
	if a, b := fill("a"), fill("b"); a < 115 || a > 120 || b < 25 || b > 31 || c.inUse() > 160_000 {
		t.Errorf("%d events of one account, %d of another, %d bytes", a, b, c.inUse())
	}
	for _, p := range held {
		p.Release()
		p.Release()
	}
	if c.inUse() != 0 || len(c.budget.accounts) != 0 {
		t.Errorf("%d bytes in use", c.inUse())
	}
}

// BenchmarkQueue_MemoryPerDelivery reports what a delivery that waits takes, without its event.
func BenchmarkQueue_MemoryPerDelivery(b *testing.B) {
	const deliveries = 100_000
	ev := &watermark.Event{}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var q dispatchqueue.Queue
		for n := range engine.ID(deliveries) {
			q.Push(dispatchqueue.Entry{Event: n, Tracked: ev})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/deliveries, "bytes/delivery")
		runtime.KeepAlive(&q)
	}
}
