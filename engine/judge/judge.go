// Package judge decides what follows from an attempt to deliver: success, another try and
// when, or giving up, and what it says of the target. What happens on a 410 or by a
// Retry-After stands here and nowhere else.
package judge

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
	slowDownFor   = time.Second // where a target that asks for time names none
	maxSlowDown   = time.Hour
	maxErrorBytes = 500
)

// Exchange is what came of one attempt, as far as the verdict depends on it.
type Exchange struct {
	Status     int      // 0 where there was no answer
	RetryAfter []string // the headers of this name, as they came
	Date       string   // the header of this name, by which a date in RetryAfter counts
	Err        error    // why there was no answer, or why none was asked for
	Silent     bool     // the target was asked, and did not answer
	Refused    bool     // the target may not be asked
}

// Reply is what an attempt says of its target.
type Reply uint8

// The replies.
const (
	None Reply = iota // nothing: the target was not asked
	Good              // it took the delivery
	Bad               // it did not, but it is there
	Down              // it is not there, or can't answer anybody
)

// Accepted tells whether a status is one by which a target takes what it is sent.
func Accepted(status int) bool { return status >= 200 && status <= 299 }

func replyOf(x Exchange) Reply {
	switch {
	case x.Silent, x.Status >= 500, x.Status == http.StatusTooManyRequests:
		return Down
	case Accepted(x.Status):
		return Good
	case x.Status != 0, x.Refused:
		return Bad
	}
	return None
}

// Decision is how a delivery goes on after an attempt.
type Decision uint8

// The decisions.
const (
	GiveUp   Decision = 1 + iota // it is dead
	TryAgain                     // at Verdict.NextAt
	Accept                       // the target took it
)

// Verdict is what follows from an attempt. The zero Verdict says nothing of the target.
type Verdict struct {
	Decision   Decision
	NextAt     time.Time     // with TryAgain
	Deactivate bool          // the target said that it is gone for good
	SlowDown   time.Duration // leave the target alone for so long; 0: go on
	Trouble    bool          // the target does not keep up: fewer at a time
	Reply      Reply
	Reason     string // what went wrong; empty after success
}

// Attempt decides what follows from an attempt, the number-th of its delivery: success,
// another try and when, or giving up, where the schedule has ended or the next try would
// come after giveUpAt. The schedule is how long to wait before each attempt, the first
// included. It is pure: jitter is a random number in [0,1).
func Attempt(schedule []time.Duration, giveUpAt time.Time, number int, x Exchange, now time.Time, jitter float64) Verdict {
	if x.Err == nil && Accepted(x.Status) {
		return Verdict{Decision: Accept, Reply: Good}
	}
	v := Verdict{Decision: GiveUp, Trouble: x.Silent, Reply: replyOf(x), Reason: describe(x)}
	if x.Status == http.StatusGone {
		v.Deactivate = true
		return v
	}
	wait, asked := retryAfter(x.RetryAfter, x.Date, now)
	switch x.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		v.Trouble, v.SlowDown = true, slowDownFor
		if asked {
			v.SlowDown = min(max(wait, 0), maxSlowDown)
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
	v.Decision, v.NextAt = TryAgain, now.Add(delay)
	return v
}

func describe(x Exchange) string {
	if x.Err != nil {
		return Shorten(x.Err.Error())
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

// Shorten cuts the text of an error to what is kept of it.
func Shorten(s string) string {
	if len(s) <= maxErrorBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxErrorBytes], "") + "…"
}
