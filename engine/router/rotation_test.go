package router_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

func TestRotation_OldSecretSignsUntilItExpires(t *testing.T) {
	t.Parallel()
	var clock testkit.Clock
	r := start(t, func(c *settings.Config) {
		c.Now = clock.Now
	})
	ctx := context.Background()
	s := r.subscribe(nil)
	signatures := func() int {
		t.Helper()
		r.delivery(r.publish("a", "1").ID, s, engine.StateSucceeded)
		h, _ := last(r.sink)
		return len(strings.Fields(h.Get("webhook-signature")))
	}
	first := s.Secret
	s, until, err := r.RotateSecret(ctx, "", s.ID, catalog.AnyVersion, catalog.Rotation{Grace: time.Hour})
	if err != nil || s.Secret == first || len(s.OldSecrets) != 1 || s.OldSecrets[0].Secret != first || !s.OldSecrets[0].Until.Equal(until) {
		t.Fatalf("%+v %v %v", s.OldSecrets, until, err)
	}
	if n := signatures(); n != 2 {
		t.Errorf("%d signatures during the grace period", n)
	}
	r.restart()
	if n := signatures(); n != 2 {
		t.Errorf("%d signatures after a restart", n)
	}
	clock.Advance(2 * time.Hour)
	if n := signatures(); n != 1 {
		t.Errorf("%d signatures after the grace period", n)
	}
	stored, err := r.Subscription("", s.ID)
	if err != nil || len(stored.OldSecrets) != 1 || len(r.OldSecrets(stored)) != 0 {
		t.Errorf("before a change: %+v %v", stored, err)
	}
	changed, err := r.UpdateSubscription(ctx, "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error { s.Description = "x"; return nil })
	if err != nil || len(changed.OldSecrets) != 0 || changed.Secret != stored.Secret {
		t.Errorf("after a change: %+v %v", changed.OldSecrets, err)
	}
}
