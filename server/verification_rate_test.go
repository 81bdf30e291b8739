package server_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

func TestVerification_RateOfAccount(t *testing.T) {
	r := start(t)
	hook := consents(t, echo)
	body := func(n int) map[string]any {
		return map[string]any{"event": "a", "target_url": fmt.Sprint(hook.URL, "/", n), "verify": "hook-secret"}
	}
	const tries = 100
	created, refused := []string{}, (*answer)(nil)
	for n := range tries {
		switch a := r.acme.post("/api/v1/subscriptions", body(n)); a.status {
		case 201:
			created = append(created, a.text("id"))
		case 429:
			refused = a
		default:
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if n := len(hook.all()); n < 10 || n > tries/2 || n > len(created) {
		t.Errorf("%d requests to targets, %d subscriptions", n, len(created))
	}
	if refused == nil {
		t.Fatal("none was refused")
	}
	refused.refused(429, "", "too many targets asked")
	if wait, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || wait != 1 {
		t.Errorf("Retry-After is %q", refused.header.Get("Retry-After"))
	}
	if n := len(r.acme.pages("/api/v1/subscriptions?limit=500", "id")); n != len(created) {
		t.Errorf("%d subscriptions, %d were created", n, len(created))
	}
	changed := 0
	for n := range tries {
		switch a := r.acme.do("PATCH", "/api/v1/subscriptions/"+created[0], map[string]any{"target_url": fmt.Sprint(hook.URL, "/change", n)}); a.status {
		case 200:
			changed++
		case 429:
		default:
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if changed > tries/2 {
		t.Errorf("%d of %d changes of the target were asked for", changed, tries)
	}
	// What asks no target, and another account, are not concerned.
	r.acme.do("PATCH", "/api/v1/subscriptions/"+created[0], map[string]any{"description": "x"}).want(200)
	r.acme.subscribe("a", hook.URL)
	r.rival.post("/api/v1/subscriptions", body(0)).want(201)
}

// A request to a target ends when the subscription is deleted or gets another target.
func TestVerification_SupersededEnds(t *testing.T) {
	r := start(t)
	ended := make(chan string, 8)
	hangs := receive(t, func(w http.ResponseWriter, req *http.Request) {
		<-req.Context().Done() // the connection was closed
		ended <- req.URL.Path
	})
	for path, end := range map[string]func(id string){
		"/deleted": func(id string) { r.acme.do("DELETE", "/api/v1/subscriptions/"+id, nil).want(204) },
		"/changed": func(id string) {
			r.acme.do("PATCH", "/api/v1/subscriptions/"+id, map[string]any{"target_url": consents(t, echo).URL}).want(200)
			r.acme.state(id, "confirmed", true)
		},
	} {
		id := r.acme.subscribe("a", hangs.URL+path, map[string]any{"verify": "hook-secret"})
		began := time.Now()
		end(id)
		if got := <-ended; got != path || time.Since(began) > 5*time.Second { // its own time is 10 s
			t.Errorf("the request to %s ended after %s, not that to %s", got, time.Since(began), path)
		}
	}
}
