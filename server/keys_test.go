package server_test

import (
	"slices"
	"strings"
	"testing"
)

func TestAKeyIsMadeUsedAndDeleted(t *testing.T) {
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

func TestAnAdminKeyCanMakeAnother(t *testing.T) {
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

func TestKeysAreListedInPages(t *testing.T) {
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

func TestBothHeadersCarryAKey(t *testing.T) {
	r := start(t)
	none := r.acme.with(t, "")
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + r.acme.key}, {"Authorization", "bearer  " + r.acme.key}, {"X-API-Key", r.acme.key}, {"x-api-key", r.acme.key}, {"X-API-Key", r.acme.key, "Authorization", "Basic eDp5"},
	} {
		none.get("/api/v1/subscriptions", headers...).want(200)
	}
	for _, headers := range [][]string{
		{}, {"Authorization", ""}, {"Authorization", "Bearer"}, {"Authorization", "Bearer "}, {"Authorization", r.acme.key}, {"Authorization", "Basic " + r.acme.key}, {"X-API-Key", ""},
	} {
		none.get("/api/v1/subscriptions", headers...).refused(401, "", "an API key is needed")
	}
	for _, key := range []string{"x", r.acme.key + "x", r.acme.key[:len(r.acme.key)-1], strings.ToUpper(r.acme.key), "swk_" + strings.Repeat("0", 5000)} {
		none.get("/api/v1/subscriptions", "X-API-Key", key).refused(401, "", "not known")
	}
	none.get("/api/v1/subscriptions?api_key="+r.acme.key).refused(401, "", "an API key is needed")
}

func TestEveryRouteOfTheAPINeedsAKey(t *testing.T) {
	r := start(t)
	open := []string{"/", "/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"}
	for _, op := range r.server.Operations() {
		want := 401
		if slices.Contains(open, op.Path) {
			want = 200
		}
		for _, path := range append(op.Aliases, op.Path) {
			r.acme.with(t, "").do(op.Method, op.Fill(path, "x"), nil).want(want)
		}
	}
}

func TestWhatOnlyAdminsMayDoIsForbiddenToOthers(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	forbidden := []string{"POST /api/v1/event-types", "PUT /api/v1/event-types/{name}", "DELETE /api/v1/event-types/{name}", "GET /api/v1/keys", "POST /api/v1/keys", "DELETE /api/v1/keys/{id}"}
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
