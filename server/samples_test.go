package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"switchhook/engine"
)

func TestSamples_MatchHookPayload(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.created","samples":[{"id":"sample-1"},{"id":"sample-2"}]}`).want(201)
	hook := receive(t, nil)
	standard, bare := r.acme.subscribe("order.created", hook.URL+"/standard"), r.acme.subscribe("order.created", hook.URL+"/data", object{"payload_format": "data"})
	path := "/api/v1/event-types/order.created/samples"
	r.acme.get(path + "?payload_format=data").want(200).shows(object{"0.id": "sample-1", "1.id": "sample-2", "2": nil})
	for _, id := range []string{"real-1", "real-2"} {
		r.acme.publish("order.created", object{"id": id})
	}
	r.rival.publish("order.created", object{"id": "rival's"})
	delivered := map[string]string{}
	for _, got := range hook.wait(t, 4) {
		if strings.Contains(got.body, "real-2") {
			delivered[got.uri] = got.body
		}
	}
	// The same text, byte for byte, as what the hook of that format was sent.
	for format, uri := range map[string]string{"": "/standard", "?payload_format=standard": "/standard", "?payload_format=data": "/data"} {
		var list []json.RawMessage
		must(t, json.Unmarshal(r.acme.get(path+format).want(200).body, &list))
		if len(list) != 3 || string(list[0]) != delivered[uri] {
			t.Errorf("%q: %s, but the hook got %s", format, list, delivered[uri])
		}
	}
	r.acme.get(path + "?payload_format=data&limit=100").want(200).shows(object{"0.id": "real-2", "1.id": "real-1", "2.id": "sample-1", "3.id": "sample-2", "4": nil})
	r.acme.get(path + "?payload_format=data&limit=1").want(200).shows(object{"0.id": "real-2", "1": nil})
	r.admin.get(path + "?payload_format=data&limit=1&account=rival").want(200).shows(object{"0.id": "rival's"})

	r.acme.post("/api/v1/subscriptions/"+standard+"/test", `{}`).want(200)
	r.acme.post("/api/v1/subscriptions/"+bare+"/test", `{}`).want(200)
	r.acme.get(path + "?payload_format=data&limit=1").want(200).shows(object{"0.id": "real-2"}) // test events are none

	r.acme.publish("unregistered", 1)
	r.acme.get("/api/v1/event-types/unregistered/samples?payload_format=data").want(200).shows(object{"0": 1, "1": nil})
	r.acme.get("/api/v1/event-types/none/samples").refused(404, "", "there is no event type")
	r.rival.get("/api/v1/event-types/unregistered/samples").refused(404, "", "there is no event type")
	r.acme.get(path+"?payload_format=xml").refused(422, "payload_format", "is not known")
	r.acme.get(path+"?limit=101").refused(422, "limit", "1 to 100")
	r.acme.get(path+"?cursor=x").refused(422, "cursor", "one page")
	r.acme.get(path+"?account=rival").refused(422, "account", "must be left out")
}

func TestSamples_MatchSubscriptionPayload(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"a.made","samples":[{"n":9}]}`).want(201)
	r.acme.script("transform", "to-chat", "export default e => ({chat: e.data.n})")
	hook := receive(t, nil)
	const transform = "export default e => { if (e.data.n == 3) return drop('three'); if (e.data.n == 4) throw 'four'; if (e.data.n == 5) return 'five'; return {n: e.data.n} }"
	subscriptions := map[string]string{
		"/plain": r.acme.subscribe("a.made", hook.URL+"/plain"),
		"/data":  r.acme.subscribe("a.made", hook.URL+"/data", object{"payload_format": "data", "filter": "data.n != 2"}),
		"/own":   r.acme.subscribe("a.made", hook.URL+"/own", object{"transform": transform, "policy": object{"retries": []string{"0s"}}}),
		"/chat":  r.acme.subscribe("a.made", hook.URL+"/chat", object{"transform_script": "to-chat"}),
		"/many":  r.acme.subscribe("a.made", hook.URL+"/many", object{"batch": object{"size": 2, "wait": "0s"}}),
		"/demo":  r.legacy("authcode", r.acme.key).call("POST", "/hooks/subscribe", `{"name":"a.made","hookurl":"`+hook.URL+`/demo"}`, 200).header.Get("Location")[len("/hooks/subscribe/"):],
	}
	for n := 1; n <= 5; n++ {
		r.acme.post("/api/v1/events", fmt.Sprintf(`{"type":"a.made","data":{ "n": %d }}`, n)).want(202) // with the spaces
	}
	sent := map[string]string{} // all bodies of each
	eventually(t, "all hooks", func() bool {
		clear(sent)
		for _, got := range hook.all() {
			sent[got.uri] += got.body + "\n"
		}
		came := func(uri, part string, n int) bool { return strings.Count(sent[uri], part) == n }
		return came("/plain", "timestamp", 5) && came("/data", "n", 4) && came("/own", "n", 2) && came("/own", "five", 1) &&
			came("/chat", "chat", 5) && came("/demo", "event", 5) && came("/many", "timestamp", 5)
	})
	path := "/api/v1/event-types/a.made/samples?limit=100&"
	for uri, id := range subscriptions {
		text := string(r.acme.get(path + "subscription_id=" + id).want(200).body)
		var list []json.RawMessage
		must(t, json.Unmarshal([]byte(text), &list))
		for i, sample := range list[:len(list)-1] { // the last is the catalogue's
			body := string(sample)
			if body == `"five"` {
				body = "five"
			}
			if !strings.Contains(sent[uri], body) {
				t.Errorf("%s: sample %d is %s, sent were %s", uri, i, body, sent[uri])
			}
		}
		if want := map[string]int{"/data": 5, "/own": 4}[uri]; want != 0 && len(list) != want || want == 0 && len(list) != 6 {
			t.Errorf("%s: %d samples: %s", uri, len(list), text)
		}
	}
	r.acme.get(path + "transform_script=to-chat").want(200).shows(object{"0.chat": 5, "4.chat": 1, "5.chat": 9, "6": nil})
	r.admin.get(path + "subscription_id=" + subscriptions["/own"]).want(200).shows(object{"0": "five", "1.n": 2, "2.n": 1, "3.n": 9, "4": nil})

	r.acme.script("transform", "endless", "export default () => { for (;;) {} }") // each run costs a process
	r.acme.get(path+"transform_script=endless").refused(422, "transform", "timeout")

	r.rival.get(path+"subscription_id="+subscriptions["/own"]).refused(404, "", "there is no subscription")
	r.rival.get(path+"transform_script=to-chat").refused(422, "transform_script", "names no script")
	r.acme.get(path+"subscription_id=x").refused(422, "subscription_id", "is not an id")
	r.acme.get(path+"transform_script=none").refused(422, "transform_script", "names no script")
	r.acme.get(path+"transform_script=to-chat&payload_format=data").refused(422, "payload_format", "give one of them")
	r.acme.get(path+"payload_format=data&subscription_id="+subscriptions["/own"]).refused(422, "payload_format", "give one of them")
}

func TestTestSend_SingleAttempt(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.created","samples":[{"id":7}]}`).want(201)
	var status int
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	made := r.acme.post("/api/v1/subscriptions", object{
		"event": "order.created", "target_url": hook.URL + "/x", "active": false, "filter": "data.id > 100", "transform": "export default e => 'order ' + e.data.id",
	}).want(201)
	id := made.text("id")
	path := "/api/v1/subscriptions/" + id + "/test"

	status = 204
	d := r.acme.post(path, `{}`).want(200).shows(object{"status": "succeeded", "attempt_count": 1, "attempts.0.response.status": 204, "attempts.0.request.body": "order 7", "subscription_id": id})
	got := hook.wait(t, 1)[0]
	if got.body != "order 7" || got.header.Get("webhook-id") != d.text("event_id") {
		t.Errorf("came: %+v", got)
	}
	verifies(t, made.text("secret"), got)
	r.acme.get("/api/v1/deliveries/" + d.text("id")).want(200).shows(object{"status": "succeeded", "attempts.0.request.body_size": 7})
	r.acme.attempt(d, 1).shows(object{"request.body": "order 7"})
	r.acme.get("/api/v1/events/" + d.text("event_id")).want(200).shows(object{"headers.switchhook-test": "true", "matched": 1, "data.id": 7})

	status = 500
	r.acme.post(path, object{"event": object{"type": "other", "data": object{"id": 8}}}).want(200).shows(object{"status": "dead", "next_attempt_at": nil, "event_type": "other", "attempts.0.phase": "http"})
	status = 410
	r.acme.post(path, object{"sample": "order.created"}).want(200).shows(object{"status": "dead"})
	r.acme.get("/api/v1/subscriptions/" + id).want(200).shows(object{"inactive_reason": nil})
	if n := len(hook.all()); n != 3 {
		t.Errorf("%d requests", n)
	}
	status = 200
	event := r.acme.post("/api/v1/events", `{"type":"order.created","id":"mine","data":{"id":9}}`).want(202).text("id")
	copied := r.acme.post(path, object{"event_id": event}).want(200).shows(object{"attempts.0.request.body": "order 9"})
	if copied.text("event_id") == event {
		t.Error("the stored event was sent itself, which receivers may know")
	}
	r.acme.do("PATCH", "/api/v1/subscriptions/"+id, object{"transform": "export default () => drop('no')"}).want(200)
	r.acme.post(path, nil).want(200).shows(object{"status": "dropped", "error": "no"})
}

func TestTestSend_Refused(t *testing.T) {
	r := start(t, setup{now: newClock().now}) // or a slow machine keeps within the rate
	hook := receive(t, nil)
	id := r.acme.subscribe("order.*", hook.URL)
	path := "/api/v1/subscriptions/" + id + "/test"
	r.acme.post(path, `{}`).refused(422, "sample", "does not name one event type alone")
	r.acme.post(path, `{"sample":"order.none"}`).refused(422, "sample", "has no samples")
	r.acme.post(path, `{"event_id":"none"}`).refused(404, "", "there is no event")
	r.acme.post(path, `{"event_id":"x","sample":"y"}`).refused(422, "event_id", "give one of them")
	r.acme.post(path, `{"event":{"type":"a","data":1},"sample":"y"}`).refused(422, "event", "give one of the three")
	r.acme.post(path, `{"event":{"type":"a b","data":1}}`).refused(422, "event.type", "is not an event type")
	r.acme.post(path, `{"event":{"type":"a"}}`).refused(422, "event.data", "is missing")
	r.acme.post(path, `{"smaple":"a"}`).refused(422, "smaple", `did you mean "sample"`)
	r.withTargets().post(path, object{"event": object{"type": "a", "data": 1, "targets": []any{object{"target_url": anywhere}}}}).refused(422, "event.targets", "can't be given")
	mine := r.rival.publish("a", "rival's")
	r.acme.post(path, object{"event_id": mine}).refused(404, "", "there is no event")
	r.scoped(engine.ScopeSubscribe).post(path, `{"event":{"type":"a","data":1}}`).refused(403, "", "read")
	pending := r.acme.subscribe("a", hook.URL, object{"verify": "cloudevents"})
	r.acme.post("/api/v1/subscriptions/"+pending+"/test", `{"event":{"type":"a","data":1}}`).refused(409, "", "has not confirmed")
	one := r.acme.subscribe("a", hook.URL)
	status := 200
	for range 30 {
		if status = r.acme.post("/api/v1/subscriptions/"+one+"/test", `{"event":{"type":"a","data":1}}`).status; status != 200 {
			break
		}
	}
	if status != 429 {
		t.Errorf("30 test events in a row: %d", status)
	}
	r.rival.post("/api/v1/subscriptions/"+r.rival.subscribe("a", hook.URL)+"/test", `{"event":{"type":"a","data":1}}`).want(200) // whose rate is its own
}

func TestTestSend_SlowTargetsDoNotBlockOthers(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now})
	entered, over := make(chan bool), make(chan struct{})
	slow := receive(t, func(http.ResponseWriter, *http.Request) {
		entered <- true
		<-over
	})
	test := func(c *client, id string) *answer {
		return c.post("/api/v1/subscriptions/"+id+"/test", `{"event":{"type":"a","data":1}}`)
	}
	id := r.acme.subscribe("a", slow.URL)
	answers := make(chan int)
	for range 4 {
		go func() { answers <- test(r.acme, id).status }()
		<-entered
	}
	test(r.acme, id).refused(429, "", "too many test events of this account are running")
	test(r.rival, r.rival.subscribe("a", receive(t, nil).URL)).want(200).shows(object{"status": "succeeded"})
	close(over)
	for range 4 {
		if status := <-answers; status != 200 {
			t.Errorf("answered %d", status)
		}
	}
	go func() { <-entered }()
	test(r.acme, id).want(200)
}

// The list of events can be requested in the form of payloads.
func TestEvents_ListAsPayloads(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	for _, format := range []string{"standard", "data", "cloudevents"} {
		r.acme.subscribe("order.created", hook.URL+"/"+format, map[string]any{"payload_format": format})
	}
	r.acme.publish("order.created", map[string]int{"id": 1})
	for _, got := range hook.wait(t, 3) {
		format := strings.TrimPrefix(got.uri, "/")
		query := "/api/v1/events?type=order.created&limit=3&payload_format=" + format
		if list := r.acme.get(query + "&format=array").want(200); string(list.body) != "["+got.body+"]\n" {
			t.Errorf("%s: %s is listed, %s came", format, list.body, got.body)
		}
		r.acme.get(query).want(200).shows(map[string]any{"payload_format": format, "next_cursor": nil})
	}
	r.acme.get("/api/v1/events?payload_format=none").refused(422, "payload_format", "is not known")
}
