package router_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// Deleting an object also removes its state from memory.
func TestRetained_DeletedObjectsLeaveNothing(t *testing.T) {
	t.Parallel()
	c := &testkit.Clock{}
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.Quota, cfg.VerifyWait = c.Now, engine.Quota{EventsPerSecond: 1000, StoredBytes: 1 << 30}, time.Millisecond
		cfg.Retries = engine.RetrySchedule{0}
	})
	ctx := context.Background()
	r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, _ string) {
		w.Header().Set("X-Hook-Secret", req.Header.Get("X-Hook-Secret"))
	})
	for n := range 20 {
		account := fmt.Sprint("account", n)
		script, err := r.CreateScript(ctx, &engine.Script{Account: account, Name: "s", Kind: engine.KindTransform}, fmt.Sprint("function transform() { return ", n, " }"), "", "")
		if err != nil {
			t.Fatal(err)
		}
		s := r.subscribe(func(s *engine.Subscription) {
			s.Account, s.TransformScript, s.ExpiresAt = account, engine.ScriptRef{Script: script.ID}, c.Now().Add(time.Hour)
			s.Verification.Mode = engine.VerifyHookSecret
		})
		testkit.WaitFor(t, "the target has confirmed", func() bool { now, err := r.Subscription("", s.ID); return err == nil && now.Active })
		for again := range 10 {
			if _, err := r.UpdateSubscription(ctx, "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
				s.ExpiresAt = c.Now().Add(time.Duration(again+1) * time.Hour)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		in := event("a", fmt.Sprint(n))
		in.Account = account
		a, err := r.Publish(ctx, []engine.EventInput{in})
		if err != nil {
			t.Fatal(err)
		}
		r.delivery(a[0].ID, s, engine.StateSucceeded)
		// Its own transform now, which is stopped once, and then another.
		for _, source := range []string{fmt.Sprint("function transform() { for (;;) ", n, " }"), "function transform() { return 1 }"} {
			if _, err := r.UpdateSubscription(ctx, "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
				s.TransformScript, s.Transform = engine.ScriptRef{}, source
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if n > 2 {
				continue // three of them take their time
			}
			if a, err = r.Publish(ctx, []engine.EventInput{in}); err != nil {
				t.Fatal(err)
			}
			r.delivery(a[0].ID, s, engine.StateDead, engine.StateSucceeded)
		}
		if n > 0 {
			if err := r.DeleteSubscription(ctx, "", s.ID, catalog.AnyVersion); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.DeleteScript(ctx, account, "s", catalog.AnyVersion); err != nil {
			t.Fatal(err)
		}
	}
	c.Advance(2 * time.Minute)
	// One subscription is left with its deadline, and the stats of sources that have no script.
	want := map[string]int{"versions": 0, "version users": 0, "meters": 0, "consents": 0, "strikes": 0, "deadlines": 1, "script stats": 1}
	testkit.WaitFor(t, "nothing else is left", func() bool {
		runtime.GC()
		r.Tidy(c.Now())
		return fmt.Sprint(r.Kept()) == fmt.Sprint(want)
	})
}
