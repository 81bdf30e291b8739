package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
	"switchhook/engine/target"
)

var bodyBuffers = sync.Pool{New: func() any { b := make([]byte, engine.MaxReadBody); return &b }}

// Send sends one request and records the response in a. ctx ends after timeout. It follows no
// redirect. Once a status is received it counts, whatever happens to the body.
func (s *Sender) Send(ctx context.Context, timeout time.Duration, out *DeliveryRequest, a *engine.Attempt) retry.Result {
	res, resent, err := s.client.Do(ctx, target.Request{Method: out.Method, URL: out.TargetURL, Header: out.Headers, Body: out.Body, Timeout: timeout})
	a.Resent = resent
	if err != nil {
		a.Phase = engine.PhaseConnect
		var failed *target.Error
		if errors.As(err, &failed) {
			a.Phase, a.TimedOut = string(failed.Phase), failed.Timeout()
		}
		refused := failed != nil && failed.Phase == target.PhaseRefused
		return retry.Result{Err: err, Refused: refused, Silent: !refused}
	}
	defer res.Body.Close()
	answer := &a.Response
	if res.StatusCode < 100 { // net/http accepts any three digits, and 000 would look like no response
		a.Phase = engine.PhaseHTTP
		return retry.Result{Err: fmt.Errorf("the target answered with status %d, which HTTP does not have", res.StatusCode), Silent: true}
	}
	answer.Status, answer.Headers = res.StatusCode, cutHeaders(out.Redact.Answer(res.Header))
	if res.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the raw connection, which has no deadline of the request.
		a.Phase = engine.PhaseHTTP
		return retry.Result{Err: errors.New("the target wanted to switch protocols (101)"), Silent: true}
	}
	// The end of the attempt also ends any other body.
	defer context.AfterFunc(ctx, func() { res.Body.Close() })()
	buffer := bodyBuffers.Get().(*[]byte)
	defer bodyBuffers.Put(buffer)
	n, err := readUpTo(*buffer, res.Body)
	answer.Body, answer.Truncated = out.Redact.Body(slices.Clone((*buffer)[:min(n, engine.MaxKeptBody)])), n > engine.MaxKeptBody
	if err != nil {
		answer.Truncated, answer.BodyError = true, bodyError(ctx, n, err, timeout)
	}
	return retry.Result{Status: res.StatusCode, RetryAfter: res.Header["Retry-After"], Date: res.Header.Get("Date")}
}

// bodyError says why only n bytes of a body were received.
func bodyError(ctx context.Context, n int, err error, timeout time.Duration) string {
	if ctx.Err() != nil { // which closed the body during the read
		return fmt.Sprintf("the body did not end within %s; %d bytes came", timeout, n)
	}
	return retry.Truncate(fmt.Sprintf("the body broke off after %d bytes: %s", n, target.Plainly(err)))
}

// readUpTo reads until buffer is full or r ends. (io.ReadFull can't distinguish a short response
// from a truncated one.)
func readUpTo(buffer []byte, r io.Reader) (n int, err error) {
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

func cutHeaders(list []engine.Header) []engine.Header {
	size := 0
	for i, h := range list {
		if size += len(h.Name) + len(h.Value); size > engine.MaxKeptHeaders {
			return list[:i]
		}
	}
	return list
}
