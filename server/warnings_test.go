package server_test

import "testing"

// The response to saving a transform warns of code that will throw.
func TestScripts_Warnings(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	const source = "export default e => ({\n  t: new Date(e.time).toLocaleDateString(\"de\") })"
	check := func(a *answer, want bool) {
		t.Helper()
		if line := a.at("warnings.0.line"); want != (line != nil) {
			t.Errorf("%s: %.400s", a.what, a.body)
		}
	}
	body := map[string]any{"event": "a", "target_url": hook.URL, "transform": source}
	made := r.acme.post("/api/v1/subscriptions", body).want(201)
	check(made, true)
	check(r.acme.get("/api/v1/subscriptions/"+made.text("id")).want(200), false)
	check(r.acme.do("PATCH", "/api/v1/subscriptions/"+made.text("id"), map[string]any{"description": "x"}).want(200), true)
	check(r.acme.do("PATCH", "/api/v1/subscriptions/"+made.text("id"), map[string]any{"transform": "export default () => 1"}).want(200), false)
	r.acme.post("/api/v1/preview", map[string]any{"event": map[string]any{"type": "a", "data": 1}, "transform": source}).want(200).shows(map[string]any{
		"diagnostics.0.severity": "error", "diagnostics.1.severity": "warning", "diagnostics.1.line": 2, "diagnostics.1.end_column": 41, // it was run, too
	})
	check(r.acme.post("/api/v1/scripts", map[string]any{"name": "dates", "kind": "transform", "source": source}).want(201), true)
	check(r.acme.post("/api/v1/scripts/dates/versions", map[string]any{"source": source + "\n"}).want(201), true)
	check(r.acme.get("/api/v1/scripts/dates/versions/1").want(200), false)
	check(r.acme.post("/api/v1/scripts", map[string]any{"name": "none", "kind": "filter", "source": `data.t == ".toLocaleDateString()"`}).want(201), false)
}
