package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/jsondoc"
)

const (
	readBody    = 64 << 10 // bytes of an answer that are read, so that its connection can be used again
	keepBody    = 16 << 10 // bytes of it that are kept
	keepHeaders = 8 << 10
)

const subscriptionDeleted = "the subscription was deleted"

// The phases in which an attempt can fail, as Attempt.Phase names them.
const (
	phaseEvent     = "event"     // the event could not be read
	phaseTransform = "transform" // the script failed
	phaseRefused   = "refused"   // the target guard said no
	phaseConnect   = "connect"   // no connection
	phaseTLS       = "tls"       // no secure one
	phaseTimeout   = "timeout"   // no answer in time
	phaseHTTP      = "http"      // an answer other than 2xx
)

// deliver makes one attempt: transform, sign, send, judge, record.
func (e *Engine) deliver(q *queue, r *route, en entry) {
	a := &Attempt{Number: en.attempts + 1, At: e.now()}
	began := time.Now()
	x, dropped := e.attempt(r, en, a)
	a.Duration = time.Since(began)
	var se *scripts.Error
	if errors.As(x.err, &se) && !se.Guilty() { // the sandbox had no time for it: nothing was attempted
		if !e.scheduler.putBack(q, r, en) {
			e.giveUp(r.sub.ID, en, subscriptionDeleted)
		}
		return
	}
	en.held.release()

	v := verdict{state: StateDropped, err: dropped}
	if dropped == "" {
		v = judge(e.cfg.Retries, a.Number, x, e.cfg.Now(), jitter())
		if v.err != "" && a.Phase == "" {
			a.Phase = phaseHTTP
		}
	}
	a.Error = v.err
	e.metrics.attempts.WithLabelValues(v.state.String()).Inc()
	e.metrics.duration.Observe(a.Duration.Seconds())
	if v.err != "" && v.state != StateDropped && e.cfg.LogFailures {
		e.log.Warn("attempt failed", "delivery_id", DeliveryID{en.event, r.sub.ID}.String(), "subscription_id", r.sub.ID.Format(SubscriptionPrefix),
			"attempt", a.Number, "phase", a.Phase, "error", v.err, "state", v.state.String(), "next_at", v.nextAt)
	}
	if v.deactivate {
		e.deactivate(context.Background(), r.sub.ID, "the target answered 410 Gone")
	}
	e.scheduler.finish(q, r, v)

	e.record(&Outcome{
		ID: DeliveryID{en.event, r.sub.ID}, State: v.state, Attempts: a.Number, NextAt: v.nextAt, Error: v.err, Attempt: a,
	}, func() {
		e.scheduler.settle(q, en.event)
		e.recorded(en)
		if v.state == StateFailed {
			e.wakeRetries(v.nextAt)
		}
	})
}

// recorded notes that a delivery has a row now.
func (e *Engine) recorded(en entry) {
	if en.fresh != nil {
		e.tracker.record(en.fresh, en.slot)
	}
}

// attempt makes the request and sends it, and notes in a what it did. dropped is the
// reason where the transform wants nothing sent.
func (e *Engine) attempt(r *route, en entry, a *Attempt) (x exchange, dropped string) {
	if r.broken != nil {
		a.Phase = phaseRefused
		return exchange{err: r.broken}, ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.Timeout)
	defer cancel()
	ev, err := e.eventOf(ctx, en)
	if err != nil {
		a.Phase = phaseEvent
		return exchange{err: err}, ""
	}
	out, dropped, err := e.compose(ctx, r, ev, a)
	if r.transformSource != "" {
		e.noteRun(r, a, dropped, err)
	}
	if err != nil {
		a.Phase = phaseTransform
		return exchange{err: err}, ""
	}
	if dropped != "" {
		return exchange{}, dropped
	}
	x, a.Phase = e.send(ctx, out, &a.Response)
	return x, ""
}

// compose makes the request of a delivery, signed and ready to be sent, and notes it in
// a. The error is the transform's.
func (e *Engine) compose(ctx context.Context, r *route, ev *Event, a *Attempt) (_ *outgoing, dropped string, err error) {
	out := &outgoing{method: http.MethodPost, url: r.url, headers: make(http.Header, len(r.headers)+8)}
	for name, values := range r.headers {
		out.headers[name] = values
	}
	if r.transformSource == "" {
		out.body, out.contentType = payload(r.sub.PayloadFormat, ev)
		a.Request.Plain = r.sub.PayloadFormat
	} else if dropped, err = e.transform(ctx, r, ev, out, a); err != nil || dropped != "" {
		return nil, dropped, err
	}
	e.seal(out, r, ev, a.At)
	a.Request.Method, a.Request.URL, a.Request.Headers = out.method, out.url.String(), shownHeaders(out.headers)
	if a.Request.Plain == "" {
		a.Request.Body = out.body
	}
	return out, "", nil
}

func (e *Engine) eventOf(ctx context.Context, en entry) (*Event, error) {
	if en.held != nil {
		return en.held.ev, nil
	}
	return e.store.Event(ctx, "", en.event)
}

// outgoing is a request on its way out.
type outgoing struct {
	method      string
	url         *url.URL
	headers     http.Header
	body        []byte
	contentType string
}

// transform lets the subscription's script make the request.
func (e *Engine) transform(ctx context.Context, r *route, ev *Event, out *outgoing, a *Attempt) (dropped string, err error) {
	program, err := e.compiledTransform(ctx, r)
	if err != nil {
		return "", err
	}
	a.Script.Ref, a.Script.Hash = r.transformRef, program.Hash
	sandbox := e.cfg.Transformer
	if r.dry {
		sandbox = e.lab
	}
	res, err := sandbox.Run(ctx, program, view(ev, jsondoc.Value{}), r.request())
	e.transformBeside(r, ev, res, err)
	if err != nil {
		var se *scripts.Error
		if errors.As(err, &se) {
			a.Script.CPU, a.Script.Console = se.CPU, se.Console
		}
		return "", err
	}
	a.Script.CPU, a.Script.Memory, a.Script.Console = res.CPU, res.Memory, res.Console
	if res.Dropped {
		return dropReason(res), nil
	}
	out.body, out.contentType = res.Body, res.ContentType
	if res.Request == nil {
		return "", nil
	}
	return "", out.apply(res.Request)
}

func dropReason(res scripts.Result) string {
	if res.DropReason == "" {
		return "dropped by the transform"
	}
	return res.DropReason
}

// request is what a transform sees of the request before it changes anything.
func (r *route) request() scripts.Request {
	path := r.url.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scripts.Request{Method: http.MethodPost, Path: path, Query: r.url.Query(), Headers: r.sub.Headers}
}

// apply takes over what a script made of the request, after the same checks that a
// subscription's own URL and headers go through. The host can't be changed.
func (out *outgoing) apply(req *scripts.Request) error {
	u := *out.url
	path, err := url.PathUnescape(req.Path)
	if err != nil || !strings.HasPrefix(req.Path, "/") || strings.ContainsAny(req.Path, "?#") {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.path %.100q is no path: it must begin with / and hold no ? or #", req.Path)}
	}
	u.Path, u.RawPath = path, req.Path
	u.RawQuery = url.Values(req.Query).Encode()
	if len(u.Path)+len(u.RawQuery) > 8<<10 {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: "request.path and request.query are longer than 8 KiB"}
	}
	if len(req.Headers) > maxHeaders {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers holds %d headers, %d are allowed", len(req.Headers), maxHeaders)}
	}
	headers := make(http.Header, len(req.Headers)+8)
	for name, value := range req.Headers {
		if problem := checkHeader(name, value); problem != "" {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers: %.100q %s", name, problem)}
		}
		headers[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	out.method, out.url, out.headers = req.Method, &u, headers
	return nil
}

// seal adds the router's own headers and the signature (Standard Webhooks 1.0.0).
func (e *Engine) seal(out *outgoing, r *route, ev *Event, at time.Time) {
	id := ev.ID.Format(EventPrefix)
	timestamp, signature := sign(r.key, id, at, out.body)
	out.headers["webhook-id"] = []string{id}
	out.headers["webhook-timestamp"] = []string{timestamp}
	out.headers["webhook-signature"] = []string{signature}
	if out.headers["Content-Type"] == nil {
		out.headers["Content-Type"] = []string{out.contentType}
	}
	if out.headers["User-Agent"] == nil {
		out.headers["User-Agent"] = []string{e.cfg.UserAgent}
	}
}

var bodyBuffers = sync.Pool{New: func() any { b := make([]byte, readBody); return &b }}

// send makes the POST and notes the answer. There is one try, and no redirect is followed.
func (e *Engine) send(ctx context.Context, out *outgoing, answer *AttemptResponse) (exchange, string) {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.body)), nil }
	body, _ := open()
	req := (&http.Request{
		Method: out.method, URL: out.url, Host: out.url.Host, Header: out.headers,
		Body: body, GetBody: open, ContentLength: int64(len(out.body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	res, err := e.cfg.Transport.RoundTrip(req)
	if err != nil {
		return e.noAnswer(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the raw connection, which no deadline of the request ends.
		return exchange{err: errors.New("the target wanted to switch protocols (101)"), silent: true}, phaseHTTP
	}
	// Whatever else a body may be: the end of the attempt ends it.
	defer context.AfterFunc(ctx, func() { res.Body.Close() })()
	answer.Status, answer.Headers = res.StatusCode, cutHeaders(shownHeaders(res.Header))
	buffer := bodyBuffers.Get().(*[]byte)
	defer bodyBuffers.Put(buffer)
	n, err := fill(*buffer, res.Body)
	answer.Body, answer.Truncated = slices.Clone((*buffer)[:min(n, keepBody)]), n > keepBody
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // why the body was closed under the reader
		}
		return e.noAnswer(fmt.Errorf("the answer broke off after %d bytes: %w", n, err))
	}
	return exchange{status: res.StatusCode, retryAfter: res.Header.Get("Retry-After")}, ""
}

// fill reads until buffer is full or r ends. (io.ReadFull can't tell a short answer from
// one that was cut.)
func fill(buffer []byte, r io.Reader) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = r.Read(buffer[n:])
		n += m
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (e *Engine) noAnswer(err error) (exchange, string) {
	var refused *target.RefusedError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var host x509.HostnameError
	var name *net.DNSError
	switch {
	case errors.As(err, &refused):
		return exchange{err: refused}, phaseRefused
	case errors.Is(err, context.DeadlineExceeded):
		return exchange{err: fmt.Errorf("no answer within %s", e.cfg.Timeout), silent: true}, phaseTimeout
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &host), strings.Contains(err.Error(), "tls: "):
		return exchange{err: err, silent: true}, phaseTLS
	}
	if errors.As(err, &name) { // without the resolver's address, which is nobody's business
		err = fmt.Errorf("the host %s was not found: %s", name.Name, name.Err)
	}
	return exchange{err: err, silent: true}, phaseConnect
}

// shownHeaders lists headers by name, and hides credentials: whoever may read deliveries
// need not know them.
func shownHeaders(h http.Header) []Header {
	list := make([]Header, 0, len(h))
	for name, values := range h {
		for _, value := range values {
			if HidesHeader(name) {
				value = "[hidden]"
			}
			list = append(list, Header{name, value})
		}
	}
	slices.SortFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// HidesHeader tells whether a header carries a credential, to judge by its name; its value
// is not shown.
func HidesHeader(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "authorization", "cookie", "set-cookie":
		return true
	}
	for _, part := range []string{"token", "secret", "password", "api-key", "apikey", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func cutHeaders(list []Header) []Header {
	size := 0
	for i, h := range list {
		if size += len(h.Name) + len(h.Value); size > keepHeaders {
			return list[:i]
		}
	}
	return list
}

// renderPlain fills in the body of an attempt that was not stored, because the payload
// format makes it again.
func renderPlain(a *Attempt, ev *Event) {
	if a.Request.Plain != "" && a.Request.Method != "" {
		a.Request.Body, _ = payload(a.Request.Plain, ev)
	}
}
