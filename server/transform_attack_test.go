package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A transform's request goes to the subscription's host, as one request, or is not sent.
func TestTransform_CannotRedirectRequest(t *testing.T) {
	r := start(t)
	hook, other := receive(t, nil), receive(t, nil)
	host := strings.TrimPrefix(other.URL, "http://")
	paths := []string{
		"//" + host + "/evil", "/../../evil", "/%2e%2e/evil", "/@" + host, "@" + host + "/", "\\\\" + host + "\\evil", "/\\" + host, "/?x#y", "?x", "", "http://" + host + "/", "/a b", "/a\r\nHost: " + host + "\r\n\r\nGET / HTTP/1.1",
		"/%0d%0aX-Evil:%201", "/\u2028\u202e\u0000", "/ü/💩", "/%zz", "/%", "/;@" + host, "/:" + host, "/" + strings.Repeat("a", 9000), "*", "/*",
	}
	for i, path := range paths {
		event := fmt.Sprintf("path.p%d", i)
		text, err := json.Marshal(path)
		must(t, err)
		sub := r.acme.subscribe(event, hook.URL+"/hook", map[string]any{"transform": "export default (event, request) => { request.path = " + string(text) + "; return 1 }"})
		r.acme.publish(event, 1)
		eventually(t, "the attempt", func() bool {
			a := r.acme.get("/api/v1/deliveries?subscription_id=" + sub).want(200)
			return a.at("data.0.attempt_count") != nil && fmt.Sprint(a.at("data.0.attempt_count")) == "1"
		})
	}
	for _, header := range []string{"X-A\r\nX-Evil: 1", "X-A: b\r\n", "Host", "Content-Length", "Transfer-Encoding", "webhook-signature", "Connection", ""} {
		for _, value := range []string{"x", "x\r\nX-Evil: 1", "x\n\nGET / HTTP/1.1", "x\u0000"} {
			if header == "X-A" {
				continue
			}
			name, _ := json.Marshal(header)
			text, _ := json.Marshal(value)
			a := r.acme.post("/api/v1/preview", map[string]any{
				"event":     map[string]any{"type": "a", "data": 1},
				"transform": "export default (event, request) => { request.headers[" + string(name) + "] = " + string(text) + "; return 1 }",
			}).want(200)
			if !strings.Contains(string(a.body), "request.headers") {
				t.Errorf("the header %q: %q passes: %.300s", header, value, a.body)
			}
		}
	}
	if got := other.all(); len(got) > 0 {
		t.Errorf("led elsewhere: %v", got)
	}
	arrived := hook.all()
	if len(arrived) < 6 {
		t.Errorf("only %d arrived: the test does not see what it looks for", len(arrived))
	}
	for _, got := range arrived {
		if got.method != "POST" || got.header.Get("X-Evil") != "" || !strings.HasPrefix(got.uri, "/") || got.header.Get("Webhook-Signature") == "" {
			t.Errorf("arrived: %s %q %v", got.method, got.uri, got.header)
		}
	}
}
