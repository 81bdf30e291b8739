package router

import (
	"context"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
)

const (
	// lateAfter is how long a delivery may go without a row; then one is written, so that
	// a crash recovery need not look further back.
	lateAfter        = time.Second
	sweepEvery       = 250 * time.Millisecond
	retryBatch       = 500
	maxRetrySleep    = 5 * time.Second // between two looks for retries that are due
	recordRetryDelay = time.Second     // after a store that could not write
	// unrecordedEvery spaces what is said about that.
	unrecordedEvery = 10 * time.Second
	scanBatch       = 1000
	expireEvery     = 15 * time.Second
)

// recordOutcome hands an outcome to the store; then runs once it is on disk. A store that can't
// write is asked again until it can or the router stops: until then the delivery counts
// as unsettled, and a next run makes the attempt again.
func (e *Engine) recordOutcome(o *engine.Outcome, then func()) { e.recordOutcomeUnless(o, then, nil) }

// recordOutcomeUnless does so; where the store refuses the outcome, refused runs instead.
func (e *Engine) recordOutcomeUnless(o *engine.Outcome, then func(), refused func(error)) {
	e.writes.Add()
	e.store.Record(o, func(err error) {
		if err == nil {
			then()
			e.writes.Done()
			return
		}
		if refused != nil && engine.ErrorCode(err) == engine.CodeNotFound {
			refused(err)
			e.writes.Done()
			return
		}
		e.logUnrecorded(o, err)
		time.AfterFunc(recordRetryDelay, func() {
			if !e.isStopping() {
				e.recordOutcomeUnless(o, then, refused)
			}
			e.writes.Done()
		})
	})
}

// logUnrecorded tells that outcomes can't be written: one of them, and how many there are.
// Each is tried again every second, by the thousand where the store is down for long.
func (e *Engine) logUnrecorded(o *engine.Outcome, err error) {
	now := time.Now().UnixNano()
	if last := e.unrecordedLogged.Load(); now-last < int64(unrecordedEvery) || !e.unrecordedLogged.CompareAndSwap(last, now) {
		return
	}
	e.log.Error("outcomes not recorded: they are tried again until they are", "outcomes", e.writes.Count(), "delivery_id", o.ID.String(),
		"event_id", o.ID.Event.Format(engine.EventPrefix), "subscription_id", o.ID.Subscription.Format(engine.SubscriptionPrefix), "error", err)
}

// markDead makes a delivery dead without another attempt.
func (e *Engine) markDead(subscription engine.ID, en dispatchqueue.Entry, reason string) {
	en.Release()
	e.metrics.givenUp.Inc()
	e.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: en.Event, Subscription: subscription}, State: engine.StateDead, Attempts: en.Attempts, Error: reason}, func() { e.markRecorded(en) })
}

// markExpired makes a delivery dead whose event is too old.
func (e *Engine) markExpired(q *queue, r *compiledSubscription, en dispatchqueue.Entry) {
	en.Release()
	reason := "the event is older than give_up_after (" + r.policy.giveUpAfter.String() + ")"
	e.metrics.givenUp.Inc()
	e.countDeadLetter(r, en, reason)
	e.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: en.Event, Subscription: r.sub.ID}, State: engine.StateDead, Attempts: en.Attempts, Error: reason}, func() {
		e.scheduler.committed(q, en.Event)
		e.markRecorded(en)
	})
}

// expireQueue gives up what has waited too long in a queue's memory.
func (e *Engine) expireQueue(q *queue) {
	r, old := e.scheduler.takeExpired(q)
	for _, en := range old {
		e.markExpired(q, r, en)
	}
}

// expireDeliveriesLoop gives up what waits for a target that is down or slow and became too old, and
// forgets what nobody needs any more.
func (e *Engine) expireDeliveriesLoop() {
	e.runEvery(expireEvery, func() {
		e.expireDeliveries()
		e.quotas.dropIdle(e.cfg.Now())
		e.forgetUnused()
	})
}

func (e *Engine) expireDeliveries() {
	for _, q := range e.scheduler.all() {
		e.expireQueue(q)
	}
}

// spillToStore lets a delivery wait in the store, since its queue is full.
func (e *Engine) spillToStore(q *queue, en dispatchqueue.Entry) {
	en.Release()
	e.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: en.Event, Subscription: q.id}, State: engine.StatePending}, func() {
		e.markRecorded(en)
		if !e.scheduler.spillRecorded(q, en.Event) { // deleted while the row was on its way
			e.writes.Go(func() { e.markDead(q.id, dispatchqueue.Entry{Event: en.Event}, subscriptionDeleted) }) // here the store must not be waited for
		}
	})
}

// fetchBacklog reads more of a queue's deliveries from the store. scheduler.mu is held.
func (e *Engine) fetchBacklog(q *queue) {
	e.tasks.Go(func() {
		known := e.scheduler.inMemoryIDs(q)
		limit := len(known) + fetchSize
		rows, err := e.store.Backlog(context.Background(), q.id, limit)
		if err != nil {
			e.log.Error("waiting deliveries not read", "subscription_id", q.id.Format(engine.SubscriptionPrefix), "error", err)
			select { // fetched asks again at once
			case <-e.stop:
			case <-time.After(recordRetryDelay):
			}
			e.scheduler.completeFetch(q, nil, false)
			return
		}
		entries := make([]dispatchqueue.Entry, 0, len(rows))
		for _, w := range rows {
			if !known[w.ID.Event] {
				entries = append(entries, dispatchqueue.Entry{Event: w.ID.Event, Attempts: w.Attempts, RequestedAt: w.RenewedAt})
			}
		}
		e.scheduler.completeFetch(q, entries, len(rows) < limit)
		e.expireQueue(q)
	})
}

// retryLoop queues failed deliveries when their next attempt is due.
func (e *Engine) retryLoop() {
	ctx := context.Background()
	for {
		n := e.enqueueDueRetries(ctx)
		wait := maxRetrySleep
		if n == retryBatch {
			wait = 0
		} else if due, err := e.store.NextDue(ctx); err == nil && !due.IsZero() {
			wait = min(max(due.Sub(e.cfg.Now()), time.Millisecond), maxRetrySleep)
		}
		if !e.sleepUntilRetry(wait) {
			return
		}
	}
}

// sleepUntilRetry waits, shorter if a retry is recorded that is due earlier; false says
// that the router stops.
func (e *Engine) sleepUntilRetry(wait time.Duration) bool {
	until := e.cfg.Now().Add(wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-e.stop:
			return false
		case <-timer.C:
			return true
		case due := <-e.retryWake:
			if due.Before(until) {
				until = due
				timer.Reset(max(due.Sub(e.cfg.Now()), 0))
			}
		}
	}
}

// wakeRetries says that a retry is due at a time; it never blocks.
func (e *Engine) wakeRetries(due time.Time) {
	select {
	case e.retryWake <- due:
	default: // the loop is far behind, and looks again by itself
	}
}

func (e *Engine) enqueueDueRetries(ctx context.Context) int {
	defer e.scheduler.markDue(nil)
	rows, err := e.store.TakeDue(ctx, e.cfg.Now(), retryBatch, e.scheduler.markDue)
	if err != nil {
		e.log.Error("retries not read", "error", err)
		return 0
	}
	for _, w := range rows {
		e.enqueueDueRetry(ctx, w.ID.Subscription, dispatchqueue.Entry{Event: w.ID.Event, Attempts: w.Attempts, RequestedAt: w.RenewedAt})
	}
	return len(rows)
}

// enqueueDueRetry queues a delivery whose retry is due, unless it is in other hands by now.
func (e *Engine) enqueueDueRetry(ctx context.Context, subscription engine.ID, en dispatchqueue.Entry) {
	if r := e.registry.compiledSubscription(subscription); r != nil {
		var err error
		if en, err = e.withGroup(ctx, r, en); err != nil { // then without a group, so that the line reads it again
			e.log.Error("event of a delivery not read", "delivery_id", engine.DeliveryID{Event: en.Event, Subscription: subscription}.String(), "error", err)
			en.SpecHash = 0
		}
	}
	known, q, list := e.scheduler.enqueueDue(subscription, en)
	if !known {
		e.markDead(subscription, en, subscriptionDeleted)
		return
	}
	e.settleDisplaced(q, list)
}

// sweepLoop keeps the watermark close behind the events.
func (e *Engine) sweepLoop() {
	e.runEvery(sweepEvery, func() { e.sweep(e.cfg.Now().Add(-lateAfter)) })
}

func (e *Engine) sweep(olderThan time.Time) {
	watermark, late := e.tracker.Sweep(olderThan)
	if watermark > e.watermark {
		e.watermark = watermark
		e.store.SetWatermark(watermark)
	}
	for _, f := range late {
		for _, slot := range e.tracker.Missing(f) {
			e.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: f.ID, Subscription: f.Targets[slot]}, State: engine.StatePending}, func() { e.tracker.Record(f, slot) })
		}
	}
}

// recover finds what an earlier run accepted and did not finish: targets of events above
// the watermark that have no row get one, and every subscription with pending rows is
// told so. Retries that are due come by themselves.
func (e *Engine) recover(ctx context.Context) error {
	after, err := e.store.Watermark(ctx)
	if err != nil {
		return err
	}
	found := 0
	for {
		events, err := e.store.Unfinished(ctx, after, scanBatch)
		if err != nil {
			return err
		}
		var written sync.WaitGroup
		for _, ev := range events {
			after = max(after, ev.ID)
			for _, target := range ev.Targets {
				found++
				written.Add(1)
				e.recordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: ev.ID, Subscription: target}, State: engine.StatePending}, written.Done)
			}
		}
		written.Wait()
		if len(events) < scanBatch {
			break
		}
	}
	if found > 0 {
		e.log.Info("deliveries recovered from an earlier run", "count", found)
	}
	e.scheduler.startOrderedFetches()
	waiting, err := e.store.BacklogSubscriptions(ctx)
	if err != nil {
		return err
	}
	for _, id := range waiting {
		if e.scheduler.markBacklog(id) {
			continue
		}
		if err := e.store.GiveUp(ctx, id, subscriptionDeleted); err != nil {
			return err
		}
	}
	return nil
}
