package server_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"switchhook/engine/router"
	"switchhook/server"
)

func basic(user, password string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

func TestAuth_KeyPlacements(t *testing.T) {
	r := start(t)
	none, key := r.acme.with(t, ""), r.acme.key
	for _, headers := range [][]string{
		basic(key, ""), basic("", key), basic("api", key), basic(key, "x"), basic(key, key), basic("api_key", key),
		append(basic("proxy", "password"), "X-API-Key", key), append(basic(key, ""), "X-API-Key", key),
	} {
		none.get("/api/v1/me", headers...).want(200).shows(map[string]any{"account": "acme", "name": "acme", "prefix": key[:10], "admin": false, "key_id": r.acme.keyID, "scopes": "[publish subscribe scripts read]"})
	}
	r.admin.get("/api/v1/me").want(200).shows(map[string]any{"account": "default", "admin": true, "scopes": "[publish targets subscribe scripts read]"})
	for _, headers := range [][]string{
		{"X-API-Key", key, "Authorization", "Bearer " + r.rival.key}, append(basic(r.rival.key, ""), "X-API-Key", key), append(basic("x", r.rival.key), "X-API-Key", key),
		basic(key, r.rival.key), {"X-API-Key", key, "Authorization", "Bearer unknown"},
	} {
		none.get("/api/v1/me", headers...).refused(401, "", "two different API keys")
	}
	for _, headers := range [][]string{basic("x", "y"), basic("swk_x", ""), basic("", "swk_x")} {
		none.get("/api/v1/me", headers...).refused(401, "", "not known")
	}
	for _, text := range []string{"Basic", "Basic !!!", "Basic Og==", "Digest " + key} {
		none.get("/api/v1/me", "Authorization", text).refused(401, "", "an API key is needed")
	}
}

func TestAuth_QueryKeyOnlyIfAllowedAndNeverLogged(t *testing.T) {
	closed := start(t)
	closed.acme.with(t, "").get("/api/v1/me?api_key="+closed.acme.key).refused(401, "", "an API key is needed")
	closed.acme.get("/api/v1/subscriptions?api_key=x").refused(422, "api_key", "is not a parameter")

	var log bytes.Buffer
	r := start(t, setup{queryKeys: true, log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	none, key := r.acme.with(t, ""), r.acme.key
	answers := []*answer{
		none.get("/api/v1/me?api_key=" + key).want(200),
		none.get("/api/v1/me?api_key="+key, "X-API-Key", key).want(200),
		none.get("/api/v1/me?api_key="+key, "X-API-Key", r.rival.key).refused(401, "", "two different API keys"),
		none.get("/api/v1/me?api_key="+key+"&api_key="+r.rival.key).refused(401, "", "two different API keys"),
		none.get("/api/v1/me?api_key="+key+"x").refused(401, "", "not known"),
		none.get("/api/v1/nothing?api_key="+key).refused(404, "", "there is no path"),
		none.get("/api/v1/subscriptions?evnt=a&api_key="+key).refused(422, "evnt", "is not a parameter"),
		none.do("DELETE", "/api/v1/subscriptions?api_key="+key, nil).refused(405, "", "Allow"),
		none.post("/api/v1/subscriptions?api_key="+key, map[string]any{"event": "a", "url": anywhere}).want(201),
		none.post("/api/v1/subscriptions?api_key="+key, map[string]any{"event": "b", "url": anywhere}).want(201),
		none.get("/api/v1/subscriptions?limit=1&api_key=" + key).want(200),
		none.get("/api/v1/subscriptions?limit=1&format=array&api_key=" + key).want(200),
	}
	for _, a := range answers {
		if strings.Contains(string(a.body), key) {
			t.Errorf("%.60s shows the key: %s", a.what, a.body)
		}
		for name, values := range a.header {
			if strings.Contains(strings.Join(values, " "), key) {
				t.Errorf("%.60s: %s shows the key", a.what, name)
			}
		}
	}
	if link := answers[len(answers)-1].header.Get("Link"); !strings.Contains(link, "cursor=") {
		t.Errorf("Link is %q", link)
	}
	r.stop()
	none.get("/api/v1/subscriptions?api_key=" + key)
	if strings.Contains(log.String(), key) {
		t.Errorf("the log shows the key: %s", log.String())
	}
}

func TestOptions_AllowListsMethods(t *testing.T) {
	r := start(t)
	for _, c := range []*client{r.acme, r.acme.with(t, "")} {
		for _, op := range r.server.Operations() {
			a := c.do("OPTIONS", op.Fill(op.Path, "x"), nil).want(204)
			if allow := a.header.Get("Allow"); !strings.Contains(allow, op.Method) || !strings.HasSuffix(allow, "OPTIONS") || (op.Method == "GET") != strings.Contains(allow, "HEAD") && op.Method == "GET" {
				t.Errorf("%s: Allow is %q", a.what, allow)
			}
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s allows an origin", a.what)
			}
		}
		c.do("OPTIONS", "/nothing", nil).refused(404, "", "there is no path")
	}
}

func TestCORS_AllowedOrigins(t *testing.T) {
	r := start(t, setup{origins: []string{"https://app.example.com", "https://*.example.org"}})
	preflight := []string{"Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization,content-type,if-match"}
	for origin, allowed := range map[string]bool{
		"https://app.example.com": true, "https://a.example.org": true, "https://evil.com": false, "http://app.example.com": false, "https://app.example.com.evil.com": false,
		"https://example.org.evil.com": false, "null": false, "": false,
	} {
		before := r.acme.with(t, "").do("OPTIONS", "/api/v1/subscriptions/x", nil, append(preflight, "Origin", origin)...).want(204)
		call := r.acme.get("/api/v1/me", "Origin", origin).want(200)
		failed := r.acme.with(t, "").get("/api/v1/me", "Origin", origin).want(401)
		for _, a := range []*answer{before, call, failed} {
			got := a.header.Get("Access-Control-Allow-Origin")
			if allowed && got != origin || !allowed && got != "" {
				t.Errorf("%s for %q: Access-Control-Allow-Origin is %q", a.what, origin, got)
			}
			if a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s allows credentials", a.what)
			}
			if !strings.Contains(a.header.Get("Vary"), "Origin") {
				t.Errorf("%s: Vary is %q", a.what, a.header.Get("Vary"))
			}
		}
		if allowed && (!strings.Contains(before.header.Get("Access-Control-Allow-Methods"), "PATCH") || !strings.Contains(before.header.Get("Access-Control-Allow-Headers"), "if-match")) {
			t.Errorf("preflight: %v", before.header)
		}
	}
	if a := start(t).acme.get("/api/v1/me", "Origin", "https://app.example.com").want(200); a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "" {
		t.Errorf("without --cors-origins: %v", a.header)
	}
	if a := start(t, setup{origins: []string{"*"}}).acme.get("/api/v1/me", "Origin", "https://anything").want(200); a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("with *: %v", a.header)
	}
}

func TestCORS_CheckOrigins(t *testing.T) {
	for _, bad := range []string{"example.com", "https://", "https://a.com/", "https://a.com/x", "https://*", "https://a*.com", "ftp://a.com", "https://a.com,https://b.com", "https://u@a.com", "", "null", "https://*.*.com"} {
		if server.CheckOrigins([]string{bad}, false) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if server.CheckOrigins([]string{"*"}, true) == nil || server.CheckOrigins([]string{"*", "https://a.com"}, false) == nil {
		t.Error("* is taken with keys in addresses, or beside another")
	}
	good := []string{"https://a.com", "http://localhost:3000", "https://*.a.com", "http://[::1]:8080"}
	check(t, server.CheckOrigins(good, true))
	server.New(server.Config{Origins: good, Engine: &router.Engine{}}) // does not panic
}
