package api

import "encoding/json"

// Optional is a member of a request or response that may be left out, null, or a value. Its zero
// value is left out; use it with the option omitzero. As the member of a response null means that
// none is set.
type Optional[T any] struct {
	value T
	state optionalState
}

type optionalState uint8

const (
	optionalAbsent optionalState = iota
	optionalNull
	optionalValue
)

// Some returns an Optional that holds v.
func Some[T any](v T) Optional[T] { return Optional[T]{value: v, state: optionalValue} }

// Null returns an Optional that is null: as the member of a request it resets the member.
func Null[T any]() Optional[T] { return Optional[T]{state: optionalNull} }

// SomeOrNull returns null for the zero value of T, and Some(v) for any other.
func SomeOrNull[T comparable](v T) Optional[T] {
	if v == *new(T) {
		return Null[T]()
	}
	return Some(v)
}

// Get returns the value; ok is false if there is none.
func (o Optional[T]) Get() (v T, ok bool) { return o.value, o.state == optionalValue }

// Or returns the value, or otherwise if there is none.
func (o Optional[T]) Or(otherwise T) T {
	if o.state == optionalValue {
		return o.value
	}
	return otherwise
}

// IsNull reports whether the member is null.
func (o Optional[T]) IsNull() bool { return o.state == optionalNull }

// IsZero reports whether the member is left out; encoding/json calls it for omitzero.
func (o Optional[T]) IsZero() bool { return o.state == optionalAbsent }

// Decode marks the member as a value and returns a pointer to it, for decoders that fill in the
// value by themselves, such as the server's, which reports the place of every error.
func (o *Optional[T]) Decode() any {
	o.state = optionalValue
	return &o.value
}

// MarshalJSON implements json.Marshaler; a member that is left out is null unless the field has
// omitzero.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if o.state != optionalValue {
		return []byte("null"), nil
	}
	return json.Marshal(o.value)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Optional[T]) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*o = Null[T]()
		return nil
	}
	return json.Unmarshal(text, o.Decode())
}
