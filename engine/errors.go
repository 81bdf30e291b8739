// Package engine is Switchhook's domain: events, subscriptions, deliveries, scripts, keys and
// accounts, their validation, the errors for users, and the Store interface. It has no goroutine
// and no lock; the packages below it do the work, and engine/router puts them together.
package engine

import (
	"errors"
	"fmt"
	"time"

	"switchhook/scripts"
)

// Code classifies an Error; the API maps each code to one HTTP status.
type Code string

// The codes of errors that users can meet.
const (
	CodeInvalid       Code = "invalid"        // the input is wrong: Field says where, Message why
	CodeNotFound      Code = "not_found"      // no such object, or another account's
	CodeConflict      Code = "conflict"       // contradicts what is stored
	CodeStale         Code = "stale"          // changed since it was read: the version given is not the current one
	CodeUnauthorized  Code = "unauthorized"   // the credential is invalid or no longer valid
	CodeForbidden     Code = "forbidden"      // the key may not do this
	CodeUnknownKey    Code = "unknown_key"    // no such API key
	CodeExpiredKey    Code = "expired_key"    // the API key has expired
	CodeQuotaExceeded Code = "quota_exceeded" // the account has as much as its quota allows
	CodeStorageFull   Code = "storage_full"   // the account stores as many bytes as its quota allows
	CodeBusy          Code = "busy"           // too much is waiting: retry later
	CodeSuperseded    Code = "superseded"     // a newer request of the same caller took its place
	CodeLoop          Code = "loop"           // the event came through more deliveries than are allowed
	CodeUnreadable    Code = "unreadable"     // the stored value can't be decoded
	CodeUnavailable   Code = "unavailable"    // not possible right now: stopping, or the disk rejects writes
)

// Error is an error that a user can act on.
type Error struct {
	Code      Code
	Field     string              // the input's field, a JSON path without "$."; empty if no field is wrong
	FieldCode FieldCode           // what is wrong with Field; may be empty, see Fields
	Message   string              // a sentence for people
	More      []FieldError        // the fields that are wrong besides Field
	Wait      time.Duration       // of CodeBusy, CodeQuotaExceeded, CodeStorageFull and CodeUnavailable: retry after this time; 0: unknown
	Script    *scripts.Error      // set if a filter or transform caused the error
	Report    *scripts.TestReport // set if test cases failed
}

// Error returns the messages, each preceded by its field.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Message
	}
	text := e.Field + ": " + e.Message
	for _, f := range e.More {
		text += "; " + f.Field + ": " + f.Message
	}
	return text
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

// Invalid returns the error for a field whose value does not have the right form.
func Invalid(field, format string, args ...any) *Error {
	return InvalidField(field, FieldInvalid, format, args...)
}

// QuotaExceeded returns the error for what exceeds an account's quota. Trying again soon is useless:
// something must be deleted first, or the quota raised.
func QuotaExceeded(format string, args ...any) *Error {
	return &Error{Code: CodeQuotaExceeded, Wait: time.Minute, Message: fmt.Sprintf(format, args...)}
}

// StorageFull returns the error for what exceeds a quota of bytes. Without Wait, only deleting something or
// a larger quota helps.
func StorageFull(format string, args ...any) *Error {
	return &Error{Code: CodeStorageFull, Message: fmt.Sprintf(format, args...)}
}

// NotFound returns the error for an object that does not exist or is not visible to the caller.
func NotFound(kind, id string) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no %s %q", kind, id)}
}
