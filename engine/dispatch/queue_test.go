package dispatch

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/snowflake"
)

// testScheduler is a scheduler without a dispatcher, in a bubble of synctest: it uses the timers
// and the clock of the bubble. The test takes the part of the workers.
type testScheduler struct {
	*scheduler
	workersSpawned int
	work           func(flight) // by the workers; nil: there are none
	fetched        func(*fetch) // is told of each fetch
}

// testEntries is the number of deliveries that fit in memory.
const testEntries = 200_000

func newTestScheduler() *testScheduler {
	time.Sleep(30 * 365 * 24 * time.Hour) // the bubble's clock begins in 2000, before any id
	d := &testScheduler{}
	d.scheduler = newScheduler(d, limits{workers: 1000, hostInFlight: 1000, groupCapacity: dispatchqueue.GroupCapacity, entries: testEntries})
	return d
}

func (d *testScheduler) now() time.Time { return time.Now() }
func (d *testScheduler) startFetch(f *fetch) {
	if d.fetched != nil {
		d.fetched(f)
	}
}
func (d *testScheduler) allQueuedThrough(string, engine.ID) bool { return true }

func (d *testScheduler) startWorker() {
	d.workersSpawned++
	if d.work != nil {
		go d.scheduler.work(d.work)
	}
}

func (d *testScheduler) addSubscription(s engine.Subscription, t catalog.EffectivePolicy) *catalog.CompiledSubscription {
	if t.InFlight == 0 {
		t.InFlight = 16
	}
	if t.GiveUpAfter == 0 {
		t.GiveUpAfter = catalog.DefaultGiveUpAfter
	}
	s.Active = true
	r := &catalog.CompiledSubscription{Sub: &s, Policy: t}
	d.setSubscription(r)
	return r
}

func (d *testScheduler) retryManually(id engine.ID, events ...engine.ID) {
	for _, event := range events {
		d.enqueueManualRetry(id, dispatchqueue.Entry{Event: event})
	}
}

// isReady reports whether an attempt of q may start now; s.mu is held.
func (s *scheduler) isReady(q *queue) bool {
	state, _ := s.evaluate(q, s.host.now())
	return state == queueReady
}

// anyReady reports whether next would return.
func (s *scheduler) anyReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.eligible.list, func(a *account) bool { return s.mayStart(a) && slices.ContainsFunc(a.ready.list, s.isReady) })
}

// start starts all attempts that may start now.
func (d *testScheduler) start() (all []flight) {
	for d.anyReady() {
		f, ok := d.next()
		if !ok {
			return all
		}
		all = append(all, f)
	}
	return all
}

func (d *testScheduler) end(f flight, v retry.Decision) transition { return d.finish(&f, v) }

func newIDs(n int) (list []engine.ID) {
	now := snowflake.FirstAt(time.Now())
	for i := range engine.ID(n) {
		list = append(list, now+i)
	}
	return list
}

func TestPacer_SpreadsAttemptsEvenly(t *testing.T) {
	for _, c := range []struct {
		rate engine.Rate
		want string
	}{
		{engine.Rate{Count: 10, Per: time.Second}, "[0s 100ms 200ms 300ms 400ms]"},
		{engine.Rate{Count: 2, Per: time.Minute}, "[0s 30s 1m0s 1m30s 2m0s]"},
		{engine.Rate{Count: 1, Per: time.Hour}, "[0s 1h0m0s 2h0m0s 3h0m0s 4h0m0s]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newTestScheduler()
			d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{Interval: c.rate.Interval()})
			time.Sleep(3 * c.rate.Per) // time without attempts saves nothing up
			began := time.Now()
			d.retryManually(1, newIDs(5)...)
			var at []string
			for len(at) < 5 {
				for range d.start() {
					at = append(at, time.Since(began).String())
				}
				time.Sleep(c.rate.Per / 1000)
				synctest.Wait()
			}
			if fmt.Sprint(at) != c.want {
				t.Errorf("%v: %v", c.rate, at)
			}
		})
	}
}

func TestPacer_FasterRateAppliesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{Interval: time.Hour})
		d.retryManually(1, newIDs(3)...)
		if n := len(d.start()); n != 1 {
			t.Fatal(n)
		}
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{Interval: time.Second})
		if n := len(d.start()); n != 1 {
			t.Errorf("%d started at the new rate", n)
		}
	})
}

func TestScheduler_InFlightLimitPerSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 3})
		d.addSubscription(engine.Subscription{ID: 2}, catalog.EffectivePolicy{InFlight: 40})
		d.retryManually(1, newIDs(50)...)
		d.retryManually(2, newIDs(50)...)
		flights := map[engine.ID][]flight{}
		for _, f := range d.start() {
			flights[f.queue.id] = append(flights[f.queue.id], f)
		}
		if len(flights[1]) != 3 || len(flights[2]) != 40 {
			t.Errorf("%d and %d", len(flights[1]), len(flights[2]))
		}
		d.end(flights[2][0], retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true})
		if d.queues[2].limit != 20 {
			t.Errorf("limit %d after an overload", d.queues[2].limit)
		}
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 5})
		if n := len(d.start()); n != 2 {
			t.Errorf("%d more with a higher limit", n)
		}
		d.addSubscription(engine.Subscription{ID: 2}, catalog.EffectivePolicy{InFlight: 50})
		if d.queues[2].limit != 20 {
			t.Errorf("%d: a higher limit reset the overload", d.queues[2].limit)
		}
	})
}

func TestScheduler_OpenCircuitSendsProbesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{})
		events := newIDs(200)
		d.retryManually(1, events...)
		for _, f := range d.start() {
			d.end(f, retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, Reason: "refused"})
		}
		if h := d.queues[1].circuit.Health; h.State() != engine.HealthProbing {
			t.Fatalf("%+v", h)
		}
		attempts, began := 0, time.Now()
		for time.Since(began) < time.Hour {
			flights := d.start()
			if len(flights) > 1 {
				t.Fatalf("%d concurrent probes", len(flights))
			}
			for _, f := range flights {
				attempts++
				time.Sleep(10 * time.Millisecond)
				d.end(f, retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, Reason: "refused"})
			}
			time.Sleep(100 * time.Millisecond)
		}
		// 1 s, 2 s … 256 s are nine, then one in five minutes.
		if attempts < 18 || attempts > 21 {
			t.Errorf("%d probes in an hour", attempts)
		}
		if changed := d.takeDirtyHealth(); len(changed) != 1 || changed[0].NextProbeAt.IsZero() || changed[0].LastError != "refused" {
			t.Errorf("%+v", changed)
		}
		// The target recovers: everything is sent, slowly at first.
		var most []int
		for d.queues[1].waiting.Len() > 0 {
			flights := d.start()
			if len(flights) > 0 {
				most = append(most, len(flights))
			}
			time.Sleep(time.Second)
			for _, f := range flights {
				d.end(f, good)
			}
		}
		if fmt.Sprint(most[:6]) != "[1 1 2 4 8 16]" {
			t.Errorf("%v", most)
		}
	})
}

func TestScheduler_OpenCircuitSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{})
		d.setHealth(engine.Health{Subscription: 1, FailingSince: time.Now().Add(-time.Hour), Failures: 100, NextProbeAt: time.Now().Add(time.Minute), ProbeDelay: time.Minute})
		d.retryManually(1, newIDs(50)...)
		if n := len(d.start()); n != 0 {
			t.Fatalf("%d before the probe", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(d.start()); n != 1 {
			t.Fatalf("%d probes", n)
		}
	})
}

func TestScheduler_NewTargetStartsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1, TargetURL: "http://a"}, catalog.EffectivePolicy{})
		d.retryManually(1, newIDs(100)...)
		flights := d.start()
		for _, f := range flights[:8] {
			d.end(f, retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, PauseFor: time.Hour})
		}
		d.addSubscription(engine.Subscription{ID: 1, TargetURL: "http://b"}, catalog.EffectivePolicy{})
		if h := d.queues[1].circuit.Health; h != (engine.Health{Subscription: 1}) {
			t.Errorf("%+v", h)
		}
		if n := len(d.start()); n != 8 { // beside the eight in flight
			t.Errorf("%d are sent to the new target", n)
		}
		for _, f := range flights[8:] { // results of the old target are ignored
			d.end(f, retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, PauseFor: time.Hour})
		}
		if h := d.queues[1].circuit.Health; h != (engine.Health{Subscription: 1}) || d.queues[1].limit != 16 {
			t.Errorf("%+v, limit %d", h, d.queues[1].limit)
		}
	})
}

func TestScheduler_ReactivatedStartsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		r := d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 10})
		off := *r.Sub
		off.Active = false
		d.setSubscription(&catalog.CompiledSubscription{Sub: &off, Policy: r.Policy})
		d.retryManually(1, newIDs(100)...)
		if n := len(d.start()); n != 0 {
			t.Fatalf("%d while inactive", n)
		}
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 10})
		var seen []int
		for range 7 {
			flights := d.start()
			seen = append(seen, len(flights))
			for i, f := range flights {
				if len(seen) == 4 && i == 0 {
					d.end(f, retry.Decision{Signal: retry.SignalRejecting}) // neither overload nor success
					continue
				}
				d.end(f, good)
			}
		}
		if fmt.Sprint(seen) != "[1 2 4 8 8 10 10]" {
			t.Errorf("%v", seen)
		}
		if d.queues[1].circuit.ResumedAt.IsZero() {
			t.Error("ResumedAt is not set")
		}
	})
}

func TestScheduler_RepeatedManualRetryWaitsOnce(t *testing.T) {
	for name, s := range map[string]engine.Subscription{
		"unordered": {ID: 1},
		"ordered":   {ID: 1, Policy: engine.Policy{Ordering: engine.OrderingFIFO}},
		"debounced": {ID: 1, Debounce: engine.Debounce{Within: time.Hour}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newTestScheduler()
			s.Active = true
			r := &catalog.CompiledSubscription{Sub: &s, Policy: catalog.EffectivePolicy{InFlight: 16, GiveUpAfter: catalog.DefaultGiveUpAfter}}
			r.Grouping.Set(catalog.GroupingSpecOf(&s))
			d.setSubscription(r)
			ask := func() {
				d.enqueueManualRetry(1, dispatchqueue.Entry{Event: newIDs(1)[0], SpecHash: r.Grouping.SpecHash})
			}
			ask()
			ask()
			f := d.start()
			if len(f) != 1 || d.waiting(1) != 0 {
				t.Fatalf("%s: %d attempts are on, %d wait", name, len(f), d.waiting(1))
			}
			ask() // the attempt that is on says what the row becomes
			if d.waiting(1) != 0 {
				t.Errorf("%s: %d wait while an attempt is on", name, d.waiting(1))
			}
			d.end(f[0], good)
			d.committed(f[0].queue, f[0].batch.First.Event)
			if ask(); d.waiting(1) != 1 {
				t.Errorf("%s: %d wait once it is over", name, d.waiting(1))
			}
		})
	}
}

func TestScheduler_TakeExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{GiveUpAfter: time.Hour, ExplicitGiveUpAfter: true})
		q := d.queues[1]
		q.circuit.NextProbeAt, q.circuit.ProbeDelay = time.Now().Add(100*time.Hour), 100*time.Hour
		old := newIDs(3)
		d.retryManually(1, old...)
		d.enqueueManualRetry(1, dispatchqueue.Entry{Event: old[0] - 1, RequestedAt: time.Now().Add(time.Minute)})
		time.Sleep(50 * time.Minute)
		d.retryManually(1, newIDs(2)...)
		time.Sleep(10*time.Minute + time.Second)
		_, taken := d.takeExpired(q)
		if len(taken) != 3 || q.waiting.Len() != 3 || d.depth() != 3 || len(q.uncommitted) != 3 {
			t.Errorf("%v taken, %d left, %d in all, uncommitted %v", taken, q.waiting.Len(), d.depth(), q.uncommitted)
		}
		time.Sleep(time.Minute)
		if _, taken = d.takeExpired(q); len(taken) != 1 || taken[0].RequestedAt.IsZero() {
			t.Errorf("%v", taken)
		}
	})
}

func TestGiveUpAt_DefaultPausesWhileInactive(t *testing.T) {
	resumed := noon.Add(10 * 24 * time.Hour)
	for strict, want := range map[bool]time.Time{true: noon.Add(time.Hour), false: resumed.Add(time.Hour)} {
		r := &catalog.CompiledSubscription{Policy: catalog.EffectivePolicy{GiveUpAfter: time.Hour, ExplicitGiveUpAfter: strict}}
		if got := r.GiveUpAt(&dispatchqueue.Entry{Event: snowflake.FirstAt(noon)}, resumed); !got.Equal(want) {
			t.Errorf("strict %v: %s", strict, got)
		}
	}
}

// An account's slot that was given to a queue and not used goes to the next queue.
func TestScheduler_UnusedAccountSlotGoesToNextQueue(t *testing.T) {
	for name, stop := range map[string]func(*testScheduler, *catalog.CompiledSubscription){
		"inactive": func(d *testScheduler, r *catalog.CompiledSubscription) {
			off := *r.Sub
			off.Active = false
			d.setSubscription(&catalog.CompiledSubscription{Sub: &off, Policy: r.Policy})
		},
		"deleted": func(d *testScheduler, _ *catalog.CompiledSubscription) { d.removeSubscription(2) },
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newTestScheduler()
			d.limits.workers = 1
			d.addSubscription(engine.Subscription{ID: 1, Account: "a"}, catalog.EffectivePolicy{})
			second := d.addSubscription(engine.Subscription{ID: 2, Account: "a"}, catalog.EffectivePolicy{})
			d.addSubscription(engine.Subscription{ID: 3, Account: "a"}, catalog.EffectivePolicy{})
			d.retryManually(1, newIDs(1)...)
			flights := d.start()
			d.retryManually(2, newIDs(1)...)
			d.retryManually(3, newIDs(1)...)
			if len(flights) != 1 || len(d.start()) != 0 {
				t.Fatal(flights)
			}
			d.end(flights[0], good) // queue 2 is next
			stop(d, second)
			began := make(chan engine.ID, 1)
			go func() {
				if f, ok := d.next(); ok {
					began <- f.queue.id
				}
			}()
			synctest.Wait()
			select {
			case id := <-began:
				if id != 3 {
					t.Errorf("%s: %d began", name, id)
				}
			default:
				t.Errorf("%s: queue 3 waits for ever", name)
			}
			d.close()
			synctest.Wait()
		})
	}
}

// depth returns the number of deliveries in memory.
func (s *scheduler) depth() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.memory.held)
}
