package catalog

import (
	"fmt"
	"slices"
	"testing"

	"switchhook/engine"
)

func testRoute(id engine.ID, account string, events ...string) *CompiledSubscription {
	return &CompiledSubscription{Sub: &engine.Subscription{ID: id, Account: account, Events: events, Active: true}}
}

func ids(routes []*CompiledSubscription) (list []engine.ID) {
	for _, r := range routes {
		list = append(list, r.Sub.ID)
	}
	slices.Sort(list)
	return list
}

func TestSubscriptionIndex_Candidates(t *testing.T) {
	x := newSubscriptionIndex()
	for _, r := range []*CompiledSubscription{
		testRoute(1, "a", "order.created"),
		testRoute(2, "a", "order.*"),
		testRoute(3, "a", "*"),
		testRoute(4, "a", "order.created", "order.*", "*"),
		testRoute(5, "b", "order.created"),
		testRoute(6, "a", "order.item.*"),
		testRoute(7, "a", "orders.*"),
	} {
		x.replace(nil, r)
	}
	for _, c := range []struct {
		account, event string
		want           []engine.ID
	}{
		{"a", "order.created", []engine.ID{1, 2, 3, 4}},
		{"a", "order.item.added", []engine.ID{2, 3, 4, 6}},
		{"a", "order", []engine.ID{3, 4}},
		{"a", "orders.x", []engine.ID{3, 4, 7}},
		{"b", "order.created", []engine.ID{5}},
		{"b", "order.deleted", nil},
		{"c", "order.created", nil},
	} {
		if got := ids(x.candidates(c.account, c.event)); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: got %v, want %v", c.account, c.event, got, c.want)
		}
	}
}

func TestSubscriptionIndex_ReplaceLeavesNothing(t *testing.T) {
	x := newSubscriptionIndex()
	old := testRoute(1, "a", "x.y", "x.*", "*")
	x.replace(nil, old)
	before := x.candidates("a", "x.y")
	paused := testRoute(1, "a", "x.y")
	paused.Sub.Active = false
	x.replace(old, paused)
	if got := x.candidates("a", "x.y"); len(got) != 0 {
		t.Errorf("a paused subscription is found: %v", ids(got))
	}
	if len(x.accounts) != 0 {
		t.Errorf("an empty account stays in the index")
	}
	if len(before) != 1 || before[0] != old {
		t.Error("a list that was handed out has changed")
	}
}

func BenchmarkCandidates(b *testing.B) {
	x := newSubscriptionIndex()
	for i := range 10_000 {
		x.replace(nil, testRoute(engine.ID(i+1), "a", fmt.Sprintf("type%d.happened", i%100)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(x.candidates("a", "type7.happened")) != 100 {
			b.Fatal("not all were found")
		}
	}
}
