package router_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/router"
)

// What is kept in memory for a thing goes with it.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	c := &clock{}
	r := start(t, func(cfg *router.Config) {
		cfg.Now, cfg.Quota, cfg.VerifyWait = c.now, engine.Quota{EventsPerSecond: 1000, StoredBytes: 1 << 30}, time.Millisecond
		cfg.Retries = engine.RetrySchedule{0}
	})
	ctx := context.Background()
	r.sink.answers(func(w http.ResponseWriter, req *http.Request, _ string) {
		w.Header().Set("X-Hook-Secret", req.Header.Get("X-Hook-Secret"))
	})
	for n := range 20 {
		account := fmt.Sprint("account", n)
		script, err := r.CreateScript(ctx, &engine.Script{Account: account, Name: "s", Kind: engine.KindTransform}, fmt.Sprint("function transform() { return ", n, " }"), "", "")
		if err != nil {
			t.Fatal(err)
		}
		s := r.subscribe(func(s *engine.Subscription) {
			s.Account, s.TransformScript, s.ExpiresAt = account, engine.ScriptRef{Script: script.ID}, c.now().Add(time.Hour)
			s.Verification.Mode = engine.VerifyHookSecret
		})
		until(t, "the target has confirmed", func() bool { now, err := r.Subscription("", s.ID); return err == nil && now.Active })
		for again := range 10 {
			if _, err := r.UpdateSubscription(ctx, "", s.ID, router.AnyVersion, func(s *engine.Subscription) error {
				s.ExpiresAt = c.now().Add(time.Duration(again+1) * time.Hour)
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
			if _, err := r.UpdateSubscription(ctx, "", s.ID, router.AnyVersion, func(s *engine.Subscription) error {
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
			if err := r.DeleteSubscription(ctx, "", s.ID, router.AnyVersion); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.DeleteScript(ctx, account, "s", router.AnyVersion); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(2 * time.Minute)
	// One subscription is left with its deadline, and the stats of sources that have no script.
	want := map[string]int{"versions": 0, "meters": 0, "consents": 0, "strikes": 0, "deadlines": 1, "script stats": 1}
	until(t, "nothing else is left", func() bool {
		runtime.GC()
		r.Tidy(c.now())
		return fmt.Sprint(r.Kept()) == fmt.Sprint(want)
	})
}

func TestADeadlineThatIsMovedIsOne(t *testing.T) {
	now := time.Now()
	x := router.NewExpiries()
	for i := range 1000 {
		for id := range 3 {
			x.Note(&engine.Subscription{ID: engine.ID(id + 1), ExpiresAt: now.Add(time.Duration((i*(7+id))%100) * time.Second)})
		}
	}
	x.Note(&engine.Subscription{ID: 1, ExpiresAt: now.Add(3 * time.Hour)})
	x.Note(&engine.Subscription{ID: 2, ExpiresAt: now.Add(time.Hour)})
	x.Note(&engine.Subscription{ID: 3})
	if x.Len() != 2 {
		t.Errorf("%d deadlines of two", x.Len())
	}
	if _, ok := x.Due(now.Add(time.Minute)); ok {
		t.Error("one is due too early")
	}
	for _, want := range []engine.ID{2, 1} {
		if id, ok := x.Due(now.Add(4 * time.Hour)); !ok || id != want {
			t.Errorf("%v %v, not %v", id, ok, want)
		}
	}
	if x.Len() != 0 {
		t.Error("one is left")
	}
}

// The series of all other scripts must not shrink when one of them is deleted.
func TestStatsOfDeletedScripts(t *testing.T) {
	var c router.ScriptCounts
	for id := range engine.ID(300) {
		c.Add(id, time.Millisecond, false, nil)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&c)
	runs := func() (all, other float64, series int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "switchhook_script_runs_total" {
				continue
			}
			for _, m := range f.Metric {
				series++
				all += m.Counter.GetValue()
				if m.Label[0].GetValue() == "other" {
					other = m.Counter.GetValue()
				}
			}
		}
		return all, other, series
	}
	all, before, series := runs()
	if all != 300 || before == 0 {
		t.Fatal(all, before)
	}
	for id := range engine.ID(300) {
		if id > 0 {
			c.Forget(id)
		}
	}
	if _, after, left := runs(); after != before || left != 2 || series < 100 {
		t.Errorf("other: %v, then %v; %d series, then %d", before, after, series, left)
	}
}

// A target of a router without settings keeps as many connections as may be in use.
func TestDefaultsThatDependOnOthers(t *testing.T) {
	c := router.WithDefaults(router.Config{})
	if transport, ok := c.Transport.(*http.Transport); !ok || transport.MaxIdleConnsPerHost != c.InFlight || c.InFlight == 0 {
		t.Errorf("%d in flight, %+v", c.InFlight, c.Transport)
	}
}

// Making, changing and finding a key takes no longer with many others.
func TestManyKeys(t *testing.T) {
	g := router.NewKeyRing()
	const n = 200_000
	began := time.Now()
	for id := engine.ID(1); id <= n; id++ {
		g.Set(&engine.Key{ID: id, Hash: [32]byte{1, byte(id), byte(id >> 8), byte(id >> 16)}})
	}
	for id := engine.ID(1); id <= n; id += 10 { // rotated, with the old text still good
		g.Set(&engine.Key{ID: id, Hash: [32]byte{2, byte(id), byte(id >> 8), byte(id >> 16)}, OldHash: [32]byte{1, byte(id), byte(id >> 8), byte(id >> 16)}, OldUntil: began})
	}
	if keys, texts := g.Len(); keys != n || texts != n+n/10 {
		t.Errorf("%d keys, %d texts", keys, texts)
	}
	for id := engine.ID(1); id <= n; id++ {
		g.Drop(id)
	}
	if keys, texts := g.Len(); keys != 0 || texts != 0 {
		t.Errorf("%d keys and %d texts are left", keys, texts)
	}
	if took := time.Since(began); took > 30*time.Second { // each by each it would be an hour
		t.Errorf("took %s", took)
	}
}
