package engine

import (
	"time"
)

// Health is the state of a subscription's target or, if that responds, of the steps before the
// request. The zero Health means that the last attempt succeeded, or that there was none.
type Health struct {
	Subscription ID
	FailingSince time.Time     // the first failure after the last success; zero: none
	Failures     int           // failed attempts since then
	LastError    string        // of these attempts
	NextProbeAt  time.Time     // while the circuit is open; zero: it is closed
	ProbeDelay   time.Duration // the delay that led to NextProbeAt
	ResumedAt    time.Time     // when the subscription was last reactivated

	// Cause is the cause of the failures. It is not stored; empty: there are none.
	Cause HealthCause
	// WaitsFor is the limit that the next delivery waits for. It is not stored; empty: for none of them.
	WaitsFor SharedLimit
}

// SharedLimit is a limit of attempts that several subscriptions share.
type SharedLimit string

// The shared limits.
const (
	LimitAccount SharedLimit = "account" // attempts of the account in flight
	LimitHost    SharedLimit = "host"    // attempts of the account to the target's host
)

// SharedLimits lists all shared limits.
var SharedLimits = []SharedLimit{LimitAccount, LimitHost}

// HealthState summarizes Health.
type HealthState string

// The states of health.
const (
	HealthHealthy HealthState = "healthy" // the last attempt succeeded, or there was none
	HealthFailing HealthState = "failing" // no success for a while; attempts continue
	HealthProbing HealthState = "probing" // the circuit is open: only probes are sent
)

// State returns the summary of h.
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
	// MinFailuresToDeactivate is the minimum number of failed attempts before a subscription is
	// deactivated: with one event a month, a single failure must not suffice.
	MinFailuresToDeactivate = 5
)

// FailingTooLong reports whether attempts have only failed for at least long; false if long is 0.
func (h Health) FailingTooLong(long time.Duration, now time.Time) bool {
	return long > 0 && h.Failures >= MinFailuresToDeactivate && !now.Before(h.FailingSince.Add(long))
}

// HealthCause is the part that makes a subscription fail.
type HealthCause string

// The causes.
const (
	CauseTarget       HealthCause = "target"
	CauseTransform    HealthCause = "transform"
	CauseFilter       HealthCause = "filter"
	CauseSubscription HealthCause = "subscription" // its stored row can't be used
)

// HealthCauses lists all causes.
var HealthCauses = []HealthCause{CauseTarget, CauseTransform, CauseFilter, CauseSubscription}
