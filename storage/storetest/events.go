package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"switchhook/engine"
)

var events = []check{
	{"events: round trip", func(t *suite) {
		full := &engine.Event{
			ID: newID(), Key: "order-17", Account: "käufer", Type: "order.created",
			Time:    time.Date(1999, 12, 31, 23, 59, 59, 987e6, time.UTC),
			Headers: map[string]string{"X-Shop": "Ünïcode ✓", "empty": "", `"quoted"<&>`: "a\nb"},
			Data:    []byte("{\"a\":1.0,\"ü\":\"\\u0000\",\"big\":123456789012345678901234567890}\x00\xff"),
			Targets: []engine.ID{3, 1, 1 << 62},
		}
		bare := &engine.Event{ID: newID(), Account: "acme", Type: "x", Time: time.UnixMilli(0).UTC(), Data: []byte("1")}
		large := event(7)
		large.Data = slices.Repeat([]byte("0123456789abcdef"), 1<<16)
		t.append(full, bare)
		t.append(large)
		for _, want := range []*engine.Event{full, bare, large} {
			got, err := t.s.Event(t.ctx(), want.Account, want.ID)
			t.must(err)
			t.equal("event", got, want)
		}
		last, err := t.s.LastEventID(t.ctx(), 0)
		t.must(err)
		t.equal("last id", last, large.ID)
	}},
	{"events: empty store", func(t *suite) {
		last, err := t.s.LastEventID(t.ctx(), 0)
		t.must(err)
		t.equal("last id", last, engine.ID(0))
		list, _, err := t.s.Events(t.ctx(), engine.EventQuery{Limit: 10})
		t.must(err)
		t.equal("events", len(list), 0)
		_, err = t.s.Event(t.ctx(), "", newID())
		t.code(err, engine.CodeNotFound)
		_, err = t.s.EventByKey(t.ctx(), engine.KeyHash{1})
		t.code(err, engine.CodeNotFound)
	}},
	{"events: other accounts' are not found", func(t *suite) {
		e := event()
		t.append(e)
		_, err := t.s.Event(t.ctx(), "other", e.ID)
		t.code(err, engine.CodeNotFound)
		_, err = t.s.Event(t.ctx(), "", e.ID)
		t.must(err)
	}},
	{"events: list filters, newest first", listEvents},
	{"events: many by id, within a budget of bytes", eventsByID},
	{"idempotency: same key and content is a repeat", func(t *suite) {
		first, again := event(1, 2, 3), event(9)
		key, digest := engine.KeyHash{1}, engine.KeyHash{2}
		t.appendKeyed(first, digest, key)
		results, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: again, Keys: []engine.KeyHash{key}, Digest: digest}})
		t.must(err)
		t.equal("results", results, []engine.Appended{{ID: first.ID, Matched: 3, Repeated: true}})
		_, err = t.s.Event(t.ctx(), "", again.ID)
		t.code(err, engine.CodeNotFound)
		found, err := t.s.EventByKey(t.ctx(), key)
		t.must(err)
		t.equal("by key", found, first.ID)
	}},
	{"idempotency: names find the first event, no repeat", func(t *suite) {
		first, second := event(1), event(2)
		name := engine.KeyHash{1}
		for i, e := range []*engine.Event{first, second} {
			results, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: e, Keys: []engine.KeyHash{{2, byte(i)}}, Names: []engine.KeyHash{name}, Digest: engine.KeyHash{byte(i)}}})
			t.must(err)
			t.equal("results", results, []engine.Appended{{ID: e.ID, Matched: 1}})
		}
		found, err := t.s.EventByKey(t.ctx(), name)
		t.must(err)
		t.equal("by name", found, first.ID)
	}},
	{"idempotency: other content is a conflict, call stores nothing", func(t *suite) {
		first, fresh, bad := event(), event(), event()
		key := engine.KeyHash{1}
		t.appendKeyed(first, engine.KeyHash{2}, key)
		_, err := t.s.Append(t.ctx(), []engine.NewEvent{
			{Event: fresh, Keys: []engine.KeyHash{{5}}, Digest: engine.KeyHash{5}},
			{Event: bad, Keys: []engine.KeyHash{{6}, key}, Digest: engine.KeyHash{3}},
		})
		t.code(err, engine.CodeConflict)
		if e, _ := errors.AsType[*engine.Error](err); e.Field != "events[1]" {
			t.Fatalf("field is %q", e.Field)
		}
		for _, e := range []*engine.Event{fresh, bad} {
			_, err = t.s.Event(t.ctx(), "", e.ID)
			t.code(err, engine.CodeNotFound)
		}
		for _, k := range []engine.KeyHash{{5}, {6}} {
			_, err = t.s.EventByKey(t.ctx(), k)
			t.code(err, engine.CodeNotFound)
		}
	}},
	{"idempotency: repeats within one call", func(t *suite) {
		a, b, c := event(1, 2), event(), event(4)
		results, err := t.s.Append(t.ctx(), []engine.NewEvent{
			{Event: a, Keys: []engine.KeyHash{{1}}, Digest: engine.KeyHash{9}},
			{Event: c},
			{Event: b, Keys: []engine.KeyHash{{1}, {2}}, Digest: engine.KeyHash{9}},
		})
		t.must(err)
		t.equal("results", results, []engine.Appended{{ID: a.ID, Matched: 2}, {ID: c.ID, Matched: 1}, {ID: a.ID, Matched: 2, Repeated: true}})
		found, err := t.s.EventByKey(t.ctx(), engine.KeyHash{2})
		t.must(err)
		t.equal("the repeat's other key", found, a.ID)

		_, err = t.s.Append(t.ctx(), []engine.NewEvent{
			{Event: event(), Keys: []engine.KeyHash{{3}}, Digest: engine.KeyHash{1}},
			{Event: event(), Keys: []engine.KeyHash{{3}}, Digest: engine.KeyHash{2}},
		})
		t.code(err, engine.CodeConflict)
		_, err = t.s.EventByKey(t.ctx(), engine.KeyHash{3})
		t.code(err, engine.CodeNotFound)
	}},
	{"idempotency: concurrent appends with one key store one", func(t *suite) {
		const callers = 100
		var mu sync.Mutex
		var stored int
		seen := map[engine.ID]bool{}
		var wait sync.WaitGroup
		for range callers {
			wait.Go(func() {
				n := engine.NewEvent{Event: event(1, 2), Keys: []engine.KeyHash{{7}}, Digest: engine.KeyHash{8}}
				results, err := t.s.Append(t.ctx(), []engine.NewEvent{n})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[results[0].ID] = true
				if !results[0].Repeated {
					stored++
				}
			})
		}
		wait.Wait()
		list, _, err := t.s.Events(t.ctx(), engine.EventQuery{})
		t.must(err)
		if len(seen) != 1 || stored != 1 || len(list) != 1 || !seen[list[0].ID] {
			t.Fatalf("%d ids answered, %d said to be new, %d stored", len(seen), stored, len(list))
		}
	}},
	{"append: failed call leaves others alone", func(t *suite) {
		taken := event()
		t.append(taken)
		var wait sync.WaitGroup
		for i := range 50 {
			wait.Go(func() {
				good := event()
				if i%5 != 0 {
					if _, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: good}}); err != nil {
						t.Error(err)
					}
					return
				}
				double := *taken // an id that is in use: a bug of the caller
				if _, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: good}, {Event: &double}}); err == nil {
					t.Error("an id was stored twice")
				}
				if _, err := t.s.Event(t.ctx(), "", good.ID); engine.ErrorCode(err) != engine.CodeNotFound {
					t.Error("part of a failed call is stored")
				}
			})
		}
		wait.Wait()
		list, _, err := t.s.Events(t.ctx(), engine.EventQuery{})
		t.must(err)
		t.equal("events", len(list), 41)
	}},
	{"append: no events or ended context", func(t *suite) {
		results, err := t.s.Append(t.ctx(), nil)
		t.must(err)
		t.equal("results", len(results), 0)
		ctx, cancel := context.WithCancel(t.ctx())
		cancel()
		_, err = t.s.Append(ctx, []engine.NewEvent{{Event: event()}})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error is %v", err)
		}
	}},
}

func (t *suite) appendKeyed(e *engine.Event, digest engine.KeyHash, keys ...engine.KeyHash) {
	t.Helper()
	results, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: e, Keys: keys, Digest: digest}})
	t.must(err)
	t.equal("results", results, []engine.Appended{{ID: e.ID, Matched: len(e.Targets)}})
}

func eventsByID(t *suite) {
	var all []*engine.Event
	var ids []engine.ID
	for range 1200 {
		e := event(3, 4)
		e.Headers = map[string]string{"a": "b"}
		all = append(all, e)
		ids = append(ids, e.ID)
	}
	t.append(all...)
	read := func(ids []engine.ID, bytes int64) []*engine.Event {
		list, err := t.s.EventsByID(t.ctx(), ids, bytes)
		t.must(err)
		return list
	}
	t.equal("all", read(ids, 1<<30), all)
	t.equal("by id", read([]engine.ID{ids[9], ids[2], ids[5]}, 1<<20), []*engine.Event{all[2], all[5], all[9]})
	t.equal("one that does not exist", read([]engine.ID{ids[0], newID()}, 1<<20), all[:1])
	size := all[0].CachedSize() // of each
	for n := range int64(3) {
		t.equal("those that fit", len(read(ids[:10], n*size)), int(n))
		t.equal("those that just do not fit", len(read(ids[:10], (n+1)*size-1)), int(n))
	}
	t.equal("none", len(read(nil, 1<<20)), 0)
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	if _, err := t.s.EventsByID(ctx, ids, 1<<20); err == nil {
		t.Error("a context that has ended is ignored")
	}
}

func listEvents(t *suite) {
	var all []*engine.Event
	for i := range 40 {
		e := event()
		e.Account, e.Type = []string{"acme", "other"}[i%2], []string{"a", "b", "c"}[i%3]
		all = append(all, e)
	}
	t.append(all...)
	slices.Reverse(all)
	for _, account := range []string{"", "acme", "other", "nobody"} {
		for _, kind := range []string{"", "a", "c", "none"} {
			for _, since := range []engine.ID{0, all[25].ID} {
				var want []engine.ID
				for _, e := range all {
					if (account == "" || e.Account == account) && (kind == "" || e.Type == kind) && e.ID >= since {
						want = append(want, e.ID)
					}
				}
				for _, limit := range []int{0, 1, 3, 100} {
					var got []engine.ID
					q := engine.EventQuery{Account: account, Type: kind, Since: since, Limit: limit}
					for {
						page, next, err := t.s.Events(t.ctx(), q)
						t.must(err)
						for _, e := range page {
							got = append(got, e.ID)
						}
						if next == 0 {
							break
						}
						q.Before = next
					}
					t.equal("events", got, want)
				}
			}
		}
	}
}
