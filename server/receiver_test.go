package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// receiver is a target that records its requests.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer http.HandlerFunc // nil: 204
}

type received struct {
	method, uri string
	header      http.Header
	body        string
}

func receive(t testing.TB, answer http.HandlerFunc) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, received{req.Method, req.RequestURI, req.Header, string(body)})
		r.mu.Unlock()
		if r.answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		r.answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// retryAfter returns the requests once there are at least n.
func (r *receiver) wait(t testing.TB, n int) []received {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests at the target", n), func() bool { return len(r.all()) >= n })
	return r.all()
}
