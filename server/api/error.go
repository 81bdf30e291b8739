package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"switchhook/scripts"
)

// ErrorCode is the machine-readable reason of an [Error]. Codes are part of the API: they are
// never renamed, and docs/api.md lists each with its status and its remedy.
type ErrorCode string

// The codes of problems. A dialect may answer with another status, the code stays.
const (
	CodeInvalidJSON            ErrorCode = "invalid_json"               // 400: the body can't be parsed
	CodeMalformedRequest       ErrorCode = "malformed_request"          // 400: any other request that can't be parsed
	CodeUnauthorized           ErrorCode = "unauthorized"               // 401: no API key, or two
	CodeKeyUnknown             ErrorCode = "key_unknown"                // 401: no such API key
	CodeKeyExpired             ErrorCode = "key_expired"                // 401: the API key expired or was replaced
	CodeTokenInvalid           ErrorCode = "token_invalid"              // 401: a skinny payload's token
	CodeForbidden              ErrorCode = "forbidden"                  // 403: the key lacks a scope
	CodeNotFound               ErrorCode = "not_found"                  // 404: no such resource in this account
	CodeRouteNotFound          ErrorCode = "route_not_found"            // 404: no such path in the API
	CodeMethodNotAllowed       ErrorCode = "method_not_allowed"         // 405
	CodeRequestTimeout         ErrorCode = "request_timeout"            // 408
	CodeConflict               ErrorCode = "conflict"                   // 409: contradicts the stored state
	CodeIdempotencyConflict    ErrorCode = "idempotency_conflict"       // 409: the idempotency key or event id is in use
	CodeSuperseded             ErrorCode = "superseded"                 // 409: a newer request of the same caller took its place
	CodePreconditionFailed     ErrorCode = "precondition_failed"        // 412: If-Match, If-None-Match
	CodePayloadTooLarge        ErrorCode = "payload_too_large"          // 413
	CodeURITooLong             ErrorCode = "uri_too_long"               // 414
	CodeUnsupportedMediaType   ErrorCode = "unsupported_media_type"     // 415
	CodeInvalidRequest         ErrorCode = "invalid_request"            // 422: a member or parameter is wrong
	CodeTooManyRequests        ErrorCode = "too_many_requests"          // 429: rate limit or backlog
	CodeQuotaExceeded          ErrorCode = "quota_exceeded"             // 429: the account has as much as its quota allows
	CodeHeadersTooLarge        ErrorCode = "headers_too_large"          // 431
	CodeInternal               ErrorCode = "internal_error"             // 500: a fault of the router
	CodeDataUnreadable         ErrorCode = "data_unreadable"            // 500: a stored row can't be decoded
	CodeMethodUnknown          ErrorCode = "method_unknown"             // 501
	CodeUnavailable            ErrorCode = "unavailable"                // 503: stopping, or storage refuses writes
	CodeInsufficientStorage    ErrorCode = "insufficient_storage"       // 507: the account has as many bytes as its quota allows
	CodeHTTPVersionUnsupported ErrorCode = "http_version_not_supported" // 505
	CodeLoopDetected           ErrorCode = "loop_detected"              // 508: the event came through too many deliveries
)

// Error is an error response: a problem of RFC 9457 (application/problem+json).
type Error struct {
	Type   string       `json:"type"`             // "about:blank": Title is the status
	Title  string       `json:"title"`            // the status in words
	Status int          `json:"status"`           // as in the status line
	Code   ErrorCode    `json:"code"`             // the reason, for programs
	Detail string       `json:"detail"`           // the cause and the remedy, for people
	Field  string       `json:"field,omitempty"`  // the wrong member: "headers" or "events[2].type"
	Errors []FieldError `json:"errors,omitempty"` // each wrong member; Field is the first of them
	Offset *int         `json:"offset,omitempty"` // of invalid JSON in the body, in bytes
	Line   int          `json:"line,omitempty"`   // of invalid JSON, 1-based
	Column int          `json:"column,omitempty"` // of invalid JSON, in bytes, 1-based

	Script *scripts.Error      `json:"script,omitempty"` // an error in a filter or transform
	Tests  *scripts.TestReport `json:"tests,omitempty"`  // the report, if test cases failed

	RetryAfter time.Duration `json:"-"` // the header of the same name; 0 if there is none
	Request    string        `json:"-"` // the method and the path that were called
}

// FieldError is what is wrong with one member of a request.
type FieldError struct {
	Field  string `json:"field"`  // "policy.timeout"
	Code   string `json:"code"`   // the reason, for programs
	Detail string `json:"detail"` // the cause and the remedy, for people
}

// Error returns the request, the status, the detail and the code, and below it each wrong member
// and the place in a script. An error that did not come from a client has the detail alone.
func (e *Error) Error() string {
	text := e.Detail
	if e.Request != "" {
		text = fmt.Sprintf("%s: %d %s: %s", e.Request, e.Status, http.StatusText(e.Status), e.Detail)
		if e.Code != "" {
			text += fmt.Sprintf(" (%s)", e.Code)
		}
	}
	if len(e.Errors) > 1 {
		for _, f := range e.Errors {
			text += "\n  " + f.Detail
		}
	}
	if e.Script != nil && e.Script.Snippet != "" {
		text += "\n" + e.Script.Snippet
	}
	return text
}

// decodeError makes an Error of a response that is not 2xx. A response of another program, such as
// a proxy, has no code; Detail then begins with its body.
func decodeError(res *http.Response, body []byte) *Error {
	e := &Error{}
	if json.Unmarshal(body, e) != nil || e.Detail == "" {
		*e = Error{Title: http.StatusText(res.StatusCode), Detail: fmt.Sprintf("%s: %.200s", res.Status, body)}
	}
	e.Status, e.RetryAfter = res.StatusCode, retryAfter(res.Header)
	return e
}
