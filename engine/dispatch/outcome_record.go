package dispatch

import (
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"time"
)

// unrecordedEvery is the shortest time between two log lines of logUnrecorded.
const unrecordedEvery = 10 * time.Second

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
	d.log.Error("outcomes not recorded: writing them is retried until they are", "outcomes", d.writes.Count(), "delivery_id", o.ID.String(),
		"event_id", o.ID.Event.Format(engine.EventPrefix), "subscription_id", o.ID.Subscription.Format(engine.SubscriptionPrefix), "error", err)
}

// markDead records that a delivery is dead that no queue holds any more, such as one whose
// subscription was deleted. It reports no dead letter.
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
