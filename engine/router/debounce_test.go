package router_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
)

func debounced(within time.Duration) func(*engine.Subscription) {
	return func(s *engine.Subscription) { s.Debounce = engine.Debounce{Key: "data.k", Within: within} }
}

func (r *rig) superseded(old, newer engine.ID, s *engine.Subscription) {
	r.t.Helper()
	if d, _ := r.delivery(old, s, engine.StateDropped); d.Error != "superseded by "+newer.Format("evt") {
		r.t.Errorf("%+v", d)
	}
}

func TestDebounce_DeliversOnlyTheNewest(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(debounced(time.Second))
	a := r.publishNumbered(numbered{"a", 1}, numbered{"b", 1}, numbered{"a", 2}, numbered{"a", 3})
	r.superseded(a[numbered{"a", 1}], a[numbered{"a", 2}], s)
	r.superseded(a[numbered{"a", 2}], a[numbered{"a", 3}], s)
	r.delivery(a[numbered{"a", 3}], s, engine.StateSucceeded)
	r.delivery(a[numbered{"b", 1}], s, engine.StateSucceeded)
	b := r.publishNumbered(numbered{"a", 4})
	r.delivery(b[numbered{"a", 4}], s, engine.StateSucceeded)
	if _, all := r.sink.Count(); all != 3 {
		t.Errorf("%d came", all)
	}
}

// A key that is misspelt, or an event that lacks it, must not cost events.
func TestDebounce_EventsWithoutKeyAreNotSuperseded(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) {
		s.Debounce = engine.Debounce{Key: "data.kk", Within: 100 * time.Millisecond}
	})
	a := r.publishNumbered(numbered{"a", 1}, numbered{"a", 2}, numbered{"b", 1})
	r.restart() // they are read from the store with the same result
	for n, id := range a {
		if d, _ := r.delivery(id, s, engine.StateSucceeded); d.Error != "" {
			t.Errorf("%v: %+v", n, d)
		}
	}
}

func TestDebounce_FailedEventIsSuperseded(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0, time.Hour} })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	s := r.subscribe(debounced(100 * time.Millisecond))
	a := r.publishNumbered(numbered{"a", 1}, numbered{"b", 1})
	r.delivery(a[numbered{"a", 1}], s, engine.StateRetrying)
	r.delivery(a[numbered{"b", 1}], s, engine.StateRetrying)
	r.restart() // what failed before it is known after it
	r.sink.SetAnswer(func(http.ResponseWriter, *http.Request, string) {})
	b := r.publishNumbered(numbered{"a", 2})
	r.delivery(b[numbered{"a", 2}], s, engine.StateSucceeded)
	r.superseded(a[numbered{"a", 1}], b[numbered{"a", 2}], s)
	r.delivery(a[numbered{"b", 1}], s, engine.StateRetrying)
}

// TestDebounce_NewestOfEachKeyIsDelivered has more keys than fit in memory, and restarts.
func TestDebounce_NewestOfEachKeyIsDelivered(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	l := &ledger{}
	l.attach(r.sink)
	s := r.subscribe(debounced(200 * time.Millisecond))
	const keys, rounds = 2500, 3
	newest := map[string]int{}
	n := 0
	for round := range rounds {
		for from := 0; from < keys; from += 500 {
			var events []numbered
			for i := range 500 {
				n++
				k := fmt.Sprint("k", (from+i%499*7)%keys) // the last one is the first one's
				events = append(events, numbered{k, n})
				newest[k] = n
			}
			r.publishNumbered(events...)
		}
		if round == 1 {
			r.restart()
			l.attach(r.sink)
		}
	}
	states := r.final(s, n)
	if states[engine.StateSucceeded]+states[engine.StateDropped] != n || states[engine.StateDropped] == 0 {
		t.Errorf("%v of %d", states, n)
	}
	// An older one may still have been on its way when the newest went; each comes once.
	came := map[numbered]int{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, got := range l.list {
		came[got.numbered]++
	}
	for k, n := range newest {
		if came[numbered{k, n}] != 1 {
			t.Fatalf("the newest of %s, %d, came %d times", k, n, came[numbered{k, n}])
		}
	}
	if len(came) != states[engine.StateSucceeded] || len(l.list) != len(came) {
		t.Errorf("%d of %d events came, %d succeeded", len(came), len(l.list), states[engine.StateSucceeded])
	}
}
