package catalog

import (
	"errors"
	"switchhook/engine"
	"switchhook/engine/signature"
	"sync"
	"testing"
	"time"
)

func TestRotation_ConcurrentRepeatsRotateOnce(t *testing.T) {
	t.Parallel()
	c := newTestCatalog(t)
	s := c.subscribe(t)
	for _, grace := range []time.Duration{0, time.Hour} {
		var made sync.Map
		var wait sync.WaitGroup
		for range 16 {
			wait.Go(func() {
				got, until, err := c.RotateSecret(t.Context(), "", s.ID, AnyVersion, Rotation{Key: grace.String(), Grace: grace})
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
	if got, _ := c.Subscription("", s.ID); got.Version != 3 {
		t.Errorf("the subscription is at version %d", got.Version)
	}
}

func TestSigning_ErrorsNameTheField(t *testing.T) {
	t.Parallel()
	c := newTestCatalog(t)
	ctx := t.Context()
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
		s.Account, s.Events, s.TargetURL, s.PayloadFormat = engine.DefaultAccount, []string{"*"}, testTarget, engine.FormatData
		if _, err := c.CreateSubscription(ctx, s); field(err) != want {
			t.Errorf("%s: got %v", want, err)
		}
	}
	s := c.subscribe(t)
	for want, rotation := range map[string]Rotation{"secret": {Secret: "whsec_???"}, "secret_type": {Type: "rsa"}} {
		if _, _, err := c.RotateSecret(ctx, "", s.ID, AnyVersion, rotation); field(err) != want {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
