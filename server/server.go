// Package server implements the REST API, its documentation, health and metrics. It translates requests
// to calls of the engine and results to JSON, and holds no rules that another entry point would need.
//
// This is the only package that uses Fiber.
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

	"switchhook/engine/fairlimit"
	"switchhook/engine/router"
	"switchhook/engine/telemetry"
	"switchhook/server/dialect"
)

// DefaultMaxBody is the default of Config.MaxBody, in bytes.
const DefaultMaxBody = 1 << 20

// Config configures a Server.
type Config struct {
	Engine   *router.Engine      // required
	Gatherer prometheus.Gatherer // shown under /metrics; nil: none
	Logger   *slog.Logger        // nil: slog.Default()
	MaxBody  int                 // limit of a request's body in bytes; 0: DefaultMaxBody
	Version  string              // shown in the API's description

	// MaxBodies limits the memory for the bodies of all requests in progress, in bytes; one account may
	// use an eighth. 0: DefaultMaxBodies. Small bodies are not counted.
	MaxBodies int64
	// BodyWait limits how long a request waits for that memory; 0: 8 s, which is longer than a stalled
	// body holds it.
	BodyWait time.Duration

	// MaxResponses limits the memory of all responses to reading requests in progress, in bytes; one
	// account may use a quarter. 0: DefaultMaxResponses.
	MaxResponses int64
	// ReadWait limits how long a reading request waits for that memory and for its turn; 0: 10 s.
	ReadWait time.Duration

	// TrustedProxies are the addresses whose X-Forwarded-For is trusted; nil: none.
	TrustedProxies []netip.Prefix
	// ReadTimeout limits how long a request may take to arrive, headers and body; 0: 30 s.
	ReadTimeout time.Duration
	// MaxConns limits the open connections; 0: DefaultMaxConns. At the limit the connections that have
	// been idle longest are closed for new ones.
	MaxConns int
	// MaxAddressConns limits the open connections of one client address, except those of TrustedProxies;
	// 0: half of MaxConns.
	MaxAddressConns int
	// PathPrefix precedes the API's paths where clients see them, behind a proxy that removes it:
	// "/hooks". It is added to the paths in Location, Link and href.
	PathPrefix string
	// TLS says that the listener of Serve speaks TLS; responses then require it (HSTS).
	TLS bool
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	AllowQueryKey bool                  // keys are also accepted from ?api_key=
	Origins       []string              // whose pages may read responses (CORS), or "*"; empty: none
	Registerer    prometheus.Registerer // registers the request counter; nil: none
	AccessLog     *slog.Logger          // gets a line per request; nil: none
	MetricsKeys   bool                  // /metrics requires an admin key
}

// Server serves the API. New makes one.
type Server struct {
	cfg    Config
	engine *router.Engine
	log    *slog.Logger
	app    *fiber.App

	authLimiter *failedAuthLimiter
	conns       *connTracker
	bodies      *fairlimit.Limiter // bytes of the bodies of requests in progress
	documents   *fairlimit.Limiter // bytes of JSON documents with many values in them
	publishing  *publishPlaces
	reads       *readLimits
	requests    *prometheus.CounterVec // nil: not counted

	// streams is cancelled by Shutdown, which ends streamed responses.
	streams    context.Context
	endStreams context.CancelFunc
	background sync.WaitGroup // goroutines that end with streams

	reloadDialects chan struct{} // holds at most one request

	dialectSet atomic.Pointer[dialect.Set] // nil: none
}

// New makes a Server. It does not listen until Serve is called.
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
	if cfg.MaxAddressConns == 0 {
		cfg.MaxAddressConns = max(1, cfg.MaxConns/2)
	}
	if cfg.BodyWait == 0 {
		cfg.BodyWait = 8 * time.Second
	}
	if cfg.MaxBodies == 0 {
		cfg.MaxBodies = DefaultMaxBodies
	}
	if cfg.MaxResponses == 0 {
		cfg.MaxResponses = DefaultMaxResponses
	}
	if cfg.ReadWait == 0 {
		cfg.ReadWait = 10 * time.Second
	}
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg: cfg, engine: cfg.Engine, log: cfg.Logger, authLimiter: newFailedAuthLimiter(cfg.Now),
		bodies: newBodyLimiter(cfg), documents: newDocumentLimiter(cfg), publishing: newPublishPlaces(), reloadDialects: make(chan struct{}, 1),
	}
	s.conns = newConnTracker(s)
	if cfg.Registerer != nil {
		s.requests = newRequestCounter(cfg.Registerer)
		cfg.Registerer.MustRegister(s.conns,
			telemetry.NewPlacesCollector("bodies", s.bodies), telemetry.NewPlacesCollector("documents", s.documents),
			telemetry.NewPlacesCollector("publishing", s.publishing.limiter))
	}
	s.reads = newReadLimits(&s.cfg)
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.app = fiber.New(fiber.Config{
		AppName:               "Switchhook",
		DisableStartupMessage: true,
		CaseSensitive:         true,
		BodyLimit:             cfg.MaxBody,
		// Never reached: the listener enforces the limit. At this one fasthttp answers 503 in its accept
		// loop, over TLS after a handshake that the client may never begin.
		Concurrency:    math.MaxInt32,
		ReadBufferSize: 16 << 10, // also limits a request's headers
		ReadTimeout:    cfg.ReadTimeout,
		WriteTimeout:   30 * time.Second,
		IdleTimeout:    2 * time.Minute,
		ErrorHandler:   s.handleUnparsable,
		JSONEncoder:    encodeAnswer,
		// A form is refused by its Content-Type, without parsing it.
		DisablePreParseMultipartForm: true,
	})
	s.app.Server().HeaderReceived = s.bodyLimit
	s.app.Server().ErrorHandler = s.answerUnparsable
	s.app.Server().Handler = trackRequests(s.rejectUnknownMethods(s.app.Server().Handler))
	s.app.Server().CloseOnShutdown = true // clients are told to reconnect
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
	defer context.AfterFunc(s.streams, s.conns.closeSilent)()
	return s.app.Listener(s.conns.listen(l))
}

// trackRequests marks the connection of each request as busy while it is handled.
func trackRequests(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		conn := connOf(ctx.Conn())
		if conn == nil {
			next(ctx)
			return
		}
		if !conn.bodyEnd.IsZero() && len(ctx.PostBody()) <= smallBody {
			releaseBody(ctx) // a chunked body, counted with the maximum size
		}
		if !conn.setBusy() {
			ctx.SetConnectionClose()
			return
		}
		next(ctx)
		conn.setIdle()
	}
}

// lingerAfter makes a connection end with a lingering close: the client may still be sending.
func lingerAfter(ctx *fasthttp.RequestCtx) {
	if conn := connOf(ctx.Conn()); conn != nil {
		conn.lingers.Store(true)
	}
}

// Shutdown stops accepting requests and waits for those in progress until ctx ends; it cancels
// comparisons and closes connections without a request.
func (s *Server) Shutdown(ctx context.Context) error {
	s.endStreams()
	s.background.Wait()
	return s.app.ShutdownWithContext(ctx)
}

// rejectUnknownMethods answers unknown HTTP methods with a problem, and closes the connection: fiber would
// answer them before checkFraming sees the request.
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
		if err := s.handleUnparsable(c, newProblem(fiber.StatusNotImplemented, "unknown HTTP method")); err != nil {
			s.log.Error("request not answered", "error", err)
		}
	}
}

// middleware wraps every request: it turns a panic into a 500, sets the security headers, and counts
// the response.
func (s *Server) middleware(c *fiber.Ctx) error {
	began := time.Now()
	pretty := takePretty(c)
	err := s.recoverPanic(c)
	if err != nil {
		err = s.problem(c, err)
	}
	s.prefixLocation(c)
	finishJSON(c, pretty)
	conditionalGet(c)
	countResponse(c)
	s.observe(c, began)
	return err
}

// prefixLocation adds PathPrefix to the paths in Location and Link.
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
			s.log.Error("panic in a handler", "method", c.Method(), "path", c.Path(), "panic", p)
			err = fiber.ErrInternalServerError
		}
	}()
	s.setSecurityHeaders(c)
	if p := checkFraming(c.Context()); p != nil {
		c.Context().SetConnectionClose() // the start of the next request is unknown
		lingerAfter(c.Context())
		return p
	}
	if conn := connOf(c.Context().Conn()); conn != nil && conn.refusal != nil {
		c.Context().SetConnectionClose() // a chunked body that was too short to be too large
		return conn.refusal
	}
	return c.Next()
}

// answerUnparsable answers input that fasthttp could not parse as a request. fasthttp then closes the
// connection.
func (s *Server) answerUnparsable(ctx *fasthttp.RequestCtx, err error) {
	c := s.app.AcquireCtx(ctx)
	defer s.app.ReleaseCtx(c)
	lingerAfter(ctx)
	var answer error = fiber.ErrBadRequest
	var timeout net.Error
	conn := connOf(ctx.Conn())
	switch {
	case conn != nil && conn.refusal != nil:
		answer = conn.refusal
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		answer = fiber.ErrRequestHeaderFieldsTooLarge
		if conn != nil && !conn.hasLine {
			answer = fiber.ErrRequestURITooLong
		}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		answer = fiber.ErrRequestEntityTooLarge
	case errors.Is(err, fasthttp.ErrTimeout) || errors.As(err, &timeout) && timeout.Timeout():
		answer = fiber.ErrRequestTimeout
		if conn != nil {
			conn.lingers.Store(false) // the timeout has passed already
		}
	}
	if err := s.handleUnparsable(c, answer); err != nil {
		s.log.Error("request not answered", "error", err)
	}
}

// handleUnparsable answers a request that could not be parsed and so has no route.
func (s *Server) handleUnparsable(c *fiber.Ctx, err error) error {
	began := time.Now()
	err = s.problem(c, err)
	s.observe(c, began)
	return err
}

// setSecurityHeaders forbids content sniffing, framing and reading by other sites, and over TLS
// downgrades.
func (s *Server) setSecurityHeaders(c *fiber.Ctx) {
	// The names are canonical already: canonicalizing them took longer than setting them.
	h := &c.Response().Header
	h.SetCanonical([]byte(fiber.HeaderXContentTypeOptions), []byte("nosniff"))
	h.SetCanonical([]byte(fiber.HeaderXFrameOptions), []byte("DENY"))
	h.SetCanonical([]byte(fiber.HeaderReferrerPolicy), []byte("no-referrer"))
	h.SetCanonical([]byte("Cross-Origin-Resource-Policy"), []byte("same-origin"))
	if s.cfg.TLS {
		h.SetCanonical([]byte(fiber.HeaderStrictTransportSecurity), []byte("max-age=31536000"))
	}
}

// encodeJSON does not escape "<", ">" and "&": filters, transforms and payloads are full of them, and
// responses are served as JSON with nosniff.
func encodeJSON(v any) ([]byte, error) {
	text, err := encodeAnswer(v)
	return bytes.TrimSuffix(text, newline), err
}

// encodeAnswer encodes a whole response as encodeJSON does, and ends it with a newline.
func encodeAnswer(v any) ([]byte, error) {
	var out bytes.Buffer
	err := encodeTo(&out, v)
	return out.Bytes(), err
}

func encodeTo(out *bytes.Buffer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
