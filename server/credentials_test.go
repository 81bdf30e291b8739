package server_test

import (
	"net/http"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/engine/signature"
)

// A credential in a subscription's headers is sent only to the host it was set for.
func TestHeaders_CredentialsStayOnHost(t *testing.T) {
	r := start(t)
	hook, other := receive(t, nil), receive(t, nil)
	c := r.acme
	id := c.subscribe("order.created", hook.URL+"/a", map[string]any{"headers": map[string]string{"Authorization": "Bearer top", "X-Plain": "1"}, "visible_headers": []string{"X-Plain"}})
	path := "/api/v1/subscriptions/" + id
	for method, body := range map[string]string{
		"PATCH": `{"target_url":"` + other.URL + `"}`,
		"PUT":   `{"event":"order.created","target_url":"` + other.URL + `","headers":{"authorization":"[hidden]"}}`,
	} {
		c.do(method, path, body).refused(422, "headers", "was given for "+hook.URL)
	}
	c.do("PATCH", path, `{"target_url":"`+hook.URL+`/b"}`).want(200)
	c.do("PATCH", path, `{"target_url":"`+other.URL+`","headers":{"authorization":"Bearer mine"}}`).want(200)
	c.do("PATCH", path, `{"target_url":"`+hook.URL+`","headers":{"authorization":null}}`).want(200)
	c.do("PATCH", path, `{"target_url":"`+other.URL+`"}`).want(200)
	c.publish("order.created", 1)
	if got := other.wait(t, 1)[0].header; got.Get("X-Plain") != "1" || got.Get("Authorization") != "" {
		t.Errorf("came: %v", got)
	}
}

// A preview of a transform with a subscription does not reveal its header values.
func TestPreview_HidesCredentials(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	id := r.acme.subscribe("order.created", hook.URL, map[string]any{"headers": map[string]string{"Authorization": "Bearer top"}})
	r.acme.post("/api/v1/preview", map[string]any{
		"subscription_id": id, "event": map[string]any{"type": "order.created", "data": 1},
		"transform": "export default (event, request) => ({ stolen: request.headers.Authorization })",
	}).want(200).shows(map[string]any{"request.body": `{"stolen":"[hidden]"}`})
}

// Verification covers one path of a host, since a host may have many owners.
func TestVerification_TransformStaysOnVerifiedPath(t *testing.T) {
	r := start(t, setup{retries: engine.RetrySchedule{0}})
	hook := receive(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Hook-Secret", req.Header.Get("X-Hook-Secret"))
	})
	id := r.acme.subscribe("order.created", hook.URL+"/mine", map[string]any{
		"verify": "hook-secret", "transform": "export default (event, request) => { if (event.data.away) request.path = '/victim'; request.query.n = '1'; return 1 }",
	})
	eventually(t, "it is confirmed", func() bool { return r.acme.get("/api/v1/subscriptions/"+id).want(200).at("active") == true })
	r.acme.publish("order.created", map[string]bool{"away": true})
	dead := r.acme.delivered(id, "dead")
	if !strings.Contains(dead.text("error"), "request.path can't be changed") {
		t.Errorf("%s", dead.body)
	}
	r.acme.publish("order.created", map[string]bool{"away": false})
	r.acme.delivered(id, "succeeded")
	for _, got := range hook.all() {
		if strings.HasPrefix(got.uri, "/victim") {
			t.Errorf("came: %+v", got)
		}
	}
}

func TestHeaders_ValuesAreRedactedUnlessVisible(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	c := r.acme
	id := c.subscribe("order.created", hook.URL, map[string]any{
		"headers":         map[string]string{"X-Auth": "auth-value-1", "Ocp-Apim-Subscription-Key": "apim-value-1", "X-Shop": "shop-value-1", "X-Team": "north", "content-type": "text/x"},
		"visible_headers": []string{"X-Team"},
	})
	path := "/api/v1/subscriptions/" + id
	want := map[string]any{"headers.X-Auth": "[hidden]", "headers.Ocp-Apim-Subscription-Key": "[hidden]", "headers.X-Shop": "[hidden]", "headers.X-Team": "north", "headers.content-type": "text/x", "visible_headers": "[X-Team]"}
	c.get(path).want(200).shows(want)
	c.publish("order.created", 1)
	d := c.delivered(id, "succeeded")
	for _, answer := range []string{string(d.body), string(c.get("/api/v1/audit?subject_id=" + id).want(200).body), string(c.get("/api/v1/subscriptions").want(200).body)} {
		for _, value := range []string{"auth-value-1", "apim-value-1", "shop-value-1"} {
			if strings.Contains(answer, value) {
				t.Errorf("%s is shown: %s", value, answer)
			}
		}
	}
	if got := hook.wait(t, 1)[0].header; got.Get("X-Auth") != "auth-value-1" || got.Get("X-Shop") != "shop-value-1" {
		t.Errorf("came: %v", got)
	}

	// A redacted value cannot be made visible without sending it again.
	c.do("PATCH", path, `{"visible_headers":["x-shop","X-Team"]}`).refused(422, "visible_headers", "give it again")
	c.do("PATCH", path, `{"visible_headers":["x-shop","X-Team"],"headers":{"X-Shop":"[hidden]"}}`).refused(422, "visible_headers", "give it again")
	c.do("PATCH", path, `{"visible_headers":["x-shop"],"headers":{"X-Shop":"shop-value-2"}}`).want(200).shows(map[string]any{"headers.X-Shop": "shop-value-2", "headers.X-Team": "[hidden]"})
	c.do("PATCH", path, `{"visible_headers":null}`).want(200).shows(map[string]any{"headers.X-Shop": "[hidden]", "visible_headers": "[]"})
	c.do("PATCH", path, `{"visible_headers":["a b"]}`).refused(422, "visible_headers", "is not a header name")
	c.do("PATCH", path, `{"headers":{"x-SHOP":"shop-value-3"}}`).want(200).shows(map[string]any{"headers.x-SHOP": "[hidden]", "headers.X-Shop": nil})
}

// The URL of an incoming webhook is a credential: knowing it is enough to post.
func TestTargets_FullURLNeedsWriteScope(t *testing.T) {
	r := start(t, setup{retries: engine.RetrySchedule{0}})
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	writer := r.scoped(engine.ScopeSubscribe, engine.ScopePublish, engine.ScopeRead)
	reader := r.scoped(engine.ScopeRead)
	trier := r.scoped(engine.ScopeRead, engine.ScopeScripts)
	whole, masked := hook.URL+"/services/T024/B024/kM8s?code=q7w8", hook.URL+"/services/[hidden]?code=[hidden]"
	id := writer.post("/api/v1/subscriptions", map[string]any{"event": "order.created", "hookUrl": whole}).want(201).text("id")
	r.admin.post("/api/v1/event-types", map[string]any{"name": "order.created"})
	r.acme.subscribe("switchhook.delivery.dead", hook.URL)
	writer.publish("order.created", 1)
	d := writer.delivered(id, "dead").text("id")

	for path, at := range map[string]string{
		"/api/v1/subscriptions/" + id: "target_url", "/api/v1/subscriptions?limit=1": "data.0.target_url", "/api/v1/deliveries/" + d: "attempts.0.request.url",
		"/api/v1/audit?subject_id=" + id: "data.0.after.target_url",
	} {
		writer.get(path).want(200).shows(map[string]any{at: whole})
		got := reader.get(path).want(200).shows(map[string]any{at: masked})
		if text := string(got.body); strings.Contains(text, "T024") || strings.Contains(text, "q7w8") {
			t.Errorf("%s shows %s", path, text)
		}
	}
	reader.get("/api/v1/subscriptions/" + id).shows(map[string]any{"hookUrl": masked})
	dry := trier.post("/api/v1/preview", map[string]any{
		"subscription_id": id, "event": map[string]any{"type": "order.created", "data": 1},
		"transform": "export default (e, r) => { console.log(JSON.stringify(r)); r.headers.x = '1'; return { path: r.path, code: r.query.code } }",
	}).want(200).shows(map[string]any{"request.url": masked, "request.body": `{"path":"/services/[hidden]","code":"[hidden]"}`})
	// Who may not read the secret must not get texts of their own signed with it.
	for _, scheme := range []string{"standard", "x-hook-signature", "X-Hub-Signature-256: sha256={hmac-sha256-hex}"} {
		signed := writer.post("/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": hook.URL, "signatures": []string{scheme}}).want(201).text("id")
		header := "request.headers." + signature.Scheme(scheme).HeaderName()
		preview := map[string]any{"subscription_id": signed, "event": map[string]any{"type": "order.created", "data": 1}}
		trier.post("/api/v1/preview", preview).want(200).shows(map[string]any{header: "[hidden]"})
		if value := r.acme.post("/api/v1/preview", preview).want(200).text(header); value == "[hidden]" {
			t.Errorf("%s is hidden from a key that may read the secret", header)
		}
	}
	if strings.Contains(string(dry.body), "T024") || strings.Contains(string(dry.body), "q7w8") {
		t.Errorf("a dry run shows %s", dry.body)
	}
	eventually(t, "the dead letter is told", func() bool {
		return strings.Contains(string(reader.get("/api/v1/events?type=switchhook.delivery.dead").want(200).body), masked)
	})
	if text := string(reader.get("/api/v1/events").want(200).body); strings.Contains(text, "T024") {
		t.Errorf("events show %s", text)
	}
}
