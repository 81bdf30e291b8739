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
		t.Fatal("deactivated too early")
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
	// A failure at the target is attributed to the target.
	r.sink.SetAnswer(status(500))
	r.publish("f.f", `{}`)
	health(filter, engine.HealthFailing, engine.CauseTarget)
}
