package router

import (
	"context"
	"hash/maphash"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// groupOf tells to which group an event belongs. Where its key can't be told it is a stray,
// and the error is noted.
func (d *Dispatcher) groupOf(r *compiledSubscription, event engine.ID, in *filter.Input) uint64 {
	g := &r.grouping
	if g.key == "" {
		return 0
	}
	g.once.Do(func() { g.expr, g.err = filter.CompileKey(g.key) })
	if g.err != nil {
		d.catalog.recordFilterError(r, g.err)
		return g.fallbackGroup(event)
	}
	value, err := g.expr.Of(in)
	if err != nil {
		d.catalog.recordFilterError(r, err)
		return g.fallbackGroup(event)
	}
	return maphash.String(groupSeed, value)
}

// groups tells to which group of each route an event belongs; nil where none has groups.
// The error is a CodeBusy, as that of match.
func (d *Dispatcher) groups(matched []*compiledSubscription, event engine.ID, ev *scripts.Event, deadline time.Time) (list []group, err error) {
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
		list[i] = group{d.groupOf(r, event, in), r.grouping.specHash}
	}
	return list, nil
}

// withGroup gives a delivery that comes from the store its group, for which its event may
// have to be read.
func (d *Dispatcher) withGroup(ctx context.Context, r *compiledSubscription, en dispatchqueue.Entry) (dispatchqueue.Entry, error) {
	g := &r.grouping
	en.SpecHash = g.specHash
	if g.key == "" {
		return en, nil
	}
	ev, err := d.store.Event(ctx, "", en.Event)
	if err != nil {
		return en, err
	}
	in := filter.NewInput(scriptEvent(ev, jsonindex.Value{}))
	en.Group = d.groupOf(r, en.Event, in)
	in.Release()
	return en, nil
}

// fetchOrdered reads what waits for a subscription whose line sorts, from an event on.
// scheduler.mu is held.
func (d *Dispatcher) fetchOrdered(q *queue, line dispatchqueue.OrderedQueue, r *compiledSubscription, from engine.ID) {
	d.life.tasks.Go(func() {
		ctx := context.Background()
		rows, err := d.store.Outstanding(ctx, q.id, from, fetchSize)
		entries := make([]dispatchqueue.Entry, len(rows))
		for i, w := range rows {
			if err == nil {
				entries[i], err = d.withGroup(ctx, r, dispatchqueue.Entry{Event: w.ID.Event, Attempts: w.Attempts, RequestedAt: w.RenewedAt, Failed: w.Failed})
			}
		}
		if err != nil {
			for _, en := range entries {
				en.Release()
			}
			d.log.Error("waiting deliveries not read", "subscription_id", q.id.Format(engine.SubscriptionPrefix), "error", err)
			select { // completeOrderedFetch asks again at once
			case <-d.life.stop:
			case <-time.After(recordRetryDelay):
			}
			entries = nil
		}
		d.settleDisplaced(q, d.scheduler.completeOrderedFetch(q, line, entries, err == nil && len(rows) < fetchSize))
	})
}

// settleDisplaced deals with what lines could not keep.
func (d *Dispatcher) settleDisplaced(q *queue, list []dispatchqueue.Displaced) {
	for _, a := range list {
		if a.SupersededBy == 0 {
			d.spillToStore(q, a.Entry)
			continue
		}
		a.Entry.Release()
		d.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: a.Entry.Event, Subscription: q.id}, State: engine.StateDropped, Attempts: a.Entry.Attempts, Error: supersededBy(a.SupersededBy)}, func() {
			d.scheduler.committed(q, a.Entry.Event)
			d.markRecorded(a.Entry)
		})
	}
}

func supersededBy(newer engine.ID) string { return "superseded by " + newer.Format(engine.EventPrefix) }
