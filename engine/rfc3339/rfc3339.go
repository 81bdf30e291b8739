// Package rfc3339 reads times as RFC 3339 writes them, which time.Parse does in part only.
package rfc3339

import (
	"errors"
	"strings"
	"time"
)

// ErrFormat says that a text is not a time. It follows what the text is called in a message.
var ErrFormat = errors.New(`is not a time; write it as in "2026-01-31T09:30:00Z" or "2026-01-31T10:30:00.5+01:00" (RFC 3339)`)

// Parse reads a time. "T" and "Z" may be small, seconds may have a fraction after ".", and a
// leap second (23:59:60 UTC) is the second after it, for no clock here has one. The error is
// ErrFormat.
func Parse(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil && !strings.Contains(text, ",") {
		return at, nil
	}
	// Rare forms, and texts that are no time.
	const seconds = len("2026-01-31T23:59:")
	if len(text) < len("2026-01-31T23:59:60Z") || len(text) > 64 || strings.Contains(text, ",") {
		return time.Time{}, ErrFormat
	}
	text = strings.ToUpper(text)
	leap := text[seconds:seconds+2] == "60"
	if leap {
		text = text[:seconds] + "59" + text[seconds+2:]
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, ErrFormat
	}
	if leap {
		if at = at.Add(time.Second); at.UTC().Truncate(time.Second).Format("15:04:05") != "00:00:00" {
			return time.Time{}, ErrFormat // no leap second was ever at such a time
		}
	}
	return at, nil
}
