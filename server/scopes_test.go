package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/server"
)

// withScopes returns a client with a new key of acme's.
func (r *testServer) withScopes(scopes ...engine.Scope) *client {
	_, text, err := r.engine.CreateKey(context.Background(), engine.Key{Account: "acme", Name: "scoped", Scopes: scopes}, "")
	must(r.t, err)
	return r.acme.with(r.t, text)
}

// needed returns the scopes that openapi.json requires for an operation.
func needed(t *testing.T, op server.Operation) (scopes []string, admin bool) {
	described := openapi().at("paths", op.Path, strings.ToLower(op.Method))
	list, ok := described.at("x-scopes").value.([]any)
	security, given := described.at("security").value.([]any) // one that may be left out is no open door: the token is asked for
	if open := given && len(security) == 0; open != op.Open || open == ok {
		t.Errorf("%s %s: open is %v, x-scopes are %v; give x-scopes, or \"security\": [] where no key is needed", op.Method, op.Path, op.Open, list)
	}
	for _, scope := range list {
		if scope == "admin" {
			return nil, true
		}
		scopes = append(scopes, scope.(string))
	}
	return scopes, false
}

// Calls each route with a key of each single scope, and of all scopes but one.
func TestScopes_RoutesMatchOpenAPI(t *testing.T) {
	r := start(t)
	var keys [][]engine.Scope
	for i, scope := range engine.Scopes {
		keys = append(keys, []engine.Scope{scope}, slices.Delete(slices.Clone(engine.Scopes), i, i+1))
	}
	for _, scopes := range keys {
		c := r.withScopes(scopes...)
		for _, op := range r.server.Operations() {
			wanted, admin := needed(t, op)
			allowed := !admin
			for _, scope := range wanted {
				allowed = allowed && slices.Contains(scopes, engine.Scope(scope))
			}
			for _, path := range append(op.Aliases, op.Path) {
				// "gone" is nothing that there is, so that nothing is changed.
				a := c.do(op.Method, op.Fill(path, "gone"), nil)
				if refused := a.status == 403; refused == allowed {
					t.Errorf("%s with %v: %d %.200s", a.what, scopes, a.status, a.body)
				} else if refused && !admin {
					a.refused(403, "", "the scope")
				}
			}
		}
	}
}

func TestScopes_SubscribeKeyCannotSetTransforms(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	r.acme.script("filter", "large", "data.total > 100")
	r.acme.script("transform", "cut", "export default () => 'cut'")
	plain := r.withScopes(engine.ScopeSubscribe, engine.ScopeRead)
	for _, member := range []string{"transform", "transform_script", "filter_script"} {
		value := map[string]any{"transform": "export default () => 1", "transform_script": "cut", "filter_script": "large"}[member]
		body := map[string]any{"event": "order.created", "target_url": hook.URL, member: value}
		plain.post("/api/v1/subscriptions", body).refused(403, member, `scope "scripts"`)
		both := r.withScopes(engine.ScopeSubscribe, engine.ScopeScripts)
		id := both.post("/api/v1/subscriptions", body).want(201).text("id")
		path := "/api/v1/subscriptions/" + id
		// It can't be taken away or replaced either, by PATCH or PUT: what it hides would show.
		for _, change := range []any{nil, "", "export default () => 2"} {
			if _, isText := change.(string); isText && member != "transform" {
				continue
			}
			plain.do("PATCH", path, map[string]any{member: change}).refused(403, member, `scope "scripts"`)
		}
		plain.do("PUT", path, map[string]any{"event": "order.created", "target_url": hook.URL, member: nil}).refused(403, member, `scope "scripts"`)
		if kept := plain.do("PUT", path, map[string]any{"event": "order.created", "target_url": hook.URL}).want(200).at(member); kept == nil || kept == "" {
			t.Errorf("a PUT without %s took it away", member)
		}
		other := map[string]string{"transform": "transform_script", "transform_script": "transform", "filter_script": "filter"}[member]
		swap := map[string]any{"transform_script": "cut", "transform": "export default () => 3", "filter": "true"}[other]
		if a := plain.do("PATCH", path, map[string]any{other: swap}); a.status != 403 {
			t.Errorf("%s given for %s: %d", other, member, a.status)
		}
		// Everything else is its own, and what is sent back as it was is no change.
		plain.do("PATCH", path, map[string]any{"description": "mine", member: value}).want(200)
		plain.do("DELETE", path, nil).want(204)
	}
	own := plain.post("/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": hook.URL, "filter": "data.total > 1"}).want(201).text("id")
	plain.do("PATCH", "/api/v1/subscriptions/"+own, `{"filter":"data.total > 2"}`).want(200)
	plain.do("PATCH", "/api/v1/subscriptions/"+own, `{"filter":null}`).want(200)
}

func TestScopes_InvalidAreRefused(t *testing.T) {
	r := start(t)
	for body, want := range map[string][2]string{
		`{"scopes":[]}`:                                   {"scopes", "name what the key may do"},
		`{"scopes":["raed"]}`:                             {"scopes[0]", `did you mean "read"?`},
		`{"scopes":["read","everything at all"]}`:         {"scopes[1]", "the scopes are publish, targets"},
		`{"scopes":["read","read"]}`:                      {"scopes[1]", "named twice"},
		`{"scopes":"read"}`:                               {"scopes", "must be a list"},
		`{"admin":true,"scopes":["read"]}`:                {"scopes", "not for an admin key"},
		`{"scope":["read"]}`:                              {"scope", `did you mean "scopes"?`},
		`{"scopes":["` + strings.Repeat("x", 500) + `"]}`: {"scopes[0]", "is not a scope"},
	} {
		r.admin.post("/api/v1/keys", body).refused(422, want[0], want[1])
	}
	for body, want := range map[string]string{
		`{"account":"acme"}`: "[publish subscribe scripts read]", `{"scopes":null}`: "[publish subscribe scripts read]", `{"scopes":["targets","publish"]}`: "[targets publish]", `{"admin":true}`: "[]",
	} {
		made := r.admin.post("/api/v1/keys", body).want(201)
		if got := fmt.Sprint(made.at("scopes")); got != want {
			t.Errorf("%s has %s", body, got)
		}
	}
}

func TestScopes_PreviewOfStoredEventsNeedsRead(t *testing.T) {
	r := start(t)
	sub, event := r.acme.subscribe("a", anywhere), r.acme.publish("a", 1)
	both, blind := r.withScopes(engine.ScopeScripts, engine.ScopeRead), r.withScopes(engine.ScopeScripts)
	for _, body := range []map[string]any{{"event_id": event}, {"subscription_id": sub, "event": map[string]any{"type": "a", "data": 1}}} {
		both.post("/api/v1/preview", body).want(200)
		blind.post("/api/v1/preview", body).refused(403, "", `scope "read"`)
	}
	blind.post("/api/v1/preview", `{"event":{"type":"a","data":1}}`).want(200)
}
