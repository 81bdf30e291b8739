package dispatch

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
)

const (
	// openAfter is the number of attempts in a row with an unavailable target that open its
	// circuit. A 5xx answer that one event may cause counts once for each event.
	openAfter = 5
	// firstProbe is the delay of the first probe; it doubles with each, up to lastProbe.
	firstProbe = time.Second
	lastProbe  = 5 * time.Minute
)

// circuitBreaker stops the deliveries to a target that is down: while it is open only one probe
// at a time is sent, and deliveries wait without using up attempts.
//
//	state    fields               next
//	closed   NextProbeAt zero     open after openAfter unavailable answers in a row
//	open     NextProbeAt set      probing at NextProbeAt
//	probing  probe != 0           closed if the target answers, even by a refusal; otherwise open,
//	                              with twice the delay
//
// The libraries we looked at use their own clock and can't restore an open circuit after a
// restart (sony/gobreaker 2.4.0, which also has one fixed delay; failsafe-go 0.9.8).
type circuitBreaker struct {
	engine.Health
	consecutiveFailures int         // attempts in a row with an unavailable target
	failedEvents        []engine.ID // events that were counted once and may themselves be the cause
	probe               engine.ID   // the event in flight as a probe; 0: none
}

// open reports whether only probes may be sent.
func (c *circuitBreaker) open() bool { return !c.NextProbeAt.IsZero() }

// allows reports whether an attempt may start, not considering the time.
func (c *circuitBreaker) allows() bool { return !c.open() || c.probe == 0 }

// probeAt returns the time of the next probe. NextProbeAt is stored as wall-clock time: a clock
// that was set back since must not delay it.
func (c *circuitBreaker) probeAt(now time.Time) time.Time {
	if c.NextProbeAt.Sub(now) > c.ProbeDelay {
		return time.Time{}
	}
	return c.NextProbeAt
}

// attemptStarted records that an attempt starts.
func (c *circuitBreaker) attemptStarted(event engine.ID) {
	if c.open() {
		c.probe = event
	}
}

// attemptFinished records that an attempt is over, and reports whether it was the probe.
func (c *circuitBreaker) attemptFinished(event engine.ID) (probe bool) {
	if probe = c.probe == event && event != 0; probe {
		c.probe = 0
	}
	return probe
}

// transition is the change of a target's health by one attempt.
type transition struct {
	health         engine.Health // before a success; after a failure, which it counts
	closed         bool          // the attempt closed an open circuit
	recovered      bool          // the target failed for recoveredAfter or longer and succeeded now
	failingTooLong bool          // the subscription must be deactivated
}

// observe updates the circuit by the result of an attempt. Any answer closes the circuit, even a
// refusal: the target refuses this one request only.
func (c *circuitBreaker) observe(v retry.Decision, event engine.ID, probe bool, now time.Time) (n transition) {
	now = now.UTC().Truncate(time.Microsecond) // the precision of the store
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
		if !v.Overloaded { // such as a 500, repeated for one event that the target can't process
			if slices.Contains(c.failedEvents, event) {
				break
			}
			c.failedEvents = append(c.failedEvents, event)
		}
		if c.consecutiveFailures++; c.consecutiveFailures >= openAfter {
			c.ProbeDelay = firstProbe
			c.NextProbeAt = now.Add(c.ProbeDelay)
		}
	case probe: // other attempts started before the circuit opened
		c.ProbeDelay = min(2*c.ProbeDelay, lastProbe)
		c.NextProbeAt = now.Add(c.ProbeDelay)
	}
	n.health = c.Health
	return n
}

// reset closes the circuit: the target is new, or the subscription was reactivated.
func (c *circuitBreaker) reset() {
	*c = circuitBreaker{Health: engine.Health{Subscription: c.Subscription, ResumedAt: c.ResumedAt}}
}
