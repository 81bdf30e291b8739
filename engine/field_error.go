package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"switchhook/engine/durationtext"
	"switchhook/scripts"
)

// FieldCode says, for programs, what is wrong with a field of an input. The codes are part of the
// API.
type FieldCode string

// The codes of field errors.
const (
	FieldRequired   FieldCode = "required"     // the field is missing or empty
	FieldInvalid    FieldCode = "invalid"      // the value does not have the form that the field needs
	FieldUnknown    FieldCode = "unknown"      // there is no such member, or the value is none of the allowed ones, or names nothing that exists
	FieldOutOfRange FieldCode = "out_of_range" // the number, duration or time is too small or too large
	FieldTooLong    FieldCode = "too_long"     // the value has too many bytes or characters
	FieldTooMany    FieldCode = "too_many"     // the list or object has too many entries
	FieldDuplicate  FieldCode = "duplicate"    // the entry is there twice
	FieldConflict   FieldCode = "conflict"     // the value contradicts another field or what is stored
	FieldNotAllowed FieldCode = "not_allowed"  // the value is well formed, but may not be set here or by this caller
	FieldScript     FieldCode = "script_error" // the filter, transform or key expression does not compile: see Script
)

// FieldError describes a fault in one field of an input.
type FieldError struct {
	Field   string // a JSON path without "$."
	Code    FieldCode
	Message string         // continues a sentence that begins with the field
	Script  *scripts.Error // of FieldScript
}

// FieldErrors collects the errors of an input. It holds at most maxFieldErrors, so that a hostile
// input does not get a huge response.
type FieldErrors []FieldError

const maxFieldErrors = 50

// Add adds the error of a field.
func (f *FieldErrors) Add(field string, code FieldCode, format string, args ...any) {
	f.Append(FieldError{Field: field, Code: code, Message: messagef(format, args...)})
}

// Append adds errors.
func (f *FieldErrors) Append(errs ...FieldError) {
	*f = append(*f, errs[:min(len(errs), max(0, maxFieldErrors-len(*f)))]...)
}

// Take adds the fields of a CodeInvalid and returns nil; any other error is returned.
func (f *FieldErrors) Take(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Code == CodeInvalid && e.Field != "" {
		f.Append(e.Fields()...)
		return nil
	}
	return err
}

// Err returns a CodeInvalid that holds the errors; nil if there are none.
func (f FieldErrors) Err() error {
	if len(f) == 0 {
		return nil
	}
	first := f[0]
	return &Error{Code: CodeInvalid, Field: first.Field, FieldCode: first.Code, Message: first.Message, Script: first.Script, More: f[1:]}
}

// InvalidField returns the error for one invalid field.
func InvalidField(field string, code FieldCode, format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Field: field, FieldCode: code, Message: messagef(format, args...)}
}

// Fields returns the errors of all fields; nil if e is not about a field.
func (e *Error) Fields() []FieldError {
	if e.Field == "" {
		return nil
	}
	first := FieldError{Field: e.Field, Code: e.FieldCode, Message: e.Message, Script: e.Script}
	if first.Code == "" {
		switch e.Code {
		case CodeConflict:
			first.Code = FieldConflict
		case CodeForbidden:
			first.Code = FieldNotAllowed
		default:
			first.Code = FieldInvalid
		}
	}
	return append([]FieldError{first}, e.More...)
}

// RenameFields returns err with its fields renamed. An error that is about no field stays as it is.
func RenameFields(err error, rename func(field string) string) error {
	var e *Error
	if !errors.As(err, &e) || e.Field == "" {
		return err
	}
	renamed := *e
	renamed.Field, renamed.More = rename(e.Field), slices.Clone(e.More)
	for i := range renamed.More {
		renamed.More[i].Field = rename(renamed.More[i].Field)
	}
	return &renamed
}

// FieldsBelow returns err with its fields below a parent, such as "events[2]".
func FieldsBelow(err error, parent string) error {
	return RenameFields(err, func(field string) string { return parent + "." + field })
}

// FieldsInBatch returns err with its fields below the i-th of n events; a single event has no index.
func FieldsInBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return FieldsBelow(err, fmt.Sprintf("events[%d]", i))
}

// messagef formats a text for users: durations in the form of the API.
func messagef(format string, args ...any) string {
	for i, arg := range args {
		if d, ok := arg.(time.Duration); ok {
			args[i] = durationtext.Format(d)
		}
	}
	return fmt.Sprintf(format, args...)
}
