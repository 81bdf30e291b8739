package server_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSubscribe_DuplicateReturnsExisting(t *testing.T) {
	r := start(t)
	c := r.acme
	body := map[string]any{"events": []string{"a", "b.*"}, "target_url": anywhere, "filter": "data.x == 1", "headers": map[string]string{"X-A": "1"}}
	first := c.post("/api/v1/subscriptions", body).want(201)
	again := c.post("/api/v1/subscriptions", map[string]any{"topics": []string{"b.*", "a"}, "hookUrl": anywhere, "filter": "data.x == 1", "headers": map[string]string{"X-A": "1"}}).want(200)
	again.shows(map[string]any{"id": first.text("id"), "href": first.text("href"), "secret": nil, "hookUrl": anywhere})
	if again.header.Get("Location") != first.header.Get("Location") || again.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("headers: %v", again.header)
	}
	c.do("PATCH", first.text("href"), `{"active":false,"description":"d"}`).want(200)
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": first.text("id"), "active": false, "description": "d"})
	for name, value := range map[string]any{
		"filter": "data.x == 2", "headers": map[string]string{"X-A": "2"}, "transform": "export default (event) => 1", "payload_format": "data", "events": []string{"a"},
		"target_url": anywhere + "/", "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	} {
		other := map[string]any{}
		for k, v := range body {
			other[k] = v
		}
		other[name] = value
		if a := c.post("/api/v1/subscriptions", other); a.status != 201 {
			t.Errorf("with another %s: %d", name, a.status)
		}
		c.post("/api/v1/subscriptions", other).want(200)
	}
	body["secret_type"] = "ed25519"
	signed := c.post("/api/v1/subscriptions", body).want(201)
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": signed.text("id")})
	delete(body, "secret_type")
	c.post("/api/v1/subscriptions?allow_duplicates=true", body).want(201)
	c.post("/api/v1/subscriptions?allow_duplicates=yes", body).refused(422, "allow_duplicates", "true or false")
	r.rival.post("/api/v1/subscriptions", body).want(201)
	c.do("DELETE", first.text("href"), nil).want(204)
	c.do("DELETE", first.text("href"), nil).refused(404, "", "there is no subscription")
	if third := c.post("/api/v1/subscriptions", body).want(200); third.text("id") == first.text("id") {
		t.Error("a subscription that was deleted came back")
	}
}

func TestSubscribe_DuplicateReactivatesDisabled(t *testing.T) {
	var gone atomic.Bool
	gone.Store(true)
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if gone.Load() {
			w.WriteHeader(http.StatusGone)
		}
	})
	r := start(t)
	c := r.acme
	body := map[string]any{"event": "a", "hookUrl": hook.URL}
	made := c.post("/api/v1/subscriptions", body).want(201)
	off := func() bool { return c.get(made.text("href")).at("active") == false }
	c.publish("a", 1)
	eventually(t, "410 to switch it off", off)
	body["active"] = false
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"active": false, "inactive_reason": "the target answered 410 Gone"})
	delete(body, "active")
	gone.Store(false)
	second := c.post("/api/v1/subscriptions?allow_duplicates=true", body).want(201)
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": second.text("id")}) // or each event would go twice
	c.get(made.text("href")).want(200).shows(map[string]any{"active": false})
	c.do("DELETE", second.text("href"), "").want(204)
	again := c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": made.text("id"), "active": true, "inactive_reason": nil})
	if again.header.Get("ETag") == made.header.Get("ETag") {
		t.Error("the ETag is the old one")
	}
	c.publish("a", 2)
	hook.wait(t, 2)
	// In a dialect as well.
	gone.Store(true)
	django, dialect := r.legacy("Authorization", "Token "+c.key), `{"event":"d","target":"`+hook.URL+`"}`
	first := django.call("POST", "/api/v1/hooks", dialect, 201)
	c.publish("d", 1)
	path := "/api/v1/subscriptions/" + first.text("id")
	eventually(t, "410 to switch it off", func() bool { return c.get(path).at("active") == false })
	django.call("POST", "/api/v1/hooks", dialect, 201)
	c.get(path).want(200).shows(map[string]any{"active": true})
}

func TestSubscribe_DuplicateExtendsExpiry(t *testing.T) {
	c := start(t).acme
	subscribe := func(in any) *answer {
		body := map[string]any{"event": "a", "target_url": anywhere}
		if in != nil {
			body["expires_in"] = in
		}
		return c.post("/api/v1/subscriptions", body)
	}
	short := subscribe("1m").want(201).text("expires_at")
	long := subscribe("1h").want(200).text("expires_at")
	if long <= short {
		t.Errorf("renewed for an hour, it expires at %s; before at %s", long, short)
	}
	subscribe("2m").want(200).shows(map[string]any{"expires_at": long}) // it may be somebody else's
	subscribe(nil).want(200).shows(map[string]any{"expires_at": nil})
	subscribe("1h").want(200).shows(map[string]any{"expires_at": nil})
}

func TestSubscribe_ConcurrentDuplicatesMakeOne(t *testing.T) {
	c := start(t).acme
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids, made := map[string]bool{}, 0
	for range 32 {
		wg.Go(func() {
			a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere})
			mu.Lock()
			defer mu.Unlock()
			ids[a.text("id")] = true
			if a.status == 201 {
				made++
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || made != 1 {
		t.Errorf("%d were made, with the ids %v", made, ids)
	}
}

func TestSubscriptions_Expire(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "url": anywhere, "expires_in": "1m"}).want(201)
	in := func(a *answer) time.Duration {
		at, err := time.Parse(time.RFC3339, a.text("expires_at"))
		must(t, err)
		return time.Until(at)
	}
	if left := in(made); left > time.Minute || left < 0 {
		t.Errorf("expires in %s", left)
	}
	path := made.text("href")
	if left := in(c.do("PATCH", path, `{"expires_in":86400}`).want(200)); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("renewed, it expires in %s", left)
	}
	before := c.get(path).text("expires_at")
	c.do("PATCH", path, `{"description":"x"}`).want(200).shows(map[string]any{"expires_at": before})
	c.do("PUT", path, string(c.get(path).body)).want(200).shows(map[string]any{"expires_at": before})
	at := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	c.do("PATCH", path, map[string]any{"expiresAt": at}).want(200).shows(map[string]any{"expires_at": at.Format(time.RFC3339), "expiresAt": at.Format(time.RFC3339)})
	c.do("PATCH", path, `{"expires_at":null}`).want(200).shows(map[string]any{"expires_at": nil})
	c.post("/api/v1/subscriptions", map[string]any{"event": "b", "url": anywhere}).want(201).shows(map[string]any{"expires_at": nil})
	for value, field := range map[string]string{
		`"expires_in":"59s"`: "expires_in", `"expires_in":"90000h"`: "expires_in", `"expires_in":"soon"`: "expires_in", `"expires_in":-5`: "expires_in", `"expires_in":{}`: "expires_in",
		`"expires_at":"2020-01-01T00:00:00Z"`: "expires_at", `"expires_at":"2200-01-01T00:00:00Z"`: "expires_at", `"expires_at":"tomorrow"`: "expires_at", `"expires_at":5`: "expires_at",
		`"expires_at":"` + at.Format(time.RFC3339) + `","expires_in":60`: "expires_in",
	} {
		for _, a := range []*answer{c.do("PATCH", path, "{"+value+"}"), c.post("/api/v1/subscriptions", `{"event":"c","url":"`+anywhere+`",`+value+"}")} {
			if got, _ := a.at("field").(string); a.status != 422 || got != field {
				t.Errorf("%s: %d %s", value, a.status, a.body)
			}
		}
	}
}
