package router_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/signature"
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

func TestRotation_ConcurrentRepeatsRotateOnce(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	for _, grace := range []time.Duration{0, time.Hour} {
		var made sync.Map
		var wait sync.WaitGroup
		for range 16 {
			wait.Go(func() {
				got, until, err := r.RotateSecret(context.Background(), "", s.ID, catalog.AnyVersion, catalog.Rotation{Key: grace.String(), Grace: grace})
				if err != nil {
					t.Error(err)
					return
				}
				made.Store(got.Secret+until.String(), true)
			})
		}
		wait.Wait()
		n := 0
		made.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("grace %s: %d different answers", grace, n)
		}
	}
	if got, _ := r.Subscription("", s.ID); got.Version != 3 {
		t.Errorf("the subscription is at version %d", got.Version)
	}
}

func TestSigning_ErrorsNameTheField(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	pair, err := signature.NewSecret(signature.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	field := func(err error) string {
		wrong, _ := errors.AsType[*engine.Error](err)
		if wrong == nil || wrong.Code != engine.CodeInvalid {
			t.Fatalf("got %v", err)
		}
		return wrong.Field
	}
	for want, s := range map[string]*engine.Subscription{
		"secret":     {Secret: "whsec_c2hvcnQ="},
		"signatures": {Secret: pair, Signatures: []signature.Scheme{signature.Standard, signature.Hook}},
	} {
		s.Account, s.Events, s.TargetURL, s.PayloadFormat = engine.DefaultAccount, []string{"*"}, r.sink.URL, engine.FormatData
		if _, err := r.CreateSubscription(ctx, s); field(err) != want {
			t.Errorf("%s: got %v", want, err)
		}
	}
	s := r.subscribe(nil)
	for want, rotation := range map[string]catalog.Rotation{"secret": {Secret: "whsec_???"}, "secret_type": {Type: "rsa"}} {
		if _, _, err := r.RotateSecret(ctx, "", s.ID, catalog.AnyVersion, rotation); field(err) != want {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
