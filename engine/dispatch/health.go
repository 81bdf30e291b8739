package dispatch

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/retry"
)

// recoveredAfter is how long a target must have failed for its recovery to be reported.
const recoveredAfter = time.Minute

const healthEvery = time.Second // interval of SaveHealth

// Health returns the health of a subscription.
func (d *Dispatcher) Health(id engine.ID) engine.Health {
	d.scheduler.mu.Lock()
	defer d.scheduler.mu.Unlock()
	if q := d.scheduler.queues[id]; q != nil {
		h := q.compiled.Health(q.circuit.Health)
		h.WaitsFor = d.scheduler.waitsFor(q)
		return h
	}
	return engine.Health{Subscription: id}
}

// HealthLoop writes the health of targets that changed, so that a restart neither forgets how long
// a target has failed nor floods it.
func (d *Dispatcher) HealthLoop() { d.life.RunEvery(healthEvery, d.SaveHealth) }

// SaveHealth writes the health of targets that changed.
func (d *Dispatcher) SaveHealth() {
	changed := d.scheduler.takeDirtyHealth()
	if len(changed) == 0 {
		return
	}
	if err := d.store.PutHealth(context.Background(), changed); err != nil {
		d.log.Error("health of targets not recorded", "error", err)
		d.scheduler.restoreDirtyHealth(changed)
	}
}

// applyTransition deactivates a subscription, or reports its recovery, after an attempt. quiet
// suppresses the operational events.
func (d *Dispatcher) applyTransition(r *catalog.CompiledSubscription, v retry.Decision, n transition, quiet bool) {
	switch {
	case v.Deactivate:
		d.catalog.Deactivate(r, "the target answered 410 Gone", quiet)
	case n.failingTooLong:
		d.catalog.Deactivate(r, "every attempt has failed since "+n.health.FailingSince.Format(time.RFC3339)+"; the last: "+n.health.LastError, quiet)
	case n.recovered && !quiet:
		d.outbox.EmitRecovered(r, n.health)
	}
}
