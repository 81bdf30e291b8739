package engine

import (
	"time"
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
	// MinFailuresToDeactivate must have failed, at least, before a subscription is switched off
	// for it: one that gets an event a month is not judged by the first that fails.
	MinFailuresToDeactivate = 5
)

// FailingTooLong tells whether nothing but failure came for so long; never where long is 0.
func (h Health) FailingTooLong(long time.Duration, now time.Time) bool {
	return long > 0 && h.Failures >= MinFailuresToDeactivate && !now.Before(h.FailingSince.Add(long))
}

// HealthCause names what a subscription fails for.
type HealthCause string

// The causes.
const (
	CauseTarget       HealthCause = "target"
	CauseTransform    HealthCause = "transform"
	CauseFilter       HealthCause = "filter"
	CauseSubscription HealthCause = "subscription" // as it is stored it can't be used
)

// HealthCauses are all causes.
var HealthCauses = []HealthCause{CauseTarget, CauseTransform, CauseFilter, CauseSubscription}
