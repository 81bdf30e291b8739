package storetest

import (
	"math/rand/v2"
	"slices"
	"sync"

	"switchhook/engine"
)

var listings = []check{
	{"deliveries: list filters and pages", listDeliveries},
	{"deliveries: pages consistent while writing", listWhileWriting},
	{"deliveries: all of one event, below the watermark too", func(t *suite) {
		e := event(1, 2, 3)
		t.append(e)
		t.record(failed(id(e, 2), 1, base))
		t.s.SetWatermark(0, e.ID+10)
		t.equal("deliveries", t.list(engine.DeliveryQuery{Event: e.ID}), []engine.DeliveryID{id(e, 3), id(e, 2), id(e, 1)})
		t.equal("of another account", len(t.list(engine.DeliveryQuery{Event: e.ID, Account: "other"})), 0)
	}},
}

// listDeliveries compares every combination of filters with a list built by the test.
func listDeliveries(t *suite) {
	random := rand.New(rand.NewPCG(1, 2))
	accounts, kinds := []string{"acme", "other"}, []string{"a", "b"}
	subscriptions := map[string][]engine.ID{"acme": {10, 11, 12}, "other": {20, 21}}
	var all []*engine.Delivery
	var middle engine.ID
	var stored []*engine.Event
	for i := range 60 {
		e := event()
		e.Account, e.Type = accounts[random.IntN(2)], kinds[random.IntN(2)]
		for _, target := range subscriptions[e.Account] {
			if random.IntN(3) > 0 {
				e.Targets = append(e.Targets, target)
			}
		}
		random.Shuffle(len(e.Targets), func(i, j int) { e.Targets[i], e.Targets[j] = e.Targets[j], e.Targets[i] })
		t.append(e)
		stored = append(stored, e)
		for _, target := range e.Targets {
			d := &engine.Delivery{ID: id(e, target), Account: e.Account, EventType: e.Type, State: engine.StatePending}
			all = append(all, d)
			// The newer half is partly without rows, up to whole events.
			if i >= 30 && random.IntN(2) == 0 {
				continue
			}
			d.State = engine.State(1 + random.IntN(5))
			o := tried(d.ID, d.State, 1, 500)
			switch d.State {
			case engine.StatePending:
				o = waits(d.ID, 0)
			case engine.StateRetrying:
				o.NextAt = base
			}
			t.record(o)
		}
		if i == 29 {
			middle = e.ID
			t.s.SetWatermark(0, e.ID)
		}
	}
	slices.SortFunc(all, func(a, b *engine.Delivery) int {
		if a.ID.Event != b.ID.Event {
			return int(b.ID.Event - a.ID.Event)
		}
		return int(b.ID.Subscription - a.ID.Subscription)
	})

	for _, account := range []string{"", "acme", "other"} {
		for _, subscription := range []engine.ID{0, 10, 21, 99} {
			for _, kind := range []string{"", "a"} {
				for state := engine.State(0); state <= engine.StateDropped; state++ {
					for _, span := range [][2]engine.ID{{}, {middle, 0}, {0, middle + 3}, {stored[10].ID, stored[50].ID}} {
						for _, only := range []engine.ID{0, stored[5].ID, stored[45].ID} {
							t.pages(all, engine.DeliveryQuery{
								Account: account, Subscription: subscription, Event: only, EventType: kind,
								State: state, Since: span[0], Until: span[1],
							})
						}
					}
				}
			}
		}
	}
}

// pages reads a query in pages of several sizes and compares it with the matching part of
// all.
func (t *suite) pages(all []*engine.Delivery, q engine.DeliveryQuery) {
	t.Helper()
	var want []engine.DeliveryID
	for _, d := range all {
		if (q.Account == "" || d.Account == q.Account) && (q.Subscription == 0 || d.ID.Subscription == q.Subscription) &&
			(q.Event == 0 || d.ID.Event == q.Event) && (q.EventType == "" || d.EventType == q.EventType) &&
			(q.State == 0 || d.State == q.State) && d.ID.Event >= q.Since && (q.Until == 0 || d.ID.Event < q.Until) {
			want = append(want, d.ID)
		}
	}
	for _, limits := range [][2]int{{0, 0}, {3, 0}, {50, 0}, {0, 1}, {4, 700}, {0, 2000}} {
		q.Limit, q.MaxBytes, q.Before = limits[0], int64(limits[1]), engine.DeliveryID{}
		got := []engine.DeliveryID{}
		for {
			page, next, err := t.s.Deliveries(t.ctx(), q)
			t.must(err)
			if q.Limit > 0 && len(page) > q.Limit {
				t.Fatalf("%+v: a page of %d", q, len(page))
			}
			got = append(got, ids(page)...)
			if q.Before = next; next == (engine.DeliveryID{}) {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v:\n got %v\nwant %v", q, got, want)
		}
	}
}

func listWhileWriting(t *suite) {
	want := map[engine.DeliveryID]bool{}
	var rowless []engine.DeliveryID
	for range 40 {
		e := event(1, 2, 3)
		t.append(e)
		for _, target := range e.Targets {
			want[id(e, target)] = true
			rowless = append(rowless, id(e, target))
		}
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { // gives rows to listed deliveries, and adds more
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i < len(rowless) {
				t.s.Record(tried(rowless[(i*37)%len(rowless)], engine.StateSucceeded, 1, 200), nil)
			}
			if _, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: event(1, 2, 3)}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for _, q := range []engine.DeliveryQuery{{}, {Account: "acme"}, {Account: "acme", EventType: "order.created"}, {Subscription: 2}} {
		q.Limit = 7
		seen := map[engine.DeliveryID]bool{}
		for {
			page, next, err := t.s.Deliveries(t.ctx(), q)
			t.must(err)
			for _, d := range ids(page) {
				if seen[d] {
					t.Fatalf("%s was listed twice", d)
				}
				seen[d] = true
			}
			if q.Before = next; next == (engine.DeliveryID{}) {
				break
			}
		}
		for d := range want {
			if (q.Subscription == 0 || d.Subscription == q.Subscription) && !seen[d] {
				t.Errorf("%+v: %s is missing", q, d)
			}
		}
	}
	close(stop)
	wait.Wait()
}
