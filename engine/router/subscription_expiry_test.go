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
)

// deleted waits until a subscription is.
func (r *rig) deleted(s *engine.Subscription) {
	r.t.Helper()
	until(r.t, "the subscription is gone", func() bool {
		_, err := r.Subscription("", s.ID)
		return engine.ErrorCode(err) == engine.CodeNotFound
	})
}

func TestSubscription_DeletedWhenExpired(t *testing.T) {
	t.Parallel()
	c := &clock{}
	r := start(t, func(cfg *settings.Config) { cfg.Now = c.now; cfg.Retries = engine.RetrySchedule{0, 100 * time.Hour} })
	r.sink.answers(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	ends := func(in time.Duration) *engine.Subscription {
		return r.subscribe(func(s *engine.Subscription) { s.ExpiresAt = c.now().Add(in) })
	}
	soon, renewed, later := ends(time.Hour), ends(time.Hour), ends(3*time.Hour)
	never := r.subscribe(nil)
	ev := r.publish("a", `1`)
	r.delivery(ev.ID, soon, engine.StateRetrying)
	if _, err := r.UpdateSubscription(context.Background(), "", renewed.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		s.ExpiresAt = c.now().Add(2 * time.Hour)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Hour + time.Second)
	r.deleted(soon)
	if d, _ := r.delivery(ev.ID, soon, engine.StateDead); d.Error != "the subscription expired" {
		t.Errorf("what waited was given up with %q", d.Error)
	}
	for _, s := range []*engine.Subscription{renewed, later, never} {
		if _, err := r.Subscription("", s.ID); err != nil {
			t.Error(err)
		}
	}
	c.advance(time.Hour)
	r.deleted(renewed)
	r.restart()
	c.advance(2 * time.Hour)
	r.deleted(later)
	if _, err := r.Subscription("", never.ID); err != nil {
		t.Error(err)
	}
}

func TestVerification_UnconfirmedIsDeletedAfterRestart(t *testing.T) {
	t.Parallel()
	c := &clock{}
	r := start(t, func(cfg *settings.Config) { cfg.Now = c.now; cfg.VerifyWait = time.Millisecond })
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
	until(t, "the target was asked", func() bool { return asked.Load() == 1 })
	if err := r.Confirm(context.Background(), first.ID, "x"); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Error(err)
	}
	c.advance(30 * time.Minute)
	second := pending()
	c.advance(31 * time.Minute)
	r.deleted(first)
	if err := r.Confirm(context.Background(), first.ID, first.Verification.Secret); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Error(err)
	}
	before := asked.Load()
	r.restart()
	until(t, "the target is asked again", func() bool { return asked.Load() > before })
	if err := r.Confirm(context.Background(), second.ID, second.Verification.Secret); err != nil {
		t.Error(err)
	}
	c.advance(24 * time.Hour)
	third := pending()
	c.advance(2 * time.Hour)
	r.deleted(third)
	if s, err := r.Subscription("", second.ID); err != nil || !s.Active || s.Verification.Secret != "" {
		t.Errorf("confirmed: %+v %v", s, err)
	}
}
