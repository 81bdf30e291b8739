package server_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"switchhook/engine"
)

const once = "Idempotency-Key"

// The answer to an admin key can show any account.
func TestIdempotency_AdminAnswersAreNotRepeatedToOthers(t *testing.T) {
	r := start(t)
	other := r.client(r.acme.http.Transport.(*http.Transport), engine.Key{Account: "default", Name: "other", Scopes: []engine.Scope{engine.ScopeSubscribe}})
	body := `{"account":"acme","event":"a","target_url":"` + anywhere + `"}`
	r.admin.post("/api/v1/subscriptions", body, once, "order-1").want(201)
	if a := other.post("/api/v1/subscriptions", body, once, "order-1").refused(409, "Idempotency-Key", "another request"); strings.Contains(string(a.body), "whsec_") {
		t.Errorf("%s", a.body)
	}
	r.admin.post("/api/v1/subscriptions", body, once, "order-1").want(201)
}

func TestIdempotency_EveryPOSTThatCreates(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	r.admin.post("/api/v1/event-types", `{"name":"order.created","samples":[{"id":1}]}`).want(201)
	off := r.admin.subscribe("off", hook.URL, map[string]any{"active": false})
	on := r.admin.subscribe("on", hook.URL)
	r.admin.script("filter", "f", "true")
	key := r.admin.post("/api/v1/keys", `{"name":"k"}`).want(201).text("id")
	count := func(path string) int { return len(r.admin.pages(path+"?limit=500", "created_at")) }
	lists := []string{"/api/v1/subscriptions", "/api/v1/replays", "/api/v1/event-types", "/api/v1/scripts", "/api/v1/scripts/f/versions", "/api/v1/keys"}
	for i, test := range []struct{ path, body, again, list string }{
		{"/api/v1/subscriptions?allow_duplicates=true", `{"event":"a","target_url":"` + hook.URL + `"}`, `{ "target_url":"` + hook.URL + `", "event":"\u0061" }`, "/api/v1/subscriptions"},
		{"/api/v1/subscription/?allow_duplicates=true", `{"event":"a","target_url":"` + hook.URL + `"}`, `{"event":"a","target_url":"` + hook.URL + "\"}\n", "/api/v1/subscriptions"},
		{"/api/v1/replays", `{"subscription_ids":["` + off + `"]}`, `{ "subscription_ids":["` + off + `"] }`, "/api/v1/replays"},
		{"/api/v1/event-types", `{"name":"a.b"}`, `{"name": "a.b"}`, "/api/v1/event-types"},
		{"/api/v1/scripts", `{"name":"g","kind":"filter","source":"true"}`, `{"kind":"filter","name":"g","source":"true"}`, "/api/v1/scripts"},
		{"/api/v1/scripts/f/versions", `{"source":"false"}`, `{"source" : "false"}`, "/api/v1/scripts/f/versions"},
		{"/api/v1/keys", `{"name":"x"}`, `{ "name": "x" }`, "/api/v1/keys"},
		{"/api/v1/keys/" + key + "/rotate", ``, ``, ""},
		{"/api/v1/subscriptions/" + on + "/test", `{"event":{"type":"on","data":1}}`, `{"event":{"data":1,"type":"on"}}`, ""},
	} {
		name := fmt.Sprintf("key-%d", i)
		before := map[string]int{}
		for _, list := range lists {
			before[list] = count(list)
		}
		first := r.admin.post(test.path, test.body, once, name)
		if first.status < 200 || first.status > 299 || first.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: %d %s", test.path, first.status, first.body)
			continue
		}
		for _, body := range []string{test.body, test.again} {
			again := r.admin.post(test.path, body, once, name).want(first.status)
			if string(again.body) != string(first.body) || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("%s: the repeat answers %v %s", test.path, again.header, again.body)
			}
			for _, header := range []string{"Location", "ETag", "Content-Type", "Cache-Control"} {
				if again.header.Get(header) != first.header.Get(header) {
					t.Errorf("%s: %s is %q and was %q", test.path, header, again.header.Get(header), first.header.Get(header))
				}
			}
		}
		for _, list := range lists {
			want := before[list]
			if list == test.list {
				want++
			}
			if got := count(list); got != want {
				t.Errorf("%s: %s has %d entries, want %d", test.path, list, got, want)
			}
		}
		r.admin.post(test.path, `{"name":"another","event":"b","target_url":"`+hook.URL+`"}`, once, name).refused(409, once, "used for another request")
		// A key belongs to its request alone.
		r.admin.post("/api/v1/event-types", `{"name":"x.y"}`, once, name).refused(409, once, "used for another request")
	}
	if n := len(hook.wait(t, 1)); n != 1 {
		t.Errorf("%d test events were sent", n)
	}
}

func TestIdempotency_KeyIsFreeAfterRefusal(t *testing.T) {
	r := start(t)
	r.acme.post("/api/v1/subscriptions", `{"event":"a"}`, once, "k").refused(422, "target_url", "")
	made := r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "k").want(201)
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "k").want(201).shows(map[string]any{"id": made.text("id"), "secret": made.text("secret")})
	// Accounts don't share keys.
	if other := r.rival.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "k").want(201); other.text("id") == made.text("id") {
		t.Error("another account got the answer")
	}
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, strings.Repeat("k", 256)).refused(422, once, "1 to 255")
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "a b").refused(422, once, "1 to 255")
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "k1", once, "k2").refused(422, once, "given twice")
	// A key with fewer scopes gets no answer that it could not have got itself.
	r.withScopes(engine.ScopeRead).post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "k").refused(403, "", "subscribe")
}

func TestIdempotency_ConcurrentRequestsRunOnce(t *testing.T) {
	r := start(t)
	off := r.acme.subscribe("off", anywhere, map[string]any{"active": false})
	var all sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]bool{}
	for range 16 {
		all.Go(func() {
			for {
				a := r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{off}}, once, "k")
				if a.status == 409 { // another request is in progress
					a.refused(409, once, "being handled now")
					continue
				}
				mu.Lock()
				ids[a.want(202).text("id")] = true
				mu.Unlock()
				return
			}
		})
	}
	all.Wait()
	if got := r.acme.get("/api/v1/replays").column("id"); len(got) != 1 || len(ids) != 1 {
		t.Errorf("%d replays were made, %d answered", len(got), len(ids))
	}
}

func TestIdempotency_UnknownOutcomeIsRefused(t *testing.T) {
	r := start(t)
	// The state that a router leaves that was killed while it handled the request.
	var digest engine.KeyHash
	begun, _, err := r.engine.BeginRequest(context.Background(), "acme", "k", digest)
	must(t, err)
	r.engine.AbandonRequest(begun)
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, once, "k").refused(409, once, "another request")
	_, _, err = r.engine.BeginRequest(context.Background(), "acme", "k", digest)
	if engine.ErrorCode(err) != engine.CodeConflict || !strings.Contains(err.Error(), "look whether it was carried out") {
		t.Errorf("the same request again: %v", err)
	}
}

func TestIdempotency_InDialects(t *testing.T) {
	r := start(t)
	c := r.legacy("Authorization", "Token "+r.acme.key, once, "k")
	id := c.call("POST", "/api/v1/hooks", `{"event":"a","target":"`+anywhere+`"}`, 201).text("id")
	again := c.call("POST", "/api/v1/hooks/", `{"target":"`+anywhere+`", "event":"a"}`, 201).shows(map[string]any{"id": id})
	if again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("Location") != "/api/v1/hooks/"+id {
		t.Errorf("the repeat has %v", again.header)
	}
	c.call("POST", "/api/v1/hooks", `{"event":"b","target":"`+anywhere+`"}`, http.StatusConflict)
}
