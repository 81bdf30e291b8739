package router_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/evaluate"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// slowStore is a real store where some commits of events wait until they are let go.
type slowStore struct {
	engine.Store
	slow             func(*engine.Event) bool
	entered, release chan struct{}
}

func (s *slowStore) Append(ctx context.Context, events []engine.NewEvent) ([]engine.Appended, error) {
	if slices.ContainsFunc(events, func(n engine.NewEvent) bool { return s.slow(n.Event) }) {
		s.entered <- struct{}{}
		<-s.release
	}
	return s.Store.Append(ctx, events)
}

// slowed puts a slowStore between the engine and its store.
func (r *rig) slowed(slow func(*engine.Event) bool) *slowStore {
	r.t.Helper()
	s := &slowStore{r.Store, slow, make(chan struct{}), make(chan struct{})}
	r.Wrap(s)
	return s
}

func TestOperationalEvents_AccountDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	slow := r.slowed(func(ev *engine.Event) bool { return engine.Operational(ev.Type) && ev.Account == "slow" })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if body == `"dead"` {
			w.WriteHeader(500)
		}
	})
	told := map[string]*engine.Subscription{}
	for _, account := range []string{"slow", "other"} {
		r.subscribe(func(s *engine.Subscription) { s.Account = account })
		told[account] = r.subscribe(func(s *engine.Subscription) { s.Account, s.Events = account, []string{"switchhook.*"} })
	}
	die := func(account string) {
		in := event("a", `"dead"`)
		in.Account = account
		if _, err := r.Publish(context.Background(), []engine.EventInput{in}); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func(account string) func() bool {
		return func() bool {
			list, _, err := r.Store.Deliveries(context.Background(), engine.DeliveryQuery{Subscription: told[account].ID, State: engine.StateSucceeded, Limit: 1})
			return err == nil && len(list) == 1
		}
	}
	die("slow")
	<-slow.entered
	die("other")
	testkit.WaitFor(t, "the other account is told", arrived("other"))
	close(slow.release)
	testkit.WaitFor(t, "the slow one is told", arrived("slow"))
}

func TestEngine_CloseWaitsForPublish(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	slow := r.slowed(func(*engine.Event) bool { return true })
	published := make(chan error, 1)
	go func() {
		_, err := r.Publish(context.Background(), []engine.EventInput{event("a", "1")})
		published <- err
	}()
	<-slow.entered
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.Close(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it has stopped while an event is on its way to the disk: %v", err)
	}
	if _, err := r.Publish(context.Background(), []engine.EventInput{event("a", "2")}); engine.ErrorCode(err) != engine.CodeUnavailable {
		t.Errorf("another one is accepted: %v", err)
	}
	close(slow.release)
	if err := <-published; err != nil {
		t.Errorf("the first is refused: %v", err)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestEngine_CloseWaitsForRequests sends requests while the router stops.
// After Close none of them may send or store anything.
func TestEngine_CloseWaitsForRequests(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	for range 10 {
		var requests sync.WaitGroup
		for i := range 8 {
			requests.Go(func() {
				for {
					var err error
					if i%2 == 0 {
						_, _, err = r.TestSend(context.Background(), evaluate.PreviewRequest{Account: s.Account, Subscription: s.ID, EventSource: evaluate.EventSource{Event: event("a", "1")}})
					} else {
						_, err = r.Publish(context.Background(), []engine.EventInput{event("a", "1")})
					}
					if engine.ErrorCode(err) == engine.CodeUnavailable {
						return
					}
				}
			})
		}
		_, before := r.sink.Count()
		testkit.WaitFor(t, "the requests are on", func() bool { _, n := r.sink.Count(); return n > before })
		if err := r.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		last, err := r.Store.LastEventID(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		_, sent := r.sink.Count()
		requests.Wait()
		if _, n := r.sink.Count(); n != sent {
			t.Fatalf("%d requests were sent after the stop", n-sent)
		}
		if now, err := r.Store.LastEventID(context.Background(), 0); err != nil || now != last {
			t.Fatalf("an event was stored after the stop: %v, %v", now, err)
		}
		if err := r.Store.Close(); err != nil {
			t.Fatal(err)
		}
		r.Open()
	}
}
