package dispatch

import (
	"context"
	"errors"
	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"sync"
	"time"
)

const (
	// lateAfter is how long a delivery may wait without a row; then one is written, so that crash
	// recovery need not look further back.
	lateAfter     = time.Second
	sweepEvery    = 250 * time.Millisecond
	retryBatch    = 500
	maxRetrySleep = 5 * time.Second // between two reads of retries that are due
	// unrecordedEvery is the shortest time between two log lines of logUnrecorded.
	unrecordedEvery = 10 * time.Second
	scanBatch       = 1000
)

// RecordOutcome hands an outcome to the store; then runs once it is on disk. If the store can't
// write, RecordOutcome retries until it can or the router stops: until then the delivery is
// uncommitted, and the next run makes the attempt again.
func (d *Dispatcher) RecordOutcome(o *engine.Outcome, then func()) {
	d.recordOutcomeUnless(o, then, nil)
}

// recordOutcomeUnless is RecordOutcome, but runs refused instead of then if the store answers
// CodeNotFound.
func (d *Dispatcher) recordOutcomeUnless(o *engine.Outcome, then func(), refused func(error)) {
	d.writes.Add()
	d.store.Record(o, func(err error) {
		if err == nil {
			then()
			d.writes.Done()
			return
		}
		if refused != nil && engine.ErrorCode(err) == engine.CodeNotFound {
			refused(err)
			d.writes.Done()
			return
		}
		d.logUnrecorded(o, err)
		time.AfterFunc(lifecycle.RecordRetryDelay, func() {
			if !d.life.IsStopping() {
				d.recordOutcomeUnless(o, then, refused)
			}
			d.writes.Done()
		})
	})
}

// logUnrecorded logs that outcomes can't be written: one of them, and their number. It limits its
// rate: each outcome is retried every second, and there may be thousands while the store is down.
func (d *Dispatcher) logUnrecorded(o *engine.Outcome, err error) {
	now := time.Now().UnixNano()
	if last := d.unrecordedLogged.Load(); now-last < int64(unrecordedEvery) || !d.unrecordedLogged.CompareAndSwap(last, now) {
		return
	}
	d.log.Error("outcomes not recorded: they are tried again until they are", "outcomes", d.writes.Count(), "delivery_id", o.ID.String(),
		"event_id", o.ID.Event.Format(engine.EventPrefix), "subscription_id", o.ID.Subscription.Format(engine.SubscriptionPrefix), "error", err)
}

// markDead makes a delivery dead without another attempt.
func (d *Dispatcher) markDead(subscription engine.ID, en dispatchqueue.Entry, reason string) {
	en.Release()
	d.metrics.GivenUp.Inc()
	id := engine.DeliveryID{Event: en.Event, Subscription: subscription}
	d.RecordOutcome(&engine.Outcome{ID: id, State: engine.StateDead, Attempts: en.Attempts, Error: reason}, func() { d.markRecorded(en) })
}

// recordFinal records the final state of a delivery that left q and is not attempted.
func (d *Dispatcher) recordFinal(q *queue, en dispatchqueue.Entry, state engine.State, reason string) {
	en.Release()
	id := engine.DeliveryID{Event: en.Event, Subscription: q.id}
	d.RecordOutcome(&engine.Outcome{ID: id, State: state, Attempts: en.Attempts, Error: reason}, func() {
		d.scheduler.committed(q, en.Event)
		d.markRecorded(en)
	})
}

// markExpired makes a delivery dead whose event is too old.
func (d *Dispatcher) markExpired(q *queue, r *catalog.CompiledSubscription, en dispatchqueue.Entry) {
	reason := "the event is older than give_up_after (" + r.Policy.GiveUpAfter.String() + ")"
	d.metrics.GivenUp.Inc()
	d.reportDeadLetter(r, en, reason)
	d.recordFinal(q, en, engine.StateDead, reason)
}

// expireQueue makes the expired deliveries of a queue in memory dead.
func (d *Dispatcher) expireQueue(q *queue) {
	r, old := d.scheduler.takeExpired(q)
	for _, en := range old {
		d.markExpired(q, r, en)
	}
}

// ExpireDeliveriesLoop runs ExpireDeliveries until the router stops.
func (d *Dispatcher) ExpireDeliveriesLoop() {
	d.life.RunEvery(lifecycle.ExpireEvery, d.ExpireDeliveries)
}

// ExpireDeliveries makes the deliveries in memory dead that have expired while their target was
// down or slow.
func (d *Dispatcher) ExpireDeliveries() {
	for _, q := range d.scheduler.all() {
		d.expireQueue(q)
	}
}

// spillToStore writes the row of a delivery that leaves memory, so that it waits in the store.
func (d *Dispatcher) spillToStore(q *queue, en dispatchqueue.Entry) {
	en.Release()
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

// readBacklog reads more of a queue's deliveries from the store; all means that there are no more.
func (d *Dispatcher) readBacklog(ctx context.Context, f *fetch) (entries []dispatchqueue.Entry, all bool, err error) {
	var rows []engine.Waiting
	limit := len(f.known) + fetchSize
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
		if f.ordered != nil && err == nil {
			en, err = d.withGroup(ctx, f.compiled, en)
		}
		entries = append(entries, en)
	}
	if err != nil {
		return nil, false, err
	}
	return entries, len(rows) < limit, nil
}

// RetryLoop queues failed deliveries when their next attempt is due.
func (d *Dispatcher) RetryLoop() {
	ctx := context.Background()
	for {
		n := d.enqueueDueRetries(ctx)
		wait := maxRetrySleep
		if n == retryBatch {
			wait = 0
		} else if due, err := d.store.NextDue(ctx); err == nil && !due.IsZero() {
			wait = min(max(due.Sub(d.cfg.Now()), time.Millisecond), maxRetrySleep)
		}
		if !d.sleepUntilRetry(wait) {
			return
		}
	}
}

// sleepUntilRetry sleeps for wait, or less if a retry is recorded that is due earlier; false means
// that the router stops. It measures by the monotonic clock: if cfg.Now is set back after a retry
// got its time, that retry must not prolong the sleep.
func (d *Dispatcher) sleepUntilRetry(wait time.Duration) bool {
	until := time.Now().Add(wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-d.life.Stopping():
			return false
		case <-timer.C:
			return true
		case due := <-d.retryWake:
			if at := time.Now().Add(due.Sub(d.cfg.Now())); at.Before(until) {
				until = at
				timer.Reset(max(time.Until(at), 0))
			}
		}
	}
}

// wakeRetries tells RetryLoop that a retry is due at a time; it never blocks.
func (d *Dispatcher) wakeRetries(due time.Time) {
	select {
	case d.retryWake <- due:
	default: // the loop is behind, and reads the store again anyway
	}
}

func (d *Dispatcher) enqueueDueRetries(ctx context.Context) int {
	defer d.scheduler.markDue(nil)
	rows, err := d.store.TakeDue(ctx, d.cfg.Now(), retryBatch, d.scheduler.markDue)
	if err != nil {
		d.log.Error("retries not read", "error", err)
		return 0
	}
	for _, w := range rows {
		d.enqueueDueRetry(ctx, w.ID.Subscription, entryOf(w))
	}
	return len(rows)
}

// enqueueDueRetry queues a delivery whose retry is due, unless a fetch or a user has queued it.
func (d *Dispatcher) enqueueDueRetry(ctx context.Context, subscription engine.ID, en dispatchqueue.Entry) {
	if r := d.catalog.Compiled(subscription); r != nil {
		var err error
		if en, err = d.withGroup(ctx, r, en); err != nil { // without a group, so that the ordered queue reads it again
			d.log.Error("event of a delivery not read", "delivery_id", engine.DeliveryID{Event: en.Event, Subscription: subscription}.String(), "error", err)
			en.SpecHash = 0
		}
	}
	known, q, list := d.scheduler.enqueueDue(subscription, en)
	if !known {
		d.markDead(subscription, en, engine.SubscriptionDeleted)
		return
	}
	d.settleDisplaced(q, list)
}

// SweepLoop runs Sweep until the router stops.
func (d *Dispatcher) SweepLoop() {
	d.life.RunEvery(sweepEvery, func() { d.Sweep(d.cfg.Now().Add(-lateAfter)) })
}

// Sweep raises the watermark, and writes rows for deliveries of events older than olderThan that
// have none.
func (d *Dispatcher) Sweep(olderThan time.Time) {
	watermark, late := d.tracker.Sweep(olderThan)
	if watermark > d.watermark {
		d.watermark = watermark
		d.store.SetWatermark(d.cfg.Node, watermark)
	}
	for _, f := range late {
		for _, slot := range d.tracker.Missing(f) {
			d.RecordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: f.ID, Subscription: f.Targets[slot]}, State: engine.StatePending}, func() { d.tracker.Record(f, slot) })
		}
	}
}

// Recover finds the deliveries that an earlier run accepted and did not finish: it writes the
// missing rows of events above the watermark, and marks every subscription with pending rows.
// RetryLoop finds the retries that are due.
func (d *Dispatcher) Recover(ctx context.Context) error {
	after, err := d.store.Watermark(ctx, d.cfg.Node)
	if err != nil {
		return err
	}
	found := 0
	for {
		events, err := d.store.Unfinished(ctx, d.cfg.Node, after, scanBatch)
		if err != nil {
			return err
		}
		var written sync.WaitGroup
		for _, ev := range events {
			after = max(after, ev.ID)
			for _, target := range ev.Targets {
				found++
				written.Add(1)
				d.RecordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: ev.ID, Subscription: target}, State: engine.StatePending}, written.Done)
			}
		}
		written.Wait()
		if len(events) < scanBatch {
			break
		}
	}
	if found > 0 {
		d.log.Info("deliveries recovered from an earlier run", "count", found)
	}
	d.scheduler.startOrderedFetches()
	waiting, err := d.store.BacklogSubscriptions(ctx)
	if err != nil {
		return err
	}
	for _, id := range waiting {
		if d.scheduler.markBacklog(id) {
			continue
		}
		if err := d.store.GiveUp(ctx, id, engine.SubscriptionDeleted); err != nil {
			return err
		}
	}
	return nil
}

// WaitForReplay makes a delivery pending, and queues it once that is on disk. Error: CodeNotFound
// if its event was removed meanwhile; then nothing has changed.
func (d *Dispatcher) WaitForReplay(ctx context.Context, id engine.DeliveryID, attempts int, reason string) error {
	now := d.life.Now()
	en := dispatchqueue.Entry{Event: id.Event, Attempts: attempts, RequestedAt: now}
	if r := d.catalog.Compiled(id.Subscription); r != nil {
		var err error
		if en, err = d.withGroup(ctx, r, en); err != nil {
			return err
		}
	}
	recorded := make(chan error, 1)
	o := &engine.Outcome{ID: id, State: engine.StatePending, Attempts: attempts, Error: reason, RenewedAt: now}
	d.recordOutcomeUnless(o, func() {
		en.Position = o.Position
		switch known, q, list := d.scheduler.enqueueManualRetry(id.Subscription, en); { // this callback must not call the store
		case !known: // deleted while the row was being written
			d.writes.Go(func() { d.markDead(id.Subscription, en, engine.SubscriptionDeleted) })
		case list != nil:
			d.writes.Go(func() { d.settleDisplaced(q, list) })
		}
		recorded <- nil
	}, func(err error) { recorded <- err })
	select {
	case err := <-recorded:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}
