package router_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/evaluate"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
	"switchhook/scripts"
)

// guardedStore is a real store that can keep answers back, and that answers as one does
// whose queue is full: who hands something in waits until no answer is being given.
type guardedStore struct {
	engine.Store
	answering sync.Mutex

	mu           sync.Mutex
	keeps        bool
	kept         []func()
	markDeadGate chan struct{} // MarkOutstandingDead waits until it is closed; nil: it does not
	before       func()        // runs before a retry by hand is handed in; nil: nothing does
}

func (g *guardedStore) Record(o *engine.Outcome, done func(error)) {
	g.answering.Lock()
	g.answering.Unlock() //lint:ignore SA2001 it is waited for, that is all
	g.mu.Lock()
	before := g.before
	g.mu.Unlock()
	if before != nil && !o.RenewedAt.IsZero() {
		before()
	}
	g.Store.Record(o, func(err error) {
		g.mu.Lock()
		if g.keeps && o.State == engine.StatePending {
			g.kept = append(g.kept, func() { done(err) })
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		done(err)
	})
}

func (g *guardedStore) MarkOutstandingDead(ctx context.Context, id engine.ID, reason string) error {
	g.mu.Lock()
	wait := g.markDeadGate
	g.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return g.Store.MarkOutstandingDead(ctx, id, reason)
}

func (g *guardedStore) keep() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keeps = true
}

func (g *guardedStore) keepsAny() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.kept) > 0
}

// answer returns the answers that were kept back.
func (g *guardedStore) answer() {
	g.mu.Lock()
	g.keeps = false
	kept := g.kept
	g.kept = nil
	g.mu.Unlock()
	g.answering.Lock()
	defer g.answering.Unlock()
	for _, answer := range kept {
		answer()
	}
}

// guarded puts a guardedStore between the engine and its store.
func (r *rig) guarded() *guardedStore {
	r.t.Helper()
	g := &guardedStore{Store: r.Store}
	r.Wrap(g)
	return g
}

func TestSubscription_DeleteDoesNotBlockWriter(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.SubscriptionInFlight, c.QueueEntries = 1, 1000 })
	g := r.guarded()
	r.sink.Hang()
	s := r.subscribe(nil)
	g.keep()
	var last engine.Accepted
	for i := range 1010 { // more than a queue takes
		last = r.publish("a", fmt.Sprint(i))
	}
	testkit.WaitFor(t, "a row is on its way", g.keepsAny)
	if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() { g.answer(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(testkit.Timeout):
		t.Fatal("the writer waits for itself")
	}
	r.sink.Release()
	r.delivery(last.ID, s, engine.StateDead)
}

func TestRetry_DeadIfSubscriptionIsDeleted(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	g := r.guarded()
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(400) })
	s := r.subscribe(nil)
	a := r.publish("a", "1")
	r.delivery(a.ID, s, engine.StateDead)
	g.keep()
	retried := make(chan error, 1)
	go func() {
		_, err := r.Retry(context.Background(), "", engine.DeliveryID{Event: a.ID, Subscription: s.ID})
		retried <- err
	}()
	testkit.WaitFor(t, "the row is written", g.keepsAny)
	// MarkOutstandingDead finds the row; one that is written a moment later it does not.
	if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	pending := make(chan error, 1)
	id := engine.DeliveryID{Event: a.ID, Subscription: s.ID}
	g.Store.Record(&engine.Outcome{ID: id, State: engine.StatePending, Attempts: 1, RenewedAt: time.Now()}, func(err error) { pending <- err })
	if err := <-pending; err != nil {
		t.Fatal(err)
	}
	g.answer()
	if err := <-retried; err != nil {
		t.Fatal(err)
	}
	r.delivery(a.ID, s, engine.StateDead)
}

// Test events bypass the queues; they must not block ordered queues, which wait until all earlier
// events have been queued.
func TestTestSend_DoesNotBlockOrderedQueues(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.Policy.Ordering = engine.OrderingFIFO })
	other := r.subscribe(func(s *engine.Subscription) { s.Events, s.TargetURL = []string{"other"}, r.sink.URL+"/slow" })
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	r.sink.SetAnswer(func(_ http.ResponseWriter, req *http.Request, _ string) {
		if req.URL.Path == "/slow" {
			held <- struct{}{}
			<-hold
		}
	})
	tested := make(chan error, 1)
	go func() {
		_, _, err := r.TestSend(context.Background(), evaluate.PreviewRequest{Subscription: other.ID, EventSource: evaluate.EventSource{Event: event("other", "0")}})
		tested <- err
	}()
	<-held
	r.delivery(r.publish("a", "1").ID, s, engine.StateSucceeded)
	close(hold)
	if err := <-tested; err != nil {
		t.Fatal(err)
	}
	r.delivery(r.publish("a", "2").ID, s, engine.StateSucceeded)
}

func TestTargets_WithOrderingGroups(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ordered := r.subscribe(func(s *engine.Subscription) {
		s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k"
	})
	for range 2 {
		in := event("a", `{"k":1}`)
		in.Targets = []engine.Target{{URL: r.sink.URL + "/named"}}
		a, err := r.Publish(context.Background(), []engine.EventInput{in})
		if err != nil {
			t.Fatal(err)
		}
		r.delivery(a[0].ID, ordered, engine.StateSucceeded)
		r.delivery(a[0].ID, &engine.Subscription{ID: a[0].Targets[0]}, engine.StateSucceeded)
	}
}

// meddler does something while a transform is compiled.
type meddler struct {
	settings.Transformer
	meddle func()
}

func (m *meddler) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if strings.Contains(source, "meddle") {
		m.meddle()
	}
	return m.Transformer.Compile(ctx, source)
}

func TestTargets_DeletedDuringPublish(t *testing.T) {
	t.Parallel()
	m := &meddler{Transformer: routertest.Pool()}
	r := start(t, func(c *settings.Config) { c.Transformer = m })
	in := event("a", "1")
	in.Targets = []engine.Target{{URL: r.sink.URL + "/one"}}
	a, err := r.Publish(context.Background(), []engine.EventInput{in})
	if err != nil {
		t.Fatal(err)
	}
	m.meddle = func() {
		if err := r.DeleteSubscription(context.Background(), "", a[0].Targets[0], catalog.AnyVersion); err != nil {
			t.Error(err)
		}
	}
	in.Targets = append(in.Targets, engine.Target{URL: r.sink.URL + "/two", Transform: `export default e => "meddle"`})
	if _, err := r.Publish(context.Background(), []engine.EventInput{in}); engine.ErrorCode(err) != engine.CodeBusy || !strings.Contains(err.Error(), "targets[0]") {
		t.Fatal(err)
	}
	again, err := r.Publish(context.Background(), []engine.EventInput{in})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range again[0].Targets {
		r.delivery(again[0].ID, &engine.Subscription{ID: id}, engine.StateSucceeded)
	}
}

func TestSubscription_DeleteWithLargeBacklogBlocksNoChange(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	g := r.guarded()
	s := r.subscribe(nil)
	g.mu.Lock()
	g.markDeadGate = make(chan struct{})
	g.mu.Unlock()
	deleted := make(chan error, 1)
	go func() { deleted <- r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion) }()
	testkit.WaitFor(t, "it is gone", func() bool { _, err := r.Subscription("", s.ID); return err != nil })
	changed := make(chan struct{})
	go func() { r.subscribe(nil); close(changed) }()
	select {
	case <-changed:
	case <-time.After(testkit.Timeout):
		t.Error("a new subscription waits for what an old one leaves")
	}
	close(g.markDeadGate)
	if err := <-deleted; err != nil {
		t.Error(err)
	}
	<-changed
}

func TestRetry_RemovedEventLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		ask  func(r *rig, d engine.DeliveryID)
	}{
		{"by hand", func(r *rig, d engine.DeliveryID) {
			if _, err := r.Retry(context.Background(), "", d); engine.ErrorCode(err) != engine.CodeNotFound {
				r.t.Errorf("error is %v", err)
			}
		}},
		{"by a replay", func(r *rig, d engine.DeliveryID) {
			replay, err := r.StartReplay(context.Background(), engine.Replay{Subscriptions: []engine.ID{d.Subscription}})
			if err != nil {
				r.t.Fatal(err)
			}
			testkit.WaitFor(r.t, "the replay is through", func() bool {
				now, err := r.Replay(context.Background(), "", replay.ID)
				return err == nil && now.Status == engine.ReplayCompleted && now.Looked == 1 && now.Queued == 0
			})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c testkit.Clock
			r := start(t, func(cfg *settings.Config) {
				cfg.Now, cfg.Retries, cfg.Retention = c.Now, engine.RetrySchedule{0}, engine.Retention{Succeeded: time.Hour, Dead: time.Hour}
			})
			g := r.guarded()
			r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(400) })
			s := r.subscribe(nil)
			a := r.publish("a", "1")
			r.delivery(a.ID, s, engine.StateDead)
			c.Advance(2 * time.Hour)
			d := engine.DeliveryID{Event: a.ID, Subscription: s.ID}
			g.mu.Lock()
			g.before = r.prune // once the delivery was found
			g.mu.Unlock()
			tc.ask(r, d)
			if !r.gone(a.ID) {
				t.Error("the event is still there")
			}
			if _, err := r.Store.Delivery(context.Background(), "", d); engine.ErrorCode(err) != engine.CodeNotFound {
				t.Errorf("the delivery is there again: %v", err)
			}
			if attempts, _, err := r.Store.Attempts(context.Background(), engine.AttemptQuery{Delivery: d}); err != nil || len(attempts) > 0 {
				t.Errorf("there are attempts: %v, %v", attempts, err)
			}
		})
	}
}
