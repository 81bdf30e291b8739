package engine

import (
	"context"
	"sync"
	"time"

	"switchhook/engine/order"
)

const (
	// lateAfter is how long a delivery may go without a row; then one is written, so that
	// a crash recovery need not look further back.
	lateAfter   = time.Second
	sweepEvery  = 250 * time.Millisecond
	retryBatch  = 500
	retryAtMost = 5 * time.Second // between two looks for retries that are due
	recordAgain = time.Second     // after a store that could not write
	// unrecordedEvery spaces what is said about that.
	unrecordedEvery = 10 * time.Second
	scanBatch       = 1000
	expireEvery     = 15 * time.Second
)

// record hands an outcome to the store; then runs once it is on disk. A store that can't
// write is asked again until it can or the router stops: until then the delivery counts
// as unsettled, and a next run makes the attempt again.
func (e *Engine) record(o *Outcome, then func()) { e.recordUnless(o, then, nil) }

// recordUnless does so; where the store refuses the outcome, refused runs instead.
func (e *Engine) recordUnless(o *Outcome, then func(), refused func(error)) {
	e.records.begin()
	e.store.Record(o, func(err error) {
		if err == nil {
			then()
			e.records.end()
			return
		}
		if refused != nil && ErrorCode(err) == CodeNotFound {
			refused(err)
			e.records.end()
			return
		}
		e.logUnrecorded(o, err)
		time.AfterFunc(recordAgain, func() {
			if !e.closing() {
				e.recordUnless(o, then, refused)
			}
			e.records.end()
		})
	})
}

// logUnrecorded tells that outcomes can't be written: one of them, and how many there are.
// Each is tried again every second, by the thousand where the store is down for long.
func (e *Engine) logUnrecorded(o *Outcome, err error) {
	now := time.Now().UnixNano()
	if last := e.unrecordedLogged.Load(); now-last < int64(unrecordedEvery) || !e.unrecordedLogged.CompareAndSwap(last, now) {
		return
	}
	e.log.Error("outcomes not recorded: they are tried again until they are", "outcomes", e.records.count(), "delivery_id", o.ID.String(),
		"event_id", o.ID.Event.Format(EventPrefix), "subscription_id", o.ID.Subscription.Format(SubscriptionPrefix), "error", err)
}

// giveUp makes a delivery dead without another attempt.
func (e *Engine) giveUp(subscription ID, en order.Entry, reason string) {
	en.Release()
	e.metrics.givenUp.Inc()
	e.record(&Outcome{ID: DeliveryID{en.Event, subscription}, State: StateDead, Attempts: en.Attempts, Error: reason}, func() { e.recorded(en) })
}

// giveUpOld makes a delivery dead whose event is too old.
func (e *Engine) giveUpOld(q *queue, r *route, en order.Entry) {
	en.Release()
	reason := "the event is older than give_up_after (" + r.terms.giveUpAfter.String() + ")"
	e.metrics.givenUp.Inc()
	e.noteDead(r, en, reason)
	e.record(&Outcome{ID: DeliveryID{en.Event, r.sub.ID}, State: StateDead, Attempts: en.Attempts, Error: reason}, func() {
		e.scheduler.settle(q, en.Event)
		e.recorded(en)
	})
}

// expire gives up what has waited too long in a queue's memory.
func (e *Engine) expire(q *queue) {
	r, old := e.scheduler.takeOld(q)
	for _, en := range old {
		e.giveUpOld(q, r, en)
	}
}

// expireLoop gives up what waits for a target that is down or slow and became too old, and
// forgets what nobody needs any more.
func (e *Engine) expireLoop() {
	e.every(expireEvery, func() {
		e.expireAll()
		e.meters.dropIdle(e.cfg.Now())
		e.forgetUnused()
	})
}

func (e *Engine) expireAll() {
	for _, q := range e.scheduler.all() {
		e.expire(q)
	}
}

// spill lets a delivery wait in the store, since its queue is full.
func (e *Engine) spill(q *queue, en order.Entry) {
	en.Release()
	e.record(&Outcome{ID: DeliveryID{en.Event, q.id}, State: StatePending}, func() {
		e.recorded(en)
		if !e.scheduler.spilled(q, en.Event) { // deleted while the row was on its way
			e.records.Go(func() { e.giveUp(q.id, order.Entry{Event: en.Event}, subscriptionDeleted) }) // here the store must not be waited for
		}
	})
}

// goFetch reads more of a queue's deliveries from the store. scheduler.mu is held.
func (e *Engine) goFetch(q *queue) {
	e.background.Go(func() {
		known := e.scheduler.known(q)
		limit := len(known) + fetchSize
		rows, err := e.store.Backlog(context.Background(), q.id, limit)
		if err != nil {
			e.log.Error("waiting deliveries not read", "subscription_id", q.id.Format(SubscriptionPrefix), "error", err)
			select { // fetched asks again at once
			case <-e.stop:
			case <-time.After(recordAgain):
			}
			e.scheduler.fetched(q, nil, false)
			return
		}
		entries := make([]order.Entry, 0, len(rows))
		for _, w := range rows {
			if !known[w.ID.Event] {
				entries = append(entries, order.Entry{Event: w.ID.Event, Attempts: w.Attempts, Renewed: w.RenewedAt})
			}
		}
		e.scheduler.fetched(q, entries, len(rows) < limit)
		e.expire(q)
	})
}

// retryLoop queues failed deliveries when their next attempt is due.
func (e *Engine) retryLoop() {
	ctx := context.Background()
	for {
		n := e.takeDue(ctx)
		wait := retryAtMost
		if n == retryBatch {
			wait = 0
		} else if due, err := e.store.NextDue(ctx); err == nil && !due.IsZero() {
			wait = min(max(due.Sub(e.cfg.Now()), time.Millisecond), retryAtMost)
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

func (e *Engine) takeDue(ctx context.Context) int {
	defer e.scheduler.expect(nil)
	rows, err := e.store.TakeDue(ctx, e.cfg.Now(), retryBatch, e.scheduler.expect)
	if err != nil {
		e.log.Error("retries not read", "error", err)
		return 0
	}
	for _, w := range rows {
		e.queueDue(ctx, w.ID.Subscription, order.Entry{Event: w.ID.Event, Attempts: w.Attempts, Renewed: w.RenewedAt})
	}
	return len(rows)
}

// queueDue queues a delivery whose retry is due, unless it is in other hands by now.
func (e *Engine) queueDue(ctx context.Context, subscription ID, en order.Entry) {
	if r := e.registry.route(subscription); r != nil {
		var err error
		if en, err = e.regrouped(ctx, r, en); err != nil { // then without a group, so that the line reads it again
			e.log.Error("event of a delivery not read", "delivery_id", DeliveryID{en.Event, subscription}.String(), "error", err)
			en.Mark = 0
		}
	}
	known, q, list := e.scheduler.addDue(subscription, en)
	if !known {
		e.giveUp(subscription, en, subscriptionDeleted)
		return
	}
	e.setAside(q, list)
}

// sweepLoop keeps the watermark close behind the events.
func (e *Engine) sweepLoop() {
	e.every(sweepEvery, func() { e.sweep(e.cfg.Now().Add(-lateAfter)) })
}

func (e *Engine) sweep(olderThan time.Time) {
	watermark, late := e.tracker.Sweep(olderThan)
	if watermark > e.watermark {
		e.watermark = watermark
		e.store.SetWatermark(watermark)
	}
	for _, f := range late {
		for _, slot := range e.tracker.Missing(f) {
			e.record(&Outcome{ID: DeliveryID{f.ID, f.Targets[slot]}, State: StatePending}, func() { e.tracker.Record(f, slot) })
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
				e.record(&Outcome{ID: DeliveryID{ev.ID, target}, State: StatePending}, written.Done)
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
	e.scheduler.begin()
	waiting, err := e.store.BacklogSubscriptions(ctx)
	if err != nil {
		return err
	}
	for _, id := range waiting {
		if e.scheduler.more(id) {
			continue
		}
		if err := e.store.GiveUp(ctx, id, subscriptionDeleted); err != nil {
			return err
		}
	}
	return nil
}
