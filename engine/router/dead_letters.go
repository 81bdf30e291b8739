package router

import (
	"context"

	"slices"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
)

// reportDeadLetter tells the account of a dead letter, unless that is an operational event itself.
func (d *Dispatcher) reportDeadLetter(r *compiledSubscription, en dispatchqueue.Entry, reason string) {
	if d.outbox.wantsDeadLetters(r.sub.Account) && !d.isOperationalEvent(r, en) {
		d.outbox.countDeadLetter(r, en, reason)
	}
}

// isOperationalEvent tells whether en is the delivery of an operational event. What becomes
// of those raises none in turn: two dead targets would go on about each other for ever.
func (d *Dispatcher) isOperationalEvent(r *compiledSubscription, en dispatchqueue.Entry) bool {
	if !slices.ContainsFunc(r.sub.Events, engine.Operational) {
		return false
	}
	ev, err := d.loadEvent(context.Background(), en)
	return err != nil || engine.Operational(ev.Type)
}
