package server

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/scripttest"
)

// Problem is an error response (RFC 9457, application/problem+json).
type Problem struct {
	Type   string             `json:"type"`             // "about:blank": Title is the status
	Title  string             `json:"title"`            // the status in words
	Status int                `json:"status"`           // as in the status line
	Code   ErrorCode          `json:"code"`             // the reason, for programs
	Detail string             `json:"detail"`           // the cause and the remedy, for people
	Field  string             `json:"field,omitempty"`  // the input's field: "headers" or "events[2].type"
	Offset *int               `json:"offset,omitempty"` // of invalid JSON in the body, in bytes
	Line   int                `json:"line,omitempty"`   // of invalid JSON, 1-based
	Column int                `json:"column,omitempty"` // of invalid JSON, in bytes, 1-based
	Script *scripts.Error     `json:"script,omitempty"` // an error in a filter or transform
	Tests  *scripttest.Report `json:"tests,omitempty"`  // if test cases failed
}

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

func newProblem(status int, detail string) *Problem { return &Problem{Status: status, Detail: detail} }

func invalidField(field, detail string) *Problem {
	return &Problem{Status: fiber.StatusUnprocessableEntity, Field: field, Detail: field + " " + detail}
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
func (s *Server) describe(c *fiber.Ctx, err error) *Problem {
	p := s.problemFor(c, err)
	if p.Title == "" {
		p.Title = titleOf(p.Status)
	}
	if p.Code == "" {
		p.Code = codeOf(p.Status)
	}
	p.Type = "about:blank"
	return p
}

// problemFor converts an error to a problem; c is nil if the response has begun.
func (s *Server) problemFor(c *fiber.Ctx, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var e *engine.Error
	if errors.As(err, &e) {
		detail := e.Message
		if e.Field != "" {
			detail = e.Field + " " + e.Message
			if e.Script != nil {
				detail = e.Field + ": " + e.Message
			}
		}
		status, code := classify(e)
		return &Problem{Status: status, Code: code, Detail: detail, Field: e.Field, Script: e.Script, Tests: e.Report}
	}
	var syntax *jsonindex.SyntaxError
	if errors.As(err, &syntax) {
		return &Problem{
			Status: fiber.StatusBadRequest, Code: ErrorInvalidJSON, Detail: "the body is not JSON: " + syntax.Error(),
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

// describeFiber converts the errors that Fiber returns by itself.
func (s *Server) describeFiber(c *fiber.Ctx, f *fiber.Error) *Problem {
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
		return newProblem(f.Code, "the request did not arrive completely within "+s.cfg.ReadTimeout.String())
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

func noRoute(c *fiber.Ctx) *Problem {
	return &Problem{
		Status: fiber.StatusNotFound, Code: ErrorRouteNotFound,
		Detail: "there is nothing at " + c.Path() + "; /api/v1/openapi.json lists what there is",
	}
}
