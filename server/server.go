// Package server is the router's HTTP face: the REST API, its documentation, health and
// metrics. It turns requests into calls of the engine and the engine's answers into JSON;
// nothing is decided here that another way in would have to decide again.
//
// Fiber is known here and nowhere else.
package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"switchhook/engine/router"
	"switchhook/server/dialect"
)

// DefaultMaxBody is how large a request's body may be, in bytes, where Config does not say.
const DefaultMaxBody = 1 << 20

// Config is what a Server works with.
type Config struct {
	Engine   *router.Engine      // required
	Gatherer prometheus.Gatherer // shown under /metrics; none where nil
	Logger   *slog.Logger        // slog.Default() where nil
	MaxBody  int                 // bytes of a request's body; DefaultMaxBody where 0
	Version  string              // shown in the API's description

	// TrustedProxies are the addresses whose X-Forwarded-For is believed; none where nil.
	TrustedProxies []netip.Prefix
	// ReadTimeout is the longest time in which a request must have come, headers and body;
	// 30 s where 0.
	ReadTimeout time.Duration
	// MaxConns is how many connections may be open at one time; DefaultMaxConns where 0. At the
	// limit those that have been idle longest are closed for new ones.
	MaxConns int
	// PathPrefix is what stands before the paths of the API where clients see it, behind a proxy
	// that removes it: "/hooks". It begins the paths in Location, Link and href.
	PathPrefix string
	// TLS says that the listener of Serve speaks TLS, and clients are told to stay with it.
	TLS bool
	// Now is the clock; time.Now where nil.
	Now func() time.Time

	AllowQueryKey bool                  // keys are also taken from ?api_key=
	Origins       []string              // whose pages may read answers (CORS), or "*"; none where empty
	Registerer    prometheus.Registerer // takes the counts of requests; none where nil
	AccessLog     *slog.Logger          // gets a line for each request; none where nil
	MetricsKeys   bool                  // /metrics asks for an admin key
}

// Server serves the API. It is made by New.
type Server struct {
	cfg    Config
	engine *router.Engine
	log    *slog.Logger
	app    *fiber.App

	authLimiter *failedAuthLimiter
	requests    *prometheus.CounterVec // nil: nobody counts
	evictions   prometheus.Counter

	// streams is over once Shutdown is called: answers that go on for long end then.
	streams    context.Context
	endStreams context.CancelFunc
	background sync.WaitGroup // ends with the streams

	reloadDialects chan struct{} // holds one request at most

	dialectSet atomic.Pointer[dialect.Set] // nil: none
}

// New makes a Server. It listens once Serve is called.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, engine: cfg.Engine, log: cfg.Logger, authLimiter: newFailedAuthLimiter(cfg.Now), evictions: newEvictionCounter(), reloadDialects: make(chan struct{}, 1)}
	if cfg.Registerer != nil {
		s.requests = newRequestCounter(cfg.Registerer)
		cfg.Registerer.MustRegister(s.evictions)
	}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.app = fiber.New(fiber.Config{
		AppName:               "Switchhook",
		DisableStartupMessage: true,
		CaseSensitive:         true,
		BodyLimit:             cfg.MaxBody,
		// Never reached: the listener has the limit. At this one fasthttp answers 503 from its
		// accept loop, over TLS after a handshake that the client may never begin.
		Concurrency:    math.MaxInt32,
		ReadBufferSize: 16 << 10, // bounds a request's headers
		ReadTimeout:    cfg.ReadTimeout,
		WriteTimeout:   30 * time.Second,
		IdleTimeout:    2 * time.Minute,
		ErrorHandler:   s.handleUnparsable,
		JSONEncoder:    encodeAnswer,
		// A form is refused by its Content-Type; nobody needs to have read it.
		DisablePreParseMultipartForm: true,
	})
	s.app.Server().HeaderReceived = s.bodyLimit
	s.app.Server().ErrorHandler = s.answerUnparsable
	s.app.Server().Handler = trackRequests(s.rejectUnknownMethods(s.app.Server().Handler))
	s.app.Server().CloseOnShutdown = true // clients are told to come back elsewhere
	s.app.Use(s.middleware)
	if len(cfg.Origins) > 0 {
		s.app.Use(s.cors())
	}
	for _, r := range s.routes() {
		r.register(s.app, s.handle(r))
	}
	s.app.Use(s.dialectMiddleware)
	return s
}

// Serve answers requests on l until Shutdown. The error is nil after Shutdown.
func (s *Server) Serve(l net.Listener) error {
	conns := trackConns(l, s.cfg.MaxConns, s.log, s.evictions.Inc)
	defer context.AfterFunc(s.streams, conns.closeSilent)()
	return s.app.Listener(conns)
}

// trackRequests tells the connection of each request how long it is being answered.
func trackRequests(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		conn := connOf(ctx.Conn())
		if conn == nil {
			next(ctx)
			return
		}
		if !conn.setBusy() {
			ctx.SetConnectionClose()
			return
		}
		next(ctx)
		conn.setIdle()
	}
}

// lingerAfter lets a connection end with a lingering close: the client may still be sending.
func lingerAfter(ctx *fasthttp.RequestCtx) {
	if conn := connOf(ctx.Conn()); conn != nil {
		conn.lingers.Store(true)
	}
}

// Shutdown takes no more requests and waits, until ctx is over, for those that run;
// backtests are cut short, and connections without a request are closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.endStreams()
	s.background.Wait()
	return s.app.ShutdownWithContext(ctx)
}

// rejectUnknownMethods answers methods that HTTP does not have as all else is answered, and closes
// the connection: fiber answers them before anything of ours comes to see the request, such
// as checkFraming.
func (s *Server) rejectUnknownMethods(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			next(ctx)
			return
		}
		ctx.SetConnectionClose()
		lingerAfter(ctx)
		c := s.app.AcquireCtx(ctx)
		defer s.app.ReleaseCtx(c)
		if err := s.handleUnparsable(c, newProblem(fiber.StatusNotImplemented, "the method of this request is none that is known here")); err != nil {
			s.log.Error("request not answered", "error", err)
		}
	}
}

// middleware runs around every request: a panic becomes a 500, answers say that they are not to
// be guessed at or framed, and what was answered is counted.
func (s *Server) middleware(c *fiber.Ctx) error {
	began := time.Now()
	pretty := takePretty(c)
	err := s.recoverPanic(c)
	if err != nil {
		err = s.problem(c, err)
	}
	s.prefixLocation(c)
	finishJSON(c, pretty)
	s.observe(c, began)
	return err
}

// prefixLocation makes the paths in Location and Link those that the client sees.
func (s *Server) prefixLocation(c *fiber.Ctx) {
	if s.cfg.PathPrefix == "" {
		return
	}
	header := &c.Response().Header
	if path := header.Peek(fiber.HeaderLocation); bytes.HasPrefix(path, []byte{'/'}) {
		header.Set(fiber.HeaderLocation, s.cfg.PathPrefix+string(path))
	}
	if link := header.Peek(fiber.HeaderLink); bytes.HasPrefix(link, []byte("</")) {
		header.Set(fiber.HeaderLink, "<"+s.cfg.PathPrefix+string(link[1:]))
	}
}

func (s *Server) recoverPanic(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic while answering", "method", c.Method(), "path", c.Path(), "panic", p)
			err = fiber.ErrInternalServerError
		}
	}()
	s.setSecurityHeaders(c)
	if p := checkFraming(c.Context()); p != nil {
		c.Context().SetConnectionClose() // where the next request begins is not known
		lingerAfter(c.Context())
		return p
	}
	return c.Next()
}

// answerUnparsable answers what fasthttp could not read as a request. It closes the connection
// then.
func (s *Server) answerUnparsable(ctx *fasthttp.RequestCtx, err error) {
	c := s.app.AcquireCtx(ctx)
	defer s.app.ReleaseCtx(c)
	lingerAfter(ctx)
	answer := fiber.ErrBadRequest
	var timeout net.Error
	switch {
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		answer = fiber.ErrRequestHeaderFieldsTooLarge
		if conn := connOf(ctx.Conn()); conn != nil && !conn.hasLine {
			answer = fiber.ErrRequestURITooLong
		}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		answer = fiber.ErrRequestEntityTooLarge
	case errors.Is(err, fasthttp.ErrTimeout) || errors.As(err, &timeout) && timeout.Timeout():
		answer = fiber.ErrRequestTimeout
		if conn := connOf(ctx.Conn()); conn != nil {
			conn.lingers.Store(false) // it had its time
		}
	}
	if err := s.handleUnparsable(c, answer); err != nil {
		s.log.Error("request not answered", "error", err)
	}
}

// handleUnparsable answers what could not be read, and so came to no route.
func (s *Server) handleUnparsable(c *fiber.Ctx, err error) error {
	began := time.Now()
	err = s.problem(c, err)
	s.observe(c, began)
	return err
}

// setSecurityHeaders says that an answer is not to be guessed at, framed, or read by another site, and
// over TLS that there is no way back.
func (s *Server) setSecurityHeaders(c *fiber.Ctx) {
	// The names are in their canonical form: to make them so took longer than to set them.
	h := &c.Response().Header
	h.SetCanonical([]byte(fiber.HeaderXContentTypeOptions), []byte("nosniff"))
	h.SetCanonical([]byte(fiber.HeaderXFrameOptions), []byte("DENY"))
	h.SetCanonical([]byte(fiber.HeaderReferrerPolicy), []byte("no-referrer"))
	h.SetCanonical([]byte("Cross-Origin-Resource-Policy"), []byte("same-origin"))
	if s.cfg.TLS {
		h.SetCanonical([]byte(fiber.HeaderStrictTransportSecurity), []byte("max-age=31536000"))
	}
}

// encodeJSON leaves "<", ">" and "&" as they are: filters, transforms and payloads are
// full of them, and the answers say that they are JSON and nothing else.
func encodeJSON(v any) ([]byte, error) {
	text, err := encodeAnswer(v)
	return bytes.TrimSuffix(text, newline), err
}

// encodeAnswer does so for a whole answer, which ends with a newline.
func encodeAnswer(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return out.Bytes(), err
}
