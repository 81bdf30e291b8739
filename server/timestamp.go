package server

import (
	"encoding/json"
	"strings"
	"time"

	"switchhook/engine/rfc3339"
	"switchhook/server/wire"
)

// timestamp is an optional time in a request. Its zero value means not given; no text produces it.
type timestamp struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler; null means not given.
func (t *timestamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return rfc3339.ErrFormat
	}
	at, err := parseTime(text)
	t.Time = at
	return err
}

// parseTime parses a time in a request. The error follows the field's name.
func parseTime(text string) (time.Time, error) { return wire.ParseTime(text) }

// queryTime parses a time in the query, in which a "+" that was not written as %2B has become a space.
func queryTime(text string) (time.Time, error) {
	if at, err := parseTime(strings.Replace(text, " ", "+", 1)); err == nil {
		return at, nil
	}
	return parseTime(text)
}
