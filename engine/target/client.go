package target

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Client sends requests over an HTTP transport. It decides itself when a request is sent a second
// time: net/http would resend without telling, for some methods and headers only.
type Client struct {
	kept  http.RoundTripper
	fresh func() http.RoundTripper // opens a new connection for each request
}

// NewClient returns a Client that sends over rt. If rt is an *http.Transport, the Client
// makes a second one with the same settings for requests that need a new connection.
func NewClient(rt http.RoundTripper) *Client {
	c := &Client{kept: rt, fresh: func() http.RoundTripper { return rt }}
	if t, ok := rt.(*http.Transport); ok {
		c.fresh = sync.OnceValue(func() http.RoundTripper {
			t := t.Clone()
			t.DisableKeepAlives = true
			return t
		})
	}
	return c
}

// Request is a request that a Client sends. The names of headers are sent as they are written, and
// no User-Agent is added.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte
	// Timeout is the timeout of ctx, for the text of an error.
	Timeout time.Duration
}

// Do sends r and returns the answer, or an *Error. No redirect is followed.
//
// A target may close a kept-alive connection at any time, also while a request is being sent
// (RFC 9112, 9.3.1). If it does, without one byte of an answer, r is sent again at once on
// another connection, and resent is true. That happens only once per request, and never after an
// answer or a timeout. Bytes that a target wrote after its last answer are not an answer. The
// target may have processed the first request: it must deduplicate by the id of the delivery.
func (c *Client) Do(ctx context.Context, r Request) (res *http.Response, resent bool, err error) {
	t := &exchange{}
	res, err = t.send(ctx, c.kept, r)
	if t.stale(res, err) && ctx.Err() == nil {
		if res != nil {
			res.Body.Close()
		}
		resent = t.wrote.Load()
		rt := c.fresh()
		if t.http2.Load() {
			// net/http no longer uses the connection that is closing, and other HTTP/2 connections
			// are shared by many requests.
			rt = c.kept
		}
		t = &exchange{}
		res, err = t.send(ctx, rt, r)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, resent, describe(err, t.phase(), r)
	}
	return res, resent, nil
}

// errReplay stops net/http from sending a request again.
var errReplay = errors.New("the connection ended before the request was answered")

// exchange is one request to a target and its answer. Its trace hooks may be called by several goroutines, and
// after the exchange is over.
type exchange struct {
	reached atomic.Int32 // index in phases
	reused  atomic.Bool  // the connection was kept alive
	http2   atomic.Bool
	wrote   atomic.Bool
	conn    atomic.Pointer[conn] // a reused HTTP/1.1 connection
	foreign atomic.Bool          // the answer does not belong to this request
}

// reach records that the exchange has reached a phase; phases never go back.
func (t *exchange) reach(phase int32) {
	for {
		old := t.reached.Load()
		if phase <= old || t.reached.CompareAndSwap(old, phase) {
			return
		}
	}
}

func (t *exchange) phase() Phase { return phases[t.reached.Load()] }

func (t *exchange) send(ctx context.Context, rt http.RoundTripper, r Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { t.reach(atDNS) },
		ConnectStart:      func(string, string) { t.reach(atConnect) },
		TLSHandshakeStart: func() { t.reach(atTLS) },
		GotConn: func(info httptrace.GotConnInfo) {
			t.reached.Store(atSend) // the dial of a second connection may still be running, and fail
			t.reused.Store(info.Reused)
			secure, ok := info.Conn.(*tls.Conn)
			t.http2.Store(ok && secure.ConnectionState().NegotiatedProtocol == "h2")
			if c := connOf(info.Conn); c != nil && !t.http2.Load() {
				c.begin()
				if info.Reused {
					t.conn.Store(c)
				}
			}
		},
		WroteHeaders: func() { t.wrote.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				t.reach(atWait)
			}
		},
		GotFirstResponseByte: func() {
			t.reach(atHeaders)
			if c := t.conn.Load(); c != nil && c.unsolicited() {
				t.foreign.Store(true)
				c.Close() // further bytes would belong to other requests
			}
		},
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // net/http adds none, and one in another case stays
	}
	req := (&http.Request{
		Method: r.Method, URL: r.URL, Host: r.URL.Host, Header: r.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(r.Body)),
	}).WithContext(httptrace.WithClientTrace(ctx, trace))
	if len(r.Body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(r.Body))
		// net/http calls this before each repeat, and nowhere else.
		req.GetBody = func() (io.ReadCloser, error) { return nil, errReplay }
	} else {
		req.Body = http.NoBody
		req.Header = unrepeated(r.Header)
	}
	return rt.RoundTrip(req)
}

// unrepeated renames the headers by which net/http considers a request without a body as
// idempotent, to a spelling that net/http does not look for, so that it does not repeat it.
func unrepeated(h http.Header) http.Header {
	for name, other := range map[string]string{"Idempotency-Key": "idempotency-key", "X-Idempotency-Key": "x-idempotency-key"} {
		if value, ok := h[name]; ok {
			h = h.Clone()
			delete(h, name)
			h[other] = value
		}
	}
	return h
}

// stale reports whether an exchange ended because its connection was closed before the
// answer began.
func (t *exchange) stale(res *http.Response, err error) bool {
	switch {
	case errors.Is(err, errReplay), t.foreign.Load():
		return true
	case !t.reused.Load():
		return false
	case err == nil: // some servers answer 408 when they close an idle connection
		return res.StatusCode == http.StatusRequestTimeout && res.Close
	}
	return t.reached.Load() < atHeaders && t.reached.Load() >= atSend && !isTimeout(err) && !isReset(err)
}

// streamError is net/http's error of an HTTP/2 stream, which errors.As converts to any struct of
// this form.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("HTTP/2 stream ended with code %d", e.Code) }

// isReset reports whether the target reset one stream of an HTTP/2 connection: that counts as an
// answer, and the connection stays open.
func isReset(err error) bool {
	var stream streamError
	return errors.As(err, &stream)
}
