// Package retry decides what follows from an attempt: success, a retry and when, or a dead letter,
// and what the attempt says about the target. The rules for 410, Retry-After and every other
// answer are here and nowhere else.
package retry

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Jitter is the largest fraction of a delay that is added or subtracted at random.
const Jitter = 0.2

const (
	maxRetryAfter = 24 * time.Hour
	defaultPause  = time.Second // for an overloaded target without Retry-After
	maxPause      = time.Hour
	maxErrorBytes = 500
)

// Schedule says when a delivery is attempted.
type Schedule struct {
	Waits    []time.Duration // before each attempt, including the first
	Least    time.Duration   // before each attempt but the first, whatever Waits and the target say
	GiveUpAt time.Time       // no attempt is made later
}

// Result is the result of one attempt, as far as Decide depends on it.
type Result struct {
	Status     int      // 0 if there was no answer
	RetryAfter []string // the Retry-After headers, unparsed
	Date       string   // the Date header, to which a date in RetryAfter is relative
	Err        error    // why there was no answer, or why no request was sent
	Silent     bool     // the request was sent, and the target did not answer
	Refused    bool     // the guard refused the target
}

// TargetSignal is the evidence of an attempt about its target.
type TargetSignal uint8

// The signals.
const (
	SignalUnknown     TargetSignal = iota // nothing: no request was sent
	SignalHealthy                         // it accepted the delivery
	SignalRejecting                       // it answers, and refused the delivery
	SignalUnavailable                     // it does not answer, or fails for every request
)

// Accepted reports whether a status means that the target accepted the delivery: 2xx.
func Accepted(status int) bool { return status >= 200 && status <= 299 }

func signalOf(x Result) TargetSignal {
	switch {
	case x.Status == http.StatusLoopDetected:
		return SignalRejecting
	case x.Silent, x.Status >= 500, x.Status == http.StatusTooManyRequests:
		return SignalUnavailable
	case Accepted(x.Status):
		return SignalHealthy
	case x.Status != 0, x.Refused:
		return SignalRejecting
	}
	return SignalUnknown
}

// Action is the next step for a delivery after an attempt.
type Action uint8

// The actions.
const (
	ActionDead    Action = 1 + iota // it is dead
	ActionRetry                     // at Decision.NextAt
	ActionSucceed                   // the target accepted it
)

// Decision holds the consequences of an attempt. The zero Decision says nothing about the target.
type Decision struct {
	Action     Action
	NextAt     time.Time     // with ActionRetry
	Deactivate bool          // the target answered 410
	PauseFor   time.Duration // time without attempts to the target; 0: no pause
	Overloaded bool          // the target does not keep up: lower the in-flight limit
	Signal     TargetSignal
	Reason     string // the fault; empty after success
}

// Decide decides what follows from attempt number (counted from 1) of a delivery: success, a retry
// and when, or a dead letter if the schedule has ended or the next attempt would come too late.
// Decide is pure: jitter is a random number in [0,1).
func Decide(schedule Schedule, number int, x Result, now time.Time, jitter float64) Decision {
	if x.Err == nil && Accepted(x.Status) {
		return Decision{Action: ActionSucceed, Signal: SignalHealthy}
	}
	v := Decision{Action: ActionDead, Overloaded: x.Silent, Signal: signalOf(x), Reason: describe(x)}
	if x.Status == http.StatusGone {
		v.Deactivate = true
		return v
	}
	if x.Status == http.StatusLoopDetected { // RFC 5842: the delivery is part of a loop, so another attempt would be too
		v.Reason += "; this is not retried"
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
	if number >= len(schedule.Waits) {
		return v
	}
	delay := time.Duration(float64(schedule.Waits[number]) * (1 + Jitter*(2*jitter-1)))
	if asked {
		delay = max(delay, min(wait, maxRetryAfter))
	}
	delay = max(delay, schedule.Least)
	if now.Add(delay).After(schedule.GiveUpAt) {
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

// Truncate cuts the text of an error to maxErrorBytes.
func Truncate(s string) string {
	if len(s) <= maxErrorBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxErrorBytes], "") + "…"
}
