package engine_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/scripts"
)

// What goes past the queues must not hold up lines that wait until all earlier events have
// been queued.
func TestATestEventHoldsUpNoOrder(t *testing.T) {
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.Policy.Ordering = engine.OrderingFIFO })
	other := r.subscribe(func(s *engine.Subscription) { s.Events, s.TargetURL = []string{"other"}, r.sink.server.URL+"/slow" })
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	r.sink.answers(func(_ http.ResponseWriter, req *http.Request, _ string) {
		if req.URL.Path == "/slow" {
			held <- struct{}{}
			<-hold
		}
	})
	tested := make(chan error, 1)
	go func() {
		_, _, err := r.TestSend(context.Background(), engine.Trial{Subscription: other.ID, Event: event("other", "0")})
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

func TestNamedTargetsStandBesideGroups(t *testing.T) {
	r := start(t, nil)
	ordered := r.subscribe(func(s *engine.Subscription) {
		s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k"
	})
	for range 2 {
		in := event("a", `{"k":1}`)
		in.Targets = []engine.Target{{URL: r.sink.server.URL + "/named"}}
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
	engine.Transformer
	meddle func()
}

func (m *meddler) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if strings.Contains(source, "meddle") {
		m.meddle()
	}
	return m.Transformer.Compile(ctx, source)
}

func TestATargetIsDeletedWhileAnEventNamesIt(t *testing.T) {
	m := &meddler{Transformer: pool()}
	r := start(t, func(c *engine.Config) { c.Transformer = m })
	in := event("a", "1")
	in.Targets = []engine.Target{{URL: r.sink.server.URL + "/one"}}
	a, err := r.Publish(context.Background(), []engine.EventInput{in})
	if err != nil {
		t.Fatal(err)
	}
	m.meddle = func() {
		if err := r.DeleteSubscription(context.Background(), "", a[0].Targets[0], engine.AnyVersion); err != nil {
			t.Error(err)
		}
	}
	in.Targets = append(in.Targets, engine.Target{URL: r.sink.server.URL + "/two", Transform: `export default e => "meddle"`})
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
