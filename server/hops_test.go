package server_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// loop makes a subscription whose target publishes each event of a type again.
func (r *testServer) loop(c *client, name string, more map[string]any) string {
	body := map[string]any{
		"headers":   map[string]any{"Authorization": "Bearer " + c.key},
		"transform": `export default (event) => ({type: event.type, data: ` + fmt.Sprintf("%q", name) + `})`,
	}
	for member, value := range more {
		body[member] = value
	}
	return c.subscribe("loop", r.url+"/api/v1/events", body)
}

// The address of the test's router is not the guard's own: it stands for another name of a router.
func TestHops_LoopEnds(t *testing.T) {
	r := start(t)
	r.loop(r.acme, "one", nil)
	r.loop(r.acme, "two", nil)
	r.acme.publish("loop", 0)
	// 1 event without hops, 2 with one, …, 32 with five, each delivered twice; the last 64 are refused.
	dead := func() []string { return r.acme.pages("/api/v1/deliveries?status=dead", "error") }
	eventually(t, "the loop's end", func() bool { return len(dead()) >= 64 })
	eventually(t, "no delivery waits", func() bool {
		return len(r.acme.pages("/api/v1/deliveries?status=pending", "id")) == 0
	})
	if n := len(r.acme.pages("/api/v1/events?type=loop", "id")); n != 63 {
		t.Errorf("%d events, want 63", n)
	}
	for _, why := range dead() {
		if !strings.Contains(why, "508 Loop Detected") || !strings.Contains(why, "not retried") {
			t.Fatalf("a delivery is dead because %s", why)
		}
	}
	for _, n := range r.acme.pages("/api/v1/deliveries?limit=500", "attempt_count") {
		if n != "1" {
			t.Fatalf("a delivery of the loop has %s attempts", n)
		}
	}
	failed := r.acme.get("/api/v1/deliveries?status=dead&limit=1").want(200)
	delivery := r.acme.get("/api/v1/deliveries/" + failed.text("data.0.id")).want(200)
	if body := r.acme.attempt(delivery, 1).text("response.body"); !strings.Contains(body, `"loop_detected"`) || !strings.Contains(body, "--max-hops") {
		t.Errorf("the attempt shows the answer %s", body)
	}
	// A retry keeps the hops.
	r.acme.post("/api/v1/deliveries/"+failed.text("data.0.id")+"/retry", nil).want(202)
	eventually(t, "the retry", func() bool {
		d := r.acme.get("/api/v1/deliveries/" + failed.text("data.0.id")).want(200)
		return d.text("status") == "dead" && len(d.at("attempts").([]any)) == 2
	})
	if n := len(r.acme.pages("/api/v1/events?type=loop", "id")); n != 63 {
		t.Errorf("%d events after a retry, want 63", n)
	}
}

func TestHops_PublishReadsHeader(t *testing.T) {
	c := start(t).acme
	const one, list = `{"type":"a","data":1}`, `[{"type":"a","data":1},{"type":"a","data":2}]`
	cloudEvent := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/a", "Ce-Type", "a"}
	const structured = `{"specversion":"1.0","id":"2","source":"/a","type":"a","data":1}`
	for name, send := range map[string]func(headers ...string) *answer{
		"an event": func(h ...string) *answer { return c.post("/api/v1/events", one, h...) },
		"a list":   func(h ...string) *answer { return c.post("/api/v1/event/", list, h...) },
		"binary":   func(h ...string) *answer { return c.post("/api/v1/events", `1`, append(h, cloudEvent...)...) },
		"structured": func(h ...string) *answer {
			return c.post("/api/v1/events", structured, append(h, "Content-Type", "application/cloudevents+json")...)
		},
		"a batch": func(h ...string) *answer {
			return c.post("/api/v1/events", "["+structured+"]", append(h, "Content-Type", "application/cloudevents-batch+json")...)
		},
	} {
		for _, tooMany := range []string{"6", "1000", strings.Repeat("9", 100)} {
			if a := send("Switchhook-Hops", tooMany).refused(508, "", "more than 5 deliveries"); a.text("code") != "loop_detected" {
				t.Errorf("%s: code %s", name, a.text("code"))
			}
		}
		for _, wrong := range []string{"x", "-1", "1, 2", "1.0", "+1"} {
			send("switchhook-hops", wrong).refused(422, "Switchhook-Hops", "repeat the number")
		}
		send("SWITCHHOOK-HOPS", "5").want(202)
		if newest := c.get("/api/v1/events?limit=1").want(200); fmt.Sprint(newest.at("data.0.hops")) != "5" {
			t.Errorf("%s: %s", name, newest.body)
		}
	}
	a := c.post("/api/v1/events", one, "Switchhook-Hops", "1", "Switchhook-Hops", "4").want(202)
	c.get("/api/v1/events/" + a.text("id")).want(200).shows(map[string]any{"hops": 4})
	a = c.post("/api/v1/events", one, "Switchhook-Hops", "0").want(202)
	if shown := c.get("/api/v1/events/" + a.text("id")).want(200); strings.Contains(string(shown.body), "hops") {
		t.Errorf("an event without hops is shown as %s", shown.body)
	}
	c.post("/api/v1/events", `{"type":"a","data":1,"id":"k"}`, "Switchhook-Hops", "1").want(202)
	if again := c.post("/api/v1/events", `{"type":"a","data":1,"id":"k"}`, "Switchhook-Hops", "2").want(202); again.header.Get("Idempotent-Replayed") != "true" {
		t.Error("another number of hops makes another event of the same id")
	}
}

// An account may publish so many events that came through two or more deliveries, and then so many a
// second. Those of one hop, and of others, don't count.
func TestHops_AccountHasRateOfChainedEvents(t *testing.T) {
	r := start(t, setup{chained: 10})
	list := "[" + strings.Repeat(`{"type":"a","data":1},`, 999) + `{"type":"a","data":1}]`
	r.acme.post("/api/v1/events", list, "Switchhook-Hops", "2").want(202)
	refused := r.acme.post("/api/v1/events", list, "Switchhook-Hops", "3").refused(429, "", "--chained-rate")
	// 1,000 events take 100 s at 10 a second.
	if wait, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || wait < 50 || wait > 100 {
		t.Errorf("Retry-After: %q", refused.header.Get("Retry-After"))
	}
	r.acme.post("/api/v1/events", list, "Switchhook-Hops", "1").want(202)
	r.acme.post("/api/v1/events", list).want(202)
	r.rival.post("/api/v1/events", list, "Switchhook-Hops", "2").want(202)
}

func TestHops_EveryDeliveryHasHeader(t *testing.T) {
	r := start(t)
	for name, more := range map[string]map[string]any{
		"standard":  {},
		"data":      {"payload_format": "data"},
		"skinny":    {"payload_format": "skinny"},
		"ce":        {"payload_format": "cloudevents"},
		"ce-binary": {"payload_format": "cloudevents-binary"},
		"body":      {"transform": `export default () => 1`},
		"request":   {"transform": `export default (event, request) => { request.method = "PUT"; request.headers = {"X-A": "1"}; return 1 }`},
	} {
		hook := receive(t, nil)
		sub := r.acme.subscribe(name, hook.URL, more)
		r.acme.post("/api/v1/events", map[string]any{"type": name, "data": 1}, "Switchhook-Hops", "2").want(202)
		hook.wait(t, 1)
		r.acme.post("/api/v1/subscriptions/"+sub+"/test", `{"event":{"type":"`+name+`","data":1}}`)
		got := hook.wait(t, 2)
		if got[0].header.Get("Switchhook-Hops") != "3" || got[1].header.Get("Switchhook-Hops") != "1" {
			t.Errorf("%s: the delivery has %v, the test event %v", name, got[0].header["Switchhook-Hops"], got[1].header["Switchhook-Hops"])
		}
	}
	hook := receive(t, nil)
	r.acme.subscribe("batch", hook.URL, map[string]any{"batch": map[string]any{"size": 2, "wait": "5s"}})
	r.acme.post("/api/v1/events", `{"type":"batch","data":1}`, "Switchhook-Hops", "4").want(202)
	r.acme.post("/api/v1/events", `{"type":"batch","data":2}`).want(202)
	if got := hook.wait(t, 1); got[0].header.Get("Switchhook-Hops") != "5" {
		t.Errorf("a batch has %v", got[0].header["Switchhook-Hops"])
	}
	hook = receive(t, nil)
	r.admin.post("/api/v1/events", map[string]any{"type": "a", "data": 1, "targets": []any{map[string]any{"target_url": hook.URL}}}, "Switchhook-Hops", "1").want(202)
	if got := hook.wait(t, 1); got[0].header.Get("Switchhook-Hops") != "2" {
		t.Errorf("a target named with the event gets %v", got[0].header["Switchhook-Hops"])
	}
	hook = receive(t, nil)
	r.acme.subscribe("v", hook.URL, map[string]any{"verify": "hook-secret"})
	if got := hook.wait(t, 1); got[0].header.Get("Switchhook-Hops") != "1" {
		t.Errorf("a verification request has %v", got[0].header["Switchhook-Hops"])
	}
}

// A delivery that asks for its own retry would be a loop without a new event.
func TestHops_DeliveryMayOnlyPublish(t *testing.T) {
	r := start(t)
	hook := receive(t, func(w http.ResponseWriter, req *http.Request) { w.WriteHeader(500) })
	r.acme.subscribe("a", hook.URL)
	r.acme.publish("a", 1)
	hook.wait(t, 1)
	id := r.acme.get("/api/v1/deliveries").want(200).text("data.0.id")
	before := len(r.acme.pages("/api/v1/subscriptions", "id"))
	for _, request := range [][2]string{
		{"POST", "/api/v1/deliveries/" + id + "/retry"}, {"POST", "/api/v1/subscriptions"}, {"POST", "/api/v1/replays"}, {"GET", "/api/v1/events"}, {"POST", "/api/v1/preview"},
	} {
		a := r.acme.do(request[0], request[1], map[string]any{}, "Webhook-Id", "evt_1", "Switchhook-Hops", "1")
		if a.status != 403 {
			t.Errorf("%v as a delivery: %d %s", request, a.status, a.body)
		}
	}
	r.acme.post("/api/v1/deliveries/"+id+"/retry", nil, "Webhook-Id", "evt_1", "Switchhook-Hops", "1").refused(403, "", "may only publish")
	if after := len(r.acme.pages("/api/v1/subscriptions", "id")); after != before {
		t.Errorf("%d subscriptions, there were %d", after, before)
	}
	r.acme.get("/api/v1/events", "Switchhook-Hops", "1").want(200) // of a service that repeats the header everywhere
}

// A dead letter's operational event, published again by its target, makes the next dead letter.
func TestHops_OperationalEventsCarryHops(t *testing.T) {
	r := start(t)
	r.acme.subscribe("switchhook.delivery.dead", r.url+"/api/v1/events", map[string]any{
		"headers":   map[string]any{"Authorization": "Bearer " + r.acme.key},
		"transform": `export default () => ({type: "fails", data: 1})`,
	})
	broken := receive(t, func(w http.ResponseWriter, req *http.Request) { w.WriteHeader(500) })
	r.acme.subscribe("fails", broken.URL, map[string]any{"policy": map[string]any{"retries": []string{"0s"}}})
	r.acme.publish("fails", 0)
	eventually(t, "the end", func() bool {
		dead := r.acme.pages("/api/v1/deliveries?status=dead", "error")
		return len(dead) > 0 && strings.Contains(strings.Join(dead, " "), "508")
	})
	time.Sleep(1500 * time.Millisecond) // the interval of these events and more: nothing may follow
	if n := len(broken.all()); n != 6 {
		t.Errorf("%d events reached the target, want 6: one and five with hops", n)
	}
}
