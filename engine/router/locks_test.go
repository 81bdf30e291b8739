package router_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
	"switchhook/scripts"
)

// slowCompiler is the real sandbox, where a source that holds slow is compiled only once
// its gate is open.
type slowCompiler struct {
	settings.Transformer
	slow     string
	armed    atomic.Bool
	compiles atomic.Int32
	entered  chan struct{}
	gate     chan struct{}
}

func newSlowCompiler(slow string) *slowCompiler {
	return &slowCompiler{Transformer: routertest.Pool(), slow: slow, entered: make(chan struct{}, 1000), gate: make(chan struct{})}
}

func (c *slowCompiler) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if c.armed.Load() && strings.Contains(source, c.slow) {
		c.compiles.Add(1)
		c.entered <- struct{}{}
		select {
		case <-c.gate:
		case <-ctx.Done():
			return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: ctx.Err().Error()}
		}
	}
	return c.Transformer.Compile(ctx, source)
}

func TestCompilation_BlocksNothing(t *testing.T) {
	t.Parallel()
	compiler := newSlowCompiler("/* slow */")
	r := start(t, func(c *settings.Config) { c.Transformer = compiler })
	slow := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Transform = []string{"slow.one"}, "/* slow */ function transform(event) { return 'slow ' + event.data }"
	})
	same := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Transform = []string{"slow.two"}, slow.Transform
	})
	plain := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"plain"} })
	hangs := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Transform, s.Policy.Retries = []string{"hangs"}, "function transform() { for (;;); }", engine.RetrySchedule{0}
	})
	key, text, err := r.CreateKey(context.Background(), engine.Key{Account: engine.DefaultAccount}, "")
	if err != nil {
		t.Fatal(err)
	}
	r.restart()                                                          // so that nothing is compiled
	r.delivery(r.publish("plain", `0`).ID, plain, engine.StateSucceeded) // the host gets more than a few attempts
	compiler.armed.Store(true)
	var waiting []engine.ID
	for n := range 5 {
		waiting = append(waiting, r.publish("slow.one", fmt.Sprint(n)).ID)
	}
	other := r.publish("slow.two", `9`)
	<-compiler.entered

	// A transform goes into quarantine, for which all subscriptions are looked through.
	testkit.Within(t, "a quarantine", func() {
		for n := range 3 {
			r.delivery(r.publish("hangs", fmt.Sprint(n)).ID, hangs, engine.StateDead)
		}
		testkit.WaitFor(t, "the transform is quarantined", func() bool { return r.Quarantined(hangs.ID) != "" })
	})
	testkit.Within(t, "a change", func() {
		if _, err := r.UpdateSubscription(context.Background(), "", plain.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
			s.Description = "changed"
			return nil
		}); err != nil {
			t.Error(err)
		}
		if _, err := r.PutAccount(context.Background(), &engine.Account{Name: "other"}, catalog.AnyVersion); err != nil {
			t.Error(err)
		}
		r.subscribe(func(s *engine.Subscription) { s.Events = []string{"new.one"} })
	})
	testkit.Within(t, "a reader", func() {
		if k, err := r.Authenticate(text); err != nil || k.ID != key.ID {
			t.Error(k, err)
		}
		r.Subscriptions(catalog.SubscriptionQuery{Limit: 10})
		if why := r.Quarantined(slow.ID); why != "" {
			t.Error(why)
		}
	})
	testkit.Within(t, "a delivery", func() { r.delivery(r.publish("plain", `1`).ID, plain, engine.StateSucceeded) })
	if n := compiler.compiles.Load(); n != 1 {
		t.Errorf("one source was compiled %d times at once", n)
	}
	close(compiler.gate)
	for _, id := range waiting {
		if d, _ := r.delivery(id, slow, engine.StateSucceeded); d.Attempts != 1 {
			t.Errorf("%+v", d)
		}
	}
	r.delivery(other.ID, same, engine.StateSucceeded)
}

// A stop does not wait for a compilation, and the deliveries that waited for it are made by the next run.
func TestCompilation_EndedByClose(t *testing.T) {
	t.Parallel()
	compiler := newSlowCompiler("/* slow */")
	r := start(t, func(c *settings.Config) { c.Transformer = compiler })
	slow := r.subscribe(func(s *engine.Subscription) { s.Transform = "/* slow */ function transform() { return 1 }" })
	r.restart()
	compiler.armed.Store(true)
	a := r.publish("a", `1`)
	<-compiler.entered
	testkit.Within(t, "a stop", r.stop)
	compiler.armed.Store(false)
	r.Open()
	if d, _ := r.delivery(a.ID, slow, engine.StateSucceeded); d.Attempts != 1 {
		t.Errorf("%+v", d)
	}
}

// A transform that is compiled only after another subscription's use of it was quarantined
// waits as well.
func TestQuarantine_AppliesToLaterCompilation(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	hanging := "function transform() { for (;;); }"
	first := r.subscribe(func(s *engine.Subscription) { s.Events, s.Transform = []string{"first"}, hanging })
	second := r.subscribe(func(s *engine.Subscription) { s.Events, s.Transform = []string{"second"}, hanging })
	r.restart()
	for n := range 3 {
		r.delivery(r.publish("first", fmt.Sprint(n)).ID, first, engine.StateDead)
	}
	testkit.WaitFor(t, "the transform is quarantined", func() bool { return r.Quarantined(first.ID) != "" })
	a := r.publish("second", `1`)
	testkit.WaitFor(t, "the other one is too", func() bool { return r.Quarantined(second.ID) != "" })
	if d, _ := r.delivery(a.ID, second, engine.StatePending); d.Attempts != 0 {
		t.Errorf("%+v", d)
	}
}
