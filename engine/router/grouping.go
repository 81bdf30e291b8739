package router

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// groupingSpec is how a subscription's deliveries stand to one another, as far as a line has to
// be made anew when it changes.
type groupingSpec struct {
	ordering engine.Ordering
	within   time.Duration // of debounce; 0: none
	key      string        // expr; empty: one group
}

func groupingSpecOf(s *engine.Subscription) groupingSpec {
	if s.Debounce.Within > 0 {
		return groupingSpec{within: s.Debounce.Within, key: s.Debounce.Key}
	}
	switch s.Policy.Ordering {
	case engine.OrderingFIFO:
		return groupingSpec{ordering: engine.OrderingFIFO}
	case engine.OrderingKeyed:
		return groupingSpec{ordering: engine.OrderingKeyed, key: s.Policy.OrderingKey}
	}
	return groupingSpec{}
}

// isUnordered tells whether no delivery waits for another.
func (m groupingSpec) isUnordered() bool { return m == groupingSpec{} }

// grouping is a route's manner made ready for use.
type grouping struct {
	groupingSpec
	specHash uint64 // of the manner; 0: plain

	once sync.Once
	expr *filter.Key // nil: all events are one group; set by once
	err  error       // set by once
}

var groupSeed = maphash.MakeSeed()

// set gives g its manner, once.
func (g *grouping) set(m groupingSpec) {
	if g.groupingSpec = m; !m.isUnordered() {
		g.specHash = max(1, maphash.Comparable(groupSeed, m))
	}
}

// fallbackGroup gives the group of an event that has no key. Those that are to keep order are one
// group. But of those that debounce each is one: nothing says that a newer event stands for
// the older one, which must not be dropped for it.
func (g *grouping) fallbackGroup(event engine.ID) uint64 {
	if g.within > 0 {
		return maphash.Comparable(groupSeed, event)
	}
	return maphash.String(groupSeed, "\x00")
}

// groupOf tells to which group an event belongs. Where its key can't be told it is a stray,
// and the error is noted.
func (e *Engine) groupOf(r *compiledSubscription, event engine.ID, in *filter.Input) uint64 {
	g := &r.grouping
	if g.key == "" {
		return 0
	}
	g.once.Do(func() { g.expr, g.err = filter.CompileKey(g.key) })
	if g.err != nil {
		e.recordFilterError(r, g.err)
		return g.fallbackGroup(event)
	}
	value, err := g.expr.Of(in)
	if err != nil {
		e.recordFilterError(r, err)
		return g.fallbackGroup(event)
	}
	return maphash.String(groupSeed, value)
}

// groups tells to which group of each route an event belongs; nil where none has groups.
// The error is a CodeBusy, as that of match.
func (e *Engine) groups(matched []*compiledSubscription, event engine.ID, ev *scripts.Event, deadline time.Time) (list []group, err error) {
	var in *filter.Input
	for i, r := range matched {
		if r.grouping.specHash == 0 {
			continue
		}
		if list == nil {
			list = make([]group, len(matched))
			in = filter.NewInput(ev)
			defer in.Release()
		}
		if time.Now().After(deadline) {
			return nil, errFiltersTooSlow
		}
		list[i] = group{e.groupOf(r, event, in), r.grouping.specHash}
	}
	return list, nil
}

// withGroup gives a delivery that comes from the store its group, for which its event may
// have to be read.
func (e *Engine) withGroup(ctx context.Context, r *compiledSubscription, en dispatchqueue.Entry) (dispatchqueue.Entry, error) {
	g := &r.grouping
	en.SpecHash = g.specHash
	if g.key == "" {
		return en, nil
	}
	ev, err := e.store.Event(ctx, "", en.Event)
	if err != nil {
		return en, err
	}
	in := filter.NewInput(scriptEvent(ev, jsonindex.Value{}))
	en.Group = e.groupOf(r, en.Event, in)
	in.Release()
	return en, nil
}

// fetchOrdered reads what waits for a subscription whose line sorts, from an event on.
// scheduler.mu is held.
func (e *Engine) fetchOrdered(q *queue, line dispatchqueue.OrderedQueue, r *compiledSubscription, from engine.ID) {
	e.tasks.Go(func() {
		ctx := context.Background()
		rows, err := e.store.Outstanding(ctx, q.id, from, fetchSize)
		entries := make([]dispatchqueue.Entry, len(rows))
		for i, w := range rows {
			if err == nil {
				entries[i], err = e.withGroup(ctx, r, dispatchqueue.Entry{Event: w.ID.Event, Attempts: w.Attempts, RequestedAt: w.RenewedAt, Failed: w.Failed})
			}
		}
		if err != nil {
			for _, en := range entries {
				en.Release()
			}
			e.log.Error("waiting deliveries not read", "subscription_id", q.id.Format(engine.SubscriptionPrefix), "error", err)
			select { // completeOrderedFetch asks again at once
			case <-e.stop:
			case <-time.After(recordRetryDelay):
			}
			entries = nil
		}
		e.settleDisplaced(q, e.scheduler.completeOrderedFetch(q, line, entries, err == nil && len(rows) < fetchSize))
	})
}

// settleDisplaced deals with what lines could not keep.
func (e *Engine) settleDisplaced(q *queue, list []dispatchqueue.Displaced) {
	for _, a := range list {
		if a.SupersededBy == 0 {
			e.spillToStore(q, a.Entry)
			continue
		}
		a.Entry.Release()
		e.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: a.Entry.Event, Subscription: q.id}, State: engine.StateDropped, Attempts: a.Entry.Attempts, Error: supersededBy(a.SupersededBy)}, func() {
			e.scheduler.committed(q, a.Entry.Event)
			e.markRecorded(a.Entry)
		})
	}
}

func supersededBy(newer engine.ID) string { return "superseded by " + newer.Format(engine.EventPrefix) }
