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

// desk is a scheduler on its own, in a bubble of synctest: its timers and its clock are
// the bubble's. The test is the workers.
type desk struct {
	*scheduler
	hired int
}

func newDesk() *desk {
	time.Sleep(30 * 365 * 24 * time.Hour) // the bubble's clock begins in 2000, before any id
	d := &desk{scheduler: newScheduler(time.Now, 100)}
	d.spawn = func() { d.hired++ }
	d.fetch = func(*queue) {}
	return d
}

func (d *desk) route(s engine.Subscription, t catalog.EffectivePolicy) *catalog.CompiledSubscription {
	if t.InFlight == 0 {
		t.InFlight = 16
	}
	if t.GiveUpAfter == 0 {
		t.GiveUpAfter = catalog.DefaultGiveUpAfter
	}
	s.Active = true
	r := &catalog.CompiledSubscription{Sub: &s, Policy: t}
	d.setSubscription(s.ID, r)
	return r
}

func (d *desk) put(id engine.ID, events ...engine.ID) {
	for _, event := range events {
		d.enqueueManualRetry(id, dispatchqueue.Entry{Event: event})
	}
}

// flight is an attempt that is on.
type flight struct {
	q *queue
	r *catalog.CompiledSubscription
	p dispatchqueue.Batch
}

// start begins all attempts that may begin now.
func (d *desk) start() (all []flight) {
	for {
		d.mu.Lock()
		ready := d.ready.Len()
		d.mu.Unlock()
		if ready == 0 {
			return all
		}
		d.mu.Lock()
		waiting := slices.ContainsFunc(d.scheduler.ready.All(), func(q *queue) bool { return q.runnable(time.Now()) })
		d.mu.Unlock()
		if !waiting {
			return all
		}
		q, r, p, ok := d.next()
		if !ok {
			return all
		}
		all = append(all, flight{q, r, p})
	}
}

func (d *desk) end(f flight, v retry.Decision) transition { return d.finish(f.q, f.r, f.p, v) }

func newIDs(n int) (list []engine.ID) {
	now := snowflake.FirstAt(time.Now())
	for i := range engine.ID(n) {
		list = append(list, now+i)
	}
	return list
}

func TestARateIsEvenlySpread(t *testing.T) {
	for _, c := range []struct {
		rate engine.Rate
		want string
	}{
		{engine.Rate{Count: 10, Per: time.Second}, "[0s 100ms 200ms 300ms 400ms]"},
		{engine.Rate{Count: 2, Per: time.Minute}, "[0s 30s 1m0s 1m30s 2m0s]"},
		{engine.Rate{Count: 1, Per: time.Hour}, "[0s 1h0m0s 2h0m0s 3h0m0s 4h0m0s]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk()
			d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{Interval: c.rate.Interval()})
			time.Sleep(3 * c.rate.Per) // time without attempts saves nothing up
			began := time.Now()
			d.put(1, newIDs(5)...)
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

func TestAFasterRateCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{Interval: time.Hour})
		d.put(1, newIDs(3)...)
		if n := len(d.start()); n != 1 {
			t.Fatal(n)
		}
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{Interval: time.Second})
		if n := len(d.start()); n != 1 {
			t.Errorf("%d began with the new rate", n)
		}
	})
}

func TestInFlightIsTheSubscriptionsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 3})
		d.route(engine.Subscription{ID: 2}, catalog.EffectivePolicy{InFlight: 40})
		d.put(1, newIDs(50)...)
		d.put(2, newIDs(50)...)
		flights := map[engine.ID][]flight{}
		for _, f := range d.start() {
			flights[f.q.id] = append(flights[f.q.id], f)
		}
		if len(flights[1]) != 3 || len(flights[2]) != 40 {
			t.Errorf("%d and %d", len(flights[1]), len(flights[2]))
		}
		d.end(flights[2][0], retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true})
		if d.queues[2].limit != 20 {
			t.Errorf("%d after trouble", d.queues[2].limit)
		}
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 5})
		if n := len(d.start()); n != 2 {
			t.Errorf("%d more with a wider limit", n)
		}
		d.route(engine.Subscription{ID: 2}, catalog.EffectivePolicy{InFlight: 50})
		if d.queues[2].limit != 20 {
			t.Errorf("%d: a wider limit forgot the trouble", d.queues[2].limit)
		}
	})
}

func TestADeadTargetGetsProbesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{})
		events := newIDs(200)
		d.put(1, events...)
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
				t.Fatalf("%d probes at one time", len(flights))
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
		// It is back: all goes out, slowly first.
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

func TestAnOpenCircuitSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{})
		d.setHealth(engine.Health{Subscription: 1, FailingSince: time.Now().Add(-time.Hour), Failures: 100, NextProbeAt: time.Now().Add(time.Minute), ProbeDelay: time.Minute})
		d.put(1, newIDs(50)...)
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

func TestANewTargetStartsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.route(engine.Subscription{ID: 1, TargetURL: "http://a"}, catalog.EffectivePolicy{})
		d.put(1, newIDs(100)...)
		flights := d.start()
		for _, f := range flights[:8] {
			d.end(f, retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, PauseFor: time.Hour})
		}
		d.route(engine.Subscription{ID: 1, TargetURL: "http://b"}, catalog.EffectivePolicy{})
		if h := d.queues[1].circuit.Health; h != (engine.Health{Subscription: 1}) {
			t.Errorf("%+v", h)
		}
		if n := len(d.start()); n != 8 { // beside the eight that are still out
			t.Errorf("%d go to the new target", n)
		}
		for _, f := range flights[8:] { // what the old one says counts no more
			d.end(f, retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, PauseFor: time.Hour})
		}
		if h := d.queues[1].circuit.Health; h != (engine.Health{Subscription: 1}) || d.queues[1].limit != 16 {
			t.Errorf("%+v, limit %d", h, d.queues[1].limit)
		}
	})
}

func TestSwitchedOnAgainItStartsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		r := d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 10})
		off := *r.Sub
		off.Active = false
		d.setSubscription(1, &catalog.CompiledSubscription{Sub: &off, Policy: r.Policy})
		d.put(1, newIDs(100)...)
		if n := len(d.start()); n != 0 {
			t.Fatalf("%d while it is off", n)
		}
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 10})
		var seen []int
		for range 7 {
			flights := d.start()
			seen = append(seen, len(flights))
			for i, f := range flights {
				if len(seen) == 4 && i == 0 {
					d.end(f, retry.Decision{Signal: retry.SignalRejecting}) // neither trouble nor success
					continue
				}
				d.end(f, good)
			}
		}
		if fmt.Sprint(seen) != "[1 2 4 8 8 10 10]" {
			t.Errorf("%v", seen)
		}
		if d.queues[1].circuit.ResumedAt.IsZero() {
			t.Error("not noted when it was switched on")
		}
	})
}

func TestADeliveryThatIsAskedForTwiceWaitsOnce(t *testing.T) {
	for name, s := range map[string]engine.Subscription{
		"in no order": {ID: 1},
		"in order":    {ID: 1, Policy: engine.Policy{Ordering: engine.OrderingFIFO}},
		"debounced":   {ID: 1, Debounce: engine.Debounce{Within: time.Hour}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk()
			d.allQueuedThroughEvent = func(engine.ID) bool { return true }
			s.Active = true
			r := &catalog.CompiledSubscription{Sub: &s, Policy: catalog.EffectivePolicy{InFlight: 16, GiveUpAfter: catalog.DefaultGiveUpAfter}}
			r.Grouping.Set(catalog.GroupingSpecOf(&s))
			d.setSubscription(1, r)
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
			d.finish(f[0].q, f[0].r, f[0].p, good)
			d.committed(f[0].q, f[0].p.First.Event)
			if ask(); d.waiting(1) != 1 {
				t.Errorf("%s: %d wait once it is over", name, d.waiting(1))
			}
		})
	}
}

func TestWhatWaitsTooLongIsTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.route(engine.Subscription{ID: 1}, catalog.EffectivePolicy{GiveUpAfter: time.Hour, ExplicitGiveUpAfter: true})
		q := d.queues[1]
		q.circuit.NextProbeAt, q.circuit.ProbeDelay = time.Now().Add(100*time.Hour), 100*time.Hour
		old := newIDs(3)
		d.put(1, old...)
		d.enqueueManualRetry(1, dispatchqueue.Entry{Event: old[0] - 1, RequestedAt: time.Now().Add(time.Minute)})
		time.Sleep(50 * time.Minute)
		d.put(1, newIDs(2)...)
		time.Sleep(10*time.Minute + time.Second)
		_, taken := d.takeExpired(q)
		if len(taken) != 3 || q.waiting.Len() != 3 || d.depth() != 3 || len(q.uncommitted) != 3 {
			t.Errorf("%v taken, %d left, %d in all, unsettled %v", taken, q.waiting.Len(), d.depth(), q.uncommitted)
		}
		time.Sleep(time.Minute)
		if _, taken = d.takeExpired(q); len(taken) != 1 || taken[0].RequestedAt.IsZero() {
			t.Errorf("%v", taken)
		}
	})
}

func TestTheDefaultAgeDoesNotRunWhileASubscriptionIsOff(t *testing.T) {
	resumed := noon.Add(10 * 24 * time.Hour)
	for strict, want := range map[bool]time.Time{true: noon.Add(time.Hour), false: resumed.Add(time.Hour)} {
		r := &catalog.CompiledSubscription{Policy: catalog.EffectivePolicy{GiveUpAfter: time.Hour, ExplicitGiveUpAfter: strict}}
		if got := r.GiveUpAt(&dispatchqueue.Entry{Event: snowflake.FirstAt(noon)}, resumed); !got.Equal(want) {
			t.Errorf("strict %v: %s", strict, got)
		}
	}
}

// A place in an account's share that was given to a queue and not made use of goes to the
// next one.
func TestAPlaceThatIsNotUsedGoesToTheNext(t *testing.T) {
	for name, stop := range map[string]func(*desk, *catalog.CompiledSubscription){
		"switched off": func(d *desk, r *catalog.CompiledSubscription) {
			off := *r.Sub
			off.Active = false
			d.setSubscription(2, &catalog.CompiledSubscription{Sub: &off, Policy: r.Policy})
		},
		"deleted": func(d *desk, _ *catalog.CompiledSubscription) { d.setSubscription(2, nil) },
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk()
			d.accountLimit = 1
			d.route(engine.Subscription{ID: 1, Account: "a"}, catalog.EffectivePolicy{})
			second := d.route(engine.Subscription{ID: 2, Account: "a"}, catalog.EffectivePolicy{})
			d.route(engine.Subscription{ID: 3, Account: "a"}, catalog.EffectivePolicy{})
			d.put(1, newIDs(1)...)
			flights := d.start()
			d.put(2, newIDs(1)...)
			d.put(3, newIDs(1)...)
			if len(flights) != 1 || len(d.start()) != 0 {
				t.Fatal(flights)
			}
			d.end(flights[0], good) // the second's turn
			stop(d, second)
			began := make(chan engine.ID, 1)
			go func() {
				if q, _, _, ok := d.next(); ok {
					began <- q.id
				}
			}()
			synctest.Wait()
			select {
			case id := <-began:
				if id != 3 {
					t.Errorf("%s: %d began", name, id)
				}
			default:
				t.Errorf("%s: the third waits for ever", name)
			}
			d.close()
			synctest.Wait()
		})
	}
}

// depth is how many deliveries wait in memory.
func (s *scheduler) depth() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
