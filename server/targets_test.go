package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"switchhook/engine"
)

// scoped returns a client of acme whose key has only these scopes.
func (r *testServer) scoped(scopes ...engine.Scope) *client {
	return r.client(r.acme.http.Transport.(*http.Transport), engine.Key{Account: "acme", Name: "scoped", Scopes: scopes})
}

func (r *testServer) withTargets() *client {
	return r.scoped(engine.ScopePublish, engine.ScopeTargets, engine.ScopeScripts, engine.ScopeRead, engine.ScopeSubscribe)
}

// verifies requires a Standard Webhooks signature by a secret.
func verifies(t *testing.T, secret string, got received) {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	must(t, err)
	check(t, wh.Verify([]byte(got.body), got.header))
}

func naming(id string, targets ...any) map[string]any {
	return map[string]any{"type": "a", "id": id, "data": map[string]string{"id": id}, "targets": targets}
}

type object = map[string]any

func TestInlineTargets_ReceiveEvent(t *testing.T) {
	r := start(t)
	c := r.withTargets()
	one, two, sub := receive(t, nil), receive(t, nil), receive(t, nil)
	c.subscribe("a", sub.URL)
	secret := "whsec_" + strings.Repeat("QUJD", 11)
	a := c.post("/api/v1/events", naming("e1",
		object{"target_url": one.URL + "/x", "payload_format": "data", "headers": object{"Authorization": "Bearer t"}},
		object{"target_url": two.URL, "secret": secret, "transform": "export default e => 'for ' + e.data.id"},
		object{"target_url": one.URL + "/x", "payload_format": "data", "headers": object{"Authorization": "Bearer t"}},
	)).want(202).shows(object{"matched": 3, "targets.0.target_url": one.URL + "/x", "targets.1.target_url": two.URL, "targets.3": nil})
	first, second := a.text("targets.0.subscription_id"), a.text("targets.1.subscription_id")
	if a.text("targets.2.subscription_id") != first || first == second {
		t.Errorf("targets: %s", a.body)
	}
	got, other := one.wait(t, 1)[0], two.wait(t, 1)[0]
	if got.body != `{"id":"e1"}` || got.uri != "/x" || got.header.Get("Authorization") != "Bearer t" || other.body != "for e1" {
		t.Errorf("came: %+v %+v", got, other)
	}
	sub.wait(t, 1)
	// Each is signed, with a secret of its own that its owner can read.
	made := c.get("/api/v1/subscriptions/" + first + "/secret").want(200).text("secret")
	verifies(t, made, got)
	verifies(t, secret, other)
	c.delivered(first, "succeeded")
	c.get("/api/v1/subscriptions/" + first).want(200).shows(object{"events": "[]", "event": nil, "target_url": one.URL + "/x"}).text("expires_at")

	// The same target again is the same subscription; a repeat of the event is no new one.
	again := c.post("/api/v1/events", naming("e2", object{"target_url": one.URL + "/x", "payload_format": "data", "headers": object{"Authorization": "Bearer t"}})).want(202)
	if again.text("targets.0.subscription_id") != first {
		t.Errorf("the same target is another subscription: %s", again.body)
	}
	one.wait(t, 2)
	for _, want := range []*answer{a} {
		repeat := c.post("/api/v1/events", naming("e1",
			object{"target_url": one.URL + "/x", "payload_format": "data", "headers": object{"Authorization": "Bearer t"}},
			object{"target_url": two.URL, "secret": secret, "transform": "export default e => 'for ' + e.data.id"},
			object{"target_url": one.URL + "/x", "payload_format": "data", "headers": object{"Authorization": "Bearer t"}},
		)).want(202)
		if string(repeat.body) != string(want.body) || repeat.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("first %s, then %s", want.body, repeat.body)
		}
	}
	c.post("/api/v1/events", naming("e1", object{"target_url": one.URL + "/never"})).refused(409, "", "other content")
	if n := len(c.pages("/api/v1/subscriptions?limit=9", "id")); n != 1 {
		t.Errorf("%d subscriptions are listed", n)
	}
	if hidden := c.pages("/api/v1/subscriptions?inline=true&limit=9", "id"); !slices.Equal(hidden, []string{first, second}) {
		t.Errorf("targets: %v", hidden)
	}
	r.rival.get("/api/v1/subscriptions/"+first+"/secret").refused(404, "", "")
	if n := len(one.all()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestInlineTargets_InvalidRefusesPublish(t *testing.T) {
	r := start(t)
	c := r.withTargets()
	fine := object{"target_url": anywhere}
	for _, test := range []struct {
		target        any
		field, detail string
	}{
		{object{"target_url": "ftp://x"}, ".target_url", "must begin with"},
		{object{"target_url": "http://169.254.169.254/"}, ".target_url", "private or special"},
		{object{}, ".target_url", "is missing"},
		{object{"target_url": anywhere, "secret": "x"}, ".secret", ""},
		{object{"target_url": anywhere, "headers": object{"Host": "x"}}, ".headers", "set by the router"},
		{object{"target_url": anywhere, "headers": object{"X": "a\nb"}}, ".headers", "line break"},
		{object{"target_url": anywhere, "headers": "x"}, ".headers", "must be an object"},
		{object{"target_url": anywhere, "transform": "export default ("}, ".transform", ""},
		{object{"target_url": anywhere, "payload_format": "xml"}, ".payload_format", "is not known"},
		{object{"targeturl": anywhere}, ".targeturl", `did you mean "target_url"`},
		{object{"target_url": anywhere, "filter": "true"}, ".filter", "the members are target_url"},
		{5, "", "must be an object"},
	} {
		c.post("/api/v1/events", naming("x", fine, test.target)).refused(422, "targets[1]"+test.field, test.detail)
		c.post("/api/v1/events", []any{naming("y", fine), naming("x", fine, test.target)}).refused(422, "events[1].targets[1]"+test.field, test.detail)
	}
	c.post("/api/v1/events", `{"type":"a","data":1,"targets":{}}`).refused(422, "targets", "must be a list")
	many := make([]any, 21)
	for i := range many {
		many[i] = fine
	}
	c.post("/api/v1/events", naming("x", many...)).refused(422, "targets", "20 are allowed")
	events := []any{}
	for i := range 101 {
		events = append(events, naming(fmt.Sprint("n", i), object{"target_url": anywhere + fmt.Sprint("?", i)}))
	}
	c.post("/api/v1/events", events).refused(422, "events[100].targets[0].target_url", "more than 100")
	if n := len(c.pages("/api/v1/events?limit=9", "id")) + len(c.pages("/api/v1/subscriptions?inline=true&limit=9", "id")); n != 0 {
		t.Errorf("%d things are left", n)
	}
	c.post("/api/v1/events", `{"type":"a","data":1,"targets":null}`).want(202).shows(object{"targets": nil})
}

func TestInlineTargets_NeedScope(t *testing.T) {
	r := start(t)
	target := naming("x", object{"target_url": anywhere})
	script := naming("y", object{"target_url": anywhere, "transform": "export default () => 1"})
	r.acme.post("/api/v1/events", target).refused(403, "targets", "scope targets")
	r.scoped(engine.ScopePublish, engine.ScopeTargets).post("/api/v1/events", script).refused(403, "targets[0].transform", "scope scripts")
	r.scoped(engine.ScopePublish, engine.ScopeTargets).post("/api/v1/events", target).want(202)
	r.admin.post("/api/v1/events", script).want(202)
	r.admin.post("/api/v1/event-types", `{"name":"strict","verify":"hook-secret"}`).want(201)
	r.admin.post("/api/v1/events", object{"type": "strict", "data": 1, "targets": []any{object{"target_url": anywhere}}}).refused(422, "targets", "have to confirm first")
}

func TestInlineTargets_AreImmutable(t *testing.T) {
	r := start(t)
	c := r.withTargets()
	gone := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) })
	named := naming("1", object{"target_url": gone.URL})
	id := c.post("/api/v1/events", named).want(202).text("targets.0.subscription_id")
	path := "/api/v1/subscriptions/" + id
	c.delivered(id, "dead")
	c.get(path).want(200).shows(object{"active": true}) // the next event names it anew
	for field, value := range (object{"target_url": anywhere, "events": []string{"a"}, "headers": object{"X": "y"}, "payload_format": "data", "filter": "true", "transform": "export default () => 1"}) {
		c.do("PATCH", path, object{field: value}).refused(422, field, "can't be changed")
	}
	c.do("PATCH", path, `{"active":false}`).want(200)
	named["id"] = "2"
	c.post("/api/v1/events", named).refused(422, "targets[0].target_url", "deactivated by hand")
	c.do("DELETE", path, nil).want(204)
	if next := c.post("/api/v1/events", named).want(202).text("targets.0.subscription_id"); next == id {
		t.Error("a deleted target came back")
	}
}

func TestInlineTargets_ConcurrentUseMakesOne(t *testing.T) {
	r := start(t)
	c, hook := r.withTargets(), receive(t, nil)
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			if a := c.post("/api/v1/events", naming(fmt.Sprint("e", i), object{"target_url": hook.URL})); a.status != 202 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	hook.wait(t, 24)
	if n := len(c.pages("/api/v1/subscriptions?inline=true&limit=9", "id")); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}

func TestInlineTargets_ExpireWhenUnused(t *testing.T) {
	var ahead time.Duration
	var mu sync.Mutex
	forward := func(d time.Duration) { mu.Lock(); ahead += d; mu.Unlock() }
	r := start(t, setup{now: func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }})
	c, hook := r.withTargets(), receive(t, nil)
	sent := 0
	name := func(id string) string {
		subscription := c.post("/api/v1/events", naming(id, object{"target_url": hook.URL})).want(202).text("targets.0.subscription_id")
		sent++
		hook.wait(t, sent) // what waits is too old once the clock is forward
		return subscription
	}
	first := name("1")
	forward(10 * 24 * time.Hour)
	if name("2") != first { // which renews it
		t.Error("another subscription")
	}
	forward(10 * 24 * time.Hour)
	if name("3") != first {
		t.Error("another subscription, though it was in use")
	}
	forward(15 * 24 * time.Hour)
	eventually(t, "the target is gone", func() bool { return c.get("/api/v1/subscriptions/"+first).status == 404 })
	if name("4") == first {
		t.Error("it came back")
	}
}

func TestInlineTargets_TransformBytesAreBounded(t *testing.T) {
	r := start(t)
	c := r.withTargets()
	event := func(i int) object {
		return object{"type": "a", "data": 1, "targets": []any{object{"target_url": anywhere, "transform": fmt.Sprintf("export default () => %d // %s", i, strings.Repeat("x", 60_000))}}}
	}
	const most = 8 << 20 / 60_000 // of these
	for i := 0; ; i++ {
		a := c.post("/api/v1/events", event(i))
		if a.status == 202 && i <= most {
			continue
		}
		a.refused(422, "targets", "bytes of transforms")
		if i < most-1 {
			t.Errorf("there is room for %d only", i)
		}
		break
	}
	c.post("/api/v1/events", event(0)).want(202) // which is known
	c.post("/api/v1/events", object{"type": "a", "data": 1, "targets": []any{object{"target_url": anywhere + "/plain"}}}).want(202)
	id := c.get("/api/v1/subscriptions?inline=true&limit=1").want(200).text("data.0.id")
	c.do("DELETE", "/api/v1/subscriptions/"+id, "").want(204)
	c.post("/api/v1/events", event(1000)).want(202)
}
