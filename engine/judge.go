package engine

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetrySchedule is how long to wait before each attempt, the first included. When it is
// used up the delivery is dead.
type RetrySchedule []time.Duration

// DefaultRetrySchedule is the one that Standard Webhooks 1.0.0 gives as an example: ten
// attempts in a bit over three days.
var DefaultRetrySchedule = RetrySchedule{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
	5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

const (
	retryJitter     = 0.2 // of a delay, up or down
	maxRetryAfter   = 24 * time.Hour
	slowDownFor     = time.Second // where a target that asks for time names none
	maxSlowDown     = time.Hour
	statusGone      = http.StatusGone
	maxErrorBytes   = 500
	acceptedMinimum = 200
	acceptedMaximum = 299
)

// exchange is what came of one attempt, as far as the verdict depends on it.
type exchange struct {
	status     int    // 0 where there was no answer
	retryAfter string // the header, as it came
	err        error  // why there was no answer, or why none was asked for
	silent     bool   // the target was asked, and did not answer
	refused    bool   // the target may not be asked
}

// reply is what an attempt says of its target.
type reply uint8

const (
	replyNone reply = iota // nothing: the target was not asked
	replyGood              // it took the delivery
	replyBad               // it did not, but it is there
	replyDown              // it is not there, or can't answer anybody
)

func replyOf(x exchange) reply {
	switch {
	case x.silent, x.status >= 500, x.status == http.StatusTooManyRequests:
		return replyDown
	case x.status >= acceptedMinimum && x.status <= acceptedMaximum:
		return replyGood
	case x.status != 0, x.refused:
		return replyBad
	}
	return replyNone
}

// verdict is what follows from an attempt.
type verdict struct {
	state      State
	nextAt     time.Time     // in StateFailed
	deactivate bool          // the target said that it is gone for good
	slowDown   time.Duration // leave the target alone for so long; 0: go on
	trouble    bool          // the target does not keep up: fewer at a time
	reply      reply
	err        string
}

// judge decides what follows from an attempt, the number-th of its delivery: success,
// another try and when, or giving up, where the schedule has ended or the next try would
// come after giveUpAt. It is pure: jitter is a random number in [0,1).
func judge(schedule RetrySchedule, giveUpAt time.Time, number int, x exchange, now time.Time, jitter float64) verdict {
	if x.err == nil && x.status >= acceptedMinimum && x.status <= acceptedMaximum {
		return verdict{state: StateSucceeded, reply: replyGood}
	}
	v := verdict{state: StateDead, trouble: x.silent, reply: replyOf(x), err: describe(x)}
	if x.status == statusGone {
		v.deactivate = true
		return v
	}
	wait, asked := parseRetryAfter(x.retryAfter, now)
	switch x.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		v.trouble, v.slowDown = true, slowDownFor
		if asked {
			v.slowDown = min(max(wait, 0), maxSlowDown)
		}
	}
	if number >= len(schedule) {
		return v
	}
	delay := time.Duration(float64(schedule[number]) * (1 + retryJitter*(2*jitter-1)))
	if asked {
		delay = max(delay, min(wait, maxRetryAfter))
	}
	if now.Add(delay).After(giveUpAt) {
		v.err += "; the next attempt would come after give_up_after"
		return v
	}
	v.state, v.nextAt = StateFailed, now.Add(delay)
	return v
}

func describe(x exchange) string {
	if x.err != nil {
		return shorten(x.err.Error())
	}
	text := "the target answered " + strconv.Itoa(x.status)
	if name := http.StatusText(x.status); name != "" {
		text += " " + name
	}
	if x.status >= 300 && x.status <= 399 {
		text += "; redirects are not followed"
	}
	return text
}

func shorten(s string) string {
	if len(s) <= maxErrorBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxErrorBytes], "") + "…"
}

// parseRetryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date. ok is
// false for anything else, and for what lies in the past.
func parseRetryAfter(header string, now time.Time) (wait time.Duration, ok bool) {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(header, 10, 63); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second, true
	}
	at, err := http.ParseTime(header)
	if err != nil || !at.After(now) {
		return 0, false
	}
	return min(at.Sub(now), maxRetryAfter), true
}
