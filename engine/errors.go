// Package engine is Switchhook's domain: events, subscriptions, deliveries, scripts, keys and
// accounts, their validation, the errors for users, and the Store interface. It has no goroutine
// and no lock; the packages below it do the work, and engine/router puts them together.
package engine

import (
	"errors"
	"fmt"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/scripttest"
)

// Code classes an Error; the API maps each to one HTTP status.
type Code string

// The codes of errors that a user can meet.
const (
	CodeInvalid      Code = "invalid"      // the input is wrong: Field and Message say where and why
	CodeNotFound     Code = "not_found"    // no such thing, or another account's
	CodeConflict     Code = "conflict"     // contradicts what is stored
	CodeStale        Code = "stale"        // changed since it was read: the version given is not the current one
	CodeUnauthorized Code = "unauthorized" // what the caller showed instead of a key is not good, or not good any more
	CodeForbidden    Code = "forbidden"    // the key may not do this
	CodeUnknownKey   Code = "unknown_key"  // there is no such API key
	CodeExpiredKey   Code = "expired_key"  // there was, and its time is over
	CodeFull         Code = "full"         // the account may store no more
	CodeBusy         Code = "busy"         // too much waits: come back later
	CodeUnreadable   Code = "unreadable"   // what is stored can't be decoded
	CodeUnavailable  Code = "unavailable"  // can't be done right now: stopping, or the disk refuses
)

// Error is an error that a user can do something about.
type Error struct {
	Code    Code
	Field   string             // the input's field, a JSON path without "$."; empty where it is not about one
	Message string             // a sentence for people
	Wait    time.Duration      // of CodeBusy and CodeUnavailable: after so long it may work; 0: nobody knows
	Script  *scripts.Error     // set where a filter or transform is to blame
	Report  *scripttest.Report // set where test cases failed
}

// Error gives the message, with the field before it.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// Unwrap gives the script's error, if there is one.
func (e *Error) Unwrap() error {
	if e.Script == nil {
		return nil
	}
	return e.Script
}

// ErrorCode gives the code of err, or the empty Code where err is not an *Error.
func ErrorCode(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Invalid makes the error for a field that is wrong.
func Invalid(field, format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// NotFound makes the error for a thing that is not there, or not the caller's to see.
func NotFound(kind, id string) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no %s %q", kind, id)}
}

// WithBatchIndex puts the place of an event in its batch before the field of an error; a single event has none.
func WithBatchIndex(err *Error, i, n int) error {
	if n == 1 || err.Field == "" {
		return err
	}
	copied := *err
	copied.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
	return &copied
}
