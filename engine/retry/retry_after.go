package retry

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits for hostile answers.
const (
	maxRetryAfters     = 16
	maxRetryAfterBytes = 512
)

// retryAfter parses Retry-After headers (RFC 9110, 10.2.3) and returns the longest. ok is false if
// none can be parsed or all are in the past. date is the Date header of the answer: a date is
// relative to it, since the target's clock may be wrong.
func retryAfter(headers []string, date string, now time.Time) (wait time.Duration, ok bool) {
	here := now
	if at, err := parseDate(date); err == nil {
		here = at
	}
	for _, header := range headers[:min(len(headers), maxRetryAfters)] {
		if len(header) > maxRetryAfterBytes {
			continue
		}
		w, read := parseRetryAfter(header, here)
		if !read && strings.Contains(header, ",") { // headers joined by a proxy
			for part := range strings.SplitSeq(header, ",") {
				if one, is := parseRetryAfter(part, here); is {
					w, read = max(w, one), true
				}
			}
		}
		if read {
			wait, ok = max(wait, w), true
		}
	}
	return wait, ok
}

// parseRetryAfter parses one header: seconds, also with a fraction, or a date.
func parseRetryAfter(header string, now time.Time) (wait time.Duration, ok bool) {
	header = strings.TrimSpace(header)
	if whole, fraction, _ := strings.Cut(header, "."); isDigits(whole) && (fraction == "" || isDigits(fraction)) {
		seconds, err := strconv.ParseFloat(header, 64)
		if err != nil || seconds > maxRetryAfter.Seconds() { // the only error for digits is ErrRange
			return maxRetryAfter, true
		}
		return time.Duration(math.Ceil(seconds*1000)) * time.Millisecond, true
	}
	at, err := parseDate(header)
	if err != nil || !at.After(now) {
		return 0, false
	}
	return min(at.Sub(now), maxRetryAfter), true
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// dateLayouts are those of RFC 5322 and RFC 3339, which are not HTTP dates but are sent anyway.
var dateLayouts = []string{"Mon, _2 Jan 2006 15:04:05 -0700", "Mon, _2 Jan 2006 15:04:05 -07:00", "_2 Jan 2006 15:04:05 -0700", time.RFC3339}

// parseDate parses an HTTP date (RFC 9110, 5.6.7: IMF-fixdate, RFC 850, asctime), or one of
// dateLayouts. UTC, UT and Z mean GMT; other zones need a numeric offset.
func parseDate(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if i := strings.LastIndexByte(text, ' '); i >= 0 {
		switch strings.ToUpper(text[i+1:]) {
		case "UTC", "UT", "Z", "GMT":
			text = text[:i] + " GMT"
		}
	}
	if at, err := http.ParseTime(text); err == nil {
		return at, nil
	}
	if rest, ok := strings.CutSuffix(text, " GMT"); ok {
		text = rest + " +0000"
	}
	var at time.Time
	var err error
	for _, layout := range dateLayouts {
		if at, err = time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return at, err
}
