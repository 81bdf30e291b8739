package server

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
)

// DefaultMaxBodies is the default of Config.MaxBodies, in bytes.
const DefaultMaxBodies = 64 << 20

const (
	// A body up to this size is not counted: the limit of connections bounds these.
	smallBody = 16 << 10
	// An account may use this part of Config.MaxBodies.
	bodiesShare = 8

	// A counted body is cut off if nothing of it arrives for bodyPause, or if it is slower than
	// bodyRate, in bytes a second, after bodyPause.
	bodyPause = 5 * time.Second
	bodyRate  = 64 << 10

	// A JSON document of many values takes many times its bytes: about valueMemory for each. One up to
	// smallDocument is not counted: the limit of bodies bounds these.
	valueMemory   = 48
	smallDocument = 1 << 20
	// All documents may use this part of Config.MaxBodies, and an account half of that.
	documentsShare = 2
)

// newBodyLimiter returns the limiter of the memory for the bodies of requests in progress. One body of
// the maximum size always fits.
func newBodyLimiter(cfg Config) *fairlimit.Limiter {
	dropLargeBuffers()
	one := int64(cfg.MaxBody)
	return fairlimit.New(fairlimit.Limits{
		Units: max(cfg.MaxBodies, one), PerAccount: max(cfg.MaxBodies/bodiesShare, one),
		Wait: cfg.BodyWait, // all wait: a client that is refused at once would send the next body at once
	})
}

// newDocumentLimiter returns the limiter of the memory for JSON documents of requests in progress.
func newDocumentLimiter(cfg Config) *fairlimit.Limiter {
	units := max(cfg.MaxBodies/documentsShare, int64(cfg.MaxBody))
	return fairlimit.New(fairlimit.Limits{Units: units, PerAccount: max(units/2, int64(cfg.MaxBody)), Wait: cfg.BodyWait})
}

// dropLargeBuffers makes fasthttp give up the memory of a large body, or of a large response, once the
// request is answered. By default it keeps it as long as the connection lives.
var dropLargeBuffers = sync.OnceFunc(func() { fasthttp.SetBodySizePoolLimit(4*smallBody, 4*smallBody) })

// heldBody is the user value, under bodyKey, of a request that counts its body. fasthttp closes it
// when it resets the request.
type heldBody struct {
	server   *Server
	account  string
	body     func() // releases its memory
	document func() // releases that of its document, if that is large
}

func (h *heldBody) release() {
	h.body()
	if h.document != nil {
		h.document()
	}
}

// acquireDocument waits for the memory of the document in a body, if it has many values.
func acquireDocument(c *fiber.Ctx, body []byte) (err error) {
	h, ok := c.Context().UserValue(bodyKey{}).(*heldBody)
	if !ok || h.document != nil {
		return nil
	}
	// Each value but the first of all follows one of these. Those in texts are counted, too.
	values := bytes.Count(body, []byte(",")) + bytes.Count(body, []byte("[")) + bytes.Count(body, []byte("{"))
	if values*valueMemory <= smallDocument {
		return nil
	}
	if h.document, err = h.server.documents.Acquire(h.server.streams, h.account, "", int64(values*valueMemory)); err != nil {
		return &engine.Error{Code: engine.CodeBusy, Wait: h.server.cfg.BodyWait, Message: fmt.Sprintf(
			"this body has about %d JSON values, and the requests in progress have so many that there is no memory for more; send fewer of these at once, or smaller ones", values)}
	}
	return nil
}

type bodyKey struct{}

// Close implements io.Closer.
func (h *heldBody) Close() error {
	h.release()
	return nil
}

// releaseBody gives back what a request's body counts.
func releaseBody(ctx *fasthttp.RequestCtx) {
	if held, ok := ctx.UserValue(bodyKey{}).(*heldBody); ok {
		held.release()
	}
}

// acquireBody waits for the memory of the body of a request with a valid key; size is its length, or
// the maximum one if that is unknown. An error is the answer: the body must not be read.
func (s *Server) acquireBody(ctx *fasthttp.RequestCtx, account string, size int) error {
	conn := connOf(ctx.Conn())
	if size <= smallBody || conn == nil {
		return nil
	}
	release, err := s.bodies.Acquire(s.streams, account, "", int64(size))
	switch {
	case errors.Is(err, fairlimit.ErrAccountFull):
		conn.refusal = &engine.Error{Code: engine.CodeBusy, Wait: s.cfg.BodyWait, Message: fmt.Sprintf(
			"the bodies of this account's requests in progress fill the memory that an account may use for them (%s); send fewer of these at once, or smaller ones", byteSize(int(max(s.cfg.MaxBodies/bodiesShare, int64(s.cfg.MaxBody)))))}
	case err != nil:
		conn.refusal = &engine.Error{Code: engine.CodeUnavailable, Wait: s.cfg.BodyWait, Message: "the bodies of requests in progress fill the memory that this router has for them (--max-bodies); try again later"}
	default:
		ctx.SetUserValue(bodyKey{}, &heldBody{server: s, account: account, body: release})
		conn.expectBody(min(s.cfg.ReadTimeout, bodyPause+time.Duration(size)*time.Second/bodyRate))
	}
	return conn.refusal
}
