// Package durationtext writes durations in the form of the API.
package durationtext

import (
	"strconv"
	"time"
)

// Format returns the short text of a duration, in the largest unit that divides it: "5m",
// "90s", "72h". It is the form of the API.
func Format(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}} {
		if d%u.length == 0 {
			return strconv.FormatInt(int64(d/u.length), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}
