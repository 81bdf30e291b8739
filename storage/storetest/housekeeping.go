package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"switchhook/engine"
)

// prune runs steps until all events were examined, and returns the number of removed events
// and bytes.
func (t *suite) prune(q engine.PruneQuery) (events int, bytes int64) {
	t.Helper()
	for {
		p, err := t.s.Prune(t.ctx(), q)
		t.must(err)
		events, bytes = events+p.Events, bytes+p.Bytes
		if !p.More {
			return events, bytes
		}
		if p.Last <= q.After {
			t.Fatalf("a step from %d ended at %d, and there is more", q.After, p.Last)
		}
		q.After = p.Last
	}
}

// settle declares that all events so far have rows for all their targets.
func (t *suite) settle() {
	t.Helper()
	last, err := t.s.LastEventID(t.ctx(), 0)
	t.must(err)
	t.s.SetWatermark(0, last)
}

// events lists events.
func (t *suite) events(q engine.EventQuery) []*engine.Event {
	t.Helper()
	list, _, err := t.s.Events(t.ctx(), q)
	t.must(err)
	return list
}

// pruneAsModel stores random events with deliveries in random states, removes those that a random
// policy allows, and compares what is left with a model.
func (t *suite) pruneAsModel(r *rand.Rand) {
	t.Helper()
	accounts := []string{"one", "two", "three"}
	allowed := map[string]bool{}
	for _, account := range accounts {
		allowed[account], allowed[account+" dead"] = r.IntN(4) > 0, r.IntN(2) == 0
	}
	odds := []int{2, 10, 50}[r.IntN(3)] // one delivery in so many does not succeed
	left := []engine.ID{}
	for _, e := range t.events(engine.EventQuery{Oldest: true}) { // of the round before
		left = append(left, e.ID)
	}
	earliest, batch, outcomes := event(), []engine.NewEvent(nil), []*engine.Outcome(nil)
	for range 100 {
		targets := []engine.ID{1, 2, 3}[:r.IntN(4)]
		e := event(targets...)
		e.Account, e.Data = accounts[r.IntN(3)], make([]byte, r.IntN(500))
		batch = append(batch, engine.NewEvent{Event: e, Keys: []engine.KeyHash{engine.HashParts("model", fmt.Sprint(e.ID))}})
		finished, dead := true, false
		for _, target := range targets {
			state := engine.StateSucceeded
			if r.IntN(odds) == 0 {
				state = engine.StatePending + engine.State(r.IntN(5))
			}
			if r.IntN(4*odds) == 0 {
				finished = false // it has no row
				continue
			}
			o := tried(id(e, target), state, 1, 200)
			if state == engine.StateRetrying {
				o.NextAt = base
			}
			outcomes = append(outcomes, o)
			finished = finished && state != engine.StatePending && state != engine.StateRetrying
			dead = dead || state == engine.StateDead
		}
		key := e.Account
		if dead {
			key += " dead"
		}
		if !finished || !allowed[key] {
			left = append(left, e.ID)
		}
	}
	_, err := t.s.Append(t.ctx(), batch)
	t.must(err)
	t.record(outcomes...)
	t.settle()
	t.prune(engine.PruneQuery{After: earliest.ID, Before: never, Work: time.Microsecond, Remove: func(account string, dead bool, _ time.Time) bool {
		if dead {
			account += " dead"
		}
		return allowed[account]
	}})
	var got []engine.ID
	for _, e := range t.events(engine.EventQuery{Oldest: true}) {
		got = append(got, e.ID)
		key, err := t.s.EventByKey(t.ctx(), engine.HashParts("model", fmt.Sprint(e.ID)))
		t.must(err)
		t.equal("key of an event that is left", key, e.ID)
	}
	t.equal("left", got, left)
	for _, d := range t.list(engine.DeliveryQuery{}) {
		if !slices.Contains(left, d.Event) {
			t.Errorf("delivery %s is left without its event", d)
		}
	}
	for _, account := range accounts {
		var want engine.StoredBytes
		for _, e := range t.events(engine.EventQuery{Account: account}) {
			want.Events += eventBytes(e) + engine.KeyBytes
		}
		for _, d := range t.list(engine.DeliveryQuery{Account: account}) {
			for _, a := range t.attempts(d) {
				want.Deliveries += attemptBytes(a)
			}
		}
		t.equal("bytes of "+account, t.stored(account), want)
	}
}

// stored returns what is stored for an account.
func (t *suite) stored(account string) engine.StoredBytes {
	t.Helper()
	n, err := t.s.StoredBytes(t.ctx(), account)
	t.must(err)
	return n
}

// eventBytes is what an event without headers and key counts.
func eventBytes(e *engine.Event) int64 {
	return engine.RowBytes + int64(len(e.Account)+len(e.Type)+len(e.Data)) + (8+engine.RowBytes)*int64(len(e.Targets))
}

// attemptBytes is what an attempt without bodies, headers and script counts.
func attemptBytes(a *engine.Attempt) int64 {
	return engine.RowBytes + int64(len(a.Error)+len(a.Phase)+len(a.Request.Method)+len(a.Request.URL)+len(a.Request.Plain))
}

const never = engine.ID(1<<63 - 1)

func all(string, bool, time.Time) bool { return true }

var housekeeping = []check{
	{"prune: removes a finished event with its rows", func(t *suite) {
		gone, kept := event(1, 2), event(1, 2)
		t.appendKeyed(gone, engine.KeyHash{9}, engine.KeyHash{1})
		t.appendKeyed(kept, engine.KeyHash{9}, engine.KeyHash{2})
		for _, e := range []*engine.Event{gone, kept} {
			t.record(failed(id(e, 1), 1, base), tried(id(e, 1), engine.StateSucceeded, 2, 200), tried(id(e, 2), engine.StateDropped, 1, 0))
		}
		t.settle()
		before := t.stored("acme")
		n, bytes := t.prune(engine.PruneQuery{Before: kept.ID, Remove: all})
		t.equal("removed", n, 1)
		after := t.stored("acme")
		t.equal("half of them", before, engine.StoredBytes{Events: 2 * after.Events, Deliveries: 2 * after.Deliveries})
		t.equal("bytes", bytes, after.Total())

		_, err := t.s.Event(t.ctx(), "", gone.ID)
		t.code(err, engine.CodeNotFound)
		_, err = t.s.Delivery(t.ctx(), "", id(gone, 1))
		t.code(err, engine.CodeNotFound)
		_, err = t.s.EventByKey(t.ctx(), engine.KeyHash{1})
		t.code(err, engine.CodeNotFound)
		t.equal("attempts", len(t.attempts(id(gone, 1))), 0)
		t.equal("deliveries", t.list(engine.DeliveryQuery{Account: "acme"}), []engine.DeliveryID{id(kept, 2), id(kept, 1)})
		t.equal("attempts that stay", len(t.attempts(id(kept, 1))), 2)
		again := event(1)
		results, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: again, Keys: []engine.KeyHash{{1}}, Digest: engine.KeyHash{8}}})
		t.must(err)
		t.equal("the key is free", results, []engine.Appended{{ID: again.ID, Matched: 1}})
	}},
	{"prune: keeps unfinished events", func(t *suite) {
		var kept []*engine.Event
		make := func(outcomes func(*engine.Event) []*engine.Outcome) {
			e := event(1, 2)
			t.append(e)
			t.record(outcomes(e)...)
			kept = append(kept, e)
		}
		done := func(e *engine.Event) *engine.Outcome { return tried(id(e, 2), engine.StateSucceeded, 1, 200) }
		make(func(e *engine.Event) []*engine.Outcome { return []*engine.Outcome{waits(id(e, 1), 0), done(e)} })
		make(func(e *engine.Event) []*engine.Outcome { return []*engine.Outcome{failed(id(e, 1), 1, base), done(e)} })
		make(func(e *engine.Event) []*engine.Outcome { // a dead letter that is retried
			return []*engine.Outcome{tried(id(e, 1), engine.StateDead, 1, 400), waits(id(e, 1), 1), done(e)}
		})
		make(func(e *engine.Event) []*engine.Outcome { // to a subscription that was no target
			return []*engine.Outcome{tried(id(e, 1), engine.StateSucceeded, 1, 200), done(e), failed(id(e, 3), 1, base)}
		})
		t.settle()
		// Above the watermark, whatever their deliveries; the second has no row for one
		// target.
		late, half := event(1), event(1, 2)
		t.append(late, half)
		t.record(tried(id(late, 1), engine.StateSucceeded, 1, 200), tried(id(half, 1), engine.StateSucceeded, 1, 200))
		n, _ := t.prune(engine.PruneQuery{Before: never, Remove: all})
		t.equal("removed", n, 0)
		for _, e := range append(kept, late, half) {
			_, err := t.s.Event(t.ctx(), "", e.ID)
			t.must(err)
		}
		t.s.SetWatermark(0, late.ID)
		n, _ = t.prune(engine.PruneQuery{Before: never, Remove: all})
		t.equal("removed below the watermark", n, 1)
	}},
	{"prune: arguments of Remove", func(t *suite) {
		quiet, good, dead, other := event(), event(1), event(1, 2), event(1)
		other.Account = "other"
		t.append(quiet, good, dead, other)
		t.record(tried(id(good, 1), engine.StateSucceeded, 7, 200), tried(id(dead, 1), engine.StateDead, 3, 400), tried(id(dead, 2), engine.StateSucceeded, 1, 200), tried(id(other, 1), engine.StateDropped, 1, 0))
		t.settle()
		type asked struct {
			account string
			dead    bool
			last    time.Time
		}
		var got []asked
		n, _ := t.prune(engine.PruneQuery{Before: never, Remove: func(account string, dead bool, last time.Time) bool {
			got = append(got, asked{account, dead, last.UTC()})
			return account == "other" || dead
		}})
		t.equal("removed", n, 2)
		t.equal("asked", fmt.Sprint(got), fmt.Sprint([]asked{
			{"acme", false, quiet.ID.Time()}, {"acme", false, base.Add(7 * time.Minute)}, {"acme", true, base.Add(3 * time.Minute)}, {"other", false, base.Add(time.Minute)},
		}))
		_, err := t.s.Event(t.ctx(), "", quiet.ID)
		t.must(err)
		got = nil
		n, _ = t.prune(engine.PruneQuery{After: quiet.ID, Before: good.ID, Remove: all})
		t.equal("removed between two that stay", n, 0)
	}},
	{"prune: removes what a simple model removes", func(t *suite) {
		for seed := range uint64(20) {
			t.pruneAsModel(rand.New(rand.NewPCG(seed, 0)))
		}
	}},
	{"prune: one account's", func(t *suite) {
		var last *engine.Event
		for i := range 30 {
			last = event(1)
			last.Account = []string{"acme", "other"}[i%2]
			t.append(last)
			state := engine.StateSucceeded
			if i%10 == 4 {
				state = engine.StatePending
			}
			t.record(&engine.Outcome{ID: id(last, 1), State: state})
		}
		t.settle()
		n, _ := t.prune(engine.PruneQuery{Before: never, Account: "acme", Remove: all})
		t.equal("removed", n, 12)
		t.equal("acme's", len(t.events(engine.EventQuery{Account: "acme"})), 3)
		t.equal("the other's", len(t.events(engine.EventQuery{Account: "other"})), 15)
		n, _ = t.prune(engine.PruneQuery{Before: last.ID, Account: "other", Remove: all})
		t.equal("removed before the last", n, 14)
		p, err := t.s.Prune(t.ctx(), engine.PruneQuery{Before: never, Account: "acme", Bytes: 1, Remove: all})
		t.must(err)
		t.equal("removed of those that are not finished", p.Events, 0)
	}},
	{"prune: some bytes", func(t *suite) {
		var ids []engine.ID
		for range 10 {
			e := event()
			e.Data = make([]byte, 10_000) // beside it, little is counted
			t.append(e)
			ids = append(ids, e.ID)
		}
		t.settle()
		p, err := t.s.Prune(t.ctx(), engine.PruneQuery{Before: never, Bytes: 25_000, Remove: all})
		t.must(err)
		t.equal("removed", []any{p.Events, p.Last, p.More}, []any{3, ids[2], true})
	}},
	{"prune: small steps", func(t *suite) {
		const many = 2500
		list := make([]*engine.Event, many)
		var outcomes []*engine.Outcome
		for i := range list {
			list[i] = event(1)
			if i%10 > 0 {
				outcomes = append(outcomes, tried(id(list[i], 1), engine.StateSucceeded, 1, 200))
			} else {
				outcomes = append(outcomes, waits(id(list[i], 1), 0))
			}
		}
		t.append(list...)
		t.record(outcomes...)
		t.settle()
		p, err := t.s.Prune(t.ctx(), engine.PruneQuery{Before: never, Remove: all})
		t.must(err)
		if !p.More || p.Events == 0 || p.Events > many/2 {
			t.Fatalf("one step: %+v", p)
		}
		n, _ := t.prune(engine.PruneQuery{After: p.Last, Before: never, Remove: all})
		t.equal("removed", n+p.Events, many*9/10)
		left, _, err := t.s.Events(t.ctx(), engine.EventQuery{})
		t.must(err)
		t.equal("left", len(left), many/10)
	}},
	{"prune: outcome of a removed event stores nothing", func(t *suite) {
		e := event(1)
		t.append(e)
		t.record(tried(id(e, 1), engine.StateDead, 1, 400))
		t.settle()
		t.prune(engine.PruneQuery{Before: never, Remove: all})
		t.record(waits(id(e, 1), 1))
		asked := waits(id(e, 1), 1) // a retry is requested at this moment
		asked.RenewedAt = base
		refused := make(chan error, 1)
		t.s.Record(asked, func(err error) { refused <- err })
		t.code(<-refused, engine.CodeNotFound)
		_, err := t.s.Delivery(t.ctx(), "", id(e, 1))
		t.code(err, engine.CodeNotFound)
		waiting, err := t.s.Backlog(t.ctx(), 1, 10)
		t.must(err)
		t.equal("waiting", len(waiting), 0)
	}},
	{"open deliveries: counted by subscription", func(t *suite) {
		for i := range 30 {
			e := event(1, 2, 3)
			t.append(e)
			t.record(failed(id(e, 1), 1, base), tried(id(e, 3), engine.StateDead, 1, 400))
			if i%3 == 0 {
				t.record(waits(id(e, 2), 0))
			}
		}
		open, err := t.s.OpenDeliveries(t.ctx())
		t.must(err)
		t.equal("open", open, map[engine.ID]engine.BacklogCount{1: {Failed: 30}, 2: {Pending: 10}})
	}},
	{"compact: returns freed space", func(t *suite) {
		big := make([]*engine.Event, 200)
		for i := range big {
			big[i] = event()
			big[i].Data = make([]byte, 50_000)
		}
		t.append(big...)
		t.settle()
		before, err := t.s.Room(t.ctx())
		t.must(err)
		if before.Bytes < 200*50_000 || before.DiskFree <= 0 {
			t.Fatalf("usage is %+v", before)
		}
		t.prune(engine.PruneQuery{Before: never, Remove: all})
		pruned, err := t.s.Room(t.ctx())
		t.must(err)
		const keep = 1 << 20
		for more := true; more; {
			more, err = t.s.Compact(t.ctx(), keep)
			t.must(err)
		}
		after, err := t.s.Room(t.ctx())
		t.must(err)
		if pruned.Bytes > before.Bytes/10 || after.Bytes > before.Bytes/10 || after.Free > keep || after.Free == 0 {
			t.Fatalf("usage was %+v, then %+v, then %+v", before, pruned, after)
		}
	}},
}
