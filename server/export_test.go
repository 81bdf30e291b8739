package server

import (
	"context"
	"regexp"
	"strings"

	"github.com/valyala/fasthttp"

	"switchhook/engine"
)

// Operation describes a route for tests.
type Operation struct {
	Method  string
	Path    string   // as OpenAPI writes it: "/api/v1/subscriptions/{id}"
	Aliases []string // likewise
	Open    bool     // needs no key
}

var fiberParameter = regexp.MustCompile(`:(\w+)`)

// Operations returns the routes.
func (s *Server) Operations() []Operation {
	var list []Operation
	for _, r := range s.routes() {
		op := Operation{Method: r.method, Path: braces(r.path), Open: r.access.unauthenticated}
		for _, alias := range r.paths()[1:] {
			op.Aliases = append(op.Aliases, braces(alias))
		}
		list = append(list, op)
	}
	return list
}

func braces(path string) string { return fiberParameter.ReplaceAllString(path, "{$1}") }

// Fill replaces a path's parameters by values.
func (op Operation) Fill(path, id string) string {
	return strings.NewReplacer("{id}", id, "{name}", id, "{version}", "1", "{number}", "1").Replace(path)
}

// ContextOf is contextOf.
var ContextOf = contextOf

// CheckFraming is checkFraming.
func CheckFraming(ctx *fasthttp.RequestCtx) error {
	if p := checkFraming(ctx); p != nil {
		return p
	}
	return nil
}

// EngineError returns what an engine error becomes; ok is false if the table lacks it.
func EngineError(code engine.Code) (status int, errorCode string, ok bool) {
	class, ok := engineErrors[code]
	return class.status, string(class.code), ok
}

// StatusCode returns the code of a problem made with a status only.
func StatusCode(status int) (code string, ok bool) {
	found, ok := statusCodes[status]
	return string(found), ok
}

// OutcomeOf is outcomeOf.
var OutcomeOf = outcomeOf

// PublishPlaces is publishPlaces.
type PublishPlaces = publishPlaces

// NewPublishPlaces is newPublishPlaces.
var NewPublishPlaces = newPublishPlaces

// Acquire is acquire.
func (p *PublishPlaces) Acquire(ctx context.Context, account string) (release func(), err error) {
	return p.acquire(ctx, account)
}

// PageBytes is pageBytes.
const PageBytes = pageBytes

// HoldResponses takes the memory for responses that an account may use.
func (s *Server) HoldResponses(account string) (release func()) {
	release, _ = s.reads.memory.Acquire(context.Background(), account, "", s.cfg.MaxResponses)
	return release
}

// HoldReads takes the turns to read that an account may have, as far as they are free.
func (s *Server) HoldReads(account string) (release func()) {
	var all []func()
	for range accountReaders {
		if done, err := s.reads.turns.Acquire(context.Background(), account, "", 1); err == nil {
			all = append(all, done)
		}
	}
	return func() {
		for _, done := range all {
			done()
		}
	}
}

// ResponsesInUse returns the memory that responses use.
func (s *Server) ResponsesInUse() int64 { return s.reads.memory.Usage().InUse }
