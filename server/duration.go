package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// duration is a time span in the API: a string such as "1m30s" (units ms, s, m and h), or a number of
// seconds. Responses have the string.
type duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *duration) UnmarshalJSON(b []byte) error {
	var seconds float64
	if json.Unmarshal(b, &seconds) == nil {
		const most = 1e9 // some 30 years, far below the overflow of a Duration
		if seconds < 0 || seconds > most {
			return fmt.Errorf("%v seconds are no length of time that makes sense here", seconds)
		}
		*d = duration(seconds * float64(time.Second))
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			wrong.Type = reflect.TypeFor[duration]()
		}
		return err
	}
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed < 0 {
		return fmt.Errorf("%.40q is no length of time: write it as in \"90s\", \"1m30s\" or \"720h\" (30 days), or as a number of seconds", text)
	}
	*d = duration(parsed)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }
