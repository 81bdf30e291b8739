package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls the API of a router. Its fields must not change after the first call; it may be
// used concurrently.
type Client struct {
	URL string // of the router, with its path prefix: "http://127.0.0.1:8080"
	Key string // API key

	// HTTP makes the requests; nil is http.DefaultClient. Redirects are refused, since they would get
	// the key, unless its CheckRedirect allows them.
	HTTP *http.Client
	// Timeout limits one attempt, except of streams; 0 means a minute.
	Timeout time.Duration
	// Attempts is how often a request is made at most if the router is busy or the connection
	// breaks; 0 means 4, 1 never repeats.
	Attempts int
	// MaxWait limits the wait before a repeat; a longer Retry-After ends the call with its error.
	// 0 means 30 seconds.
	MaxWait time.Duration
}

// ErrNotSwitchhook is the error of a 2xx answer that is not one of this API's: another program
// listens at the address.
var ErrNotSwitchhook = errors.New("the answer does not come from a Switchhook router")

// ErrNotModified is the error of a GET with [IfNoneMatch] whose answer has not changed.
var ErrNotModified = errors.New("not modified")

// The maximum sizes of an answer and of an error in bytes.
const (
	maxAnswer  = 256 << 20
	maxProblem = 1 << 20
)

// NewClient returns a client with the default settings.
func NewClient(url, key string) *Client { return &Client{URL: strings.TrimSuffix(url, "/"), Key: key} }

// Option changes one request.
type Option func(*call)

// IfMatch makes a change conditional: it is made only if the resource still has this ETag, and is
// otherwise refused with [CodePreconditionFailed] (RFC 9110, section 13.1.1).
func IfMatch(etag string) Option { return Header("If-Match", etag) }

// IfNoneMatch makes a GET conditional: if the answer still has this ETag, the call ends with
// [ErrNotModified].
func IfNoneMatch(etag string) Option { return Header("If-None-Match", etag) }

// IdempotencyKey sets the key under which a repeated POST changes nothing and gets the first
// answer. Without this option the client makes a random one for each call.
func IdempotencyKey(key string) Option { return Header("Idempotency-Key", key) }

// Header sets a header of the request.
func Header(name, value string) Option { return func(c *call) { c.header.Set(name, value) } }

// Query adds a parameter to the URL.
func Query(name, value string) Option { return func(c *call) { c.query.Set(name, value) } }

// call is one call of the API, which may take several attempts.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
}

// target returns the path with the query.
func (c *call) target() string {
	if len(c.query) == 0 {
		return c.path
	}
	return c.path + "?" + c.query.Encode()
}

// repeatable reports whether a second request changes nothing that the first has not changed.
func (c *call) repeatable() bool {
	return c.method != http.MethodPost || c.header.Get("Idempotency-Key") != ""
}

// creates marks a POST that creates something: it gets an Idempotency-Key.
func creates(c *call) {
	if c.header.Get("Idempotency-Key") == "" {
		c.header.Set("Idempotency-Key", rand.Text())
	}
}

// Versioned is part of resources that change. ETag is the version that came with the answer, for
// [IfMatch].
type Versioned struct {
	ETag string `json:"-"`
}

func (v *Versioned) setETag(tag string) { v.ETag = tag }

// Completer is an answer that can report whether it has the members that the API always sends.
type Completer interface{ Complete() bool }

// Do calls any operation of the API: path begins with "/api/v1/", in is encoded as JSON unless it
// is nil, and a 2xx answer is decoded into out unless that is nil. It returns an [*Error] for any
// other answer.
func (c *Client) Do(ctx context.Context, method, path string, in, out any, options ...Option) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	res, err := c.open(ctx, timeout, method, path, in, options)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if !decodeAnswer(res, body, out) {
		return fmt.Errorf("%s: %w", c.URL, ErrNotSwitchhook)
	}
	return nil
}

// open makes the attempts of a call and returns its 2xx answer, whose body the caller must close.
// timeout limits an attempt and the reading of its answer; 0 is no limit.
func (c *Client) open(ctx context.Context, timeout time.Duration, method, path string, in any, options []Option) (*http.Response, error) {
	call := &call{method: method, path: path, query: url.Values{}, header: http.Header{}}
	if in != nil {
		var err error
		if call.body, err = json.Marshal(in); err != nil {
			return nil, err
		}
		call.header.Set("Content-Type", "application/json")
	}
	call.header.Set("Authorization", "Bearer "+c.Key)
	for _, option := range options {
		option(call)
	}
	for attempt := 1; ; attempt++ {
		res, err := c.attempt(ctx, timeout, call)
		if err == nil {
			return res, nil
		}
		wait, again := c.repeatAfter(call, err, attempt)
		if !again || ctx.Err() != nil || !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// attempt makes one request; an answer other than 2xx is an *Error.
func (c *Client) attempt(ctx context.Context, timeout time.Duration, call *call) (_ *http.Response, err error) {
	cancel := func() {}
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	target := strings.TrimSuffix(c.URL, "/") + call.target()
	req, err := http.NewRequestWithContext(ctx, call.method, target, bytes.NewReader(call.body))
	if err != nil {
		return nil, err
	}
	req.Header = call.header.Clone()
	client := *cmp.Or(c.HTTP, http.DefaultClient)
	if client.CheckRedirect == nil {
		client.CheckRedirect = refuseRedirect
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s; is the router running? (%w)", c.URL, err)
	}
	if res.StatusCode >= 200 && res.StatusCode <= 299 {
		res.Body = &cancelingBody{res.Body, cancel}
		return res, nil
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		return nil, ErrNotModified
	}
	if to := res.Header.Get("Location"); res.StatusCode/100 == 3 {
		return nil, &Error{Status: res.StatusCode, Title: http.StatusText(res.StatusCode),
			Detail: fmt.Sprintf("%s redirects to %.200q; if that is the router, call it there", c.URL, to)}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxProblem))
	if err != nil {
		return nil, err
	}
	problem := decodeError(res, body)
	problem.Request = call.method + " " + call.target()
	return nil, problem
}

// refuseRedirect ends a request at a redirect: net/http would send the key to another port, and
// without TLS, and a body with its secrets anywhere.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// cancelingBody releases the context of its request when it is closed.
type cancelingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b *cancelingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// repeatAfter returns how long to wait before a call is repeated; again is false if it must not be.
func (c *Client) repeatAfter(call *call, err error, attempt int) (wait time.Duration, again bool) {
	most, longest := c.Attempts, c.MaxWait
	if most == 0 {
		most = 4
	}
	if longest == 0 {
		longest = 30 * time.Second
	}
	if attempt >= most {
		return 0, false
	}
	wait = time.Duration(float64(200*time.Millisecond) * math.Pow(2, float64(attempt-1)) * (0.5 + mathrand.Float64()))
	var problem *Error
	switch {
	case errors.Is(err, ErrNotModified):
		return 0, false
	case !errors.As(err, &problem):
		return wait, call.repeatable()
	case problem.Code == CodeQuotaExceeded: // waiting alone changes nothing
		return 0, false
	case problem.Status == http.StatusTooManyRequests || problem.Status == http.StatusServiceUnavailable:
		// The router refused the request before it did anything: any request may be repeated.
		wait = max(wait, problem.RetryAfter)
		return wait, problem.Code != "" && wait <= longest
	}
	return 0, false
}

// retryAfter returns the seconds of the header Retry-After; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // then it is the maximum
		return 0
	}
	return time.Duration(min(seconds, math.MaxInt32)) * time.Second
}

// sleep waits and reports whether ctx is not done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// decodeAnswer decodes a 2xx answer into out and reports whether it is one of this API's.
func decodeAnswer(res *http.Response, body []byte, out any) bool {
	switch {
	case out == nil && len(body) == 0:
		return true
	case out == nil:
		return json.Valid(body)
	case json.Unmarshal(body, out) != nil:
		return false
	}
	if v, ok := out.(interface{ setETag(string) }); ok {
		v.setETag(res.Header.Get("ETag"))
	}
	w, asks := out.(Completer)
	return !asks || w.Complete()
}

// get calls an operation that answers with a T.
func get[T any](ctx context.Context, c *Client, method, path string, in any, options ...Option) (*T, error) {
	out := new(T)
	if err := c.Do(ctx, method, path, in, out, options...); err != nil {
		return nil, err
	}
	return out, nil
}
