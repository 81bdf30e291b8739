package router_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
	"switchhook/scripts/jsonindex"
)

const day = 24 * time.Hour

func status(code int) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(code) }
}

func (r *rig) read(s *engine.Subscription) *engine.Subscription {
	r.t.Helper()
	now, err := r.Subscription("", s.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return now
}

// operational waits for the n-th operational event of a type.
func (r *rig) operational(eventType string, n int) jsonindex.Value {
	r.t.Helper()
	var found []*engine.Event
	testkit.WaitFor(r.t, fmt.Sprintf("there are %d %s", n, eventType), func() bool {
		var err error
		if found, err = r.Events(context.Background(), engine.EventQuery{Type: eventType, Limit: 100}); err != nil {
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
	if found, err := r.Events(context.Background(), engine.EventQuery{Type: eventType, Limit: 1}); err != nil || len(found) > 0 {
		r.t.Errorf("%s: %v %v", eventType, found, err)
	}
}

func TestSubscription_DeactivatedAfterFiveDaysOfFailure(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.DeactivateAfter, cfg.Retries = c.Now, 5*day, engine.RetrySchedule{0}
	})
	listener := testkit.NewReceiver(t, nil)
	r.subscribe(func(s *engine.Subscription) { s.Events, s.TargetURL = []string{"switchhook.*"}, listener.URL })
	r.sink.SetAnswer(status(404))
	s := r.subscribe(func(s *engine.Subscription) { s.TargetURL += "?key=secret" })
	began := c.Now()
	for range 6 {
		r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
	}
	if h := r.Health(s.ID); h.State() != engine.HealthFailing || h.Failures != 6 || h.FailingSince.Sub(began) > time.Minute {
		t.Errorf("%+v", h)
	}
	c.Advance(5*day - time.Hour)
	r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
	r.restart() // it does not forget since when
	if h := r.Health(s.ID); h.Failures != 7 || h.FailingSince.Sub(began) > time.Minute || !strings.Contains(h.LastError, "404") {
		t.Errorf("after a restart: %+v", h)
	}
	if !r.read(s).Active {
		t.Fatal("switched off too early")
	}
	c.Advance(2 * time.Hour)
	r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
	testkit.WaitFor(t, "it is off", func() bool { return !r.read(s).Active })
	if reason := r.read(s).Reason; !strings.Contains(reason, "every attempt has failed since") || !strings.Contains(reason, "404") {
		t.Errorf("%q", reason)
	}
	data := r.operational("switchhook.subscription.deactivated", 1)
	if data.Get("target_url").Text() != r.sink.URL+"/hook?key=[hidden]" || data.Get("subscription_id").Text() != s.ID.Format(engine.SubscriptionPrefix) || !strings.Contains(data.Get("reason").Text(), "404") {
		t.Errorf("%s", data.Raw())
	}
	testkit.WaitFor(t, "it was delivered", func() bool { return listener.Times(string(data.Raw())) == 1 })

	r.update(s, func(s *engine.Subscription) { s.Active = true })
	if h := r.Health(s.ID); h.State() != engine.HealthHealthy || h.ResumedAt.IsZero() {
		t.Errorf("switched on again: %+v", h)
	}
	r.delivery(r.publish("a", `1`).ID, s, engine.StateDead)
	if !r.read(s).Active {
		t.Error("one failure switched it off again")
	}
}

func TestCircuitBreaker_FewAttemptsAndNoLoss(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) { cfg.Now = c.Now })
	listener := testkit.NewReceiver(t, nil)
	r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL = []string{"switchhook.subscription.recovered"}, listener.URL
	})
	r.sink.SetAnswer(status(503))
	s := r.subscribe(nil)
	const n = 300
	r.publishMany(n, func(i int) string { return fmt.Sprint(i) }) // at once: there is a probe every now and then
	testkit.WaitFor(t, "the circuit is open", func() bool { return r.Health(s.ID).State() == engine.HealthProbing })
	testkit.WaitFor(t, "what was on its way has ended", func() bool { attempts, _ := r.InFlight(); return attempts == 0 })
	if _, all := r.sink.Count(); all > 16+4+6 { // and that many probes in a minute
		t.Errorf("%d attempts", all)
	}
	r.restart()
	if r.Health(s.ID).State() != engine.HealthProbing {
		t.Error("a restart closed the circuit")
	}
	r.sink.SetAnswer(status(200))
	c.Advance(2 * time.Minute)
	r.publish("a", fmt.Sprint(n))
	testkit.WaitFor(t, "all have come", func() bool { distinct, _ := r.sink.Count(); return distinct == n+1 })
	testkit.WaitFor(t, "it is healthy", func() bool { return r.Health(s.ID).State() == engine.HealthHealthy })
	if data := r.operational("switchhook.subscription.recovered", 1); !strings.Contains(data.Get("last_error").Text(), "503") {
		t.Errorf("%s", data.Raw())
	}
}

func TestGiveUpAfter_MakesOldDeliveriesDead(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) { cfg.Now = c.Now })
	r.sink.SetAnswer(status(503))
	s := r.subscribe(func(s *engine.Subscription) {
		s.Policy = engine.Policy{GiveUpAfter: time.Hour, InFlight: 1, Retries: engine.RetrySchedule{0, time.Minute, time.Minute}}
	})
	for range 5 {
		r.publish("a", `1`)
	}
	testkit.WaitFor(t, "the circuit is open", func() bool { return r.Health(s.ID).State() == engine.HealthProbing })
	waiting := r.publish("a", `2`) // behind an open circuit
	c.Advance(time.Hour + time.Minute)
	r.ExpireAll()
	d, attempts := r.delivery(waiting.ID, s, engine.StateDead)
	if len(attempts) > 1 || !strings.Contains(d.Error, "give_up_after") {
		t.Errorf("%d attempts, %q", len(attempts), d.Error)
	}
	// Asked for by hand it is attempted all the same.
	r.sink.SetAnswer(status(200))
	if _, err := r.Retry(context.Background(), "", d.ID); err != nil {
		t.Fatal(err)
	}
	r.delivery(waiting.ID, s, engine.StateSucceeded)
}

func TestGiveUpAfter_NotWhileInactive(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) { cfg.Now, cfg.SubscriptionInFlight = c.Now, 1 })
	r.sink.Hang()
	s := r.subscribe(nil)
	first, second := r.publish("a", `1`), r.publish("a", `2`)
	testkit.WaitFor(t, "the first is on its way", func() bool { _, all := r.sink.Count(); return all == 1 })
	r.update(s, func(s *engine.Subscription) { s.Active = false })
	r.sink.SetAnswer(status(200))
	r.sink.Release()
	r.delivery(first.ID, s, engine.StateSucceeded)
	c.Advance(10 * day)
	r.restart()
	r.ExpireAll()
	r.update(s, func(s *engine.Subscription) { s.Active = true })
	r.delivery(second.ID, s, engine.StateSucceeded)
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
	r.sink.SetAnswer(status(400))
	s := r.subscribe(nil)
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
		found, err := r.Events(context.Background(), engine.EventQuery{Type: "switchhook.delivery.dead", Limit: 500})
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
			r.update(s, func(s *engine.Subscription) { s.TargetURL += "/new" }) // s shall not be switched off
		}
	}
	testkit.WaitFor(t, "a is off", func() bool { return !r.read(a).Active })
	// By its delivery of an operational event: nobody is told, nor of its dead letters.
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

// A reactivation must be on disk before a crash, or the waiting deliveries would be too old.
func TestHealth_ReactivationIsStoredAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.Active = false })
	_, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		s.Active = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.Store.Health(context.Background())
	if err != nil || len(list) != 1 || list[0].Subscription != s.ID || list[0].ResumedAt.IsZero() {
		t.Errorf("%+v %v", list, err)
	}
}

// A subscription whose transform or filter fails on every event is not healthy.
func TestHealth_FailingScripts(t *testing.T) { // alone: it needs the sandbox for itself
	r := start(t, func(cfg *settings.Config) { cfg.Retries = engine.RetrySchedule{0} })
	listener := testkit.NewReceiver(t, nil)
	r.subscribe(func(s *engine.Subscription) {
		s.Events, s.TargetURL = []string{"switchhook.script.failing"}, listener.URL
	})
	transform := r.subscribe(func(s *engine.Subscription) {
		s.Events = []string{"t.t"}
		s.Transform = "export default (event) => {\n  if (event.data.ok) return 1\n  if (event.data.drop) return drop('no')\n  throw new Error(event.data.password)\n}"
	})
	batched := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Batch, s.Transform = []string{"t.t"}, engine.Batch{Size: 2, Wait: 10 * time.Millisecond}, transform.Transform
	})
	filter := r.subscribe(func(s *engine.Subscription) { s.Events, s.Filter = []string{"f.f"}, `len(data.items) > 1` })
	health := func(s *engine.Subscription, state engine.HealthState, cause engine.HealthCause) engine.Health {
		t.Helper()
		testkit.WaitFor(t, fmt.Sprintf("it is %s for its %s", state, cause), func() bool { h := r.Health(s.ID); return h.State() == state && h.Cause == cause })
		return r.Health(s.ID)
	}
	failing := func() (ids []engine.ID) {
		for _, s := range r.Subscriptions(catalog.SubscriptionQuery{Health: engine.HealthFailing, Limit: 10}) {
			ids = append(ids, s.ID)
		}
		return ids
	}
	r.publish("t.t", `{"password":"hunter2"}`)
	for _, s := range []*engine.Subscription{transform, batched} {
		h := health(s, engine.HealthFailing, engine.CauseTransform)
		if h.Failures != 1 || h.FailingSince.IsZero() || strings.Contains(h.LastError, "hunter2") || !strings.Contains(h.LastError, "line 4") {
			t.Errorf("%+v", h)
		}
	}
	if got := failing(); !slices.Equal(got, []engine.ID{transform.ID, batched.ID}) {
		t.Errorf("failing: %v", got)
	}
	// A change of something else does not make it healthy; an event that passes does.
	r.update(transform, func(s *engine.Subscription) { s.Description = "other" })
	health(transform, engine.HealthFailing, engine.CauseTransform)
	r.publish("t.t", `{"drop":true}`)
	health(transform, engine.HealthHealthy, "")
	for range 6 {
		r.publish("t.t", `{"password":"hunter2"}`)
	}
	testkit.WaitFor(t, "it has failed 6 times", func() bool { return r.Health(transform.ID).Failures == 6 })
	// One for each of the two, however often they fail.
	if data := r.operational("switchhook.script.failing", 2); data.Get("kind").Text() != "transform" || strings.Contains(string(data.Raw()), "hunter2") {
		t.Errorf("%s", data.Raw())
	}
	r.publish("t.t", `{"ok":true}`)
	health(transform, engine.HealthHealthy, "")
	health(batched, engine.HealthHealthy, "")

	for range 4 {
		r.publish("f.f", `{"items":5}`)
	}
	health(filter, engine.HealthHealthy, "")
	r.publish("f.f", `{"items":5}`)
	if h := health(filter, engine.HealthFailing, engine.CauseFilter); h.Failures != 5 {
		t.Errorf("%+v", h)
	}
	if data := r.operational("switchhook.script.failing", 3); data.Get("kind").Text() != "filter" {
		t.Errorf("%s", data.Raw())
	}
	r.update(filter, func(s *engine.Subscription) { s.Filter = "true" })
	health(filter, engine.HealthHealthy, "")
	// What fails at the target is the target's.
	r.sink.SetAnswer(status(500))
	r.publish("f.f", `{}`)
	health(filter, engine.HealthFailing, engine.CauseTarget)
}
