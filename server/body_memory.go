package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

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

// dropLargeBuffers makes fasthttp give up the memory of a large body, or of a large response, once the
// request is answered. By default it keeps it as long as the connection lives.
var dropLargeBuffers = sync.OnceFunc(func() { fasthttp.SetBodySizePoolLimit(4*smallBody, 4*smallBody) })

// heldBody is the user value, under bodyKey, of a request that counts its body. fasthttp closes it
// when it resets the request.
type heldBody struct{ release func() }

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
		ctx.SetUserValue(bodyKey{}, &heldBody{release})
		conn.expectBody(min(s.cfg.ReadTimeout, bodyPause+time.Duration(size)*time.Second/bodyRate))
	}
	return conn.refusal
}
