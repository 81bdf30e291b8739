package dispatch

import (
	"context"
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"time"
)

// spillToStore writes the row of a delivery that leaves memory, so that it waits in the store.
func (d *Dispatcher) spillToStore(q *queue, en dispatchqueue.Entry) {
	en.Release()
	d.metrics.Spilled.Inc()
	id := engine.DeliveryID{Event: en.Event, Subscription: q.id}
	d.RecordOutcome(&engine.Outcome{ID: id, State: engine.StatePending}, func() {
		d.markRecorded(en)
		if !d.scheduler.spillRecorded(q, en.Position) { // deleted while the row was being written
			deleted := dispatchqueue.Entry{Event: en.Event}
			d.writes.Go(func() { d.markDead(q.id, deleted, engine.SubscriptionDeleted) }) // this callback must not call the store
		}
	})
}

// startFetch implements host.
func (d *Dispatcher) startFetch(f *fetch) {
	d.life.Spawn(func() {
		entries, all, err := d.readBacklog(context.Background(), f)
		if err != nil {
			d.log.Error("waiting deliveries not read", "subscription_id", f.queue.id.Format(engine.SubscriptionPrefix), "error", err)
			select { // completeFetch starts the next fetch at once
			case <-d.life.Stopping():
			case <-time.After(lifecycle.RecordRetryDelay):
			}
		}
		d.settleDisplaced(f.queue, d.scheduler.completeFetch(f, entries, all))
		d.expireQueue(f.queue)
	})
}

// releaseAll drops the references of deliveries that will not wait in memory.
func releaseAll(entries []dispatchqueue.Entry) {
	for i := range entries {
		entries[i].Release()
	}
}

// readBacklog reads more of a queue's deliveries from the store; all means that there are no more.
func (d *Dispatcher) readBacklog(ctx context.Context, f *fetch) (entries []dispatchqueue.Entry, all bool, err error) {
	var rows []engine.Waiting
	limit := len(f.known) + f.rows
	if f.ordered != nil {
		rows, err = d.store.Outstanding(ctx, f.queue.id, f.from, limit)
	} else {
		rows, err = d.store.Backlog(ctx, f.queue.id, limit)
	}
	entries = make([]dispatchqueue.Entry, 0, len(rows))
	for _, w := range rows {
		en := entryOf(w)
		if f.known[en.Event] {
			continue
		}
		entries = append(entries, en)
	}
	if err != nil {
		return nil, false, err
	}
	waiting := make([]*dispatchqueue.Entry, len(entries))
	for i := range entries {
		waiting[i] = &entries[i]
	}
	d.loadEvents(ctx, f.compiled.Sub.Account, waiting)
	if f.ordered == nil {
		return entries, len(rows) < limit, nil
	}
	for i := range entries {
		if entries[i], err = d.withGroup(ctx, f.compiled, entries[i]); err != nil {
			releaseAll(entries)
			return nil, false, err
		}
	}
	return entries, len(rows) < limit, nil
}
