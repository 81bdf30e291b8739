package engine

import (
	"time"

	"switchhook/engine/retry"
)

// The types below are stored as JSON under the names in their tags, durations in
// nanoseconds. A name that is in use is not to be given another meaning.

// Policy says how the deliveries of a subscription are made. Zero fields take the
// router's default.
type Policy struct {
	Retries     RetrySchedule `json:"retries,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`   // of one attempt
	InFlight    int           `json:"in_flight,omitempty"` // attempts at one time
	Rate        Rate          `json:"rate,omitzero"`
	Ordering    Ordering      `json:"ordering,omitempty"`
	OrderingKey string        `json:"ordering_key,omitempty"`  // expr over the event; with OrderingKeyed
	GiveUpAfter time.Duration `json:"give_up_after,omitempty"` // of an event; its deliveries are dead then, whatever the schedule says
}

// RetrySchedule is how long to wait before each attempt, the first included. When it is
// used up the delivery is dead.
type RetrySchedule []time.Duration

// DefaultRetrySchedule is the one that Standard Webhooks 1.0.0 gives as an example: ten
// attempts in a bit over three days.
var DefaultRetrySchedule = RetrySchedule{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
	5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Rate is so many attempts in a time, evenly spread. The zero Rate is no limit.
type Rate struct {
	Count int           `json:"count"`
	Per   time.Duration `json:"per"`
}

// Ordering says which deliveries of a subscription wait for one another.
type Ordering string

// The orderings. In the last two a delivery waits until the one before it has succeeded,
// is dead or was dropped.
const (
	OrderingNone  Ordering = ""     // none waits
	OrderingFIFO  Ordering = "fifo" // each waits for the one before
	OrderingKeyed Ordering = "key"  // each waits for the one before of the same OrderingKey
)

// Batch lets several events go in one POST, as a JSON array: as soon as there are Size of
// them, or the first has waited for Wait. The zero Batch is one event a POST.
type Batch struct {
	Size int           `json:"size"`
	Wait time.Duration `json:"wait"`
}

// Debounce lets only the newest event of a key go, once Within has passed since the first.
// The others are dropped. The zero Debounce lets all go.
type Debounce struct {
	Key    string        `json:"key,omitempty"` // expr over the event; empty: all events have one key
	Within time.Duration `json:"within"`
}

// OldSecret is a secret that was replaced and still signs beside the new one, for
// receivers that have not changed over.
type OldSecret struct {
	Secret   string    `json:"secret"` // empty where it ended at once
	Until    time.Time `json:"until"`
	Rotation string    `json:"rotation,omitempty"` // names the request that replaced it, so that its repeat replaces nothing
}

// VerificationMode is how a target shows that it wants what it is sent.
type VerificationMode string

// The modes of intent verification.
const (
	VerifyNone        VerificationMode = ""            // it is taken for granted
	VerifyHookSecret  VerificationMode = "hook-secret" // the target echoes X-Hook-Secret, at once or by a later call (REST Hooks)
	VerifyCloudEvents VerificationMode = "cloudevents" // the target allows the origin (CloudEvents HTTP web hooks 1.0, "abuse protection")
)

// Verification is where the intent verification of a subscription stands.
type Verification struct {
	Mode        VerificationMode `json:"mode,omitempty"`
	Secret      string           `json:"secret,omitempty"`       // what the target has to echo; empty once it has
	Until       time.Time        `json:"until,omitzero"`         // unconfirmed by then, the subscription is deleted
	ConfirmedAt time.Time        `json:"confirmed_at,omitzero"`  // zero: not yet
	Activate    bool             `json:"activate,omitempty"`     // once it is confirmed; until then the subscription is inactive
	AllowedRate int              `json:"allowed_rate,omitempty"` // attempts a minute that the target allows; 0: any
}

// Pending tells whether the target has not confirmed yet.
func (v Verification) Pending() bool { return v.Mode != VerifyNone && v.ConfirmedAt.IsZero() }

// Interval is the time from one attempt to the next.
func (r Rate) Interval() time.Duration {
	if r.Count <= 0 {
		return 0
	}
	return r.Per / time.Duration(r.Count)
}

// Span is how long the schedule takes at most.
func (s RetrySchedule) Span() (sum time.Duration) {
	for _, wait := range s {
		sum += wait
	}
	return sum + time.Duration(float64(sum)*retry.Jitter)
}

// Strictness orders the modes: of several that are asked for, the strictest counts. An
// allowed origin names us; an echo might come from a server that echoes everything.
var Strictness = map[VerificationMode]int{VerifyNone: 0, VerifyHookSecret: 1, VerifyCloudEvents: 2}

// Covers tells whether a target that has to confirm by m needs no other confirmation where
// asked is asked for.
func (m VerificationMode) Covers(asked VerificationMode) bool {
	return Strictness[m] >= Strictness[asked]
}
