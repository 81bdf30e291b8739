package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"switchhook/engine/durationtext"
)

// Duration is a time span. Its text is one whole number and one unit, the largest that fits: "72h",
// "5m", "90s", "1500ms". Input may also join units ("1m30s") or be a number of seconds.
type Duration time.Duration

// maxSeconds limits a Duration in input: some 30 years, far below the overflow of time.Duration.
const maxSeconds = 1e9

// String returns the short text: "0s", "90s".
func (d Duration) String() string { return durationtext.Format(time.Duration(d)) }

// ParseDuration parses the text of a Duration. The error says how to write one.
func ParseDuration(text string) (Duration, error) {
	span, err := time.ParseDuration(text)
	if err != nil || span < 0 {
		return 0, fmt.Errorf("%.40q is not a duration: write it as in \"90s\", \"5m\" or \"720h\" (30 days), or as a number of seconds", text)
	}
	return Duration(span), nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var seconds float64
	if json.Unmarshal(text, &seconds) == nil && string(text) != "null" {
		if seconds < 0 || seconds > maxSeconds {
			return fmt.Errorf("%v seconds is out of range: give 0 to %.0f", seconds, maxSeconds)
		}
		*d = Duration(seconds * float64(time.Second))
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			wrong.Type = reflect.TypeFor[Duration]()
		}
		return err
	}
	if string(text) == "null" {
		return nil
	}
	span, err := ParseDuration(s)
	if err == nil {
		*d = span
	}
	return err
}
