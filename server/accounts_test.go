package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
)

func TestAccounts_PutAndGet(t *testing.T) {
	r := start(t)
	bare := r.acme.get("/api/v1/accounts/acme").want(200).shows(map[string]any{"name": "acme", "verify": "", "limits.subscriptions": nil, "created_at": nil, "retention.dead": nil})
	if tag := bare.header.Get("ETag"); tag != "" {
		t.Errorf("nothing is set, and the ETag is %s", tag)
	}
	made := r.admin.do("PUT", "/api/v1/accounts/acme", `{"verify":"hook-secret","quota":{"subscriptions":3,"events_per_second":5},"retention":{"succeeded":"72h","dead":3600}}`).want(201)
	made.shows(map[string]any{"quota.stored_bytes": nil, "limits.stored_bytes": nil, "limits.subscriptions": 3, "retention.succeeded": "72h", "retention.dead": "1h", "verify": "hook-secret"})
	r.admin.do("PATCH", "/api/v1/accounts/acme", `{"quota":{"subscriptions":-1}}`).want(200).shows(map[string]any{"limits.subscriptions": nil, "quota.subscriptions": -1, "quota.events_per_second": 5, "verify": "hook-secret", "retention.dead": "1h"})
	r.admin.do("PUT", "/api/v1/accounts/acme", `{}`, "If-Match", made.header.Get("ETag")).refused(412, "", "changed")
	r.admin.do("PATCH", "/api/v1/accounts/acme", `{"quota":{"subscriptions":null}}`).want(200).shows(map[string]any{"quota.subscriptions": nil, "quota.events_per_second": 5})
	r.admin.do("PATCH", "/api/v1/accounts/acme", `{"retention":null}`).want(200).shows(map[string]any{"retention.dead": nil, "quota.events_per_second": 5})
	r.admin.do("PUT", "/api/v1/accounts/acme", `{}`).want(200).shows(map[string]any{"quota.events_per_second": nil, "verify": ""})
	tag := r.admin.do("PATCH", "/api/v1/accounts/acme", `{"quota":{"subscriptions":3}}`).want(200).header.Get("ETag")
	r.admin.do("DELETE", "/api/v1/accounts/acme", nil, "If-Match", made.header.Get("ETag")).refused(412, "", "changed")
	r.admin.do("DELETE", "/api/v1/accounts/acme", nil, "If-Match", tag).want(204)
	r.admin.get("/api/v1/accounts/acme").want(200).shows(map[string]any{"quota.subscriptions": nil, "limits.subscriptions": nil})
	r.admin.do("DELETE", "/api/v1/accounts/rival", nil).refused(404, "", "there is no account with settings")
	if got := r.admin.pages("/api/v1/accounts?limit=2", "name"); !slices.Equal(got, []string{"acme", "default", "rival"}) {
		t.Errorf("accounts are %v", got)
	}
	for body, field := range map[string]string{
		`{"quota":{"subscriptions":0}}`: "quota.subscriptions", `{"quota":{"events_per_second":0}}`: "quota.events_per_second", `{"quota":{"stored_bytes":0}}`: "quota.stored_bytes",
		`{"retention":{"succeeded":"0s"}}`: "retention.succeeded", `{"retention":{"dead":0}}`: "retention.dead",
		`{"quota":{"subscriptions":-2}}`: "quota.subscriptions", `{"quota":{"events":5}}`: "quota.events", `{"quota":5}`: "quota", `{"quota":{"stored_bytes":"1 GB"}}`: "quota.stored_bytes",
		`{"quota":{"stored_bytes":1.5}}`: "quota.stored_bytes", `{"retention":{"dead":"long"}}`: "", `{"retention":{"ded":"1h"}}`: "retention.ded", `{"verify":"ask nicely"}`: "verify", `{"name":"other"}`: "name", `{"quotas":{}}`: "quotas",
	} {
		for _, method := range []string{"PUT", "PATCH"} {
			a := r.admin.do(method, "/api/v1/accounts/acme", body)
			if got, _ := a.at("field").(string); a.status != 422 || field != "" && got != field {
				t.Errorf("%s %s: %d %s", method, body, a.status, a.body)
			}
		}
	}
	r.admin.do("PUT", "/api/v1/accounts/a%20b", `{}`).refused(422, "account", "is not an account name")
	r.admin.get("/api/v1/accounts/a%20b").refused(404, "", "there is no account")
}

func TestQuota_Subscriptions(t *testing.T) {
	r := start(t, setup{quota: engine.Quota{Subscriptions: 2}})
	first := r.acme.subscribe("a", anywhere)
	var wait sync.WaitGroup
	results := make([]int, 8)
	for i := range results { // concurrently; only one fits
		wait.Go(func() {
			results[i] = r.acme.post("/api/v1/subscriptions?allow_duplicates=true", map[string]any{"event": "a", "target_url": anywhere}).status
		})
	}
	wait.Wait()
	if n := len(slices.DeleteFunc(results, func(status int) bool { return status != 201 })); n != 1 {
		t.Errorf("%d more were made", n)
	}
	r.acme.post("/api/v1/subscriptions?allow_duplicates=true", map[string]any{"event": "a", "target_url": anywhere}).refused(429, "", "has 2 subscriptions, and its quota is 2")
	r.acme.do("PATCH", "/api/v1/subscriptions/"+first, `{"active":false}`).want(200)
	r.rival.subscribe("a", anywhere)
	r.acme.do("DELETE", "/api/v1/subscriptions/"+first, nil).want(204)
	r.acme.subscribe("a", anywhere)
	r.admin.do("PUT", "/api/v1/accounts/acme", `{"quota":{"subscriptions":-1}}`).want(201).shows(map[string]any{"usage.subscriptions": 2})
	r.acme.subscribe("a", anywhere)
}

func TestQuota_EventsPerSecond(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now, quota: engine.Quota{EventsPerSecond: 10}})
	batch := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"type":"a","data":1},`, n), ",") + "]"
	}
	for range 10 {
		r.acme.publish("a", 1)
	}
	over := r.acme.post("/api/v1/events", `{"type":"a","data":1}`)
	over.refused(429, "", "quota of 10 events a second")
	if over.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", over.header.Get("Retry-After"))
	}
	r.rival.publish("a", 1)
	clock.pass(100 * time.Millisecond)
	r.acme.publish("a", 1)

	// A list is accepted as a whole; its overdraft delays later events.
	clock.pass(time.Second)
	r.acme.post("/api/v1/events", batch(40)).want(202)
	over = r.acme.post("/api/v1/events", batch(2))
	over.refused(429, "", "nothing was stored")
	if wait, _ := strconv.Atoi(over.header.Get("Retry-After")); wait != 4 {
		t.Errorf("Retry-After is %q", over.header.Get("Retry-After"))
	}
	clock.pass(4 * time.Second)
	r.acme.post("/api/v1/events", batch(2)).want(202)
	if n := len(r.acme.get("/api/v1/events?limit=500").want(200).column("id")); n != 53 {
		t.Errorf("%d events are stored", n)
	}

	// An operator's list for two accounts: one is over its quota, so nothing is stored or counted.
	r.acme.post("/api/v1/events", batch(8)).want(202)
	mixed := `[{"type":"a","data":1,"account":"rival"},{"type":"a","data":1,"account":"acme"}]`
	for range 20 {
		r.admin.post("/api/v1/events", mixed).want(429)
	}
	for range 10 {
		r.rival.publish("a", 1)
	}
	r.admin.do("PATCH", "/api/v1/accounts/acme", `{"quota":{"events_per_second":-1}}`).want(201)
	r.acme.post("/api/v1/events", batch(100)).want(202)
}

// usedBytes returns what is stored for an account.
func (c *client) usedBytes(account string) int64 {
	n, err := c.get("/api/v1/accounts/" + account).want(200).at("usage.stored_bytes").(json.Number).Int64()
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func TestQuota_StoredBytes(t *testing.T) {
	const limit = 10_000
	r := start(t, setup{quota: engine.Quota{StoredBytes: limit}})
	data := strings.Repeat("x", 298) // 300 with its quotes
	const event = 300 + int64(len("acmea")) + engine.RowBytes
	id := r.acme.subscribe("other", anywhere)
	for used := r.acme.usedBytes("acme"); used+event <= limit; used += event {
		r.acme.publish("a", data)
	}
	used := r.acme.usedBytes("acme")
	if used > limit || used+event <= limit {
		t.Errorf("%d bytes are stored", used)
	}
	over := r.acme.post("/api/v1/events", map[string]any{"type": "a", "data": data}).refused(507, "", fmt.Sprintf("stores %d bytes and its quota is %d", used, limit))
	if wait := over.header.Get("Retry-After"); wait != "60" {
		t.Errorf("Retry-After is %q", wait)
	}
	r.acme.post("/api/v1/events", []any{map[string]any{"type": "a", "data": 1}, map[string]any{"type": "a", "data": data}}).refused(507, "", fmt.Sprintf("these %d bytes don't fit", event+engine.RowBytes+6))
	r.acme.post("/api/v1/subscriptions/"+id+"/test", object{"event": object{"type": "other", "data": data}}).refused(507, "", "don't fit") // it would be stored as well
	r.rival.publish("a", data)
	r.admin.do("PUT", "/api/v1/accounts/acme", `{"quota":{"stored_bytes":20000}}`).want(201)
	r.acme.publish("a", data)
	r.acme.get("/api/v1/accounts/acme").want(200).shows(map[string]any{"limits.stored_bytes": 20_000})
}

// TestQuota_StoredBytesBoundConfiguration: everything that an account can create or enlarge is refused once
// its quota of bytes is used up, and what makes it smaller is not.
func TestQuota_StoredBytesBoundConfiguration(t *testing.T) {
	r := start(t)
	long := strings.Repeat("x", 1000)
	sub := r.acme.subscribe("a", anywhere, map[string]any{"description": long, "metadata": map[string]string{"a": long}})
	script := r.acme.script("filter", "f", "true")
	r.acme.publish("a", 1)
	r.admin.do("PUT", "/api/v1/accounts/acme", `{"quota":{"stored_bytes":100}}`).want(201)
	for _, change := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/subscriptions", object{"event": "b", "target_url": anywhere}},
		{"PATCH", "/subscriptions/" + sub, object{"metadata": map[string]string{"a": long, "b": "c"}}},
		{"PUT", "/subscriptions/" + sub, object{"event": "a", "target_url": anywhere, "description": long, "metadata": map[string]string{"a": long, "b": "c"}}},
		{"POST", "/scripts", object{"name": "g", "kind": "filter"}},
		{"PATCH", "/scripts/" + script, object{"description": long}},
		{"PATCH", "/scripts/" + script, object{"cases": []any{object{"name": "one", "event": object{"type": "a", "data": 1}, "expect": object{"matches": true}}}}},
		{"POST", "/scripts/" + script + "/versions", object{"source": "1 > 0"}},
		{"POST", "/replays", object{"subscription_ids": []string{sub}, "since": "2020-01-01T00:00:00Z"}},
		{"POST", "/events", object{"type": "a", "data": 1}},
	} {
		a := r.acme.do(change.method, "/api/v1"+change.path, change.body)
		if a.status != 507 || a.text("code") != "insufficient_storage" || !strings.Contains(a.text("detail"), "quota is 100") {
			t.Errorf("%s %s: %d %s", change.method, change.path, a.status, a.body)
		}
	}
	r.admin.post("/api/v1/keys", object{"name": "k", "account": "acme"}).refused(507, "", "quota is 100")
	r.acme.do("PATCH", "/api/v1/subscriptions/"+sub, object{"description": "short"}).want(200)
	r.acme.do("PATCH", "/api/v1/subscriptions/"+sub, object{"active": false}).want(200)
	r.acme.post("/api/v1/subscriptions/"+sub+"/rotate-secret", nil).want(200)
	r.admin.post("/api/v1/keys/"+r.acme.keyID+"/rotate", nil).want(200)
	r.acme.do("DELETE", "/api/v1/scripts/"+script, nil).want(204)
	r.acme.do("DELETE", "/api/v1/subscriptions/"+sub, nil).want(204)
	r.acme.get("/api/v1/accounts/acme").want(200).shows(map[string]any{"limits.stored_bytes": 100})
}

func TestAudit_ActorAndChange(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	sub := r.acme.subscribe("a", hook.URL, map[string]any{"secret": secret, "headers": map[string]string{"Authorization": "Bearer hush-hush", "X-Plain": "shown"}, "visible_headers": []string{"X-Plain"}})
	r.acme.do("PATCH", "/api/v1/subscriptions/"+sub, `{"description":"new","headers":{"Authorization":"Bearer hush-again"}}`).want(200)
	r.acme.do("PATCH", "/api/v1/subscriptions/"+sub, `{"secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}`).want(200)
	r.admin.do("PATCH", "/api/v1/subscriptions/"+sub, `{"active":false}`).want(200)
	r.acme.do("DELETE", "/api/v1/subscriptions/"+sub, nil).want(204)
	r.acme.get("/api/v1/audit?kind=subscriptions").refused(422, "kind", "must be one of subscription, ")
	list := r.acme.get("/api/v1/audit?subject_id=" + sub).want(200)
	list.shows(map[string]any{
		"data.0.action": "delete", "data.0.after": nil, "data.0.actor.name": "acme", "data.0.actor.key_id": r.acme.keyID, "data.0.actor.address": "127.0.0.1", "data.0.before.description": "new",
		"data.1.action": "update", "data.1.actor.type": "operator", "data.1.actor.key_id": nil, "data.1.actor.address": nil, "data.1.changed": "[active]",
		"data.2.changed": "[secret]", "data.2.before.secret": "[hidden]", "data.2.after.secret": "[hidden]",
		"data.3.changed": "[description headers]", "data.3.before.headers.Authorization": "[hidden]", "data.3.after.headers.X-Plain": "shown",
		"data.4.action": "create", "data.4.before": nil, "data.4.account": "acme", "data.4.kind": "subscription", "data.4.after.target_url": hook.URL, "data.5": nil,
	})
	r.acme.get("/api/v1/audit?subject_id=" + sub).want(200).shows(map[string]any{"data.0.id": list.text("data.0.id"), "next_cursor": list.at("next_cursor")})
	r.admin.get("/api/v1/audit?subject_id=" + sub).want(200).shows(map[string]any{"data.1.actor.type": "key", "data.1.actor.key_id": r.admin.keyID, "data.1.actor.address": "127.0.0.1"})

	key := r.admin.post("/api/v1/keys", `{"name":"till","account":"acme","scopes":["publish"]}`).want(201)
	rotated := r.admin.post("/api/v1/keys/"+key.text("id")+"/rotate", nil).want(200)
	r.admin.do("DELETE", "/api/v1/keys/"+key.text("id"), nil).want(204)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	r.admin.do("PUT", "/api/v1/event-types/a", `{"description":"d"}`).want(200)
	r.admin.do("DELETE", "/api/v1/event-types/a", nil).want(204)
	r.admin.do("PUT", "/api/v1/accounts/acme", `{"quota":{"subscriptions":7}}`).want(201)
	script := r.acme.script("filter", "f", "true", "false")
	r.acme.post("/api/v1/scripts/f/versions/2/activate", nil).want(200)
	r.acme.do("DELETE", "/api/v1/scripts/f", nil).want(204)
	gone := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) })
	off := r.acme.subscribe("a", gone.URL)
	r.acme.publish("a", 1)
	eventually(t, "the subscription is off", func() bool {
		return r.acme.get("/api/v1/subscriptions/"+off).want(200).at("active") == false
	})
	for query, want := range map[string]string{
		"subject_id=" + key.text("id"): "[delete rotate create]", "kind=event_type": "[delete update create]", "subject_id=acme&kind=account": "[create]",
		"subject_id=" + script + "&kind=script": "[delete update update create]", "subject_id=" + script + "&kind=script_version": "[create create]", "subject_id=" + off: "[update create]", "subject_id=" + off + "&actor=switchhook": "[update]",
		"actor=" + r.acme.keyID + "&kind=subscription": "[create delete update update create]", "until=2020-01-01T00:00:00Z": "[]", "since=2199-01-01T00:00:00Z": "[]", "account=rival&kind=script": "[]",
	} {
		if got := fmt.Sprint(r.admin.get("/api/v1/audit?" + query).want(200).column("action")); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	r.admin.get("/api/v1/audit?subject_id=" + off).want(200).shows(map[string]any{"data.0.actor.type": "switchhook", "data.0.actor.key_id": nil, "data.0.changed": "[active reason]"})
	for _, account := range r.acme.pages("/api/v1/audit?limit=3", "account") {
		if account != "acme" {
			t.Errorf("acme sees an entry of %s", account)
		}
	}
	whole := string(r.admin.get("/api/v1/audit?limit=500").want(200).body)
	for _, hush := range []string{secret, "hush", "C2FVsBQIhr", key.text("key"), rotated.text("key"), r.acme.key} {
		if strings.Contains(whole, hush) {
			t.Errorf("the audit log tells %s", hush)
		}
	}
	r.acme.get("/api/v1/audit?account=rival").refused(422, "account", "")
	for query, field := range map[string]string{"actor=me": "actor", "since=today": "since", "cursor=x": "cursor", "limit=0": "limit", "who=me": "who"} {
		r.admin.get("/api/v1/audit?"+query).refused(422, field, "")
	}
}

func TestAudit_EntrySizeIsBounded(t *testing.T) {
	r := start(t)
	source := "function transform() { return 1 } //" + strings.Repeat("x", 60_000)
	sub := r.acme.subscribe("a", anywhere, map[string]any{"transform": source, "description": "short"})
	a := r.acme.get("/api/v1/audit?subject_id=" + sub).want(200).shows(map[string]any{"data.0.after.description": "short", "data.0.after.transform": fmt.Sprintf("[%d bytes]", len(source)+2)})
	if len(a.body) > 3000 {
		t.Errorf("the entry has %d bytes", len(a.body))
	}
}

// TestQuota_StoredBytesOfTargets: small events that match many subscriptions are refused before they
// take an account beyond its quota.
func TestQuota_StoredBytesOfTargets(t *testing.T) {
	r := start(t, setup{})
	for i := range 5 {
		r.acme.subscribe("a", fmt.Sprint(anywhere, "/", i))
	}
	used := r.acme.usedBytes("acme")
	r.admin.do("PUT", "/api/v1/accounts/acme", object{"quota": object{"stored_bytes": used + 5000}}).want(201)
	list := slices.Repeat([]any{object{"type": "a", "data": 1}}, 15)
	r.acme.post("/api/v1/events", list).refused(507, "", fmt.Sprintf("these %d bytes don't fit", 15*5*engine.RowBytes))
	// The change of the quota is in the audit log.
	if now := r.acme.usedBytes("acme"); now > used+1000 {
		t.Errorf("%d bytes are stored after a refusal, %d before", now, used)
	}
	r.acme.post("/api/v1/events", list[:1]).want(202)
}

func TestQuota_StoredBytesConcurrentPublish(t *testing.T) {
	const limit = 10_000
	r := start(t, setup{quota: engine.Quota{StoredBytes: limit}})
	const event = 300 + int64(len("acmea")) + engine.RowBytes
	body := object{"type": "a", "data": strings.Repeat("x", 298)} // 300 with its quotes
	statuses := make(chan int)
	const many = 50
	for range many {
		go func() { statuses <- r.acme.post("/api/v1/events", body).status }()
	}
	taken := 0
	for range many {
		if <-statuses == 202 {
			taken++
		}
	}
	if used := r.acme.usedBytes("acme"); taken == 0 || used > limit {
		t.Errorf("%d events were taken, %d bytes are used of %d", taken, used, limit)
	}
	for r.acme.usedBytes("acme")+event <= limit { // refused events left no reservation
		r.acme.post("/api/v1/events", body).want(202)
	}
}
