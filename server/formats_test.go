package server_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestSkinnyPayload_TokenFetchesEvent(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	sub := r.acme.subscribe("order.created", hook.URL, map[string]any{"payload_format": "skinny"})
	id := r.acme.post("/api/v1/events", `{"type":"order.created","id":"o-1","headers":{"x":"y"},"data":{"total": 1.0}}`).want(202).text("id")
	var got struct{ Data struct{ ID, URL string } }
	must(t, json.Unmarshal([]byte(hook.wait(t, 1)[0].body), &got))
	u, err := url.Parse(got.Data.URL)
	must(t, err)
	path, token := u.RequestURI(), u.Query().Get("token")
	stranger := r.acme.with(t, "")
	a := stranger.get(path).want(200).shows(map[string]any{"id": id, "type": "order.created", "data.total": "1.0", "deliveries": nil, "account": nil, "headers": nil})
	if a.header.Get("Cache-Control") != "no-store" || got.Data.ID != id {
		t.Errorf("%v, %s", a.header, got.Data.ID)
	}
	stranger.with(t, "no key").get(path).want(200) // whatever else it sends
	stranger.get(u.Path).refused(401, "", "an API key is needed")
	stranger.get(u.Path+"?token=").refused(401, "", "not one that the router gave")
	stranger.get(path+"x").refused(401, "", "not one that the router gave")
	stranger.get("/api/v1/events/evt_0dkwa9ap8h00g?token="+token).refused(401, "", "not one that the router gave")
	stranger.get("/api/v1/events/"+id+"?token="+token).refused(401, "", "not one that the router gave")
	stranger.get("/api/v1/events?token="+token).refused(401, "", "an API key is needed")
	for _, c := range []*client{r.rival, r.acme} { // a token gives access to its event only
		c.get("/api/v1/deliveries?token="+token).refused(422, "token", "is not a parameter")
	}
	// The list of deliveries does not reveal the token.
	delivered := r.acme.delivered(sub, "succeeded")
	d := delivered.text("id")
	for _, a := range []*answer{r.acme.get("/api/v1/deliveries/" + d), r.acme.get("/api/v1/events/" + id), r.acme.post("/api/v1/preview", map[string]any{"subscription_id": sub, "event_id": id})} {
		if a.want(200); strings.Contains(string(a.body), token) {
			t.Errorf("%s shows the token", a.what)
		}
	}
	r.acme.attempt(delivered, 1).shows(map[string]any{"request.body": strings.Replace(hook.all()[0].body, token, "[hidden]", 1)})
	if body := r.acme.post("/api/v1/preview", map[string]any{"subscription_id": sub, "event_id": id}).text("request.body"); !strings.Contains(body, "token=[hidden]") {
		t.Errorf("the dry run shows %s", body)
	}
}

func TestSubscriptions_PayloadFormats(t *testing.T) {
	c := start(t).acme
	hook := receive(t, nil)
	c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "payload_format": "cloudevent"}).refused(422, "payload_format", `use "standard", "data", "cloudevents"`)
	path := "/api/v1/subscriptions/" + c.subscribe("a", hook.URL)
	for i, format := range []string{"cloudevents", "cloudevents-binary", "data", "standard"} {
		c.do("PATCH", path, map[string]any{"payload_format": format}).want(200).shows(map[string]any{"payload_format": format})
		c.publish("a", "ü")
		got := hook.wait(t, i+1)[i]
		want := map[string][2]string{
			"cloudevents":        {"application/cloudevents+json", `"source":"/switchhook/accounts/acme"`},
			"cloudevents-binary": {"application/json", `"ü"`},
			"data":               {"application/json", `"ü"`},
			"standard":           {"application/json", `"data":"ü"`},
		}[format]
		if got.header.Get("Content-Type") != want[0] || !strings.Contains(got.body, want[1]) || got.header.Get("webhook-signature") == "" {
			t.Errorf("%s: %v %s", format, got.header, got.body)
		}
		if source := got.header.Get("ce-source"); (source != "") != (format == "cloudevents-binary") {
			t.Errorf("%s: ce-source is %q", format, source)
		}
	}
}

func TestSubscriptions_SequenceNumbers(t *testing.T) {
	c := start(t).acme
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	sub := c.subscribe("a", hook.URL, map[string]any{"numbered": true})
	path := "/api/v1/subscriptions/" + sub
	c.get(path).want(200).shows(map[string]any{"numbered": true})
	for i := range 3 {
		id := c.post("/api/v1/events", `{"type":"a","data":1}`, "Idempotency-Key", "k"+string(rune('0'+i))).want(202).text("id")
		c.post("/api/v1/events", `{"type":"a","data":1}`, "Idempotency-Key", "k"+string(rune('0'+i))).want(202) // takes no number
		c.post("/api/v1/events", `{"type":"a","data":2}`, "Idempotency-Key", "k"+string(rune('0'+i))).want(409)
		hook.wait(t, i+1)
		eventually(t, "the delivery's number", func() bool {
			return c.get("/api/v1/deliveries?event_id="+id).want(200).at("data.0.status") == "succeeded"
		})
		c.get("/api/v1/deliveries?event_id=" + id).shows(map[string]any{"data.0.sequence": i + 1})
	}
	seen := map[string]bool{}
	for _, got := range hook.all() {
		seen[got.header.Get("webhook-sequence")] = true
	}
	if len(seen) != 3 || !seen["1"] || !seen["2"] || !seen["3"] {
		t.Errorf("the target saw %v", seen)
	}
	c.do("PATCH", path, `{"numbered":false}`).want(200).shows(map[string]any{"numbered": false})
	id := c.publish("a", 2)
	c.delivered(sub, "succeeded")
	c.get("/api/v1/deliveries?event_id=" + id).shows(map[string]any{"data.0.sequence": nil})
	c.do("PATCH", path, `{"numbered":null}`).want(200).shows(map[string]any{"numbered": false})
	c.do("PATCH", path, `{"numbered":1}`).refused(422, "numbered", "must be true or false")
}
