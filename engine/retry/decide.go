// Package judge decides what follows from an attempt to deliver: success, another try and
// when, or giving up, and what it says of the target. What happens on a 410 or by a
// Retry-After stands here and nowhere else.
package retry

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Jitter is how much of a delay is added or taken off at most.
const Jitter = 0.2

const (
	maxRetryAfter = 24 * time.Hour
	defaultPause  = time.Second // where a target that asks for time names none
	maxPause      = time.Hour
	maxErrorBytes = 500
)

// Result is what came of one attempt, as far as the verdict depends on it.
type Result struct {
	Status     int      // 0 where there was no answer
	RetryAfter []string // the headers of this name, as they came
	Date       string   // the header of this name, by which a date in RetryAfter counts
	Err        error    // why there was no answer, or why none was asked for
	Silent     bool     // the target was asked, and did not answer
	Refused    bool     // the target may not be asked
}

// Signal is what an attempt says of its target.
type TargetSignal uint8

// The replies.
const (
	SignalUnknown     TargetSignal = iota // nothing: the target was not asked
	SignalHealthy                         // it took the delivery
	SignalRejecting                       // it did not, but it is there
	SignalUnavailable                     // it is not there, or can't answer anybody
)

// Accepted tells whether a status is one by which a target takes what it is sent.
func Accepted(status int) bool { return status >= 200 && status <= 299 }

func signalOf(x Result) TargetSignal {
	switch {
	case x.Silent, x.Status >= 500, x.Status == http.StatusTooManyRequests:
		return SignalUnavailable
	case Accepted(x.Status):
		return SignalHealthy
	case x.Status != 0, x.Refused:
		return SignalRejecting
	}
	return SignalUnknown
}

// Action is how a delivery goes on after an attempt.
type Action uint8

// The decisions.
const (
	ActionGiveUp  Action = 1 + iota // it is dead
	ActionRetry                     // at Verdict.NextAt
	ActionSucceed                   // the target took it
)

// Decision is what follows from an attempt. The zero Verdict says nothing of the target.
type Decision struct {
	Action     Action
	NextAt     time.Time     // with ActionRetry
	Deactivate bool          // the target said that it is gone for good
	PauseFor   time.Duration // leave the target alone for so long; 0: go on
	Overloaded bool          // the target does not keep up: fewer at a time
	Signal     TargetSignal
	Reason     string // what went wrong; empty after success
}

// Decide decides what follows from an attempt, the number-th of its delivery: success,
// another try and when, or giving up, where the schedule has ended or the next try would
// come after giveUpAt. The schedule is how long to wait before each attempt, the first
// included. It is pure: jitter is a random number in [0,1).
func Decide(schedule []time.Duration, giveUpAt time.Time, number int, x Result, now time.Time, jitter float64) Decision {
	if x.Err == nil && Accepted(x.Status) {
		return Decision{Action: ActionSucceed, Signal: SignalHealthy}
	}
	v := Decision{Action: ActionGiveUp, Overloaded: x.Silent, Signal: signalOf(x), Reason: describe(x)}
	if x.Status == http.StatusGone {
		v.Deactivate = true
		return v
	}
	wait, asked := retryAfter(x.RetryAfter, x.Date, now)
	switch x.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		v.Overloaded, v.PauseFor = true, defaultPause
		if asked {
			v.PauseFor = min(max(wait, 0), maxPause)
		}
	}
	if number >= len(schedule) {
		return v
	}
	delay := time.Duration(float64(schedule[number]) * (1 + Jitter*(2*jitter-1)))
	if asked {
		delay = max(delay, min(wait, maxRetryAfter))
	}
	if now.Add(delay).After(giveUpAt) {
		v.Reason += "; the next attempt would come after give_up_after"
		return v
	}
	v.Action, v.NextAt = ActionRetry, now.Add(delay)
	return v
}

func describe(x Result) string {
	if x.Err != nil {
		return Truncate(x.Err.Error())
	}
	text := "the target answered " + strconv.Itoa(x.Status)
	if name := http.StatusText(x.Status); name != "" {
		text += " " + name
	}
	if x.Status >= 300 && x.Status <= 399 {
		text += "; redirects are not followed"
	}
	return text
}

// Truncate cuts the text of an error to what is kept of it.
func Truncate(s string) string {
	if len(s) <= maxErrorBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxErrorBytes], "") + "…"
}
