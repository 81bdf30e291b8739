package server_test

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPretty_NewlineAndIndent(t *testing.T) {
	r := start(t)
	sub := r.acme.subscribe("a.b", "https://example.com/x", nil)
	r.acme.publish("c.d", map[string]string{"text": "<a & b>"})
	for _, path := range []string{"/api/v1/subscriptions", "/api/v1/subscriptions/" + sub, "/api/v1/events", "/api/v1/nothing", "/api/v1/events?limit=x"} {
		a := r.acme.get(path)
		text := string(a.body)
		if !strings.HasSuffix(text, "}\n") || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: %q", path, text)
		}
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		for _, asked := range []string{"pretty", "pretty=true", "pretty=1"} {
			p := r.acme.get(path + separator + asked)
			indented := string(p.body)
			if p.status != a.status || !strings.HasPrefix(indented, "{\n  \"") || !strings.HasSuffix(indented, "\n}\n") || !sameJSON(a.body, p.body) {
				t.Errorf("%s with %s: %d %q", path, asked, p.status, indented)
			}
		}
		if p := r.acme.get(path + separator + "pretty=false"); strings.Count(string(p.body), "\n") != 1 {
			t.Errorf("%s with pretty=false: %q", path, p.body)
		}
	}
	if a := r.acme.post("/api/v1/events?pretty", map[string]any{"type": "c.d", "data": 1}).want(202); !strings.HasPrefix(string(a.body), "{\n  \"id\"") {
		t.Errorf("a published event: %q", a.body)
	}
	if a := r.acme.do("DELETE", "/api/v1/subscriptions/"+sub+"?pretty", nil).want(204); len(a.body) != 0 {
		t.Errorf("an answer without a body: %q", a.body)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}

func TestSubscribe_DuplicateLinksSecret(t *testing.T) {
	r := start(t)
	in := map[string]any{"event": "a.b", "target_url": "https://example.com/again"}
	first := r.acme.post("/api/v1/subscriptions", in).want(201).shows(map[string]any{"secret_href": nil})
	again := r.acme.post("/api/v1/subscriptions", in).want(200).shows(map[string]any{"secret": nil})
	r.acme.get(again.text("secret_href")).want(200).shows(map[string]any{"secret": first.text("secret")})
}
