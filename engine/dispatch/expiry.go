package dispatch

import (
	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/durationtext"
	"switchhook/engine/lifecycle"
)

// markExpired makes a delivery dead that left q because its event is too old, and reports a dead
// letter.
func (d *Dispatcher) markExpired(q *queue, r *catalog.CompiledSubscription, en dispatchqueue.Entry) {
	reason := "the event is older than give_up_after (" + durationtext.Format(r.Policy.GiveUpAfter) + ")"
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
