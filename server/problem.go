package server

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

func newProblem(status int, detail string) *api.Error {
	return &api.Error{Status: status, Detail: detail}
}

func invalidField(field, detail string) *api.Error {
	return &api.Error{Status: fiber.StatusUnprocessableEntity, Field: field, Detail: field + " " + detail}
}

// unknownField returns the error for a member or parameter that does not exist.
func unknownField(field, detail string) *api.Error {
	p := invalidField(field, detail)
	p.Errors = []api.FieldError{{Field: field, Code: string(engine.FieldUnknown), Detail: p.Detail}}
	return p
}

// problemType is the media type of errors.
const problemType = "application/problem+json"

// problem writes an error response; it is the only place where an error becomes a status.
func (s *Server) problem(c *fiber.Ctx, err error) error {
	if c.Method() == fiber.MethodOptions && err == fiber.ErrMethodNotAllowed {
		return s.options(c)
	}
	p := s.describe(c, err)
	switch p.Status {
	case fiber.StatusUnauthorized:
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="switchhook"`)
	case fiber.StatusTooManyRequests, fiber.StatusServiceUnavailable:
		c.Set(fiber.HeaderRetryAfter, retryAfter(err))
	case fiber.StatusInsufficientStorage:
		if e, ok := errors.AsType[*engine.Error](err); ok && e.Wait > 0 {
			c.Set(fiber.HeaderRetryAfter, retryAfter(err))
		}
	}
	status, own := dialectProblem(c, p)
	s.setSecurityHeaders(c) // for errors before routing, which the middleware does not see
	if own != nil {
		c.Status(status).Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(own)
	}
	p.Status = status
	body, err := encodeAnswer(p)
	if err != nil {
		return err
	}
	c.Status(p.Status).Set(fiber.HeaderContentType, problemType)
	return c.Send(body)
}

// retryAfter returns the whole number of seconds after which a request may succeed.
func retryAfter(err error) string {
	var e *engine.Error
	if !errors.As(err, &e) {
		return "1"
	}
	return strconv.Itoa(max(1, int(math.Ceil(e.Wait.Seconds()))))
}

// describe converts an error to a problem with all its members.
func (s *Server) describe(c *fiber.Ctx, err error) *api.Error {
	p := s.problemFor(c, err)
	if p.Title == "" {
		p.Title = titleOf(p.Status)
	}
	if p.Code == "" {
		p.Code = codeOf(p.Status)
	}
	if p.Field != "" && len(p.Errors) == 0 {
		p.Errors = []api.FieldError{{Field: p.Field, Code: string(engine.FieldInvalid), Detail: p.Detail}}
	}
	p.Field, p.Detail = clip(p.Field, maxField), clip(p.Detail, maxDetail)
	for i := range p.Errors {
		e := &p.Errors[i]
		e.Field, e.Detail = clip(e.Field, maxField), clip(e.Detail, maxDetail)
	}
	p.Type = "about:blank"
	return p
}

// The maximum bytes of an error's texts, which can quote any part of a request.
const maxField, maxDetail = 300, 2000

// clip cuts a text that is longer than a maximum.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// problemFor converts an error to a problem; c is nil if the response has begun.
func (s *Server) problemFor(c *fiber.Ctx, err error) *api.Error {
	var p *api.Error
	if errors.As(err, &p) {
		return p
	}
	var e *engine.Error
	if errors.As(err, &e) {
		return describeEngine(e)
	}
	var syntax *jsonindex.SyntaxError
	if errors.As(err, &syntax) {
		return &api.Error{
			Status: fiber.StatusBadRequest, Code: api.CodeInvalidJSON, Detail: "the body is not JSON: " + syntax.Error(),
			Offset: &syntax.Offset, Line: syntax.Line, Column: syntax.Column,
		}
	}
	if c == nil {
		s.log.Error("response interrupted", "error", err)
		return newProblem(fiber.StatusInternalServerError, "internal error of the router; see its log")
	}
	var f *fiber.Error
	if errors.As(err, &f) {
		return s.describeFiber(c, f)
	}
	s.log.Error("request failed", "method", c.Method(), "path", c.Path(), "error", err)
	return newProblem(fiber.StatusInternalServerError, "internal error of the router; see its log")
}

// describeEngine converts an error of the engine.
func describeEngine(e *engine.Error) *api.Error {
	status, code := classify(e)
	p := &api.Error{Status: status, Code: code, Detail: e.Message, Field: e.Field, Script: e.Script, Tests: e.Report}
	for _, f := range e.Fields() {
		separator := " "
		if f.Script != nil {
			separator = ": "
		}
		p.Errors = append(p.Errors, api.FieldError{Field: f.Field, Code: string(f.Code), Detail: f.Field + separator + f.Message})
	}
	if len(p.Errors) > 0 {
		p.Detail = p.Errors[0].Detail
	}
	if more := len(p.Errors) - 1; more > 0 {
		p.Detail += fmt.Sprintf("; errors lists %d more", more)
	}
	return p
}

// describeFiber converts the errors that Fiber returns by itself.
func (s *Server) describeFiber(c *fiber.Ctx, f *fiber.Error) *api.Error {
	switch f.Code {
	case fiber.StatusNotFound:
		return noRoute(c)
	case fiber.StatusRequestEntityTooLarge:
		// It may exceed only the limit for unauthenticated requests. (After a chunked body the headers are
		// gone, and with them the key.)
		if header := &c.Request().Header; len(header.Host()) > 0 {
			if _, err := s.authenticate(c); err != nil {
				return s.describe(c, err)
			}
		}
		return newProblem(f.Code, "the body is larger than "+byteSize(s.cfg.MaxBody)+"; send less, or raise the limit with --max-body")
	case fiber.StatusMethodNotAllowed:
		return newProblem(f.Code, c.Method()+" is not allowed on this path; the Allow header lists the methods that are")
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return newProblem(f.Code, "the headers, with the request's first line, are larger than 16 KiB")
	case fiber.StatusRequestURITooLong:
		return newProblem(f.Code, "the URL is longer than 16 KiB; send its parameters in the body")
	case fiber.StatusRequestTimeout:
		return newProblem(f.Code, fmt.Sprintf("the request did not arrive completely within %s, or nothing of its body arrived for %s, or less than %s a second", s.cfg.ReadTimeout, bodyPause, byteSize(bodyRate)))
	case fiber.StatusBadRequest:
		// The message quotes the request, which contains the key.
		return newProblem(f.Code, "the request is not valid HTTP")
	case fiber.StatusInternalServerError:
		return newProblem(f.Code, "internal error of the router; see its log")
	}
	return newProblem(f.Code, f.Message)
}

func titleOf(status int) string {
	switch status { // their names since RFC 9110
	case fiber.StatusRequestEntityTooLarge:
		return "Content Too Large"
	case fiber.StatusRequestURITooLong:
		return "URI Too Long"
	case fiber.StatusUnprocessableEntity:
		return "Unprocessable Content"
	}
	return strings.TrimSpace(fiber.NewError(status).Message)
}

func unknownRoute(c *fiber.Ctx) error { return noRoute(c) }

func noRoute(c *fiber.Ctx) *api.Error {
	return &api.Error{
		Status: fiber.StatusNotFound, Code: api.CodeRouteNotFound,
		Detail: "there is no path " + c.Path() + "; /api/v1/openapi.json lists the paths",
	}
}
