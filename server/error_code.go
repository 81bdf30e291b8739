package server

import (
	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
)

// ErrorCode is the machine-readable reason of a Problem. Codes are part of the API: they
// are never renamed, and docs/api.md lists each with its status and its remedy.
type ErrorCode string

// The codes of problems. A dialect may answer with another status, the code stays.
const (
	ErrorInvalidJSON            ErrorCode = "invalid_json"               // 400: the body can't be parsed
	ErrorMalformedRequest       ErrorCode = "malformed_request"          // 400: any other request that can't be parsed
	ErrorUnauthorized           ErrorCode = "unauthorized"               // 401: no API key, or two
	ErrorKeyUnknown             ErrorCode = "key_unknown"                // 401: no such API key
	ErrorKeyExpired             ErrorCode = "key_expired"                // 401: the API key expired or was replaced
	ErrorTokenInvalid           ErrorCode = "token_invalid"              // 401: a skinny payload's token
	ErrorForbidden              ErrorCode = "forbidden"                  // 403: the key lacks a scope
	ErrorNotFound               ErrorCode = "not_found"                  // 404: no such resource in this account
	ErrorRouteNotFound          ErrorCode = "route_not_found"            // 404: no such path in the API
	ErrorMethodNotAllowed       ErrorCode = "method_not_allowed"         // 405
	ErrorRequestTimeout         ErrorCode = "request_timeout"            // 408
	ErrorConflict               ErrorCode = "conflict"                   // 409: contradicts the stored state
	ErrorIdempotencyConflict    ErrorCode = "idempotency_conflict"       // 409: the idempotency key or event id is in use
	ErrorPreconditionFailed     ErrorCode = "precondition_failed"        // 412: If-Match, If-None-Match
	ErrorPayloadTooLarge        ErrorCode = "payload_too_large"          // 413
	ErrorURITooLong             ErrorCode = "uri_too_long"               // 414
	ErrorUnsupportedMediaType   ErrorCode = "unsupported_media_type"     // 415
	ErrorInvalidRequest         ErrorCode = "invalid_request"            // 422: a member or parameter is wrong
	ErrorTooManyRequests        ErrorCode = "too_many_requests"          // 429: rate limit or backlog
	ErrorQuotaExceeded          ErrorCode = "quota_exceeded"             // 429: the account has as much as its quota allows
	ErrorHeadersTooLarge        ErrorCode = "headers_too_large"          // 431
	ErrorInternal               ErrorCode = "internal_error"             // 500: a fault of the router
	ErrorDataUnreadable         ErrorCode = "data_unreadable"            // 500: a stored row can't be decoded
	ErrorMethodUnknown          ErrorCode = "method_unknown"             // 501
	ErrorUnavailable            ErrorCode = "unavailable"                // 503: stopping, or storage refuses writes
	ErrorHTTPVersionUnsupported ErrorCode = "http_version_not_supported" // 505
)

// errorClass is what an engine error becomes in the API.
type errorClass struct {
	status int
	code   ErrorCode
}

var engineErrors = map[engine.Code]errorClass{
	engine.CodeInvalid:       {fiber.StatusUnprocessableEntity, ErrorInvalidRequest},
	engine.CodeUnauthorized:  {fiber.StatusUnauthorized, ErrorTokenInvalid},
	engine.CodeUnknownKey:    {fiber.StatusUnauthorized, ErrorKeyUnknown},
	engine.CodeExpiredKey:    {fiber.StatusUnauthorized, ErrorKeyExpired},
	engine.CodeQuotaExceeded: {fiber.StatusTooManyRequests, ErrorQuotaExceeded},
	engine.CodeNotFound:      {fiber.StatusNotFound, ErrorNotFound},
	engine.CodeConflict:      {fiber.StatusConflict, ErrorConflict},
	engine.CodeStale:         {fiber.StatusPreconditionFailed, ErrorPreconditionFailed},
	engine.CodeForbidden:     {fiber.StatusForbidden, ErrorForbidden},
	engine.CodeBusy:          {fiber.StatusTooManyRequests, ErrorTooManyRequests},
	engine.CodeUnreadable:    {fiber.StatusInternalServerError, ErrorDataUnreadable},
	engine.CodeUnavailable:   {fiber.StatusServiceUnavailable, ErrorUnavailable},
}

// statusCodes holds the code of a problem that was made with a status only.
var statusCodes = map[int]ErrorCode{
	fiber.StatusBadRequest:                  ErrorMalformedRequest,
	fiber.StatusUnauthorized:                ErrorUnauthorized,
	fiber.StatusForbidden:                   ErrorForbidden,
	fiber.StatusNotFound:                    ErrorNotFound,
	fiber.StatusMethodNotAllowed:            ErrorMethodNotAllowed,
	fiber.StatusRequestTimeout:              ErrorRequestTimeout,
	fiber.StatusConflict:                    ErrorConflict,
	fiber.StatusPreconditionFailed:          ErrorPreconditionFailed,
	fiber.StatusRequestEntityTooLarge:       ErrorPayloadTooLarge,
	fiber.StatusRequestURITooLong:           ErrorURITooLong,
	fiber.StatusUnsupportedMediaType:        ErrorUnsupportedMediaType,
	fiber.StatusUnprocessableEntity:         ErrorInvalidRequest,
	fiber.StatusTooManyRequests:             ErrorTooManyRequests,
	fiber.StatusRequestHeaderFieldsTooLarge: ErrorHeadersTooLarge,
	fiber.StatusInternalServerError:         ErrorInternal,
	fiber.StatusNotImplemented:              ErrorMethodUnknown,
	fiber.StatusServiceUnavailable:          ErrorUnavailable,
	fiber.StatusHTTPVersionNotSupported:     ErrorHTTPVersionUnsupported,
}

// classify returns the status and the code of an engine error.
func classify(e *engine.Error) (status int, code ErrorCode) {
	class := engineErrors[e.Code]
	if e.Code == engine.CodeConflict && e.Field == "Idempotency-Key" {
		return class.status, ErrorIdempotencyConflict
	}
	return class.status, class.code
}

// publishError marks a conflict of Publish: the event's id or idempotency key was used for
// other content.
func (s *Server) publishError(err error) error {
	if engine.ErrorCode(err) != engine.CodeConflict {
		return err
	}
	p := *s.problemFor(nil, err)
	p.Code = ErrorIdempotencyConflict
	return &p
}

// codeOf returns the code of a status. Those that only fiber or fasthttp can answer fall back to
// the code of their class.
func codeOf(status int) ErrorCode {
	if code, ok := statusCodes[status]; ok {
		return code
	}
	if status >= fiber.StatusInternalServerError {
		return ErrorInternal
	}
	return ErrorMalformedRequest
}
