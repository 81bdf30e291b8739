package api

import (
	"fmt"
	"math"
	"time"
)

// Policy is how a subscription's deliveries are attempted. A member that is null takes the router's
// default. Responses have every member; PATCH leaves those alone that a request leaves out.
type Policy struct {
	// Retries holds the wait before each attempt: the first is 0s, the others 1s to 720h.
	Retries Optional[Retries] `json:"retries,omitzero"`
	// Timeout limits one attempt: 100ms to 1m.
	Timeout Optional[Duration] `json:"timeout,omitzero" nonzero:"null for the router's default"`
	// InFlight limits concurrent attempts: 1 to 512, and at most the router's --in-flight.
	InFlight Optional[int] `json:"in_flight,omitzero" nonzero:"null for the router's default"`
	// Rate limits attempts in a period; null is no limit.
	Rate Optional[Rate] `json:"rate,omitzero"`
	// Ordering says which deliveries wait for one another: "none" (default), "fifo" or "key".
	Ordering Optional[string] `json:"ordering,omitzero"`
	// OrderingKey is an expression over the event, for the ordering "key".
	OrderingKey Optional[string] `json:"ordering_key,omitzero"`
	// GiveUpAfter is the age of an event after which its deliveries are dead, whatever Retries says:
	// 1s to 720h.
	GiveUpAfter Optional[Duration] `json:"give_up_after,omitzero" nonzero:"null for the router's default"`
}

// Rate limits attempts to Count in each Per, evenly spread. Both members are needed.
type Rate struct {
	Count Optional[int]      `json:"count,omitzero"` // 1 to 100000
	Per   Optional[Duration] `json:"per,omitzero"`   // 1s to 1h
}

// Problem implements Checked.
func (r *Rate) Problem() (member, problem string) {
	const form = `is missing: write a rate as {"count": 10, "per": "1s"}`
	switch count, hasCount := r.Count.Get(); {
	case !hasCount:
		return "count", form
	case r.Per.IsZero() || r.Per.IsNull():
		return "per", form
	case count == 0 || r.Per.Or(0) == 0:
		return "", `lets nothing through; null takes the rate away, "active": false stops deliveries`
	}
	return "", ""
}

// Batch sends several events in one POST, as a JSON array.
type Batch struct {
	Size Optional[int]      `json:"size,omitzero"` // number of events at which a batch is sent: 2 to 1000
	Wait Optional[Duration] `json:"wait,omitzero"` // or as soon as its first event has waited for this time: 0s (default) to 5m
}

// Problem implements Checked.
func (b *Batch) Problem() (member, problem string) {
	if b.Size.Or(0) == 0 {
		return "size", `is missing: write {"size": 100, "wait": "5s"}, or null for no batches`
	}
	return "", ""
}

// Debounce delivers only the newest event of each key, once Within has passed since the first.
type Debounce struct {
	Key    Optional[string]   `json:"key,omitzero"`    // an expression over the event; null: all events have one key
	Within Optional[Duration] `json:"within,omitzero"` // 100ms to 24h
}

// Problem implements Checked.
func (d *Debounce) Problem() (member, problem string) {
	if d.Within.Or(0) == 0 {
		return "within", `is missing: write {"key": "data.id", "within": "30s"}, or null to deliver every event`
	}
	return "", ""
}

// Retries is a schedule: the wait before each attempt. A request may give a [Backoff] instead.
type Retries []Duration

const (
	maxAttempts = 50
	maxFactor   = 100
)

// Problem implements Checked.
func (r *Retries) Problem() (member, problem string) {
	if n := len(*r); n < 1 || n > maxAttempts {
		return "", fmt.Sprintf("makes %d attempts; 1 to %d are allowed", n, maxAttempts)
	}
	return "", ""
}

// Backoff is a schedule whose waits grow by a factor.
type Backoff struct {
	First    Duration `json:"first"`            // before the second attempt; the first is made at once
	Factor   float64  `json:"factor,omitempty"` // 1 to 100; default 2
	Cap      Duration `json:"cap,omitempty"`    // the longest wait; default: no limit
	Attempts int      `json:"attempts"`         // 1 to 50
}

// Problem implements Checked.
func (b *Backoff) Problem() (member, problem string) {
	const form = `is missing: write it as {"first": "5s", "factor": 2, "cap": "1h", "attempts": 10}`
	switch {
	case b.First == 0:
		return "first", form
	case b.Attempts == 0:
		return "attempts", fmt.Sprintf("%s (1 to %d attempts)", form, maxAttempts)
	case b.Attempts < 0 || b.Attempts > maxAttempts:
		return "attempts", fmt.Sprintf("is %d; 1 to %d are allowed", b.Attempts, maxAttempts)
	case b.Factor != 0 && (b.Factor < 1 || b.Factor > maxFactor):
		return "factor", fmt.Sprintf("is %v; 1 to %d is allowed", b.Factor, maxFactor)
	}
	return "", ""
}

// Retries returns the schedule with each wait written out.
func (b *Backoff) Retries() Retries {
	factor, longest := b.Factor, float64(b.Cap)
	if factor == 0 {
		factor = 2
	}
	if longest == 0 {
		longest = math.MaxInt64 / 2 // the router refuses waits that are too long
	}
	schedule := make(Retries, 1, b.Attempts)
	for wait := float64(b.First); len(schedule) < b.Attempts; wait *= factor {
		schedule = append(schedule, Duration(time.Duration(min(wait, longest)).Round(time.Millisecond)))
	}
	return schedule
}
