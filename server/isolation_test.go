package server_test

import (
	"strings"
	"testing"

	"switchhook/server"
)

// No account sees another's resources: each row is a route with the owner's and the rival's response.
func TestIsolation_OtherAccountsAreInvisible(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	sub := r.acme.subscribe("order.created", hook.URL+"/acme-only", map[string]any{"description": "acme-only"})
	named := r.acme.post("/api/v1/events", `{"type":"order.created","id":"acme-only-1","data":"acme-only"}`).want(202).text("id")
	event := r.acme.get("/api/v1/events/" + named).want(200).text("webhook_id")
	r.acme.delivered(sub, "succeeded")
	delivery := r.acme.get("/api/v1/deliveries?event_id=" + event).want(200).text("data.0.id")
	r.admin.post("/api/v1/event-types", `{"name":"order.created"}`).want(201)
	script := r.acme.script("transform", "acme-only", "export default () => 'acme-only'", "export default () => 2")
	r.acme.post("/api/v1/scripts/acme-only/shadow", `{"version":2}`).want(201)
	scripts := []string{script, "acme-only"}
	replay := r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{sub}, "filter": "data == 'acme-only'"}).want(202).text("id")

	const shared, forbidden, hidden, empty, unknown, open = "shared", "forbidden", "hidden", "empty", "unknown", "open" // open: no key counts
	table := []struct {
		operation string
		ids       []string
		body      any
		rival     string
	}{
		{"GET /api/v1/audit", nil, nil, shared}, // the rival's own, so far its key
		{"GET /api/v1/subscriptions", nil, nil, empty},
		{"GET /api/v1/subscriptions/{id}", []string{sub}, nil, hidden},
		{"PUT /api/v1/subscriptions/{id}", []string{sub}, map[string]any{"event": "x", "target_url": anywhere}, hidden},
		{"PATCH /api/v1/subscriptions/{id}", []string{sub}, `{"active":false}`, hidden},
		{"DELETE /api/v1/subscriptions/{id}", []string{sub}, nil, hidden},
		{"GET /api/v1/subscriptions/{id}/secret", []string{sub}, nil, hidden},
		{"POST /api/v1/subscriptions/{id}/rotate-secret", []string{sub}, `{}`, hidden},
		{"POST /api/v1/subscriptions/{id}/test", []string{sub}, `{}`, hidden},
		{"GET /api/v1/event-types/{name}/samples", []string{"order.created"}, nil, shared},
		{"POST /api/v1/subscriptions/{id}/confirm", []string{sub}, `{"secret":"x"}`, open},
		{"GET /api/v1/events", nil, nil, empty},
		{"GET /api/v1/events/{id}", []string{named, event}, nil, hidden},
		{"GET /api/v1/deliveries", nil, nil, empty},
		{"GET /api/v1/deliveries/{id}", []string{delivery}, nil, hidden},
		{"GET /api/v1/deliveries/{id}/attempts", []string{delivery}, nil, hidden},
		{"GET /api/v1/deliveries/{id}/attempts/{number}", []string{delivery}, nil, hidden},
		{"POST /api/v1/deliveries/{id}/retry", []string{delivery}, nil, hidden},
		{"GET /api/v1/replays", nil, nil, empty},
		{"POST /api/v1/replays", nil, map[string]any{"subscription_ids": []string{sub}}, unknown},
		{"GET /api/v1/replays/{id}", []string{replay}, nil, hidden},
		{"POST /api/v1/replays/{id}/pause", []string{replay}, nil, hidden},
		{"POST /api/v1/replays/{id}/resume", []string{replay}, nil, hidden},
		{"POST /api/v1/replays/{id}/cancel", []string{replay}, nil, hidden},
		{"POST /api/v1/subscriptions", nil, map[string]any{"event": "order.created", "target_url": hook.URL + "/rival"}, shared},
		{"POST /api/v1/events", nil, `{"type":"other","data":1}`, shared},
		{"GET /api/v1/event-types", nil, nil, shared},
		{"GET /api/v1/event-types/{name}", []string{"order.created"}, nil, shared},
		{"POST /api/v1/event-types", nil, `{"name":"b"}`, forbidden},
		{"PUT /api/v1/event-types/{name}", []string{"order.created"}, `{}`, forbidden},
		{"PATCH /api/v1/event-types/{name}", []string{"order.created"}, `{}`, forbidden},
		{"DELETE /api/v1/event-types/{name}", []string{"order.created"}, nil, forbidden},
		{"GET /api/v1/scripts", nil, nil, empty},
		{"GET /api/v1/scripts/{id}", scripts, nil, hidden},
		{"PUT /api/v1/scripts/{id}", scripts, `{"name":"mine"}`, hidden},
		{"PATCH /api/v1/scripts/{id}", scripts, `{"description":"mine"}`, hidden},
		{"DELETE /api/v1/scripts/{id}", scripts, nil, hidden},
		{"GET /api/v1/scripts/{id}/versions", scripts, nil, hidden},
		{"POST /api/v1/scripts/{id}/versions", scripts, `{"source":"export default () => 'rival'"}`, hidden},
		{"GET /api/v1/scripts/{id}/versions/{version}", scripts, nil, hidden},
		{"GET /api/v1/scripts/{id}/versions/{version}/diff", scripts, nil, hidden},
		{"POST /api/v1/scripts/{id}/versions/{version}/activate", scripts, `{"force":true}`, hidden},
		{"GET /api/v1/scripts/{id}/subscriptions", scripts, nil, hidden},
		{"POST /api/v1/scripts/{id}/test", scripts, `{}`, hidden},
		{"POST /api/v1/scripts/{id}/compare", scripts, `{"version":2}`, hidden},
		{"GET /api/v1/scripts/{id}/shadow", scripts, nil, hidden},
		{"POST /api/v1/scripts/{id}/shadow", scripts, `{"version":2}`, hidden},
		{"DELETE /api/v1/scripts/{id}/shadow", scripts, nil, hidden},
		{"POST /api/v1/preview", nil, `{"event":{"type":"order.created","data":"mine"}}`, shared},
		{"POST /api/v1/scripts", nil, `{"name":"acme-only","kind":"filter","source":"false"}`, shared},
		{"GET /api/v1/me", nil, nil, shared},
		{"GET /api/v1/keys", nil, nil, forbidden},
		{"POST /api/v1/keys", nil, `{}`, forbidden},
		{"GET /api/v1/keys/{id}", []string{r.acme.keyID}, nil, forbidden},
		{"PATCH /api/v1/keys/{id}", []string{r.acme.keyID}, `{}`, forbidden},
		{"DELETE /api/v1/keys/{id}", []string{r.acme.keyID}, nil, forbidden},
		{"POST /api/v1/keys/{id}/rotate", []string{r.acme.keyID}, nil, forbidden},
		{"GET /api/v1/accounts", nil, nil, forbidden},
		{"GET /api/v1/accounts/{name}", []string{"acme"}, nil, hidden},
		{"PUT /api/v1/accounts/{name}", []string{"acme"}, `{}`, forbidden},
		{"PATCH /api/v1/accounts/{name}", []string{"acme"}, `{}`, forbidden},
		{"DELETE /api/v1/accounts/{name}", []string{"acme"}, nil, forbidden},
		{"GET /api/v1/openapi.json", nil, nil, shared}, {"GET /api/v1/switchhook.d.ts", nil, nil, shared}, {"GET /healthz", nil, nil, shared}, {"GET /readyz", nil, nil, shared}, {"GET /metrics", nil, nil, shared}, {"GET /", nil, nil, shared},
	}
	tested := map[string]bool{}
	for _, row := range table {
		tested[row.operation] = true
		method, template, _ := strings.Cut(row.operation, " ")
		if row.ids == nil {
			row.ids = []string{""}
		}
		for _, id := range row.ids {
			path := server.Operation{}.Fill(template, id)
			for _, key := range []string{r.rival.key, ""} {
				c := r.rival.with(t, key)
				before := ""
				if row.rival == hidden || row.rival == open { // the response must equal that for a missing resource
					missing := strings.Replace(path, id, strings.Replace(id, id[len(id)-3:], "zzz", 1), 1)
					before = strings.ReplaceAll(string(c.do(method, missing, row.body).body), strings.Replace(id, id[len(id)-3:], "zzz", 1), id)
				}
				a := c.do(method, path, row.body)
				if row.rival == open {
					if a.refused(404, "", "there is no "); string(a.body) != before {
						t.Errorf("%s tells that there is something: %s, otherwise %s", a.what, a.body, before)
					}
					continue
				}
				if key == "" {
					if row.rival != shared && a.status != 401 {
						t.Errorf("without a key, %s: %d", a.what, a.status)
					}
					continue
				}
				switch row.rival {
				case hidden:
					a.refused(404, "", "there is no ")
					if string(a.body) != before {
						t.Errorf("%s tells that there is something: %s, otherwise %s", a.what, a.body, before)
					}
				case forbidden:
					a.refused(403, "", "")
				case unknown:
					a.refused(422, "subscription_ids[0]", "there is no subscription")
				case empty:
					a.want(200).shows(map[string]any{"data": "[]", "next_cursor": nil})
				case shared:
					if a.status >= 300 {
						t.Errorf("%s: %d %s", a.what, a.status, a.body)
					}
				}
				if row.operation == "POST /api/v1/scripts" {
					continue // another account's names are free
				}
				if strings.Contains(strings.ReplaceAll(string(a.body), named, ""), "acme") && a.status < 300 && template != "/api/v1/openapi.json" {
					t.Errorf("%s shows acme's: %s", a.what, a.body)
				}
			}
		}
	}
	for _, op := range r.server.Operations() {
		if !tested[op.Method+" "+op.Path] {
			t.Errorf("%s %s is not in the table", op.Method, op.Path)
		}
	}

	// Filters cannot refer to acme's resources.
	for query, status := range map[string]int{
		"deliveries?subscription_id=" + sub: 200, "deliveries?event_id=" + event: 404, "deliveries?event_id=" + named: 404, "deliveries?cursor=" + delivery: 200,
		"subscriptions?target_url=" + hook.URL + "/acme-only": 200, "subscriptions?cursor=" + sub: 200, "events?cursor=" + event: 200, "events?type=order.created": 200, "deliveries?event_type=order.created": 200,
	} {
		a := r.rival.get("/api/v1/" + query).want(status)
		if strings.Contains(strings.ReplaceAll(string(a.body), named, ""), "acme") {
			t.Errorf("%s shows acme's: %s", query, a.body)
		}
	}
	// Neither can request bodies: a preview, subscription or comparison.
	for _, body := range []map[string]any{{"event_id": event}, {"event_id": named}, {"subscription_id": sub, "event": map[string]any{"type": "a", "data": 1}}} {
		r.rival.post("/api/v1/preview", body).refused(404, "", "there is no ")
	}
	for _, ref := range []any{script, map[string]any{"id": script}} {
		r.rival.post("/api/v1/subscriptions", map[string]any{"event": "x", "target_url": anywhere, "transform_script": ref}).refused(422, "transform_script", "names no script")
		r.rival.post("/api/v1/preview", map[string]any{"transform_script": ref, "event": map[string]any{"type": "a", "data": 1}}).refused(422, "transform_script", "names no script")
	}
	r.rival.script("transform", "rivals", "export default () => 1", "export default () => 2")
	r.rival.post("/api/v1/scripts/rivals/compare", map[string]any{"version": 2, "subscription_id": sub}).refused(404, "", "there is no subscription")
	lines := r.rival.post("/api/v1/scripts/rivals/compare", map[string]any{"version": 2}).want(200)
	if strings.Contains(string(lines.body), "acme") {
		t.Errorf("a comparison runs over acme's events: %s", lines.body)
	}
	r.acme.get("/api/v1/scripts/" + script).want(200).shows(map[string]any{"live_version": 1, "description": ""})
	r.acme.get("/api/v1/scripts/acme-only/shadow").want(200)
	if n := len(r.acme.get("/api/v1/scripts/acme-only/versions").want(200).column("version")); n != 2 {
		t.Errorf("acme's script has %d versions", n)
	}

	// Nothing of acme's has changed.
	r.acme.get("/api/v1/subscriptions/" + sub).want(200).shows(map[string]any{"active": true, "description": "acme-only"})
	r.acme.get("/api/v1/deliveries/" + delivery).want(200).shows(map[string]any{"attempt_count": 1})

	// The same id in two accounts is two events, and each goes to its own.
	r.rival.post("/api/v1/events", `{"type":"order.created","id":"acme-only-1","data":"rival's"}`).want(202).shows(map[string]any{"matched": 1})
	r.rival.get("/api/v1/events/" + named).want(200).shows(map[string]any{"data": "rival's", "account": "rival"})
	r.acme.get("/api/v1/events/" + named).want(200).shows(map[string]any{"data": "acme-only"})
	for _, got := range hook.wait(t, 2) {
		if strings.Contains(got.uri, "acme") == strings.Contains(got.body, "rival") {
			t.Errorf("%s came to %s", got.body, got.uri)
		}
	}
}

func TestIsolation_AdminKeySeesAllAccounts(t *testing.T) {
	r := start(t)
	sub := r.acme.subscribe("a", anywhere)
	event := r.acme.publish("a", 1)
	d := r.acme.delivered(sub, "retrying").text("id")
	for _, path := range []string{"subscriptions/" + sub, "subscriptions/" + sub + "/secret", "events/" + event, "deliveries/" + d} {
		r.admin.get("/api/v1/" + path).want(200)
	}
	r.admin.get("/api/v1/deliveries?account=acme&event_id=" + event).want(200).shows(map[string]any{"data.0.id": d})
	r.admin.get("/api/v1/deliveries?account=*&event_id=" + event).want(200).shows(map[string]any{"data.0.id": d})
	r.admin.do("PATCH", "/api/v1/subscriptions/"+sub, `{"description":"seen"}`).want(200).shows(map[string]any{"account": "acme"})
	ops := r.admin.with(t, r.admin.post("/api/v1/keys", `{"account":"ops","admin":true}`).want(201).text("key"))
	ops.post("/api/v1/events", `{"type":"a","id":"ops-1","data":1}`).want(202)
	ops.get("/api/v1/events/ops-1").want(200).shows(map[string]any{"account": "ops"})
	made := r.admin.post("/api/v1/subscriptions", map[string]any{"event": "b", "target_url": anywhere, "account": "acme"}).want(201)
	r.acme.get("/api/v1/subscriptions/" + made.text("id")).want(200)
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "b", "target_url": anywhere, "account": "rival"}).refused(422, "account", "must be left out")
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "c", "target_url": anywhere, "account": "acme"}).want(201)
}
