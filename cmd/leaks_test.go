package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"switchhook/engine/testkit"
	"testing"
)

// answerRaw starts a target that answers each connection's first request with text
// verbatim; the strings of more follow.
func answerRaw(t *testing.T, text string, more <-chan string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Read(make([]byte, 64<<10))
				conn.Write([]byte(text))
				if more != nil {
					conn.Write([]byte(<-more))
					conn.Read(make([]byte, 1))
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// Log and metrics must not reveal payloads or credentials: every secret here ends in
// "hush".
func TestSecrets_NotInLogOrMetrics(t *testing.T) {
	ctx, log := context.Background(), &testkit.Buffer{}
	data := t.TempDir()
	flags := []string{"--log-level", "debug", "--access-log", "--metrics-accounts", "5", "--retries", "0s,1s", "--admin-key", "swk_admin-key-hush", "--otlp-endpoint", "http://127.0.0.1:9/?key=otlp-hush"}
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=otlp-header-hush")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
	p := serveTo(t, log, data, flags...)
	api := newClient(p.api.URL, "swk_admin-key-hush")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	fails := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Token", "answer-header-hush")
		w.Header().Set("Location", "/?location-hush")
		switch r.URL.Path {
		case "/410":
			w.WriteHeader(http.StatusGone)
		case "/302":
			w.WriteHeader(http.StatusFound)
		case "/200":
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "answer-body-hush")
	}))
	defer fails.Close()
	more := make(chan string)
	unasked := answerRaw(t, "HTTP/1.1 204 No Content\r\n\r\n", more)
	var kinds []string
	subscribe := func(target string, in map[string]any) {
		t.Helper()
		kind := fmt.Sprintf("kind_%d", len(kinds))
		kinds = append(kinds, kind)
		all := map[string]any{
			"event": kind, "target_url": target + "?token=url-hush", "secret": "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaGh1c2g=",
			"headers": map[string]string{"Authorization": "Bearer header-hush"}, "description": "description-hush", "metadata": map[string]string{"a": "metadata-hush"},
		}
		for k, v := range in {
			all[k] = v
		}
		must(api.call(ctx, http.MethodPost, "/api/v1/subscriptions", all, nil))
	}
	subscribe(fails.URL+"/200", nil)
	subscribe(fails.URL+"/500", nil)
	subscribe(fails.URL+"/302", nil)
	subscribe(fails.URL+"/410", nil)
	subscribe(strings.Replace(fails.URL, "http:", "https:", 1), nil)          // no TLS there
	subscribe("http://127.0.0.1:9/path-hush", nil)                            // no listener
	subscribe("http://path-hush.invalid/", nil)                               // no such host: its name is in no log line either
	subscribe(answerRaw(t, "raw-answer-hush\r\n\r\n", nil), nil)              // not HTTP
	subscribe(answerRaw(t, "HTTP/1.1 200 OK\r\nhead-hush\r\n\r\n", nil), nil) // not a header
	subscribe(unasked, nil)
	subscribe(fails.URL+"/200", map[string]any{"filter": `int(data.secret) > 0`})
	subscribe(fails.URL+"/200", map[string]any{"filter": `float(data.secret) > 0 and data.secret matches "a"`})
	for _, body := range []string{
		`throw new Error(e.data.secret)`, `throw e.data`, `console.log(e.data.secret); return drop(e.data.secret)`, `r.path = e.data.secret; return 1`, `r.headers[e.data.secret] = "1"; return 1`,
		`const s = e.data.secret; for (;;) s + s`, `return e.data.secret.repeat(2**40)`, `return [e.data.secret].concat(Array(2**32-2)).indexOf(1)`, `return eval("(".repeat(1e6) + e.data.secret)`,
	} {
		subscribe(fails.URL+"/200", map[string]any{"transform": "export default (e, r) => { " + body + " }"})
	}
	must(api.call(ctx, http.MethodPost, "/api/v1/event-types", map[string]any{"name": "checked", "schema": map[string]any{"properties": map[string]any{"secret": map[string]any{"type": "integer"}}}}, nil))

	// Three different events: a transform that crashes its process is quarantined after
	// them.
	for n := range 3 {
		for _, kind := range kinds {
			payload := fmt.Sprintf(`{"secret":"payload-hush","list":["payload-hush"],"n":%d}`, n)
			must(api.call(ctx, http.MethodPost, "/api/v1/events", map[string]any{"type": kind, "data": json.RawMessage(payload), "headers": map[string]string{"X-Key": "event-header-hush"}}, nil))
		}
	}
	// Refused requests, and secrets in the wrong place.
	for _, r := range []struct{ method, path, key, body string }{
		{"POST", "/api/v1/events", "swk_admin-key-hush", `{"type":"checked","data":{"secret":"payload-hush"}}`},
		{"POST", "/api/v1/events", "swk_admin-key-hush", `{"type":"kind_0","data":"payload-hush`},
		{"POST", "/api/v1/events", "swk_wrong-key-hush", `{}`},
		{"GET", "/api/v1/events?api_key=swk_query-hush", "", ""},
		{"GET", "/swk_path-hush?token=query-hush", "swk_wrong-key-hush", ""},
		{"DELETE", "/api/v1/keys/swk_path-hush", "swk_wrong-key-hush", ""},
		{"POST", "/api/v1/preview", "swk_admin-key-hush", `{"event":{"type":"a","data":{"secret":"payload-hush"}},"transform":"export default e => { throw e.data.secret }"}`},
	} {
		req, _ := http.NewRequest(r.method, p.api.URL+r.path, strings.NewReader(r.body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-API-Key", r.key)
		req.Header.Set("Cookie", "cookie-hush")
		res, err := http.DefaultClient.Do(req)
		must(err)
		res.Body.Close()
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.api.URL, "http://"))
	must(err)
	fmt.Fprint(conn, "GET /broken-hush HTTP/9\r\nContent-Length: swk_broken-hush\r\n\r\n")
	conn.Read(make([]byte, 1))
	conn.Close()

	more <- "unasked-hush\r\n\r\n"
	messages := []string{"attempt made", "attempt failed", "request", "listening", "tracing", "subscription deactivated", "sandbox process ended by a script"}
	testkit.WaitFor(t, "everything was tried", func() bool {
		now := log.String()
		missing := slices.ContainsFunc(messages, func(m string) bool { return !strings.Contains(now, `"msg":"`+m+`"`) })
		return !missing && strings.Count(now, `"msg":"attempt `) >= 40 && strings.Contains(now, "quarantined")
	})
	req, _ := http.NewRequest(http.MethodGet, p.api.URL+"/metrics", nil)
	req.Header.Set("X-API-Key", "swk_admin-key-hush")
	res, err := http.DefaultClient.Do(req)
	must(err)
	var metrics bytes.Buffer
	metrics.ReadFrom(res.Body)
	res.Body.Close()
	if !strings.Contains(metrics.String(), "switchhook_") {
		t.Errorf("metrics: %s", &metrics)
	}
	if err := p.Process.Kill(); err != nil { // so that recovery logs something
		t.Fatal(err)
	}
	<-p.ends
	p = serveTo(t, log, data, flags...)
	must(p.end(os.Interrupt))

	for text := range strings.Lines(log.String() + metrics.String()) {
		// Each secret, and its format: also the subscription's, which contains hush in
		// base64.
		for _, secret := range []string{"hush", "whsec_", "aHVzaGh1", "token=", "swk_"} {
			if strings.Contains(text, secret) {
				t.Errorf("shows %q: %s", secret, text)
			}
		}
	}
	// The log is JSON with known attributes.
	seen := map[string]bool{}
	for text := range strings.Lines(log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("%v: %s", err, text)
			continue
		}
		message, _ := line["msg"].(string)
		seen[message] = true
		if strings.HasPrefix(message, "attempt ") {
			for _, c := range []struct{ name, prefix string }{{"delivery_id", "dlv_"}, {"event_id", "evt_"}, {"subscription_id", "sub_"}, {"account", "default"}} {
				if value, _ := line[c.name].(string); !strings.HasPrefix(value, c.prefix) {
					t.Errorf("no %s: %s", c.name, text)
				}
			}
		}
	}
	for _, message := range append(messages, "stopped") {
		if !seen[message] {
			t.Errorf("the log never says %q", message)
		}
	}
}
