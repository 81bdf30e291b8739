package dispatch

import (
	"context"

	"slices"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

// reportDeadLetter emits the operational event of a dead letter, unless the dead letter is the
// delivery of an operational event itself.
func (d *Dispatcher) reportDeadLetter(r *catalog.CompiledSubscription, en dispatchqueue.Entry, reason string) {
	if !d.outbox.WantsDeadLetters(r.Sub.Account) {
		return
	}
	ev, err := d.loadEvent(context.Background(), en)
	if err == nil && !engine.Operational(ev.Type) {
		d.outbox.CountDeadLetter(r, ev, reason)
	}
}

// isOperationalEvent reports whether en is the delivery of an operational event. The outcome of
// those emits no operational event: two dead targets would report each other for ever.
func (d *Dispatcher) isOperationalEvent(r *catalog.CompiledSubscription, en dispatchqueue.Entry) bool {
	if !slices.ContainsFunc(r.Sub.Events, engine.Operational) {
		return false
	}
	ev, err := d.loadEvent(context.Background(), en)
	return err != nil || engine.Operational(ev.Type)
}
