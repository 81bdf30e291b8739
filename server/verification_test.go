package server_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"switchhook/engine"
	"switchhook/engine/catalog"
)

// consents is a target that answers verification requests with answer, and events with 204.
func consents(t *testing.T, answer http.HandlerFunc) *receiver {
	return receive(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hook-Secret") != "" || r.Method == "OPTIONS" {
			answer(w, r)
			return
		}
		w.WriteHeader(204)
	})
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Hook-Secret", r.Header.Get("X-Hook-Secret"))
}

// state requires a state of a subscription's verification.
func (c *client) state(id, state string, active bool) *answer {
	c.t.Helper()
	eventually(c.t, "verification is "+state, func() bool {
		return c.get("/api/v1/subscriptions/"+id).want(200).at("verification.state") == state
	})
	return c.get("/api/v1/subscriptions/" + id).want(200).shows(map[string]any{"active": active})
}

func TestVerification_EchoConfirms(t *testing.T) {
	c := start(t).acme
	hook := consents(t, echo)
	id := c.subscribe("a", hook.URL+"/x", map[string]any{"verify": "hook-secret", "headers": map[string]string{"Authorization": "Bearer theirs"}})
	shown := c.state(id, "confirmed", true).shows(map[string]any{"verification.mode": "hook-secret", "verification.expires_at": nil, "inactive_reason": nil})
	asked := hook.wait(t, 1)[0]
	secret := asked.header.Get("X-Hook-Secret")
	if asked.method != "POST" || asked.uri != "/x" || asked.header.Get("Authorization") != "Bearer theirs" || len(secret) < 32 || !strings.Contains(asked.body, id+"/confirm") {
		t.Errorf("asked: %+v", asked)
	}
	if strings.Contains(string(shown.body), secret) {
		t.Errorf("the secret is shown: %s", shown.body)
	}
	c.publish("a", 1)
	if got := hook.wait(t, 2)[1]; got.header.Get("X-Hook-Secret") != "" || got.header.Get("WebHook-Request-Origin") != "" {
		t.Errorf("delivered with %v", got.header)
	}
	c.post("/api/v1/subscriptions/"+id+"/confirm", map[string]any{"secret": secret}).refused(404, "", "waits for this secret")
}

func TestVerification_ConfirmLater(t *testing.T) {
	r := start(t)
	hook := receive(t, nil) // answers 204 and echoes nothing
	made := r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": hook.URL, "verify": "hook-secret"}).want(201)
	made.shows(map[string]any{"active": false, "verification.state": "pending", "inactive_reason": "waits for its target to confirm that it wants to be sent events"})
	id, secret := made.text("id"), hook.wait(t, 1)[0].header.Get("X-Hook-Secret")
	if strings.Contains(string(made.body), secret) {
		t.Errorf("the secret is shown to the owner: %s", made.body)
	}
	r.acme.post("/api/v1/events", `{"type":"a","data":"before"}`).want(202).shows(map[string]any{"matched": 0})
	r.acme.do("PATCH", "/api/v1/subscriptions/"+id, `{"active":true,"description":"x"}`).want(200).shows(map[string]any{"active": false, "verification.state": "pending"})

	nobody := r.acme.with(t, "")
	path := "/api/v1/subscriptions/" + id + "/confirm"
	nobody.post(path, `{}`).refused(422, "secret", "is missing")
	nobody.post(path, map[string]any{"secret": secret + "x"}).refused(404, "", "waits for this secret")
	nobody.post("/api/v1/subscriptions/sub_0sa6jzbaw0000/confirm", map[string]any{"secret": secret}).refused(404, "", "waits for this secret")
	nobody.post("/api/v1/subscriptions/x/confirm", map[string]any{"secret": secret}).refused(404, "", "waits for this secret")
	nobody.do("POST", path, nil).refused(400, "", "the body is not JSON")
	nobody.do("POST", path, nil, "X-Hook-Secret", secret+"x").refused(404, "", "waits for this secret")
	nobody.do("POST", path, "secret=x", "Content-Type", "application/x-www-form-urlencoded").refused(404, "", "waits for this secret")
	nobody.post(path, map[string]any{"secret": secret}).want(204)
	r.acme.state(id, "confirmed", true)
	nobody.post(path, map[string]any{"secret": secret}).refused(404, "", "waits for this secret")

	for i, headers := range [][]string{{"X-Hook-Secret", ""}, {"Content-Type", "application/x-www-form-urlencoded"}} { // the other ways
		other := r.acme.post("/api/v1/subscriptions", map[string]any{"event": "b", "target_url": fmt.Sprintf("%s/%d", hook.URL, i), "verify": "hook-secret"}).want(201).text("id")
		asked := hook.wait(t, i+2)[i+1].header.Get("X-Hook-Secret")
		body := any("secret=" + asked)
		if i == 0 {
			headers[1], body = asked, nil
		}
		nobody.do("POST", "/api/v1/subscriptions/"+other+"/confirm", body, headers...).want(204)
		r.acme.state(other, "confirmed", true)
	}

	r.acme.publish("a", "after")
	if got := hook.wait(t, 4)[3]; !strings.Contains(got.body, "after") {
		t.Errorf("delivered: %s", got.body)
	}
	tries := 0
	for ; tries < 100 && nobody.post(path, `{"secret":"guess"}`).status == 404; tries++ {
	}
	if a := nobody.post(path, `{"secret":"guess"}`); tries > 20 || a.refused(429, "", "too many attempts").header.Get("Retry-After") == "" {
		t.Errorf("%d guesses were let through", tries)
	}
}

func TestVerification_OtherResponsesDoNotConfirm(t *testing.T) {
	c := start(t).acme
	for name, answer := range map[string]http.HandlerFunc{
		"another secret": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Hook-Secret", "x") },
		"an error":       func(w http.ResponseWriter, r *http.Request) { echo(w, r); w.WriteHeader(500) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			echo(w, r)
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"an echo in the body": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Hook-Secret")) },
	} {
		hook := consents(t, answer)
		id := c.subscribe("a", hook.URL, map[string]any{"verify": "hook-secret"})
		a := c.state(id, "pending", false)
		if n := len(hook.wait(t, 1)); n != 1 {
			t.Errorf("%s: asked %d times", name, n)
		}
		for _, leak := range []string{"500 Internal", "redirect", "refused", "no answer"} {
			if strings.Contains(string(a.body), leak) {
				t.Errorf("%s is told: %s", name, a.body)
			}
		}
	}
	// A target that does not respond has the same result.
	gone := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "verify": "cloudevents"}).want(201)
	gone.shows(map[string]any{"verification.state": "pending", "verification.mode": "cloudevents", "active": false})
}

func TestVerification_CloudEventsAllowedOrigin(t *testing.T) {
	c := start(t).acme
	for _, test := range []struct {
		origin, rate, state string
		status              int
		allowed             any
	}{
		{"switchhook", "120", "confirmed", 200, 120}, {"SwitchHook", "", "confirmed", 404, nil}, {"*", "*", "confirmed", 500, nil},
		{"switch", "", "pending", 200, nil}, {"switchhook.example.com", "", "pending", 200, nil}, {"", "120", "pending", 200, nil},
		{"*", "0", "pending", 200, nil}, {"*", "-1", "pending", 200, nil}, {"*", "many", "pending", 200, nil},
	} {
		hook := consents(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", test.origin)
			w.Header().Set("WebHook-Allowed-Rate", test.rate)
			w.WriteHeader(test.status)
		})
		id := c.subscribe("a", hook.URL+"/x?y=1", map[string]any{"verify": "cloudevents"})
		c.state(id, test.state, test.state == "confirmed").shows(map[string]any{"verification.allowed_rate": test.allowed})
		asked := hook.wait(t, 1)[0]
		if asked.method != "OPTIONS" || asked.uri != "/x?y=1" || asked.header.Get("WebHook-Request-Origin") != "switchhook" {
			t.Errorf("asked: %+v", asked)
		}
		if test.state == "confirmed" {
			c.publish("a", 1)
			if got := hook.wait(t, 2)[1]; got.header.Get("WebHook-Request-Origin") != "switchhook" {
				t.Errorf("delivered with %v", got.header)
			}
		}
		c.do("DELETE", "/api/v1/subscriptions/"+id, nil).want(204)
	}
}

func TestVerification_StrictestModeApplies(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	r.admin.post("/api/v1/event-types", `{"name":"secret.made","verify":"cloudevents"}`).want(201).shows(map[string]any{"verify": "cloudevents"})
	r.admin.post("/api/v1/event-types", `{"name":"x","verify":"often"}`).refused(422, "verify", "is not known")
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": hook.URL, "verify": "often"}).refused(422, "verify", "is not known")
	mode := func(event, verify string) any {
		return r.acme.post("/api/v1/subscriptions", map[string]any{"event": event, "target_url": hook.URL, "verify": verify}).want(201).at("verification.mode")
	}
	for _, test := range []struct{ event, verify, want string }{
		{"open", "", ""}, {"open", "hook-secret", "hook-secret"}, {"secret.made", "", "cloudevents"}, {"secret.*", "hook-secret", "cloudevents"}, {"*", "", "cloudevents"},
	} {
		if got := mode(test.event, test.verify); got != any(test.want) && (got != nil || test.want != "") {
			t.Errorf("%v: %v", test, got)
		}
	}
	if _, err := r.engine.PutAccount(context.Background(), &engine.Account{Name: "acme", Verify: engine.VerifyHookSecret}, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if got := mode("open.too", ""); got != "hook-secret" {
		t.Errorf("in an account that asks for it: %v", got)
	}
}

func TestVerification_NewTargetMustConfirm(t *testing.T) {
	c := start(t).acme
	var silent atomic.Bool
	hook := consents(t, func(w http.ResponseWriter, r *http.Request) {
		if !silent.Load() {
			echo(w, r)
		}
	})
	id := c.subscribe("a", hook.URL+"/1", map[string]any{"verify": "hook-secret"})
	c.state(id, "confirmed", true)
	path := "/api/v1/subscriptions/" + id
	silent.Store(true)
	c.do("PATCH", path, `{"description":"same target"}`).want(200).shows(map[string]any{"verification.state": "confirmed", "active": true})
	c.do("PUT", path, map[string]any{"event": "b", "target_url": hook.URL + "/1"}).want(200).shows(map[string]any{"verification.state": "confirmed", "active": true})
	c.do("PATCH", path, map[string]any{"target_url": hook.URL + "/2"}).want(200).shows(map[string]any{"verification.state": "pending", "active": false})
	c.do("PATCH", path, `{"active":false}`).want(200).shows(map[string]any{"verification.state": "pending", "active": false})
	all := hook.wait(t, 2)
	c.post(path+"/confirm", map[string]any{"secret": all[0].header.Get("X-Hook-Secret")}).refused(404, "", "waits for this secret") // the old target's
	c.post(path+"/confirm", map[string]any{"secret": all[1].header.Get("X-Hook-Secret")}).want(204)
	c.state(id, "confirmed", false) // as its owner wants it by now
	c.do("PATCH", path, `{"verify":"","active":true}`).want(200).shows(map[string]any{"verification": nil, "active": true})
}

func TestVerification_SlowTargetsBlockOwnAccountOnly(t *testing.T) {
	r := start(t)
	var asked atomic.Int32
	over := make(chan struct{})
	silent := receive(t, func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-over
	})
	t.Cleanup(func() { close(over) })
	made := make(chan int)
	const many = 10 // more than are asked at a time, and as many as the account may have asked at once
	for i := range many {
		go func() {
			made <- r.acme.post("/api/v1/subscriptions", object{"event": "a", "target_url": fmt.Sprint(silent.URL, "/", i), "verify": "hook-secret"}).status
		}()
	}
	for range many {
		if status := <-made; status != 201 {
			t.Fatalf("answered %d", status)
		}
	}
	hook := consents(t, echo)
	r.rival.state(r.rival.subscribe("a", hook.URL, object{"verify": "hook-secret"}), "confirmed", true)
	if n := asked.Load(); n == 0 || n > 4 {
		t.Errorf("%d of one account's targets were asked at a time", n)
	}
}
