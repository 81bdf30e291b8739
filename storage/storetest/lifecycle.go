package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
)

var lifecycle = []check{
	{"lifecycle: data survives a restart", func(t *suite) {
		u := subscription()
		t.must(t.s.PutSubscription(t.ctx(), u))
		t.must(t.s.PutEventType(t.ctx(), &engine.EventType{Name: "a", Version: 1}))
		t.must(t.s.PutKey(t.ctx(), &engine.Key{ID: newID(), Hash: [32]byte{1}}))
		e := event(u.ID, 2)
		t.appendKeyed(e, engine.KeyHash{2}, engine.KeyHash{1})
		t.record(failed(id(e, u.ID), 1, base))
		t.s.SetWatermark(0, 77)

		t.s = t.reopen()
		got, err := t.s.Event(t.ctx(), "acme", e.ID)
		t.must(err)
		t.equal("event", got, e)
		t.equal("state", t.delivery(id(e, u.ID)).State, engine.StateRetrying)
		t.equal("attempts", len(t.attempts(id(e, u.ID))), 1)
		t.equal("state", t.delivery(id(e, 2)).State, engine.StatePending)
		mark, err := t.s.Watermark(t.ctx(), 0)
		t.must(err)
		t.equal("watermark", mark, engine.ID(77))
		subscriptions, err := t.s.Subscriptions(t.ctx())
		t.must(err)
		t.equal("subscriptions", subscriptions, []*engine.Subscription{u})
		types, err := t.s.EventTypes(t.ctx())
		t.must(err)
		t.equal("event types", len(types), 1)
		keys, err := t.s.Keys(t.ctx())
		t.must(err)
		t.equal("keys", len(keys), 1)
		results, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: event(), Keys: []engine.KeyHash{{1}}, Digest: engine.KeyHash{2}}})
		t.must(err)
		t.equal("repeat", results, []engine.Appended{{ID: e.ID, Matched: 2, Repeated: true}})
	}},
	{"lifecycle: ping", func(t *suite) {
		t.must(t.s.Ping(t.ctx()))
	}},
	{"lifecycle: close flushes, later calls are unavailable", func(t *suite) {
		const outcomes, callers = 500, 40
		old := t.s
		e := event(1)
		t.append(e)
		var answered, written atomic.Int64
		for i := range outcomes {
			old.Record(failed(id(e, engine.ID(i+1)), 1, base), func(err error) {
				if err != nil {
					t.Error(err)
				}
				answered.Add(1)
			})
		}
		var wait sync.WaitGroup
		for range callers {
			wait.Go(func() {
				for {
					_, err := old.Append(t.ctx(), []engine.NewEvent{{Event: event()}})
					if err != nil {
						if engine.ErrorCode(err) != engine.CodeUnavailable {
							t.Errorf("error is %v", err)
						}
						return
					}
					written.Add(1)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		t.s = t.reopen()
		wait.Wait()
		t.equal("answered outcomes", answered.Load(), int64(outcomes))
		t.equal("outcomes", len(t.list(engine.DeliveryQuery{Event: e.ID})), outcomes)
		list, _, err := t.s.Events(t.ctx(), engine.EventQuery{})
		t.must(err)
		t.equal("events", int64(len(list)), written.Load()+1)

		t.must(old.Close()) // again
		t.code(old.Ping(t.ctx()), engine.CodeUnavailable)
		t.code(old.DeleteKey(t.ctx(), 1), engine.CodeUnavailable)
		var late error
		old.Record(waits(id(e, 1), 0), func(err error) { late = err })
		t.code(late, engine.CodeUnavailable)
	}},
}
