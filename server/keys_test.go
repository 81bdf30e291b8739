package server_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestKeys_Lifecycle(t *testing.T) {
	r := start(t)
	made := r.admin.post("/api/v1/keys", `{"name":"shop","account":"acme"}`).want(201).shows(map[string]any{"name": "shop", "account": "acme", "admin": false})
	if made.header.Get("Cache-Control") != "no-store" || made.header.Get("Location") != "/api/v1/keys/"+made.text("id") {
		t.Errorf("headers are %v", made.header)
	}
	key := made.text("key")
	if !strings.HasPrefix(key, made.text("prefix")) || len(key) < 30 {
		t.Errorf("key %q, prefix %q", key, made.text("prefix"))
	}
	shop := r.acme.with(t, key)
	shop.subscribe("a", anywhere)
	if got := r.acme.pages("/api/v1/subscriptions?limit=5", "account"); !slices.Equal(got, []string{"acme"}) {
		t.Errorf("acme sees %v", got)
	}
	if list := r.admin.get("/api/v1/keys").want(200); strings.Contains(string(list.body), key) {
		t.Error("the list shows the key")
	}
	r.admin.do("DELETE", "/api/v1/keys/"+made.text("id"), nil).want(204)
	shop.get("/api/v1/subscriptions").refused(401, "", "not known")
	r.admin.do("DELETE", "/api/v1/keys/"+made.text("id"), nil).refused(404, "", "there is no key")
	r.admin.do("DELETE", "/api/v1/keys/"+r.admin.keyID, nil).refused(409, "", "another admin key")
}

func TestKeys_Update(t *testing.T) {
	r := start(t)
	made := r.admin.post("/api/v1/keys", `{"name":"till","account":"acme","scopes":["publish"]}`).want(201)
	path, key, tag := "/api/v1/keys/"+made.text("id"), r.acme.with(t, made.text("key")), made.header.Get("ETag")
	key.get("/api/v1/events").refused(403, "", "scope")
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	changed := r.admin.do("PATCH", path, `{"name":"shop","scopes":["publish","read"],"expires_at":"`+later+`"}`, "If-Match", tag).want(200)
	changed.shows(map[string]any{"name": "shop", "scopes": "[publish read]", "expires_at": later, "key": nil, "prefix": made.text("prefix")})
	key.get("/api/v1/events").want(200)
	got := r.admin.get(path).want(200).shows(map[string]any{"name": "shop", "expires_at": later})
	r.admin.get(path, "If-None-Match", got.header.Get("ETag")).want(304)
	r.admin.do("PATCH", path, `{"name":"x"}`, "If-Match", tag).refused(412, "", "it was changed since it was read")
	r.admin.do("DELETE", path, nil, "If-Match", tag).refused(412, "", "it was changed since it was read")
	r.admin.post(path+"/rotate", nil, "If-Match", tag).refused(412, "", "it was changed since it was read")
	r.admin.do("PATCH", path, `{"expires_at":null,"scopes":null}`, "If-Match", got.header.Get("ETag")).want(200).
		shows(map[string]any{"name": "shop", "expires_at": nil, "scopes": "[publish subscribe scripts read]"})
	r.admin.get("/api/v1/audit?subject_id=" + made.text("id")).want(200).shows(map[string]any{"data.0.action": "update", "data.1.changed": "[expires_at name scopes]"})
	for body, field := range map[string]string{
		`{"name":"` + strings.Repeat("x", 101) + `"}`: "name", `{"scopes":[]}`: "scopes", `{"scopes":["fly"]}`: "scopes[0]", `{"expires_at":"2020-01-01T00:00:00Z"}`: "expires_at",
		`{"expires_at":"soon"}`: "expires_at", `{"admin":true}`: "admin", `{"account":"rival"}`: "account",
	} {
		r.admin.do("PATCH", path, body).refused(422, field, "")
	}
	r.admin.do("PATCH", "/api/v1/keys/"+r.admin.keyID, `{"scopes":["read"]}`).refused(422, "scopes", "not for an admin key")
	r.admin.do("PATCH", "/api/v1/keys/key_0dkwa9ap8h00g", `{}`).refused(404, "", "there is no key")
}

func TestKeys_Import(t *testing.T) {
	r := start(t)
	const text = "b7c1a4e2-5d0f-4f3e-9a51-0c8d2e6f7a90"
	made := r.admin.post("/api/v1/keys", `{"name":"old shop","account":"acme","key":"`+text+`","scopes":["subscribe","read"]}`).want(201).shows(map[string]any{"key": text, "prefix": "b7c1", "account": "acme"})
	path := made.header.Get("Location")
	got := r.admin.get(path).want(200).shows(map[string]any{"id": made.text("id"), "name": "old shop", "key": nil, "prefix": "b7c1", "scopes": "[subscribe read]"})
	if strings.Contains(string(got.body), text) {
		t.Error("the key is shown again")
	}
	r.acme.with(t, text).get("/api/v1/me").want(200).shows(map[string]any{"account": "acme", "name": "old shop"})
	r.legacy("authcode", text).call("GET", "/hooks/subscribe", "", 200)
	r.admin.post("/api/v1/keys", `{"account":"rival","key":"`+text+`"}`).refused(409, "key", "exists already")
	r.admin.post("/api/v1/keys", `{"key":"`+r.acme.key+`"}`).refused(409, "key", "exists already")
	for key, detail := range map[string]string{
		"short": "must have 16 to 256", strings.Repeat("x1", 129): "must have 16 to 256", strings.Repeat("abc", 8): "easy to guess", "with a space in the middle": "without spaces", "ünïcödé-and-long-enough": "visible ASCII",
	} {
		r.admin.post("/api/v1/keys", map[string]any{"key": key}).refused(422, "key", detail)
	}
	r.admin.post("/api/v1/keys", `{"key":17}`).refused(422, "key", "must be a string")
	if made := r.admin.post("/api/v1/keys", `{"key":null}`).want(201); !strings.HasPrefix(made.text("key"), "swk_") {
		t.Errorf("made %s", made.text("key"))
	}
	r.acme.post("/api/v1/keys", `{"key":"`+text+`x"}`).refused(403, "", "admin key")
	// A rotation generates a new text, and the old one has its grace period.
	r.admin.post(path+"/rotate", `{"grace_period":"1h"}`).want(200)
	r.acme.with(t, text).get("/api/v1/me").want(200)
	r.admin.post("/api/v1/keys", `{"key":"`+text+`"}`).refused(409, "key", "exists already")
	r.admin.do("DELETE", path, nil).want(204)
	r.admin.get(path).refused(404, "", "there is no key")
	r.admin.get("/api/v1/keys/sub_0000000000001").refused(404, "", "there is no key")
	r.admin.post("/api/v1/keys", `{"key":"`+text+`"}`).want(201)
}

func TestKeys_AdminKeyCreatesAdminKey(t *testing.T) {
	r := start(t)
	made := r.admin.post("/api/v1/keys", `{"admin":true}`).want(201).shows(map[string]any{"admin": true, "account": "default", "name": ""})
	ops := r.admin.with(t, made.text("key"))
	ops.do("DELETE", "/api/v1/keys/"+r.admin.keyID, nil).want(204)
	r.admin.get("/api/v1/keys").refused(401, "", "not known")
	for body, field := range map[string]string{
		`{"account":"a b"}`: "account", `{"account":5}`: "account", `{"admin":"yes"}`: "admin", `{"name":"` + strings.Repeat("x", 101) + `"}`: "name",
	} {
		ops.post("/api/v1/keys", body).refused(422, field, "")
	}
}

func TestKeys_ListPages(t *testing.T) {
	r := start(t)
	for range 4 {
		r.admin.post("/api/v1/keys", `{}`).want(201)
	}
	all := r.admin.pages("/api/v1/keys?limit=100", "id")
	if len(all) != 7 || !slices.IsSorted(all) {
		t.Errorf("listed: %v", all)
	}
	if got := r.admin.pages("/api/v1/keys?limit=2", "id"); !slices.Equal(got, all) {
		t.Errorf("in pages: %v", got)
	}
}

func TestAuth_AuthorizationAndXAPIKey(t *testing.T) {
	r := start(t)
	none := r.acme.with(t, "")
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + r.acme.key}, {"Authorization", "bearer  " + r.acme.key}, {"X-API-Key", r.acme.key}, {"x-api-key", r.acme.key}, {"X-API-Key", r.acme.key, "Authorization", "Basic eDp5"},
	} {
		none.get("/api/v1/subscriptions", headers...).want(200)
	}
	for _, headers := range [][]string{
		{}, {"Authorization", ""}, {"Authorization", "Bearer"}, {"Authorization", "Bearer "}, {"Authorization", r.acme.key}, {"Authorization", "Basic " + r.acme.key}, {"Authorization", "Basic Og=="}, {"X-API-Key", ""},
	} {
		none.get("/api/v1/subscriptions", headers...).refused(401, "", "an API key is needed")
	}
	for _, key := range []string{"x", r.acme.key + "x", r.acme.key[:len(r.acme.key)-1], strings.ToUpper(r.acme.key), "swk_" + strings.Repeat("0", 5000)} {
		none.get("/api/v1/subscriptions", "X-API-Key", key).refused(401, "", "not known")
	}
	none.get("/api/v1/subscriptions?api_key="+r.acme.key).refused(401, "", "an API key is needed")
}

func TestAuth_EveryRouteNeedsAKey(t *testing.T) {
	r := start(t)
	open := []string{"/", "/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"}
	for _, op := range r.server.Operations() {
		want := 401
		switch {
		case slices.Contains(open, op.Path):
			want = 200
		case strings.HasSuffix(op.Path, "/confirm"): // for targets, which have none
			want = 400
		}
		for _, path := range append(op.Aliases, op.Path) {
			r.acme.with(t, "").do(op.Method, op.Fill(path, "x"), nil).want(want)
		}
	}
}

func TestAuth_AdminRoutesAreForbiddenToOthers(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	forbidden := []string{"POST /api/v1/event-types", "PUT /api/v1/event-types/{name}", "PATCH /api/v1/event-types/{name}", "DELETE /api/v1/event-types/{name}", "GET /api/v1/keys", "POST /api/v1/keys", "GET /api/v1/keys/{id}", "PATCH /api/v1/keys/{id}", "DELETE /api/v1/keys/{id}", "POST /api/v1/keys/{id}/rotate", "GET /api/v1/accounts", "PUT /api/v1/accounts/{name}", "PATCH /api/v1/accounts/{name}", "DELETE /api/v1/accounts/{name}"}
	for _, op := range r.server.Operations() {
		a := r.acme.do(op.Method, op.Fill(op.Path, "a"), nil)
		if want := slices.Contains(forbidden, op.Method+" "+op.Path); want != (a.status == 403) {
			t.Errorf("%s: %d", a.what, a.status)
		} else if want {
			a.refused(403, "", "admin key")
		}
	}
	r.acme.do("DELETE", "/api/v1/keys/"+r.acme.keyID, nil).refused(403, "", "admin key")
	r.admin.get("/api/v1/event-types/a").want(200)
}

// clock is a manual clock.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now().UTC().Truncate(time.Minute)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestKeys_ExpiredIsRefused(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now})
	for _, body := range []string{`{"account":"acme","expires_in":"1h"}`, `{"account":"acme","expires_in":3600}`, `{"account":"acme","expires_at":"IN-AN-HOUR"}`} {
		body = strings.Replace(body, "IN-AN-HOUR", clock.now().Add(time.Hour).Format(time.RFC3339), 1)
		made := r.admin.post("/api/v1/keys", body).want(201).shows(map[string]any{"expires_at": clock.now().Add(time.Hour).Format(time.RFC3339)})
		c := r.acme.with(t, made.text("key"))
		clock.pass(time.Hour - time.Second)
		c.get("/api/v1/events").want(200)
		clock.pass(time.Second)
		c.get("/api/v1/events").refused(401, "", "expired at")
		c.post("/api/v1/events", strings.Repeat(" ", 10_000)).refused(401, "", "expired at")
		r.admin.post("/api/v1/keys/"+made.text("id")+"/rotate", nil).refused(409, "", "expired")
	}
	for body, field := range map[string]string{
		`{"expires_in":"1h","expires_at":"2099-01-01T00:00:00Z"}`: "expires_in", `{"expires_in":0}`: "expires_in", `{"expires_in":"-1h"}`: "", `{"expires_in":"soon"}`: "",
		`{"expires_at":"2001-01-01T00:00:00Z"}`: "expires_at", `{"expires_at":"tomorrow"}`: "",
	} {
		if a := r.admin.post("/api/v1/keys", body); a.status != 422 || field != "" && a.text("field") != field {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

func TestKeys_RotationGracePeriod(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now})
	path := "/api/v1/keys/" + r.acme.keyID + "/rotate"
	first := r.acme
	answer := r.admin.post(path, `{"grace_period":"1h"}`).want(200).shows(map[string]any{"id": r.acme.keyID, "account": "acme", "old_key_until": clock.now().Add(time.Hour).Format(time.RFC3339)})
	second := r.acme.with(t, answer.text("key"))
	if answer.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(second.key, answer.text("prefix")) || second.key == first.key {
		t.Errorf("the answer is %s with %v", answer.body, answer.header)
	}
	for _, c := range []*client{first, second} {
		c.get("/api/v1/events").want(200)
	}
	if n := len(r.admin.get("/api/v1/keys").want(200).column("id")); n != 3 {
		t.Errorf("%d keys are listed", n)
	}
	clock.pass(time.Hour)
	first.get("/api/v1/events").refused(401, "", "was replaced")
	second.get("/api/v1/events").want(200)

	third := r.acme.with(t, r.admin.post(path, nil).want(200).text("key")) // a day, unless it says
	clock.pass(23 * time.Hour)
	second.get("/api/v1/events").want(200)
	fourth := r.acme.with(t, r.admin.post(path, `{"grace_period":"0s"}`).want(200).text("key"))
	for _, c := range []*client{first, second, third} {
		c.get("/api/v1/events").refused(401, "", "not known")
	}
	fourth.get("/api/v1/events").want(200)

	for body, field := range map[string]string{`{"grace_period":"721h"}`: "grace_period", `{"grace":"1h"}`: "grace", `{"grace_period":"-1s"}`: "grace_period"} {
		if a := r.admin.post(path, body); a.status != 422 || a.text("field") != field {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	for _, id := range []string{"key_0sa6jzbaw0000", "x"} {
		r.admin.post("/api/v1/keys/"+id+"/rotate", nil).refused(404, "", "there is no key")
	}
}

func TestKeys_LastUsedAt(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now})
	shown := func() string {
		for i, id := range r.admin.get("/api/v1/keys").want(200).column("id") {
			if id == r.acme.keyID {
				return r.admin.get("/api/v1/keys").want(200).column("last_used_at")[i]
			}
		}
		return "no such key"
	}
	if got := shown(); got != "<nil>" {
		t.Errorf("before: %s", got)
	}
	first := clock.now()
	r.acme.get("/api/v1/events").want(200)
	clock.pass(59 * time.Second)
	r.acme.get("/api/v1/events").want(200)
	if got := shown(); got != first.Format(time.RFC3339) {
		t.Errorf("after: %s", got)
	}
	clock.pass(time.Second)
	r.acme.get("/api/v1/events").want(200)
	if got := shown(); got != first.Add(time.Minute).Format(time.RFC3339) {
		t.Errorf("a minute later: %s", got)
	}
}
