package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"switchhook/engine"
)

func ignored([]engine.Waiting) {}

var deliveries = []check{
	{"deliveries: pending before the first outcome", func(t *suite) {
		e := event(5, 6)
		e.Key = "order-1"
		t.append(e)
		t.equal("delivery", t.delivery(id(e, 6)), &engine.Delivery{
			ID: id(e, 6), Account: "acme", EventType: "order.created", EventKey: "order-1", State: engine.StatePending,
		})
		_, err := t.s.Delivery(t.ctx(), "acme", id(e, 7))
		t.code(err, engine.CodeNotFound)
		_, err = t.s.Delivery(t.ctx(), "other", id(e, 6))
		t.code(err, engine.CodeNotFound)
		t.equal("attempts", len(t.attempts(id(e, 6))), 0)
	}},
	{"deliveries: show the last attempt", func(t *suite) {
		e := event(5)
		d := id(e, 5)
		t.append(e)
		next := base.Add(time.Hour + 7*time.Microsecond)
		t.record(failed(d, 1, next))
		want := &engine.Delivery{
			ID: d, Account: "acme", EventType: "order.created", State: engine.StateRetrying, Attempts: 1,
			NextAt: next, LastAt: base.Add(time.Minute), Status: 503, Error: "answered 503",
		}
		t.equal("failed", t.delivery(d), want)
		t.record(waits(d, 1))
		want.State, want.NextAt = engine.StatePending, time.Time{}
		t.equal("held back", t.delivery(d), want)
		t.record(tried(d, engine.StateSucceeded, 2, 204))
		want.State, want.Attempts, want.LastAt, want.Status, want.Error = engine.StateSucceeded, 2, base.Add(2*time.Minute), 204, ""
		t.equal("succeeded", t.delivery(d), want)
		_, err := t.s.Delivery(t.ctx(), "other", d)
		t.code(err, engine.CodeNotFound)
	}},
	{"deliveries: count by state with limit and oldest event", func(t *suite) {
		count := func(state engine.State, limit, want int, oldest engine.ID) {
			t.Helper()
			n, first, err := t.s.CountDeliveries(t.ctx(), state, limit)
			t.must(err)
			t.equal("count of "+state.String(), n, want)
			t.equal("oldest of "+state.String(), first, oldest)
		}
		count(engine.StateDead, 10, 0, 0)
		first, second, third := event(1, 2), event(1), event(1)
		for _, e := range []*engine.Event{first, second, third} {
			t.append(e)
		}
		t.record(
			tried(id(first, 1), engine.StateSucceeded, 1, 200), tried(id(first, 2), engine.StateDropped, 1, 0),
			tried(id(third, 1), engine.StateDead, 1, 400), tried(id(second, 1), engine.StateDead, 1, 400),
		)
		count(engine.StateDead, 10, 2, second.ID)
		count(engine.StateDead, 1, 1, second.ID)
		count(engine.StatePending, 10, 0, 0)
		t.record(failed(id(second, 1), 2, base))
		count(engine.StateDead, 10, 1, third.ID)
		count(engine.StateRetrying, 10, 1, second.ID)
	}},
	{"deliveries: every state round-trips", func(t *suite) {
		for _, state := range []engine.State{engine.StatePending, engine.StateRetrying, engine.StateSucceeded, engine.StateDead, engine.StateDropped} {
			e := event(1)
			t.append(e)
			t.record(tried(id(e, 1), state, 1, 0))
			t.equal("state", t.delivery(id(e, 1)).State, state)
		}
	}},
	{"deliveries: to a subscription that was no target", func(t *suite) {
		e := event(1)
		t.append(e)
		t.record(tried(id(e, 2), engine.StateDead, 1, 400))
		t.equal("deliveries", t.list(engine.DeliveryQuery{Event: e.ID}), []engine.DeliveryID{id(e, 2), id(e, 1)})
		unfinished, err := t.s.Unfinished(t.ctx(), 0, 0, 10)
		t.must(err)
		t.equal("unfinished", unfinished[0].Targets, []engine.ID{1})
	}},
	{"attempts: round trip", func(t *suite) {
		e := event(5)
		t.append(e)
		full := &engine.Attempt{
			Number: 1, At: base.Add(1234567 * time.Microsecond), Duration: 98765 * time.Microsecond,
			Error: "status 500: ü", Phase: "http",
			Request: engine.AttemptRequest{
				Method: "PUT", URL: "https://example.com/ü?q=1",
				Headers: []engine.Header{{Name: "A", Value: "1"}, {Name: "A", Value: ""}, {Name: "", Value: "\xff\x00"}},
				Body:    []byte("\x00\xff{}"),
			},
			Response: engine.AttemptResponse{
				Status: 500, Headers: []engine.Header{{Name: "Retry-After", Value: "1"}}, Body: []byte("no\x00\xfe"), Truncated: true, BodyError: "broke off: ü",
			},
			Script: engine.AttemptScript{Ref: engine.ScriptRef{Script: 7, Version: 2}, Hash: "abc", CPU: 42 * time.Microsecond, Console: []string{"log: a\nb", "", "ü"}},
			Batch:  7, Resent: true, TimedOut: true,
		}
		empty := &engine.Attempt{Number: 2, At: base, Request: engine.AttemptRequest{Body: []byte{}}, Response: engine.AttemptResponse{Body: []byte{}}}
		none := &engine.Attempt{Number: 3, At: base}
		plain := &engine.Attempt{Number: 4, At: base, Request: engine.AttemptRequest{Plain: engine.FormatData}}
		want := []*engine.Attempt{full, empty, none, plain}
		for _, a := range want {
			t.record(&engine.Outcome{ID: id(e, 5), State: engine.StateRetrying, Attempts: a.Number, NextAt: base, Attempt: a})
		}
		t.equal("attempts", t.attempts(id(e, 5)), want)
	}},
	{"attempts: repeated bodies round-trip", func(t *suite) {
		e := event(5, 6)
		t.append(e)
		long := slices.Repeat([]byte("x"), 100_000)
		bodies := [][]byte{long, long, []byte("other"), []byte("OTHER"), long, []byte("other"), nil, {}}
		for i, body := range bodies {
			o := failed(id(e, 5), i+1, base)
			o.Attempt.Request.Plain, o.Attempt.Request.Body = "", body
			t.record(o)
		}
		o := failed(id(e, 6), 1, base)
		o.Attempt.Request.Plain, o.Attempt.Request.Body = "", []byte("mine")
		t.record(o)
		for i, a := range t.attempts(id(e, 5)) {
			t.equal("body", a.Request.Body, bodies[i])
		}
		t.equal("body", t.attempts(id(e, 6))[0].Request.Body, []byte("mine"))
	}},
	{"spill: never overwrites an outcome", func(t *suite) {
		e := event(1, 2, 3)
		t.append(e)
		t.record(tried(id(e, 1), engine.StateSucceeded, 1, 200))
		t.record(waits(id(e, 1), 0), waits(id(e, 2), 0))
		t.record(tried(id(e, 3), engine.StateDead, 1, 400), waits(id(e, 3), 0)) // one transaction
		t.equal("earlier outcome", t.delivery(id(e, 1)).State, engine.StateSucceeded)
		t.equal("attempts", t.delivery(id(e, 1)).Attempts, 1)
		t.equal("spilled", t.delivery(id(e, 2)).State, engine.StatePending)
		t.equal("same transaction", t.delivery(id(e, 3)).State, engine.StateDead)
		t.record(tried(id(e, 2), engine.StateSucceeded, 1, 200))
		t.equal("later outcome", t.delivery(id(e, 2)).State, engine.StateSucceeded)
	}},
	{"outcomes: ordered per delivery", func(t *suite) {
		e := event(1)
		t.append(e)
		var all []*engine.Outcome
		for n := range 500 {
			all = append(all, failed(id(e, 1), n+1, base))
		}
		t.record(append(all, tried(id(e, 1), engine.StateSucceeded, 501, 200))...)
		d := t.delivery(id(e, 1))
		t.equal("state", d.State, engine.StateSucceeded)
		t.equal("attempts", d.Attempts, 501)
		t.equal("kept attempts", len(t.attempts(id(e, 1))), 501)
	}},
	{"due: taken once, longest due first", func(t *suite) {
		var want []engine.Waiting
		for i := range 30 {
			e := event(1)
			t.append(e)
			t.record(failed(id(e, 1), i+1, base.Add(time.Duration(-i)*time.Second)))
			want = append(want, t.waiting(id(e, 1), i+1))
		}
		later := event(1)
		t.append(later)
		t.record(failed(id(later, 1), 1, base.Add(time.Microsecond)))
		slices.Reverse(want)

		next, err := t.s.NextDue(t.ctx())
		t.must(err)
		t.equal("next due", next, base.Add(-29*time.Second))
		var got []engine.Waiting
		for {
			var told, visible []engine.Waiting
			taken, err := t.s.TakeDue(t.ctx(), base, 7, func(list []engine.Waiting) {
				told = slices.Clone(list)
				visible, _ = t.s.Backlog(t.ctx(), 1, 100)
			})
			t.must(err)
			t.equal("what is told before", told, taken)
			t.equal("pending by then", len(visible), len(got))
			if len(taken) == 0 {
				break
			}
			if len(taken) > 7 {
				t.Fatalf("%d were taken, 7 asked for", len(taken))
			}
			if got = append(got, taken...); len(got) > len(want) {
				t.Fatal("a delivery was taken twice")
			}
		}
		t.equal("taken", got, want)
		t.equal("state", t.delivery(want[0].ID).State, engine.StatePending)
		t.equal("next", t.delivery(want[0].ID).NextAt, time.Time{})
		next, err = t.s.NextDue(t.ctx())
		t.must(err)
		t.equal("next due", next, base.Add(time.Microsecond))
	}},
	{"due: concurrent takers get each delivery once", func(t *suite) {
		for range 200 {
			e := event(1)
			t.append(e)
			t.s.Record(failed(id(e, 1), 1, base), nil)
		}
		var mu sync.Mutex
		taken := map[engine.DeliveryID]int{}
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for {
					got, err := t.s.TakeDue(t.ctx(), base, 9, ignored)
					if err != nil {
						t.Error(err)
					}
					if len(got) == 0 {
						return
					}
					mu.Lock()
					again := false
					for _, w := range got {
						taken[w.ID]++
						again = again || taken[w.ID] > 1
					}
					mu.Unlock()
					if again {
						return
					}
				}
			})
		}
		wait.Wait()
		t.equal("taken", len(taken), 200)
		for d, n := range taken {
			if n != 1 {
				t.Fatalf("%s was taken %d times", d, n)
			}
		}
		next, err := t.s.NextDue(t.ctx())
		t.must(err)
		t.equal("next due", next, time.Time{})
	}},
	{"backlog: pending rows, oldest first", func(t *suite) {
		var want []engine.Waiting
		for i := range 12 {
			e := event(1, 2, 3)
			t.append(e)
			switch i % 4 {
			case 0: // without a row
			case 1:
				t.record(waits(id(e, 1), 0))
				want = append(want, t.waiting(id(e, 1), 0))
			case 2:
				t.record(failed(id(e, 1), 1, base), waits(id(e, 1), 1))
				want = append(want, t.waiting(id(e, 1), 1))
			case 3:
				t.record(tried(id(e, 1), engine.StateSucceeded, 1, 200), failed(id(e, 2), 1, base))
			}
			t.record(waits(id(e, 3), 0))
		}
		got, err := t.s.Backlog(t.ctx(), 1, 100)
		t.must(err)
		t.equal("backlog", got, want)
		got, err = t.s.Backlog(t.ctx(), 1, 2)
		t.must(err)
		t.equal("backlog", got, want[:2])
		got, err = t.s.Backlog(t.ctx(), 2, 2)
		t.must(err)
		t.equal("backlog", len(got), 0)
		subscriptions, err := t.s.BacklogSubscriptions(t.ctx())
		t.must(err)
		slices.Sort(subscriptions)
		t.equal("subscriptions", subscriptions, []engine.ID{1, 3})
	}},
	{"retry: request time is stored", func(t *suite) {
		e := event(1)
		d := id(e, 1)
		t.append(e)
		t.record(tried(d, engine.StateDead, 3, 500))
		renewed := base.Add(time.Hour + 3*time.Microsecond)
		o := waits(d, 3)
		o.RenewedAt = renewed
		t.record(o)
		t.equal("position", o.Position, t.positions[d])
		want := []engine.Waiting{t.waiting(d, 3)}
		want[0].RenewedAt = renewed
		got, err := t.s.Backlog(t.ctx(), 1, 10)
		t.must(err)
		t.equal("backlog", got, want)
		t.record(failed(d, 4, base.Add(time.Minute)))
		want[0].Attempts = 4
		got, err = t.s.TakeDue(t.ctx(), base.Add(time.Minute), 10, ignored)
		t.must(err)
		t.equal("due", got, want)

		untried := event(2)
		t.append(untried)
		o = waits(id(untried, 2), 0)
		o.RenewedAt = renewed
		t.record(o)
		got, err = t.s.Backlog(t.ctx(), 2, 10)
		t.must(err)
		want = []engine.Waiting{t.waiting(o.ID, 0)}
		want[0].RenewedAt = renewed
		t.equal("backlog", got, want)
	}},
	{"outstanding: pending or retrying, by position", func(t *suite) {
		var want []engine.Waiting
		for i := range 12 {
			e := event(1, 2)
			t.append(e)
			switch i % 4 {
			case 0: // without a row
			case 1:
				t.record(waits(id(e, 1), 0))
				want = append(want, t.waiting(id(e, 1), 0))
			case 2: // due in another order than that of arrival
				t.record(failed(id(e, 1), 2, base.Add(time.Duration(-i)*time.Second)))
				w := t.waiting(id(e, 1), 2)
				w.Failed = true
				want = append(want, w)
			case 3:
				t.record(tried(id(e, 1), engine.StateDead, 1, 200), failed(id(e, 2), 1, base))
			}
		}
		got, err := t.s.Outstanding(t.ctx(), 1, engine.FirstPosition, 100)
		t.must(err)
		t.equal("outstanding", got, want)
		got, err = t.s.Outstanding(t.ctx(), 1, want[2].Position, 3)
		t.must(err)
		t.equal("from a position on", got, want[2:5])
		got, err = t.s.Outstanding(t.ctx(), 1, want[5].Position+1, 3)
		t.must(err)
		t.equal("after the last", len(got), 0)
	}},
	{"unfinished: events with targets without a row", func(t *suite) {
		none, done, half, fresh := event(), event(1, 2), event(3, 1, 2), event(2, 1)
		half.Headers, half.Key = map[string]string{"a": "b"}, "k"
		t.append(none, done, half, fresh)
		t.record(tried(id(done, 1), engine.StateSucceeded, 1, 200), waits(id(done, 2), 0), failed(id(half, 1), 1, base))
		left := *half
		left.Targets, left.Data = []engine.ID{3, 2}, nil
		whole := *fresh
		whole.Data = nil
		for _, step := range []struct {
			after engine.ID
			limit int
			want  []*engine.Event
		}{
			{0, 10, []*engine.Event{&left, &whole}},
			{0, 1, []*engine.Event{&left}},
			{half.ID, 10, []*engine.Event{&whole}},
			{fresh.ID, 10, nil},
		} {
			got, err := t.s.Unfinished(t.ctx(), 0, step.after, step.limit)
			t.must(err)
			t.equal(fmt.Sprintf("after %d, limit %d", step.after, step.limit), got, step.want)
		}
	}},
	{"watermark: only rises", func(t *suite) {
		for _, step := range []struct{ set, want engine.ID }{{0, 0}, {5, 5}, {3, 5}, {9, 9}} {
			t.s.SetWatermark(0, step.set)
			got, err := t.s.Watermark(t.ctx(), 0)
			t.must(err)
			t.equal("watermark", got, step.want)
		}
	}},
	{"mark dead: pending and retrying deliveries become dead", func(t *suite) {
		const many = 2500 // more than a store may want to change at once
		var outcomes []*engine.Outcome
		all := make([]*engine.Event, many)
		for i := range all {
			all[i] = event(1, 2)
			o := waits(id(all[i], 1), 0)
			if i%2 == 0 {
				o = failed(id(all[i], 1), 1, base)
			}
			outcomes = append(outcomes, o)
		}
		t.append(all...)
		t.record(outcomes...)
		ok, dropped, rowless := all[0], all[1], event(1)
		t.append(rowless)
		t.record(tried(id(ok, 1), engine.StateSucceeded, 2, 200), tried(id(dropped, 1), engine.StateDropped, 1, 0), failed(id(ok, 2), 1, base))
		t.must(t.s.MarkOutstandingDead(t.ctx(), 1, "deleted"))

		for _, e := range all[2:] {
			d := t.delivery(id(e, 1))
			if d.State != engine.StateDead || d.Error != "deleted" || !d.NextAt.IsZero() {
				t.Fatalf("delivery is %+v", d)
			}
		}
		t.equal("succeeded", t.delivery(id(ok, 1)).State, engine.StateSucceeded)
		t.equal("dropped", t.delivery(id(dropped, 1)).State, engine.StateDropped)
		t.equal("without a row", t.delivery(id(rowless, 1)).State, engine.StatePending)
		t.equal("another subscription's", t.delivery(id(ok, 2)).State, engine.StateRetrying)
		t.equal("dead letters", len(t.list(engine.DeliveryQuery{Account: "acme", State: engine.StateDead})), many-2)
	}},
}
