package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// After the clock is set, everything that waits for a time continues after about the remaining
// time. Only a stored retry waits for its time by the clock.
func TestClock_JumpLosesAndBlocksNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		jumps []time.Duration
	}{
		{"an hour back", []time.Duration{-time.Hour}},
		{"a day forth", []time.Duration{24 * time.Hour}},
		{"a day forth and back", []time.Duration{24 * time.Hour, -24 * time.Hour}},
		{"to and fro", []time.Duration{-time.Hour, 25 * time.Hour, -24 * time.Hour, -time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			jumpOver(t, c.jumps)
		})
	}
}

func jumpOver(t *testing.T, jumps []time.Duration) {
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) {
		cfg.Now = c.Now
		cfg.Retries = append(engine.RetrySchedule{0}, slices.Repeat(engine.RetrySchedule{5 * time.Millisecond}, 2000)...) // more than there is time for
		cfg.Retention = engine.Retention{Succeeded: 4 * day, Dead: 4 * day}
		cfg.KeepBytes = 1 << 40
	})
	var well atomic.Bool // the targets that fail are well again
	r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, body string) {
		switch req.URL.Path {
		case "/down":
			if !well.Load() {
				w.WriteHeader(500)
			}
		case "/slow":
			if !well.Load() {
				w.Header().Set("Retry-After", "3")
				w.WriteHeader(503)
			}
		case "/retry":
			if !well.Load() {
				w.WriteHeader(404)
			}
		}
	})
	sub := func(name string, change func(*engine.Subscription)) *engine.Subscription {
		return r.subscribe(func(s *engine.Subscription) {
			s.Events, s.TargetURL = []string{name}, r.sink.URL+"/"+name
			if change != nil {
				change(s)
			}
		})
	}
	subs := map[string]*engine.Subscription{
		"plain":  sub("plain", nil),
		"keyed":  sub("keyed", func(s *engine.Subscription) { s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k" }),
		"batch":  sub("batch", func(s *engine.Subscription) { s.Batch = engine.Batch{Size: 100, Wait: 3 * time.Second} }),
		"paced":  sub("paced", func(s *engine.Subscription) { s.Policy.Rate = engine.Rate{Count: 1, Per: 2 * time.Second} }),
		"window": sub("window", func(s *engine.Subscription) { s.Debounce = engine.Debounce{Key: "data.k", Within: 3 * time.Second} }),
		"down":   sub("down", func(s *engine.Subscription) { s.Policy.InFlight = 1 }),
		"slow": sub("slow", func(s *engine.Subscription) {
			s.Policy.Retries = append(engine.RetrySchedule{0}, slices.Repeat(engine.RetrySchedule{1}, 49)...)
		}),
		"retry": sub("retry", func(s *engine.Subscription) {
			s.Policy.Retries = append(engine.RetrySchedule{0}, slices.Repeat(engine.RetrySchedule{2 * time.Second}, 49)...)
		}),
		"old": sub("down", func(s *engine.Subscription) { // waits behind a circuit that is open, and may become too old
			s.Policy.InFlight, s.Policy.GiveUpAfter = 1, 6*time.Hour
		}),
	}
	// Each has something that waits when the clock is set.
	events := map[string][]engine.ID{}
	last := engine.ID(0)
	publish := func(name string, n int) {
		t.Helper()
		for range n {
			a := r.publish(name, fmt.Sprintf(`{"k":%d,"n":%d}`, len(events[name]), len(events[name])))
			if a.ID <= last {
				t.Errorf("id %d after %d", a.ID, last)
			}
			last = a.ID
			events[name] = append(events[name], a.ID)
		}
	}
	publish("down", 6)
	for _, name := range []string{"down", "old"} {
		testkit.WaitFor(t, "the circuit is open", func() bool { return r.Health(subs[name].ID).State() == engine.HealthProbing })
	}
	publish("down", 2)
	publish("slow", 2)
	publish("retry", 2)
	for _, id := range append(events["retry"], events["slow"][0]) {
		name := "retry"
		if id == events["slow"][0] {
			name = "slow"
		}
		r.delivery(id, subs[name], engine.StateRetrying, engine.StatePending)
	}
	publish("batch", 3)
	publish("window", 3)
	publish("paced", 3)
	for _, jump := range jumps {
		c.Advance(jump)
		publish("plain", 3) // and life goes on
		publish("keyed", 3)
		publish("batch", 2)
		publish("window", 2)
		publish("paced", 1)
		publish("slow", 1)
		r.delivery(events["plain"][len(events["plain"])-1], subs["plain"], engine.StateSucceeded)
	}
	well.Store(true)
	for _, name := range []string{"plain", "keyed", "batch", "window", "paced"} {
		for _, id := range events[name] {
			r.delivery(id, subs[name], engine.StateSucceeded)
		}
	}
	publish("down", 1) // which probes go on for
	r.delivery(last, subs["down"], engine.StateSucceeded)
	// A retry that was written down waits for its time by the clock, which may have been ahead.
	c.Advance(26 * time.Hour)
	for _, name := range []string{"slow", "retry", "down"} {
		for _, id := range events[name] {
			r.delivery(id, subs[name], engine.StateSucceeded)
		}
	}
	for _, id := range events["down"] {
		d, _ := r.delivery(id, subs["old"], engine.StateSucceeded, engine.StateDead)
		if d.State == engine.StateDead && !strings.Contains(d.Error, "give_up_after") && !strings.Contains(d.Error, "older than") {
			t.Errorf("dead: %q", d.Error)
		}
	}
	// Retention counts by the clock, and nothing goes before its time.
	r.prune()
	for name, ids := range events {
		for _, id := range ids {
			if r.gone(id) {
				t.Errorf("an event of %s was removed", name)
			}
		}
	}
	// Ids grow over a restart with the clock set back, too.
	c.Advance(-48 * time.Hour)
	r.restart()
	publish("plain", 1)
	r.delivery(last, subs["plain"], engine.StateSucceeded)
	c.Advance(10 * day)
	r.prune()
	if page, _, err := r.Events(context.Background(), engine.EventQuery{Limit: 10}); err != nil || len(page) != 0 {
		t.Errorf("%d events are left: %v", len(page), err)
	}
}

// TestClock_WrongAtEarlierStarts runs a router whose clock is in 2100, then one in 1970,
// then one with the right time, over the same database.
func TestClock_WrongAtEarlierStarts(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	year := func(y int) { c.Set(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)) }
	year(2100)
	var warned atomic.Int64
	r := start(t, func(cfg *settings.Config) {
		cfg.Now = c.Now
		cfg.Logger = slog.New(countWarnings{slog.DiscardHandler, &warned})
	})
	u := r.subscribe(nil)
	var last engine.ID
	for i, y := range []int{2100, 1970, 2026} {
		if i > 0 {
			r.stop()
			year(y)
			r.Open()
		}
		if want := int64(i); warned.Load() != want {
			t.Errorf("in %d, after %d starts, %d warnings", y, i+1, warned.Load())
		}
		e := r.publish("a", fmt.Sprint(y))
		if e.ID <= last {
			t.Errorf("in %d: the ids don't grow", y)
		}
		last = e.ID
		r.delivery(e.ID, u, engine.StateSucceeded)
	}
}

// countWarnings counts what says that events are from the future.
type countWarnings struct {
	slog.Handler
	n *atomic.Int64
}

// Enabled implements slog.Handler.
func (h countWarnings) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h countWarnings) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "in the future") {
		h.n.Add(1)
	}
	return nil
}
