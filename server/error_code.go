package server

import (
	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/server/api"
)

// errorClass is what an engine error becomes in the API.
type errorClass struct {
	status int
	code   api.ErrorCode
}

var engineErrors = map[engine.Code]errorClass{
	engine.CodeInvalid:       {fiber.StatusUnprocessableEntity, api.CodeInvalidRequest},
	engine.CodeUnauthorized:  {fiber.StatusUnauthorized, api.CodeTokenInvalid},
	engine.CodeUnknownKey:    {fiber.StatusUnauthorized, api.CodeKeyUnknown},
	engine.CodeExpiredKey:    {fiber.StatusUnauthorized, api.CodeKeyExpired},
	engine.CodeQuotaExceeded: {fiber.StatusTooManyRequests, api.CodeQuotaExceeded},
	engine.CodeStorageFull:   {fiber.StatusInsufficientStorage, api.CodeInsufficientStorage},
	engine.CodeNotFound:      {fiber.StatusNotFound, api.CodeNotFound},
	engine.CodeConflict:      {fiber.StatusConflict, api.CodeConflict},
	engine.CodeSuperseded:    {fiber.StatusConflict, api.CodeSuperseded},
	engine.CodeStale:         {fiber.StatusPreconditionFailed, api.CodePreconditionFailed},
	engine.CodeForbidden:     {fiber.StatusForbidden, api.CodeForbidden},
	engine.CodeBusy:          {fiber.StatusTooManyRequests, api.CodeTooManyRequests},
	engine.CodeLoop:          {fiber.StatusLoopDetected, api.CodeLoopDetected},
	engine.CodeUnreadable:    {fiber.StatusInternalServerError, api.CodeDataUnreadable},
	engine.CodeUnavailable:   {fiber.StatusServiceUnavailable, api.CodeUnavailable},
}

// statusCodes holds the code of a problem that was made with a status only.
var statusCodes = map[int]api.ErrorCode{
	fiber.StatusBadRequest:                  api.CodeMalformedRequest,
	fiber.StatusUnauthorized:                api.CodeUnauthorized,
	fiber.StatusForbidden:                   api.CodeForbidden,
	fiber.StatusNotFound:                    api.CodeNotFound,
	fiber.StatusMethodNotAllowed:            api.CodeMethodNotAllowed,
	fiber.StatusRequestTimeout:              api.CodeRequestTimeout,
	fiber.StatusConflict:                    api.CodeConflict,
	fiber.StatusPreconditionFailed:          api.CodePreconditionFailed,
	fiber.StatusRequestEntityTooLarge:       api.CodePayloadTooLarge,
	fiber.StatusRequestURITooLong:           api.CodeURITooLong,
	fiber.StatusUnsupportedMediaType:        api.CodeUnsupportedMediaType,
	fiber.StatusUnprocessableEntity:         api.CodeInvalidRequest,
	fiber.StatusTooManyRequests:             api.CodeTooManyRequests,
	fiber.StatusRequestHeaderFieldsTooLarge: api.CodeHeadersTooLarge,
	fiber.StatusInternalServerError:         api.CodeInternal,
	fiber.StatusNotImplemented:              api.CodeMethodUnknown,
	fiber.StatusServiceUnavailable:          api.CodeUnavailable,
	fiber.StatusInsufficientStorage:         api.CodeInsufficientStorage,
	fiber.StatusHTTPVersionNotSupported:     api.CodeHTTPVersionUnsupported,
	fiber.StatusLoopDetected:                api.CodeLoopDetected,
}

// classify returns the status and the code of an engine error.
func classify(e *engine.Error) (status int, code api.ErrorCode) {
	class := engineErrors[e.Code]
	if e.Code == engine.CodeConflict && e.Field == "Idempotency-Key" {
		return class.status, api.CodeIdempotencyConflict
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
	p.Code = api.CodeIdempotencyConflict
	return &p
}

// codeOf returns the code of a status. Those that only fiber or fasthttp can answer fall back to
// the code of their class.
func codeOf(status int) api.ErrorCode {
	if code, ok := statusCodes[status]; ok {
		return code
	}
	if status >= fiber.StatusInternalServerError {
		return api.CodeInternal
	}
	return api.CodeMalformedRequest
}
