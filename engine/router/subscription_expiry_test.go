package router_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// deleted waits until a subscription is.
func (r *rig) deleted(s *engine.Subscription) {
	r.t.Helper()
	testkit.WaitFor(r.t, "the subscription is gone", func() bool {
		_, err := r.Subscription("", s.ID)
		return engine.ErrorCode(err) == engine.CodeNotFound
	})
}

func TestSubscription_DeletedWhenExpired(t *testing.T) {
	t.Parallel()
	c := &testkit.Clock{}
	r := start(t, func(cfg *settings.Config) { cfg.Now = c.Now; cfg.Retries = engine.RetrySchedule{0, 100 * time.Hour} })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	ends := func(in time.Duration) *engine.Subscription {
		return r.subscribe(func(s *engine.Subscription) { s.ExpiresAt = c.Now().Add(in) })
	}
	soon, renewed, later := ends(time.Hour), ends(time.Hour), ends(3*time.Hour)
	never := r.subscribe(nil)
	ev := r.publish("a", `1`)
	r.delivery(ev.ID, soon, engine.StateRetrying)
	if _, err := r.UpdateSubscription(context.Background(), "", renewed.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		s.ExpiresAt = c.Now().Add(2 * time.Hour)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour + time.Second)
	r.deleted(soon)
	if d, _ := r.delivery(ev.ID, soon, engine.StateDead); d.Error != "the subscription expired" {
		t.Errorf("the waiting delivery is dead with %q", d.Error)
	}
	for _, s := range []*engine.Subscription{renewed, later, never} {
		if _, err := r.Subscription("", s.ID); err != nil {
			t.Error(err)
		}
	}
	c.Advance(time.Hour)
	r.deleted(renewed)
	r.restart()
	c.Advance(2 * time.Hour)
	r.deleted(later)
	if _, err := r.Subscription("", never.ID); err != nil {
		t.Error(err)
	}
}

func TestVerification_UnconfirmedIsDeletedAfterRestart(t *testing.T) {
	t.Parallel()
	c := &testkit.Clock{}
	r := start(t, func(cfg *settings.Config) { cfg.Now = c.Now; cfg.VerifyWait = time.Millisecond })
	var asked atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer target.Close()
	pending := func() *engine.Subscription {
		return r.subscribe(func(s *engine.Subscription) {
			s.TargetURL, s.Verification.Mode = target.URL, engine.VerifyHookSecret
		})
	}
	first := pending()
	if first.Active || !first.Verification.Pending() || !first.Verification.Activate {
		t.Fatalf("made: %+v", first.Verification)
	}
	testkit.WaitFor(t, "the target was asked", func() bool { return asked.Load() == 1 })
	if err := r.Confirm(context.Background(), first.ID, "x"); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Error(err)
	}
	c.Advance(30 * time.Minute)
	second := pending()
	c.Advance(31 * time.Minute)
	r.deleted(first)
	if err := r.Confirm(context.Background(), first.ID, first.Verification.Secret); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Error(err)
	}
	before := asked.Load()
	r.restart()
	testkit.WaitFor(t, "the target is asked again", func() bool { return asked.Load() > before })
	if err := r.Confirm(context.Background(), second.ID, second.Verification.Secret); err != nil {
		t.Error(err)
	}
	c.Advance(24 * time.Hour)
	third := pending()
	c.Advance(2 * time.Hour)
	r.deleted(third)
	if s, err := r.Subscription("", second.ID); err != nil || !s.Active || s.Verification.Secret != "" {
		t.Errorf("confirmed: %+v %v", s, err)
	}
}
