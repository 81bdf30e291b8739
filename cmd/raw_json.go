package cmd

import (
	"bytes"
	"encoding/json"

	"switchhook/server/api"
)

// rawJSON is a value of the API: the fields that a command reads, and the whole JSON as
// received, for --json.
type rawJSON[T any] struct {
	value T
	text  json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *rawJSON[T]) UnmarshalJSON(b []byte) error {
	s.text = bytes.Clone(b)
	return json.Unmarshal(b, &s.value)
}

// MarshalJSON implements json.Marshaler.
func (s *rawJSON[T]) MarshalJSON() ([]byte, error) { return s.text, nil }

// Complete implements api.Completer.
func (s *rawJSON[T]) Complete() bool {
	w, asks := any(&s.value).(api.Completer)
	return !asks || w.Complete()
}

// pointers returns pointers to the elements, which printJSON needs to print a list as
// received.
func pointers[T any](list []T) []*T {
	all := make([]*T, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}
