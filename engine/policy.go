package engine

import (
	"time"

	"switchhook/engine/retry"
)

// The types below are stored as JSON under the names in their tags, durations in nanoseconds. A
// name in use must not get another meaning.

// Policy is how a subscription's deliveries are attempted. Zero fields take the router's default.
type Policy struct {
	Retries     RetrySchedule `json:"retries,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`   // of one attempt
	InFlight    int           `json:"in_flight,omitempty"` // concurrent attempts
	Rate        Rate          `json:"rate,omitzero"`
	Ordering    Ordering      `json:"ordering,omitempty"`
	OrderingKey string        `json:"ordering_key,omitempty"`  // expr over the event; with OrderingKeyed
	GiveUpAfter time.Duration `json:"give_up_after,omitempty"` // age of an event after which its deliveries are dead, whatever the schedule says
}

// RetrySchedule is the delays before each attempt, the first included. When it is used up, the
// delivery is dead.
type RetrySchedule []time.Duration

// DefaultRetrySchedule is the example schedule of Standard Webhooks 1.0.0: ten attempts in a bit
// over three days.
var DefaultRetrySchedule = RetrySchedule{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
	5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Rate is a number of attempts per period, evenly spaced. The zero Rate is no limit.
type Rate struct {
	Count int           `json:"count"`
	Per   time.Duration `json:"per"`
}

// Ordering is which deliveries of a subscription wait for one another.
type Ordering string

// The orderings. Under FIFO and key a delivery waits until the one before it has succeeded, is dead
// or was dropped.
const (
	OrderingNone  Ordering = ""     // none waits
	OrderingFIFO  Ordering = "fifo" // each waits for the one before
	OrderingKeyed Ordering = "key"  // each waits for the one before with the same OrderingKey
)

// Batch sends several events in one POST, as a JSON array, as soon as there are Size events or the
// first has waited for Wait. The zero Batch sends one event per POST.
type Batch struct {
	Size int           `json:"size"`
	Wait time.Duration `json:"wait"`
}

// Debounce delivers only the newest event of a key, once Within has passed since the first. The
// others are dropped. The zero Debounce delivers all.
type Debounce struct {
	Key    string        `json:"key,omitempty"` // expr over the event; empty: all events have one key
	Within time.Duration `json:"within"`
}

// OldSecret is a replaced secret that still signs beside the new one, for receivers that have not
// switched yet.
type OldSecret struct {
	Secret   string    `json:"secret"` // empty if it ended at once
	Until    time.Time `json:"until"`
	Rotation string    `json:"rotation,omitempty"` // identifies the request that replaced it, so that a repeat replaces nothing
}

// VerificationMode is the way in which a target proves that it wants deliveries.
type VerificationMode string

// The modes of intent verification.
const (
	VerifyNone        VerificationMode = ""            // no proof needed
	VerifyHookSecret  VerificationMode = "hook-secret" // the target echoes X-Hook-Secret, at once or by a later call (REST Hooks)
	VerifyCloudEvents VerificationMode = "cloudevents" // the target allows the origin (CloudEvents HTTP web hooks 1.0, "abuse protection")
)

// Verification is the state of a subscription's intent verification.
type Verification struct {
	Mode        VerificationMode `json:"mode,omitempty"`
	Secret      string           `json:"secret,omitempty"`       // the secret that the target must echo; empty once it has
	Until       time.Time        `json:"until,omitzero"`         // the subscription is deleted if it is unconfirmed at this time
	ConfirmedAt time.Time        `json:"confirmed_at,omitzero"`  // zero: not yet
	Activate    bool             `json:"activate,omitempty"`     // activate once confirmed; until then the subscription is inactive
	AllowedRate int              `json:"allowed_rate,omitempty"` // attempts a minute that the target allows; 0: no limit
}

// Pending reports whether the target has not confirmed yet.
func (v Verification) Pending() bool { return v.Mode != VerifyNone && v.ConfirmedAt.IsZero() }

// Interval returns the time between two attempts.
func (r Rate) Interval() time.Duration {
	if r.Count <= 0 {
		return 0
	}
	return r.Per / time.Duration(r.Count)
}

// Span returns the maximum duration of the schedule.
func (s RetrySchedule) Span() (sum time.Duration) {
	for _, wait := range s {
		sum += wait
	}
	return sum + time.Duration(float64(sum)*retry.Jitter)
}

// Strictness orders the modes: if several are required, the strictest counts. An allowed origin
// names the router; an echo might come from a server that echoes everything.
var Strictness = map[VerificationMode]int{VerifyNone: 0, VerifyHookSecret: 1, VerifyCloudEvents: 2}

// Covers reports whether a target that must confirm by m needs no further confirmation if asked is
// required.
func (m VerificationMode) Covers(asked VerificationMode) bool {
	return Strictness[m] >= Strictness[asked]
}
