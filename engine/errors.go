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

// Code classifies an Error; the API maps each code to one HTTP status.
type Code string

// The codes of errors that users can meet.
const (
	CodeInvalid      Code = "invalid"      // the input is wrong: Field says where, Message why
	CodeNotFound     Code = "not_found"    // no such object, or another account's
	CodeConflict     Code = "conflict"     // contradicts what is stored
	CodeStale        Code = "stale"        // changed since it was read: the version given is not the current one
	CodeUnauthorized Code = "unauthorized" // the credential is invalid or no longer valid
	CodeForbidden    Code = "forbidden"    // the key may not do this
	CodeUnknownKey   Code = "unknown_key"  // no such API key
	CodeExpiredKey   Code = "expired_key"  // the API key has expired
	CodeFull         Code = "full"         // the account's storage quota is used up
	CodeBusy         Code = "busy"         // too much is waiting: retry later
	CodeUnreadable   Code = "unreadable"   // the stored value can't be decoded
	CodeUnavailable  Code = "unavailable"  // not possible right now: stopping, or the disk rejects writes
)

// Error is an error that a user can act on.
type Error struct {
	Code    Code
	Field   string             // the input's field, a JSON path without "$."; empty if no field is wrong
	Message string             // a sentence for people
	Wait    time.Duration      // of CodeBusy and CodeUnavailable: retry after this time; 0: unknown
	Script  *scripts.Error     // set if a filter or transform caused the error
	Report  *scripttest.Report // set if test cases failed
}

// Error returns the message, preceded by the field.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// Unwrap returns the script's error, if there is one.
func (e *Error) Unwrap() error {
	if e.Script == nil {
		return nil
	}
	return e.Script
}

// ErrorCode returns the code of err, or "" if err is not an *Error.
func ErrorCode(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Invalid returns the error for an invalid field.
func Invalid(field, format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// NotFound returns the error for an object that does not exist or is not visible to the caller.
func NotFound(kind, id string) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no %s %q", kind, id)}
}

// WithBatchIndex prefixes the field of an error with the event's index in its batch; a single event
// has none.
func WithBatchIndex(err *Error, i, n int) error {
	if n == 1 || err.Field == "" {
		return err
	}
	copied := *err
	copied.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
	return &copied
}
