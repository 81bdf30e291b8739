package testkit

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// Request is a request that a Receiver received.
type Request struct {
	Method, URI string
	Header      http.Header
	Body        string
}

// Answer writes a response.
type Answer func(w http.ResponseWriter, r *http.Request, body string)

// Receiver is a target on loopback that records its requests. Its answer is 200 as long as
// the test sets no other.
type Receiver struct {
	*httptest.Server
	// Released is closed by Release.
	Released chan struct{}

	release func()
	mu      sync.Mutex
	answer  Answer
	list    []Request
	times   map[string]int // by body
}

// NewReceiver starts a receiver, which stops with the test.
func NewReceiver(t testing.TB, answer Answer) *Receiver {
	r := &Receiver{Released: make(chan struct{}), answer: answer, times: map[string]int{}}
	r.release = sync.OnceFunc(func() { close(r.Released) })
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, _ := io.ReadAll(req.Body)
		body := string(raw)
		r.mu.Lock()
		r.list = append(r.list, Request{req.Method, req.RequestURI, req.Header, body})
		r.times[body]++
		answer := r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(w, req, body)
		}
	}))
	t.Cleanup(func() {
		r.Release()
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

// SetAnswer sets the answer to later requests, where nil is 200, and returns the one before.
func (r *Receiver) SetAnswer(answer Answer) (before Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, r.answer = r.answer, answer
	return before
}

// Hang makes later requests wait until Release.
func (r *Receiver) Hang() {
	r.SetAnswer(func(http.ResponseWriter, *http.Request, string) { <-r.Released })
}

// Release lets hanging requests go on, once and for all.
func (r *Receiver) Release() { r.release() }

// Requests returns all requests in the order in which they came.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// Bodies returns the bodies of all requests in the order in which they came.
func (r *Receiver) Bodies() (bodies []string) {
	for _, req := range r.Requests() {
		bodies = append(bodies, req.Body)
	}
	return bodies
}

// Count returns the number of distinct bodies and of requests.
func (r *Receiver) Count() (distinct, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.times), len(r.list)
}

// Times returns the number of requests with a body.
func (r *Receiver) Times(body string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.times[body]
}

// Missing counts the bodies that have not come.
func (r *Receiver) Missing(bodies []string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, body := range bodies {
		if r.times[body] == 0 {
			n++
		}
	}
	return n
}

// Wait returns the requests once there are at least n.
func (r *Receiver) Wait(t testing.TB, n int) []Request {
	t.Helper()
	WaitFor(t, fmt.Sprintf("%d requests are at the target", n), func() bool { _, all := r.Count(); return all >= n })
	return r.Requests()
}
