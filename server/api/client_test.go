package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/server/api"
)

// roundTripper answers requests without a network, so that tests run on synctest's clock.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string, headers ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

const (
	busy = `{"status":429,"code":"too_many_requests","detail":"slow down"}`
	key  = `{"id":"key_1","key":"secret"}`
)

func TestClient_RetriesWhenRetryAfterSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, seen := time.Now(), []string{}
		c := api.NewClient("http://router.test", "k")
		c.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			seen = append(seen, r.Header.Get("Idempotency-Key"))
			if len(seen) < 3 {
				return answer(429, busy, "Retry-After", "7")
			}
			return answer(201, key)
		})}
		k, err := c.CreateKey(t.Context(), api.CreateKeyRequest{Name: "shop"})
		if err != nil || k.Key != "secret" {
			t.Fatal(k, err)
		}
		if waited := time.Since(began); waited < 14*time.Second || waited > 16*time.Second {
			t.Errorf("waited %s for two answers with Retry-After: 7", waited)
		}
		if len(seen) != 3 || seen[0] == "" || seen[0] != seen[1] || seen[1] != seen[2] {
			t.Errorf("idempotency keys %q: the attempts of a call must share one", seen)
		}
	})
}

func TestClient_RepeatsOnlyWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name     string
		answer   func() (*http.Response, error)
		call     func(*api.Client, context.Context) error
		attempts int
	}{
		{"GET, broken connection", func() (*http.Response, error) { return nil, broken }, getKey, 4},
		{"POST with a key, broken connection", func() (*http.Response, error) { return nil, broken }, createKey, 4},
		{"POST without a key, broken connection", func() (*http.Response, error) { return nil, broken }, post, 1},
		{"POST without a key, 503", func() (*http.Response, error) {
			return answer(503, `{"code":"unavailable","detail":"stopping"}`, "Retry-After", "1")
		}, post, 4},
		{"503 of a proxy", func() (*http.Response, error) { return answer(503, "<html>") }, getKey, 1},
		{"Retry-After too long", func() (*http.Response, error) { return answer(429, busy, "Retry-After", "3600") }, getKey, 1},
		{"quota", func() (*http.Response, error) { return answer(429, `{"code":"quota_exceeded","detail":"full"}`) }, getKey, 1},
		{"bytes", func() (*http.Response, error) {
			return answer(507, `{"code":"insufficient_storage","detail":"full"}`, "Retry-After", "1")
		}, createKey, 1},
		{"422", func() (*http.Response, error) { return answer(422, `{"code":"invalid_request","detail":"x"}`) }, createKey, 1},
		{"500", func() (*http.Response, error) { return answer(500, `{"code":"internal_error","detail":"x"}`) }, getKey, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				made := 0
				client := &api.Client{URL: "http://router.test", HTTP: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					made++
					return c.answer()
				})}}
				if err := c.call(client, t.Context()); err == nil {
					t.Error("no error")
				}
				if made != c.attempts {
					t.Errorf("%d attempts, want %d", made, c.attempts)
				}
			})
		})
	}
}

func getKey(c *api.Client, ctx context.Context) error { _, err := c.GetKey(ctx, "key_1"); return err }

func createKey(c *api.Client, ctx context.Context) error {
	_, err := c.CreateKey(ctx, api.CreateKeyRequest{})
	return err
}

func post(c *api.Client, ctx context.Context) error {
	return c.Do(ctx, http.MethodPost, "/api/v1/replays/rpl_1/pause", nil, nil)
}

func TestClient_ContextEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &api.Client{URL: "http://router.test", HTTP: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(429, busy, "Retry-After", "20")
		})}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := c.GetKey(ctx, "key_1")
		problem, ok := errors.AsType[*api.Error](err)
		if !ok || problem.Code != api.CodeTooManyRequests || problem.RetryAfter != 20*time.Second || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestClient_RefusesAnotherProgramsAnswer(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"<html>", `{}`, `[]`, `{"id":""}`, ""} {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		if _, err := api.NewClient(other.URL, "k").GetKey(t.Context(), "key_1"); !errors.Is(err, api.ErrNotSwitchhook) {
			t.Errorf("%q: %v", body, err)
		}
		other.Close()
	}
}

func TestClient_ListStopsFetchingWhenTheLoopEnds(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int32
	c := &api.Client{URL: "http://router.test", HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		n := fetched.Add(1)
		if cursor := r.URL.Query().Get("cursor"); n > 1 && cursor != fmt.Sprint("c&", n-1) {
			t.Errorf("page %d has the cursor %q", n, cursor)
		}
		return answer(200, fmt.Sprintf(`{"data":[{"id":"key_%da"},{"id":"key_%db"}],"next_cursor":"c&%d"}`, n, n, n))
	})}}
	seen := ""
	for k, err := range c.ListKeys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if seen += " " + k.ID; k.ID == "key_2a" {
			break
		}
	}
	if seen != " key_1a key_1b key_2a" || fetched.Load() != 2 {
		t.Errorf("%s after %d pages", seen, fetched.Load())
	}
}
