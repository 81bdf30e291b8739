package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"switchhook/server/api"
)

// A redirect to another port, or from https to http, would get the key and the body.
func TestClient_FollowsNoRedirect(t *testing.T) {
	t.Parallel()
	stolen := make(chan string, 10)
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stolen <- r.Method + " " + r.Header.Get("Authorization")
		_, _ = w.Write([]byte(key))
	}))
	t.Cleanup(thief.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		router := httptest.NewServer(http.RedirectHandler(thief.URL, status))
		t.Cleanup(router.Close)
		c := api.NewClient(router.URL, "k")
		_, getErr := c.GetKey(t.Context(), "key_1")
		_, postErr := c.CreateKey(t.Context(), api.CreateKeyRequest{Key: "swk_secret"})
		for _, err := range []error{getErr, postErr} {
			var problem *api.Error
			if !errors.As(err, &problem) || problem.Status != status || !strings.Contains(problem.Detail, thief.URL) {
				t.Errorf("%d: %v", status, err)
			}
		}
	}
	if len(stolen) > 0 {
		t.Errorf("the other server got %q", <-stolen)
	}
}

func TestClient_EndsCallsOfHostileServers(t *testing.T) {
	t.Parallel()
	c := api.NewClient("http://router.test", "k")
	calls := 0
	reply := func(status int, body string, headers ...string) {
		calls = 0
		c.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			calls++
			return answer(status, body, headers...)
		})}
	}

	reply(200, `{"data":[],"next_cursor":"key_1"}`)
	if list, err := api.Collect(c.ListKeys(t.Context())); err == nil || calls != 2 {
		t.Errorf("a list without end: %v, %v after %d calls", list, err, calls)
	}
	for _, after := range []string{"99999999999", "99999999999999999999999"} {
		reply(429, busy, "Retry-After", after)
		var problem *api.Error
		if _, err := c.GetKey(t.Context(), "key_1"); !errors.As(err, &problem) || calls != 1 || problem.RetryAfter < time.Hour {
			t.Errorf("Retry-After %s: %v after %d calls", after, err, calls)
		}
	}
	reply(500, strings.Repeat("x", 4<<20))
	var problem *api.Error
	if _, err := c.GetKey(t.Context(), "key_1"); !errors.As(err, &problem) || len(problem.Detail) > 300 {
		t.Errorf("%.400v", err)
	}
}

// A line without end must not fill the memory.
func TestStream_LineIsBounded(t *testing.T) {
	t.Parallel()
	sent := 0
	c := api.NewClient("http://router.test", "k")
	c.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		lines := io.MultiReader(strings.NewReader("{}\n{}\n"), strings.NewReader(`{"kind":"`), readerFunc(func(p []byte) (int, error) {
			sent += len(p)
			return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
		}))
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(lines)}, nil
	})}
	lines := 0
	for _, err := range api.Stream[json.RawMessage](t.Context(), c, http.MethodGet, "/api/v1/x", nil) {
		if lines++; lines == 3 && err == nil {
			t.Error("no error")
		}
	}
	if lines != 3 || sent > 32<<20 {
		t.Errorf("%d lines, %d bytes", lines, sent)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
