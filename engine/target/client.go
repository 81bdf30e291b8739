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

// Client sends requests over an HTTP transport. It decides itself when a request is sent a
// second time: net/http would do so unseen, for some methods and headers only.
type Client struct {
	kept  http.RoundTripper
	fresh func() http.RoundTripper // never uses a kept connection
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

// Request is what a Client sends. The names of headers are sent as they are written, and no
// User-Agent is added.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte
	// Timeout is how long ctx gives, for the text of an error.
	Timeout time.Duration
}

// Do sends r and returns the answer, or an *Error. No redirect is followed.
//
// A target may close a kept connection at any time, also while a request is on its way
// (RFC 9112, 9.3.1). If a kept connection ends so, without one byte of an answer, r is sent
// again at once on another connection, and resent is true. That happens only once per
// request, and never after an answer or a timeout. What a target wrote beyond its last answer
// is no answer. The target may have processed the first one: it
// must drop repeats, by the id of the delivery.
func (c *Client) Do(ctx context.Context, r Request) (res *http.Response, resent bool, err error) {
	t := &try{}
	res, err = t.send(ctx, c.kept, r)
	if t.stale(res, err) && ctx.Err() == nil {
		if res != nil {
			res.Body.Close()
		}
		resent = t.wrote.Load()
		rt := c.fresh()
		if t.http2.Load() {
			// A connection that is closing is out of use already, and the others of HTTP/2 are
			// shared by many requests.
			rt = c.kept
		}
		t = &try{}
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

// errReplay stops net/http when it is about to send a request again.
var errReplay = errors.New("the connection ended before the request was answered")

// try is one exchange with a target. The hooks of its trace may be called by several
// goroutines, and after the exchange is over.
type try struct {
	reached atomic.Int32 // index in phases
	reused  atomic.Bool  // a kept connection
	http2   atomic.Bool
	wrote   atomic.Bool
	conn    atomic.Pointer[conn] // a kept one of HTTP/1.1
	foreign atomic.Bool          // the answer is none to this request
}

// reach notes that the exchange is in a phase; none comes before one that was reached.
func (t *try) reach(phase int32) {
	for {
		old := t.reached.Load()
		if phase <= old || t.reached.CompareAndSwap(old, phase) {
			return
		}
	}
}

func (t *try) phase() Phase { return phases[t.reached.Load()] }

func (t *try) send(ctx context.Context, rt http.RoundTripper, r Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { t.reach(atDNS) },
		ConnectStart:      func(string, string) { t.reach(atConnect) },
		TLSHandshakeStart: func() { t.reach(atTLS) },
		GotConn: func(info httptrace.GotConnInfo) {
			t.reached.Store(atSend) // a dial of a second connection may go on, and fail, beside it
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
				c.Close() // what comes next belongs to other requests
			}
		},
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // net/http adds none beside one in another case
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

// unrepeated spells the headers by which net/http takes a request without a body for one
// that it may repeat in a way that it does not look for.
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
func (t *try) stale(res *http.Response, err error) bool {
	switch {
	case errors.Is(err, errReplay), t.foreign.Load():
		return true
	case !t.reused.Load():
		return false
	case err == nil: // how some servers tell that they close a connection that was idle too long
		return res.StatusCode == http.StatusRequestTimeout && res.Close
	}
	return t.reached.Load() < atHeaders && t.reached.Load() >= atSend && !isTimeout(err) && !isReset(err)
}

// streamError is net/http's error of an HTTP/2 stream, which fits itself into any struct of
// this form.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("HTTP/2 stream ended with code %d", e.Code) }

// isReset reports whether the target ended one stream of an HTTP/2 connection, which is an
// answer and no end of the connection.
func isReset(err error) bool {
	var stream streamError
	return errors.As(err, &stream)
}
