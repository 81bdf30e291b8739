package router

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
)

// recoveredAfter is how long a target must have failed for its recovery to be news.
const recoveredAfter = time.Minute

const healthEvery = time.Second // between two writings of what changed

// Health gives how a subscription fares.
func (e *Engine) Health(id engine.ID) engine.Health {
	e.scheduler.mu.Lock()
	defer e.scheduler.mu.Unlock()
	if q := e.scheduler.queues[id]; q != nil {
		return q.compiled.health(q.circuit.Health)
	}
	return engine.Health{Subscription: id}
}

// healthLoop writes down what has changed, so that a restart neither forgets how long a
// target has failed nor floods it.
func (e *Engine) healthLoop() { e.runEvery(healthEvery, e.saveHealth) }

func (e *Engine) saveHealth() {
	changed := e.scheduler.takeDirtyHealth()
	if len(changed) == 0 {
		return
	}
	if err := e.store.PutHealth(context.Background(), changed); err != nil {
		e.log.Error("health of targets not recorded", "error", err)
		e.scheduler.restoreDirtyHealth(changed)
	}
}

// applyTransition acts on what an attempt told of its target beyond its own delivery. quiet keeps the
// operational events back.
func (e *Engine) applyTransition(r *compiledSubscription, v retry.Decision, n transition, quiet bool) {
	switch {
	case v.Deactivate:
		e.deactivate(r, "the target answered 410 Gone", quiet)
	case n.failingTooLong:
		e.deactivate(r, "every attempt has failed since "+n.health.FailingSince.Format(time.RFC3339)+"; the last: "+n.health.LastError, quiet)
	case n.recovered && !quiet:
		e.emitRecovered(r, n.health)
	}
}
