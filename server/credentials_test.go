package server_test

import (
	"net/http"
	"strings"
	"testing"

	"switchhook/engine"
)

// A credential in a subscription's headers is for the host that it was given for.
func TestCredentialsDoNotFollowToAnotherHost(t *testing.T) {
	r := start(t)
	hook, other := receive(t, nil), receive(t, nil)
	c := r.acme
	id := c.subscribe("order.created", hook.URL+"/a", map[string]any{"headers": map[string]string{"Authorization": "Bearer top", "X-Plain": "1"}})
	path := "/api/v1/subscriptions/" + id
	for method, body := range map[string]string{
		"PATCH": `{"target_url":"` + other.URL + `"}`,
		"PUT":   `{"event":"order.created","target_url":"` + other.URL + `","headers":{"authorization":"[hidden]"}}`,
	} {
		c.do(method, path, body).refused(422, "headers", "was given for "+hook.URL)
	}
	c.do("PATCH", path, `{"target_url":"`+hook.URL+`/b"}`).want(200)
	c.do("PATCH", path, `{"target_url":"`+other.URL+`","headers":{"authorization":"Bearer mine"}}`).want(200)
	c.do("PATCH", path, `{"target_url":"`+hook.URL+`","headers":{"authorization":null}}`).want(200)
	c.do("PATCH", path, `{"target_url":"`+other.URL+`"}`).want(200)
	c.publish("order.created", 1)
	if got := other.wait(t, 1)[0].header; got.Get("X-Plain") != "1" || got.Get("Authorization") != "" {
		t.Errorf("came: %v", got)
	}
}

// Who tries a transform on a subscription does not learn what its headers hold.
func TestDryRunsDoNotShowCredentials(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	id := r.acme.subscribe("order.created", hook.URL, map[string]any{"headers": map[string]string{"Authorization": "Bearer top"}})
	r.acme.post("/api/v1/try", map[string]any{
		"subscription": id, "event": map[string]any{"type": "order.created", "data": 1},
		"transform": "export default (event, request) => ({ stolen: request.headers.Authorization })",
	}).want(200).shows(map[string]any{"request.body": `{"stolen":"[hidden]"}`})
}

// Consent is for one path of a host, which may have many owners.
func TestATransformStaysOnThePathThatConfirmed(t *testing.T) {
	r := start(t, setup{retries: engine.RetrySchedule{0}})
	hook := receive(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Hook-Secret", req.Header.Get("X-Hook-Secret"))
	})
	id := r.acme.subscribe("order.created", hook.URL+"/mine", map[string]any{
		"verify": "hook-secret", "transform": "export default (event, request) => { if (event.data.away) request.path = '/victim'; request.query.n = '1'; return 1 }",
	})
	eventually(t, "it is confirmed", func() bool { return r.acme.get("/api/v1/subscriptions/"+id).want(200).at("active") == true })
	r.acme.publish("order.created", map[string]bool{"away": true})
	dead := r.acme.delivered(id, "dead")
	if !strings.Contains(dead.text("error"), "request.path can't be changed") {
		t.Errorf("%s", dead.body)
	}
	r.acme.publish("order.created", map[string]bool{"away": false})
	r.acme.delivered(id, "succeeded")
	for _, got := range hook.all() {
		if strings.HasPrefix(got.uri, "/victim") {
			t.Errorf("came: %+v", got)
		}
	}
}
