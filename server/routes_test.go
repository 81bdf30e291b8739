package server_test

import (
	"slices"
	"strings"
	"testing"

	"switchhook/server"
)

func TestRoutes_TrailingSlashAndSingular(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	sub := r.admin.subscribe("a", anywhere)
	event := r.admin.publish("a", 1)
	replay := r.admin.post("/api/v1/replays", map[string]any{"subscription_ids": []string{sub}}).want(202).text("id")
	eventually(t, "the replay is through", func() bool { return r.admin.get("/api/v1/replays/"+replay).want(200).text("status") == "completed" })
	ids := map[string]string{"subscriptions": sub, "replays": replay, "events": event, "event-types": "a", "keys": "key_0sa6jzbaw0000", "accounts": "acme", "scripts": r.admin.script("filter", "f", "true"), "deliveries": r.admin.delivered(sub, "retrying").text("id")}
	for _, op := range r.server.Operations() {
		rest, ok := strings.CutPrefix(op.Path, "/api/v1/")
		if !ok || strings.HasSuffix(op.Path, ".json") || strings.HasSuffix(op.Path, ".d.ts") || op.Path == "/api/v1/preview" || op.Path == "/api/v1/audit" || op.Path == "/api/v1/me" {
			continue
		}
		if len(op.Aliases) != 1 {
			t.Errorf("%s has the aliases %v", op.Path, op.Aliases)
		}
		noun, _, _ := strings.Cut(rest, "/")
		id := ids[noun]
		body := any(nil)
		if op.Method != "GET" && op.Method != "DELETE" {
			body = `5` // is refused, by the handler that is meant
		}
		if op.Method == "DELETE" || strings.HasSuffix(op.Path, "/retry") {
			id = "gone" // so that nothing changes
		}
		want := r.admin.do(op.Method, op.Fill(op.Path, id), body)
		if want.status == 405 || strings.Contains(string(want.body), "there is no path") {
			t.Errorf("%s: %d", want.what, want.status)
		}
		for _, path := range []string{op.Path + "/", op.Aliases[0], op.Aliases[0] + "/"} {
			a := r.admin.do(op.Method, op.Fill(path, id), body)
			if a.status != want.status || string(a.body) != string(want.body) {
				t.Errorf("%s: %d %.200s\n%s: %d %.200s", want.what, want.status, want.body, a.what, a.status, a.body)
			}
		}
	}
}

// The codes of success follow from the method: 201 creates and says where, 202 accepts work that goes on
// after the answer, 204 has no body.
func TestRoutes_SuccessCodes(t *testing.T) {
	allowed := map[string][]string{
		"GET": {"200", "304"}, "PUT": {"200", "201"}, "PATCH": {"200", "201"}, "DELETE": {"204"}, "POST": {"200", "201", "202", "204"},
	}
	for _, op := range server.New(server.Config{}).Operations() {
		responses := openapi().at("paths", op.Path, strings.ToLower(op.Method), "responses")
		id := openapi().at("paths", op.Path, strings.ToLower(op.Method), "operationId").value.(string)
		codes := slices.DeleteFunc(responses.names(), func(code string) bool { return code >= "400" })
		for _, code := range codes {
			hasBody, hasLocation := responses.at(code, "content").exists(), responses.at(code, "headers", "Location").exists()
			switch {
			case !slices.Contains(allowed[op.Method], code):
				t.Errorf("%s: a %s answers %s", id, op.Method, code)
			case hasBody != (code != "204" && code != "304"):
				t.Errorf("%s: %s has a body: %t", id, code, hasBody)
			case code == "201" && !hasLocation:
				t.Errorf("%s: 201 has no Location", id)
			}
		}
		creates := strings.HasPrefix(id, "create") || id == "startScriptShadow"
		if op.Method == "POST" && creates != (slices.Contains(codes, "201") || id == "createReplay" && slices.Equal(codes, []string{"202"})) {
			t.Errorf("%s answers %v", id, codes)
		}
	}
}

func TestRoutes_RESTHooksSubscriptionPath(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	made := c.post("/api/v1/subscription/", map[string]any{"event": "user.created", "target_url": hook.URL, "payload_format": "data"}).want(201)
	c.publish("user.created", map[string]int{"id": 1})
	if got := hook.wait(t, 1)[0]; got.body != `{"id":1}` || got.method != "POST" {
		t.Errorf("came: %+v", got)
	}
	path := "/api/v1/subscription/" + made.text("id") + "/"
	c.do("PUT", path, map[string]any{"event": "user.*", "target_url": hook.URL}).want(200)
	c.do("DELETE", path, nil).want(204)
	c.get(path).refused(404, "", "")
}

func TestRoutes_HEADForEveryGET(t *testing.T) {
	r := start(t)
	sub := r.admin.subscribe("a", anywhere)
	event := r.admin.publish("a", 1)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	script := r.admin.script("filter", "f", "true", "false")
	r.admin.post("/api/v1/scripts/f/shadow", `{"version":2}`).want(201)
	ids := map[string]string{"subscriptions": sub, "events": event, "event-types": "a", "accounts": "acme", "scripts": script, "deliveries": r.admin.delivered(sub, "retrying").text("id")}
	for _, op := range r.server.Operations() {
		if op.Method != "GET" {
			continue
		}
		noun := strings.Split(strings.TrimPrefix(op.Path, "/api/v1/"), "/")[0]
		path := op.Fill(op.Path, ids[noun])
		get, head := r.admin.get(path).want(200), r.admin.do("HEAD", path, nil).want(200)
		for _, name := range []string{"Content-Type", "ETag", "Content-Security-Policy"} {
			if get.header.Get(name) != head.header.Get(name) {
				t.Errorf("%s: %s is %q with GET and %q with HEAD", path, name, get.header.Get(name), head.header.Get(name))
			}
		}
	}
}

func TestAuth_PublicRoutes(t *testing.T) {
	r := start(t)
	c := r.acme.with(t, "")
	c.get("/healthz").want(200).shows(map[string]any{"status": "ok", "version": "test"})
	c.get("/readyz").want(200).shows(map[string]any{"status": "ready"})
	r.acme.publish("a", 1)
	if a := c.get("/metrics").want(200); !strings.Contains(string(a.body), "switchhook_") {
		t.Errorf("metrics: %.300s", a.body)
	}
	page := c.get("/").want(200)
	if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") || !strings.Contains(string(page.body), "Switchhook") {
		t.Errorf("page: %.300s", page.body)
	}
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("Content-Security-Policy is %q", csp)
	}
}

func TestReady_UnavailableDuringShutdown(t *testing.T) {
	r := start(t)
	r.stop()
	for _, a := range []*answer{r.acme.get("/readyz"), r.acme.post("/api/v1/events", `{"type":"a","data":1}`)} {
		if a.refused(503, "", "stopping"); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", a.what)
		}
	}
}
