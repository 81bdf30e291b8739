package server_test

import (
	"testing"
)

// operational are the event types that are always there.
var operational = []string{
	"switchhook.delivery.dead", "switchhook.script.failing", "switchhook.script.quarantined", "switchhook.subscription.deactivated", "switchhook.subscription.recovered",
}

func TestEventTypes_OperationalAreReserved(t *testing.T) {
	r := start(t)
	for _, name := range operational {
		path := "/api/v1/event-types/" + name
		r.acme.get(path).want(200).shows(map[string]any{"name": name, "schema": nil})
		r.admin.do("PUT", path, `{"description":"mine"}`).refused(422, "name", "the router's own")
		r.admin.post("/api/v1/event-types", map[string]any{"name": name}).refused(422, "name", "the router's own")
		r.admin.do("DELETE", path, nil).refused(409, "name", "built in")
		for _, c := range []*client{r.acme, r.admin} {
			c.post("/api/v1/events", map[string]any{"type": name, "data": 1}).refused(422, "type", "published by the router only")
		}
	}
	r.admin.post("/api/v1/event-types", map[string]any{"name": "switchhook.mine"}).refused(422, "name", "the router's own")
	r.acme.post("/api/v1/events", `{"type":"switchhook.mine","data":1}`).refused(422, "type", "published by the router only")
	r.acme.post("/api/v1/events", `[{"type":"a","data":1},{"type":"switchhook.x","data":1}]`).refused(422, "events[1].type", "published by the router only")
	r.acme.post("/api/v1/events", `{"type":"switchhooks.x","data":1}`).want(202)

	all, own := r.acme.subscribe("*", anywhere), r.acme.subscribe("switchhook.*", anywhere)
	if got := r.acme.pages("/api/v1/subscriptions?event=switchhook.delivery.dead", "id"); len(got) != 1 || got[0] != own {
		t.Errorf("%v would get it; * is %s, switchhook.* is %s", got, all, own)
	}
}
