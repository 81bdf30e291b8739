package dispatch

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
)

const (
	// openAfter attempts in a row that say the target is down open its circuit. Answers of
	// 5xx that may be for one event's sake count once for each event.
	openAfter = 5
	// Probes are spaced by firstProbe and then twice as far each, up to lastProbe.
	firstProbe = time.Second
	lastProbe  = 5 * time.Minute
)

// circuitBreaker breaks off the deliveries to a target that is down: while it is open nothing
// goes out but one probe at a time, and deliveries wait with their attempts unspent.
//
// The libraries looked at keep a clock of their own and can't take up an open circuit
// after a restart (sony/gobreaker 2.4.0, which has one fixed delay as well;
// failsafe-go 0.9.8).
type circuitBreaker struct {
	engine.Health
	consecutiveFailures int         // attempts in a row that said the target is down
	failedEvents        []engine.ID // events of which one of them may have been the fault
	probe               engine.ID   // the event that is out as a probe; 0: none
}

// backlogInMemory tells whether only probes may go.
func (c *circuitBreaker) open() bool { return !c.NextProbeAt.IsZero() }

// allows tells whether an attempt may begin, time aside.
func (c *circuitBreaker) allows() bool { return !c.open() || c.probe == 0 }

// probeAt is when the next probe may go. NextProbeAt is stored, and so a time of day: a
// clock that was set back since must not put it off.
func (c *circuitBreaker) probeAt(now time.Time) time.Time {
	if c.NextProbeAt.Sub(now) > c.ProbeDelay {
		return time.Time{}
	}
	return c.NextProbeAt
}

// attemptStarted notes that an attempt begins.
func (c *circuitBreaker) attemptStarted(event engine.ID) {
	if c.open() {
		c.probe = event
	}
}

// attemptFinished notes that an attempt that began is over, whatever came of it.
func (c *circuitBreaker) attemptFinished(event engine.ID) (probe bool) {
	if probe = c.probe == event && event != 0; probe {
		c.probe = 0
	}
	return probe
}

// transition is what an attempt told beyond its own delivery.
type transition struct {
	health         engine.Health // before a success; with this failure counted otherwise
	closed         bool          // the circuit was open, and is no more
	recovered      bool          // the target failed for long, and took a delivery now
	failingTooLong bool          // it has failed for too long
}

// applyTransition takes over what an attempt said of the target. A target that answers closes the
// circuit even where it refuses: what it refuses is this one request.
func (c *circuitBreaker) observe(v retry.Decision, event engine.ID, probe bool, now time.Time) (n transition) {
	now = now.UTC().Truncate(time.Microsecond) // as it is stored
	n.health = c.Health
	switch v.Signal {
	case retry.SignalUnknown:
		return n
	case retry.SignalHealthy:
		n.recovered = c.open() && now.Sub(c.FailingSince) >= recoveredAfter
		n.closed = c.open()
		c.consecutiveFailures, c.failedEvents = 0, nil
		c.Health = engine.Health{Subscription: c.Subscription, ResumedAt: c.ResumedAt}
		return n
	}
	if c.FailingSince.IsZero() {
		c.FailingSince = now
	}
	c.Failures++
	c.LastError = v.Reason
	switch {
	case v.Signal == retry.SignalRejecting:
		n.closed = c.open()
		c.consecutiveFailures, c.failedEvents, c.NextProbeAt, c.ProbeDelay = 0, nil, time.Time{}, 0
	case !c.open():
		if !v.Overloaded { // such as a 500, again and again for one event that the target can't take
			if slices.Contains(c.failedEvents, event) {
				break
			}
			c.failedEvents = append(c.failedEvents, event)
		}
		if c.consecutiveFailures++; c.consecutiveFailures >= openAfter {
			c.ProbeDelay = firstProbe
			c.NextProbeAt = now.Add(c.ProbeDelay)
		}
	case probe: // the others had set out before the circuit opened
		c.ProbeDelay = min(2*c.ProbeDelay, lastProbe)
		c.NextProbeAt = now.Add(c.ProbeDelay)
	}
	n.health = c.Health
	return n
}

// reset starts over, with another target or after the subscription was switched on again.
func (c *circuitBreaker) reset() {
	*c = circuitBreaker{Health: engine.Health{Subscription: c.Subscription, ResumedAt: c.ResumedAt}}
}
