package router_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

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
