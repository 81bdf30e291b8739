package storetest

import (
	"time"

	"switchhook/engine"
)

var replays = []check{
	{"replays: round trip, newest first", func(t *suite) {
		full := &engine.Replay{
			ID: newID(), Account: "acme", Subscriptions: []engine.ID{1, 2}, To: 3, Since: base, Until: base.Add(time.Hour),
			EventTypes: []string{"order.*"}, States: []engine.State{engine.StateDead, engine.StateDropped}, Missing: true, Filter: "data.n > <ü>",
			Rate: 7, Status: engine.ReplayPaused, Error: "off", Done: 1, After: 99, First: 9, Looked: 10, Queued: 5,
			CreatedAt: base, UpdatedAt: base.Add(time.Microsecond),
		}
		done := &engine.Replay{ID: newID(), Account: "b", Until: base, Status: engine.ReplayCompleted, CreatedAt: base, UpdatedAt: base, FinishedAt: base}
		t.must(t.s.PutReplay(t.ctx(), full))
		t.must(t.s.PutReplay(t.ctx(), done))
		full.Queued, full.Status = 6, engine.ReplayRunning
		t.must(t.s.PutReplay(t.ctx(), full))
		got, err := t.s.Replay(t.ctx(), full.ID)
		t.must(err)
		t.equal("replay", got, full)
		_, err = t.s.Replay(t.ctx(), 7)
		t.code(err, engine.CodeNotFound)
		for _, c := range []struct {
			q    engine.ReplayQuery
			want []*engine.Replay
		}{
			{engine.ReplayQuery{}, []*engine.Replay{done, full}},
			{engine.ReplayQuery{Limit: 1}, []*engine.Replay{done}},
			{engine.ReplayQuery{Before: done.ID}, []*engine.Replay{full}},
			{engine.ReplayQuery{Since: done.ID}, []*engine.Replay{done}},
			{engine.ReplayQuery{Since: full.ID, Before: done.ID}, []*engine.Replay{full}},
			{engine.ReplayQuery{Account: "acme"}, []*engine.Replay{full}},
			{engine.ReplayQuery{Unfinished: true}, []*engine.Replay{full}},
		} {
			list, _, err := t.s.Replays(t.ctx(), c.q)
			t.must(err)
			t.equal("replays", list, c.want)
		}
	}},
	{"history: event order", func(t *suite) {
		var all, dead []engine.DeliveryID
		var ids []engine.ID
		for i := range 10 {
			e := event(5, 6)
			t.append(e)
			ids = append(ids, e.ID)
			state := engine.StateSucceeded
			if i%3 == 0 {
				state, dead = engine.StateDead, append(dead, id(e, 5))
			}
			t.record(tried(id(e, 5), state, 1, 400), tried(id(e, 6), engine.StateDropped, 1, 0))
			all = append(all, id(e, 5))
		}
		history := func(q engine.HistoryQuery) (list []engine.DeliveryID) {
			q.Subscription = 5
			found, err := t.s.History(t.ctx(), q)
			t.must(err)
			for _, d := range found {
				list = append(list, d.ID)
			}
			return list
		}
		t.equal("all", history(engine.HistoryQuery{}), all)
		t.equal("dead", history(engine.HistoryQuery{State: engine.StateDead}), dead)
		t.equal("span", history(engine.HistoryQuery{Since: ids[2], Until: ids[5]}), all[2:5])
		t.equal("page", history(engine.HistoryQuery{Since: ids[1] + 1, Limit: 3}), all[2:5])

		oldest, _, err := t.s.Events(t.ctx(), engine.EventQuery{Account: "acme", Since: ids[3], Oldest: true, Limit: 2})
		t.must(err)
		t.equal("oldest events", []engine.ID{oldest[0].ID, oldest[1].ID}, ids[3:5])
	}},
	{"replays: any delivery becomes pending again", func(t *suite) {
		given, tried3 := event(5), event(5)
		t.append(given, tried3)
		t.record(&engine.Outcome{ID: id(given, 5), State: engine.StateDead, Error: "too old"}, tried(id(tried3, 5), engine.StateSucceeded, 3, 200))
		t.record(
			&engine.Outcome{ID: id(given, 5), State: engine.StatePending, RenewedAt: base},
			&engine.Outcome{ID: id(tried3, 5), State: engine.StatePending, Attempts: 3, RenewedAt: base},
		)
		t.equal("state", t.delivery(id(given, 5)).State, engine.StatePending)
		t.equal("attempts", t.delivery(id(tried3, 5)).Attempts, 3)
		backlog, err := t.s.Backlog(t.ctx(), 5, 10)
		t.must(err)
		t.equal("backlog", len(backlog), 2)
	}},
}
