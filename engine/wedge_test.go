package engine_test

import (
	"context"
	"testing"

	"switchhook/engine"
)

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
