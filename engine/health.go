package engine

import (
	"context"
	"time"

	"switchhook/engine/retry"
)

// Health is how the target of a subscription fares or, while nothing is wrong with that, what
// comes before it is asked. The zero Health is a target's that took what it was sent last, or
// was sent nothing yet.
type Health struct {
	Subscription ID
	FailingSince time.Time     // the first failure after the last success; zero: none
	Failures     int           // attempts that failed since
	LastError    string        // of them
	NextProbeAt  time.Time     // while the circuit is open; zero: it is closed
	ProbeDelay   time.Duration // that NextProbeAt was set with
	ResumedAt    time.Time     // when the subscription was last switched on again

	// Cause is what the failures above are of. It is not stored; empty: there are none.
	Cause HealthCause
}

// HealthState is Health in one word.
type HealthState string

// The states of health.
const (
	HealthHealthy HealthState = "healthy" // the last attempt succeeded, or there was none
	HealthFailing HealthState = "failing" // nothing has succeeded for a while; attempts go on
	HealthProbing HealthState = "probing" // the circuit is open: only probes go out
)

// State sums h up.
func (h Health) State() HealthState {
	switch {
	case !h.NextProbeAt.IsZero():
		return HealthProbing
	case !h.FailingSince.IsZero():
		return HealthFailing
	}
	return HealthHealthy
}

const (
	// minFailuresToDeactivate must have failed, at least, before a subscription is switched off
	// for it: one that gets an event a month is not judged by the first that fails.
	minFailuresToDeactivate = 5
	// recoveredAfter is how long a target must have failed for its recovery to be news.
	recoveredAfter = time.Minute
	healthEvery    = time.Second // between two writings of what changed
)

// failingTooLong tells whether nothing but failure came for so long; never where long is 0.
func (h Health) failingTooLong(long time.Duration, now time.Time) bool {
	return long > 0 && h.Failures >= minFailuresToDeactivate && !now.Before(h.FailingSince.Add(long))
}

// Health gives how a subscription fares.
func (e *Engine) Health(id ID) Health {
	e.scheduler.mu.Lock()
	defer e.scheduler.mu.Unlock()
	if q := e.scheduler.queues[id]; q != nil {
		return q.compiled.health(q.circuit.Health)
	}
	return Health{Subscription: id}
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
