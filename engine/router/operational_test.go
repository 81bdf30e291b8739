package router_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
	"switchhook/scripts/jsonindex"
)

// operational waits for the n-th operational event of a type.
func (r *rig) operational(eventType string, n int) jsonindex.Value {
	r.t.Helper()
	var found []*engine.Event
	testkit.WaitFor(r.t, fmt.Sprintf("there are %d %s", n, eventType), func() bool {
		var err error
		if found, _, err = r.Events(context.Background(), engine.EventQuery{Type: eventType, Limit: 100}); err != nil {
			r.t.Fatal(err)
		}
		return len(found) >= n
	})
	if len(found) != n {
		r.t.Errorf("%d %s, want %d", len(found), eventType, n)
	}
	doc, err := jsonindex.Parse(found[0].Data, jsonindex.Limits{})
	if err != nil {
		r.t.Fatal(err)
	}
	return doc.Root()
}

func (r *rig) none(eventType string) {
	r.t.Helper()
	if found, _, err := r.Events(context.Background(), engine.EventQuery{Type: eventType, Limit: 1}); err != nil || len(found) > 0 {
		r.t.Errorf("%s: %v %v", eventType, found, err)
	}
}

func TestOperationalEvents_ManyDeadLettersAreOneEvent(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) { cfg.Retries = engine.RetrySchedule{0} })
	listener := testkit.NewReceiver(t, nil)
	r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL = []string{"switchhook.delivery.dead"}, listener.URL
	})
	r.subscribe(func(s *engine.Subscription) { // of another account
		s.Events, s.TargetURL, s.Account = []string{"switchhook.*"}, r.sink.URL+"/rival", "rival"
	})
	s := r.subscribe(nil)
	r.delivery(r.publish("a", `"the host accepts deliveries"`).ID, s, engine.StateSucceeded)
	r.sink.SetAnswer(status(400))
	const n = 1000
	batch := make([]engine.EventInput, n)
	for i := range batch {
		batch[i] = event("a", fmt.Sprint(i))
	}
	if _, err := r.Publish(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	count, events := int64(0), 0
	testkit.WaitFor(t, "all are told", func() bool {
		found, _, err := r.Events(context.Background(), engine.EventQuery{Type: "switchhook.delivery.dead", Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		count, events = 0, len(found)
		for _, ev := range found {
			doc, err := jsonindex.Parse(ev.Data, jsonindex.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			some, _ := doc.Root().Get("count").Int64()
			count += some
			if ev.Account != engine.DefaultAccount || doc.Root().Get("deliveries").Len() > 10 || doc.Root().Get("subscription_id").Text() != s.ID.Format(engine.SubscriptionPrefix) {
				t.Errorf("%s %s", ev.Account, ev.Data)
			}
		}
		return count >= n
	})
	if count != n || events > 60 {
		t.Errorf("%d dead letters in %d events", count, events)
	}
	testkit.WaitFor(t, "they were delivered", func() bool { distinct, _ := listener.Count(); return distinct == events })
}

func TestOperationalEvents_CauseNoFurtherOnes(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.DeactivateAfter, cfg.Retries = c.Now, time.Hour, engine.RetrySchedule{0}
	})
	gone := testkit.NewReceiver(t, status(404))
	a := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL = []string{"switchhook.*", "x"}, gone.URL
	})
	b := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL = []string{"switchhook.*"}, testkit.NewReceiver(t, nil).URL
	})
	r.sink.SetAnswer(status(404))
	s := r.subscribe(nil)
	for i := range 6 { // each dead letter is told to a, which fails to take it
		r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
		r.operational("switchhook.delivery.dead", i+1)
		testkit.WaitFor(t, "a was told", func() bool { return r.Health(a.ID).Failures == i+1 })
		if i == 4 {
			c.Advance(2 * time.Hour)
			r.update(s, func(s *engine.Subscription) { s.TargetURL += "/new" }) // s must stay active
		}
	}
	testkit.WaitFor(t, "a is off", func() bool { return !r.read(a).Active })
	// Caused by the delivery of an operational event: it is not reported, nor are its dead letters.
	r.operational("switchhook.delivery.dead", 6)
	r.none("switchhook.subscription.deactivated")
	if !r.read(b).Active {
		t.Error("b is off")
	}
}

func TestOperationalEvents_QuarantineAndDeadLettersWithoutPayload(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) { cfg.Retries = engine.RetrySchedule{0} })
	listener := testkit.NewReceiver(t, nil)
	r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL = []string{"switchhook.*"}, listener.URL
	})
	s := r.subscribe(func(s *engine.Subscription) {
		s.Transform = "export default (event) => { if (event.data.loop) for (;;); throw new Error(event.data.password) }"
	})
	r.delivery(r.publish("a", `{"password":"hunter2"}`).ID, s, engine.StateDead)
	if data := r.operational("switchhook.delivery.dead", 1); strings.Contains(string(data.Raw()), "hunter2") || !strings.Contains(data.Get("reason").Text(), "transform failed") {
		t.Errorf("%s", data.Raw())
	}
	for n := range 3 {
		r.publish("a", fmt.Sprintf(`{"loop":true,"password":"hunter2","n":%d}`, n))
	}
	if data := r.operational("switchhook.script.quarantined", 1); !strings.Contains(data.Get("reason").Text(), "3 times") || data.Get("script_hash").Text() == "" {
		t.Errorf("%s", data.Raw())
	}
}

func TestOperationalEvents_NotStoredWithoutSubscribers(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) { cfg.Retries = engine.RetrySchedule{0} })
	r.sink.SetAnswer(status(410))
	s := r.subscribe(nil) // "*" does not match them
	r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
	testkit.WaitFor(t, "it is off", func() bool { return !r.read(s).Active })
	r.restart() // publishes what was gathered
	r.none("switchhook.subscription.deactivated")
	r.none("switchhook.delivery.dead")
}

func TestOperationalEvents_StopLosesNone(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	listener := testkit.NewReceiver(t, nil)
	r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL, s.Filter = []string{"switchhook.*"}, listener.URL, "data.count == 1"
	})
	s := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"a"} })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(400) })
	r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
	r.restart()
	r.operational("switchhook.delivery.dead", 1)
	testkit.WaitFor(t, "the event arrives", func() bool { _, all := listener.Count(); return all == 1 })
}
