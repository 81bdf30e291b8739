package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/target"
	"switchhook/server"
	"switchhook/server/api"
)

// delivered waits until a subscription's only delivery is in a state, and returns it.
func (c *client) delivered(subscription, status string) *answer {
	c.t.Helper()
	var id string
	eventually(c.t, "a delivery that "+status, func() bool {
		a := c.get("/api/v1/deliveries?subscription_id=" + subscription).want(200)
		id, _ = a.at("data.0.id").(string)
		return a.at("data.0.status") == status
	})
	return c.get("/api/v1/deliveries/" + id).want(200)
}

// attempt returns an attempt of a delivery, with its bodies.
func (c *client) attempt(d *answer, number int) *answer {
	c.t.Helper()
	return c.get(fmt.Sprintf("/api/v1/deliveries/%s/attempts/%d", d.text("id"), number)).want(200)
}

func TestDeliveries_ShowAttempts(t *testing.T) {
	c := start(t).acme
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Answer", "yes")
		w.Header().Set("Set-Cookie", "session=s3cret")
		w.WriteHeader(201)
		fmt.Fprint(w, "thanks <you>")
	})
	sub := c.subscribe("order.created", hook.URL+"/in?x=1", map[string]any{"headers": map[string]string{"Authorization": "Bearer t0k3n", "X-Plain": "p"}, "visible_headers": []string{"X-Plain"}})
	event := c.post("/api/v1/events", `{"type":"order.created","id":"o-1","time":"2026-01-31T09:30:00Z","data":{"n":9007199254740993,"t":"<ü>"}}`).want(202)
	d := c.delivered(sub, "succeeded").shows(map[string]any{
		"event_id": "o-1", "event_type": "order.created", "subscription_id": sub, "account": "acme", "attempt_count": 1, "response_status": 201, "next_attempt_at": nil, "error": nil,
		"attempts.0.number": 1, "attempts.0.outcome": "succeeded", "attempts.0.request.method": "POST", "attempts.0.request.url": hook.URL + "/in?x=1",
		"attempts.0.request.body": nil, "attempts.0.request.body_size": 100,
		"attempts.0.request.headers.Authorization": "[hidden]", "attempts.0.request.headers.X-Plain": "p", "attempts.0.request.headers.Content-Type": "application/json",
		"attempts.0.response.status": 201, "attempts.0.response.body": nil, "attempts.0.response.body_size": 12, "attempts.0.response.truncated": false,
		"attempts.0.response.headers.X-Answer": "yes", "attempts.0.response.headers.Set-Cookie": "[hidden]", "attempts.1": nil, "attempts.0.error": nil,
	})
	a := c.attempt(d, 1).shows(map[string]any{
		"number": 1, "outcome": "succeeded", "request.body": `{"type":"order.created","timestamp":"2026-01-31T09:30:00Z","data":{"n":9007199254740993,"t":"<ü>"}}`,
		"request.body_size": 100, "request.headers.Authorization": "[hidden]", "response.body": "thanks <you>", "response.body_size": 12, "response.headers.Set-Cookie": "[hidden]",
	})
	got := hook.wait(t, 1)[0]
	if got.body != a.text("request.body") || got.uri != "/in?x=1" || got.header.Get("Authorization") != "Bearer t0k3n" {
		t.Errorf("what came is not what is shown: %+v", got)
	}
	for name, value := range d.at("attempts.0.request.headers").(map[string]any) {
		if value != "[hidden]" && got.header.Get(name) != value {
			t.Errorf("%s is shown as %q and came as %q", name, value, got.header.Get(name))
		}
	}
	webhookID := c.get("/api/v1/events/" + event.text("id")).want(200).shows(map[string]any{"deliveries.0.id": d.text("id"), "deliveries.0.status": "succeeded", "deliveries.1": nil}).text("webhook_id")
	if got.header.Get("Webhook-Id") != webhookID {
		t.Errorf("webhook-id is %q, the event's is %q", got.header.Get("Webhook-Id"), webhookID)
	}
}

func TestDeliveries_ShowTransformedRequest(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	sub := c.subscribe("a", hook.URL, map[string]any{"transform": `export default (event) => { console.log("saw", event.data.n); return { text: "<" + event.data.n + ">" } }`})
	c.publish("a", map[string]any{"n": 7})
	d := c.delivered(sub, "succeeded").shows(map[string]any{"attempts.0.request.body_size": 14, "attempts.0.script.console": "[log: saw 7]"})
	if got := hook.wait(t, 1)[0]; got.body != c.attempt(d, 1).shows(map[string]any{"request.body": `{"text":"<7>"}`}).text("request.body") {
		t.Errorf("came: %s", got.body)
	}

	broken := c.subscribe("b", hook.URL, map[string]any{"transform": "export default (event) => {\n  return event.data.a.b\n}"})
	c.publish("b", map[string]any{"n": 7})
	d = c.delivered(broken, "retrying").shows(map[string]any{"attempts.0.request": nil, "attempts.0.response": nil, "attempts.0.phase": "transform", "attempts.0.outcome": "script_error", "response_status": nil})
	if got := d.text("attempts.0.error"); !strings.Contains(got, "line 2") {
		t.Errorf("the error has no line: %q", got)
	}

	dropped := c.subscribe("d", hook.URL, map[string]any{"transform": "export default (event) => drop('not for us')"})
	c.publish("d", 1)
	c.delivered(dropped, "dropped").shows(map[string]any{"error": "not for us", "attempts.0.outcome": "dropped", "attempts.0.request": nil, "response_status": nil})
	if got := len(hook.all()); got != 1 {
		t.Errorf("%d requests came", got)
	}
}

func TestDeliveries_ResponseBodyTruncatedOrBase64(t *testing.T) {
	c := start(t).acme
	large := receive(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 100<<10)) })
	sub := c.subscribe("a", large.URL)
	c.publish("a", 1)
	d := c.delivered(sub, "succeeded").shows(map[string]any{"attempts.0.response.truncated": true, "attempts.0.response.body_size": 16 << 10})
	if n := len(c.attempt(d, 1).text("response.body")); n != 16<<10 {
		t.Errorf("%d bytes are kept", n)
	}
	binary := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte{0xff, 0xfe, 0}) })
	sub = c.subscribe("b", binary.URL)
	c.publish("b", 1)
	d = c.delivered(sub, "succeeded").shows(map[string]any{"attempts.0.response.body_size": 3, "attempts.0.response.body_encoding": nil})
	c.attempt(d, 1).shows(map[string]any{"response.body": "//4A", "response.body_encoding": "base64", "response.body_size": 3})
}

func TestDeliveries_ManualRetry(t *testing.T) {
	r := start(t)
	c := r.acme
	var healthy atomic.Bool
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			http.Error(w, "not now", 500)
		}
	})
	sub := c.subscribe("a", hook.URL)
	c.publish("a", 1)
	d := c.delivered(sub, "retrying").shows(map[string]any{
		"response_status": 500, "error": "the target answered 500 Internal Server Error", "attempts.0.response.body_size": 8, "attempts.0.phase": "http", "attempts.0.outcome": "rejected", "attempt_count": 1,
	})
	if at, err := time.Parse(time.RFC3339, d.text("next_attempt_at")); err != nil || time.Until(at) < 30*time.Minute {
		t.Errorf("the next attempt is at %v (%v)", at, err)
	}
	retry := "/api/v1/deliveries/" + d.text("id") + "/retry"
	r.rival.post(retry, nil).refused(404, "", "there is no delivery")
	healthy.Store(true)
	c.post(retry, nil).want(202).shows(map[string]any{"id": d.text("id"), "status": "pending", "attempts": nil})
	c.delivered(sub, "succeeded").shows(map[string]any{"attempt_count": 2, "attempts.0.number": 2, "attempts.0.response.status": 200, "attempts.1.response.status": 500, "error": nil})
	c.attempt(d, 1).shows(map[string]any{"response.body": "not now\n"})

	c.post(retry, nil).want(202) // a succeeded delivery can be retried
	hook.wait(t, 3)
	eventually(t, "the third attempt", func() bool { return c.get("/api/v1/deliveries/"+d.text("id")).at("attempts.2") != nil })
	c.do("PATCH", "/api/v1/subscriptions/"+sub, `{"active":false}`).want(200)
	c.post(retry, nil).refused(409, "", "not active")
	c.do("DELETE", "/api/v1/subscriptions/"+sub, nil).want(204)
	c.post(retry, nil).refused(409, "", "was deleted")
	c.get("/api/v1/deliveries/" + d.text("id")).want(200).shows(map[string]any{"attempt_count": 3})
}

func TestDeliveries_DeadAfterLastAttempt(t *testing.T) {
	c := start(t, setup{retries: engine.RetrySchedule{0}}).acme
	sub := c.subscribe("a", anywhere)
	c.publish("a", 1)
	d := c.delivered(sub, "dead").shows(map[string]any{"attempts.0.phase": "connect", "attempts.0.outcome": "connection_error", "attempts.0.response": nil, "response_status": nil, "next_attempt_at": nil})
	if d.at("attempts.0.request.method") != "POST" {
		t.Errorf("the request is not shown: %s", d.body)
	}
}

func TestDeliveries_AttemptTimeout(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	silent := receive(t, func(http.ResponseWriter, *http.Request) { <-release })
	c := start(t).acme
	sub := c.subscribe("a", silent.URL, map[string]any{"policy": map[string]any{"timeout": "100ms"}})
	batched := c.subscribe("a", silent.URL, map[string]any{"policy": map[string]any{"timeout": "100ms"}, "batch": map[string]any{"size": 2}})
	c.publish("a", 1)
	for _, sub := range []string{sub, batched} {
		c.delivered(sub, "retrying").shows(map[string]any{"attempts.0.outcome": "timeout", "attempts.0.phase": "wait"})
	}
}

func TestOutcomeOf(t *testing.T) {
	for _, c := range []struct {
		attempt engine.Attempt
		want    api.AttemptOutcome
	}{
		{engine.Attempt{Response: engine.AttemptResponse{Status: 204}}, api.AttemptSucceeded},
		{engine.Attempt{}, api.AttemptDropped},
		{engine.Attempt{Phase: engine.PhaseHTTP, Response: engine.AttemptResponse{Status: 500}}, api.AttemptRejected},
		{engine.Attempt{Phase: engine.PhaseHTTP}, api.AttemptRejected}, // a status that HTTP does not have
		{engine.Attempt{Phase: string(target.PhaseDNS)}, api.AttemptConnectionError},
		{engine.Attempt{Phase: string(target.PhaseTLS)}, api.AttemptConnectionError},
		{engine.Attempt{Phase: string(target.PhaseTLS), TimedOut: true}, api.AttemptTimeout},
		{engine.Attempt{Phase: string(target.PhaseRefused)}, api.AttemptTargetBlocked},
		{engine.Attempt{Phase: engine.PhaseTransform}, api.AttemptScriptError},
		{engine.Attempt{Phase: engine.PhaseEvent}, api.AttemptInternalError},
	} {
		if got := server.OutcomeOf(&c.attempt); got != c.want {
			t.Errorf("%+v: %q, want %q", c.attempt, got, c.want)
		}
	}
}

func TestDeliveries_DroppedWithSubscription(t *testing.T) {
	c := start(t).acme
	sub := c.subscribe("a", anywhere, map[string]any{"active": true})
	c.publish("a", 1)
	d := c.delivered(sub, "retrying")
	c.do("DELETE", "/api/v1/subscriptions/"+sub, nil).want(204)
	eventually(t, "the delivery is dead", func() bool { return c.get("/api/v1/deliveries/"+d.text("id")).at("status") == "dead" })
	c.get("/api/v1/deliveries/" + d.text("id")).shows(map[string]any{"error": "the subscription was deleted"})
}

func TestDeliveries_ListPagesAndFilters(t *testing.T) {
	r := start(t)
	c := r.acme
	good := receive(t, nil)
	bad := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	toGood, toBad := c.subscribe("*", good.URL), c.subscribe("order.*", bad.URL)
	var orders, events []string
	for i := range 5 {
		id := c.post("/api/v1/events", map[string]any{"type": []string{"order.created", "user.created"}[i%2], "data": i, "id": fmt.Sprintf("e%d", i)}).want(202).text("id")
		events = append([]string{id}, events...)
		if i%2 == 0 {
			orders = append([]string{id}, orders...)
		}
	}
	r.rival.subscribe("*", good.URL)
	r.rival.publish("order.created", 1)
	eventually(t, "all attempts", func() bool {
		return len(r.admin.pages("/api/v1/deliveries?account=*&status=succeeded", "id"))+len(r.admin.pages("/api/v1/deliveries?account=*&status=retrying", "id")) == 9
	})
	both := []string{"e4", "e4", "e3", "e2", "e2", "e1", "e0", "e0"}
	hour := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for query, want := range map[string][]string{
		"": both, "subscription_id=" + toGood: events, "subscription_id=" + toBad: orders, "status=retrying": orders, "status=succeeded": events, "status=dead": nil, "status=pending": nil,
		"event_id=e2": {"e2", "e2"}, "event_id=e1": {"e1"}, "event_type=order.created&status=succeeded": orders, "event_type=user.created": {"e3", "e1"}, "event_type=none": nil,
		"subscription_id=" + toGood + "&status=retrying": nil, "subscription_id=" + toBad + "&status=retrying": orders, "event_id=e2&status=retrying": {"e2"}, "event_id=e2&subscription_id=" + toBad: {"e2"},
		"since=2026-01-01T00:00:00Z&until=" + hour: both, "until=2026-01-01T00:00:00Z": nil, "since=" + hour: nil, "since=2026-01-01T00:00:00Z": both,
		"until=1999-01-01T00:00:00Z": nil, "since=9999-01-01T00:00:00Z": nil, "until=9999-01-01T00:00:00Z": both, "since=1999-01-01T00:00:00Z": both,
	} {
		for _, limit := range []int{1, 2, 3, 100} {
			if got := c.pages(fmt.Sprintf("/api/v1/deliveries?limit=%d&%s", limit, query), "event_id"); !slices.Equal(got, want) {
				t.Errorf("%q by %d: want %v, got %v", query, limit, want, got)
			}
		}
	}
	for _, old := range []string{"subscription", "event", "type"} {
		c.get("/api/v1/deliveries?"+old+"=x").refused(422, old, "is not a parameter of this list")
	}
	c.get("/api/v1/deliveries?subscription_id=x").refused(422, "subscription_id", "is not an id of this kind")
	if all := r.admin.pages("/api/v1/deliveries?account=*&limit=4", "id"); len(all) != 9 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 9 {
		t.Errorf("an admin key sees %v", all)
	}
}

func TestDeliveries_ListPending(t *testing.T) {
	c := start(t).acme
	release := make(chan struct{})
	hook := receive(t, func(http.ResponseWriter, *http.Request) { <-release })
	sub := c.subscribe("a", hook.URL)
	id := c.publish("a", 1)
	hook.wait(t, 1)
	c.get("/api/v1/deliveries?status=pending&subscription_id=" + sub).want(200).shows(map[string]any{"data.0.event_id": id, "data.0.attempt_count": 0, "data.0.last_attempt_at": nil, "data.1": nil})
	d := c.get("/api/v1/deliveries?event_id=" + id).want(200).text("data.0.id")
	c.get("/api/v1/deliveries/" + d).want(200).shows(map[string]any{"status": "pending", "attempts": "[]"})
	c.post("/api/v1/deliveries/"+d+"/retry", nil).refused(409, "", "is waiting")
	close(release)
	c.delivered(sub, "succeeded")
}
