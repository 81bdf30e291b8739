package server_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"switchhook/engine"
)

func TestReplays(t *testing.T) {
	r := start(t, setup{retries: engine.RetrySchedule{0}})
	var broken atomic.Bool
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	broken.Store(true)
	sub := r.acme.subscribe("order.created", hook.URL, nil)
	r.acme.post("/api/v1/events", `{"type":"order.created","data":{"n":1}}`).want(202)
	r.acme.post("/api/v1/events", `{"type":"order.created","data":{"n":2}}`).want(202)
	eventually(t, "both are dead letters", func() bool {
		return len(r.acme.get("/api/v1/deliveries?status=dead").want(200).column("id")) == 2
	})
	broken.Store(false)

	made := r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{sub}, "delivery_status": []string{"dead"}, "filter": "data.n == 2"}).want(202)
	id := made.text("id")
	if made.header.Get("Location") != "/api/v1/replays/"+id {
		t.Errorf("Location %q", made.header.Get("Location"))
	}
	eventually(t, "the replay is through", func() bool { return r.acme.get("/api/v1/replays/"+id).want(200).text("status") == "completed" })
	r.acme.get("/api/v1/replays/" + id).want(200).shows(map[string]any{"queued": "1", "examined": "2", "progress": "1"})
	eventually(t, "one was delivered", func() bool {
		return len(r.acme.get("/api/v1/deliveries?status=succeeded").want(200).column("id")) == 1
	})
	r.acme.post("/api/v1/replays/"+id+"/pause", nil).refused(409, "", "the replay is completed")
	r.acme.get("/api/v1/replays").want(200).shows(map[string]any{"data.0.id": id})

	r.acme.post("/api/v1/replays", `{"subscription_ids":["`+sub+`"],"delivery_status":["dropped"],"until":"2020-01-01T00:00:00Z"}`).want(202).shows(map[string]any{"delivery_status": "[dropped]"})

	// A replay to an inactive subscription, which makes no progress by itself.
	r.acme.do("PATCH", "/api/v1/subscriptions/"+sub, `{"active":false}`).want(200)
	id = r.admin.post("/api/v1/replays", map[string]any{"subscription_ids": []string{sub}, "delivery_status": []string{"dead", "missing"}, "since": "2020-01-01T00:00:00Z", "rate": 1}).want(202).text("id")
	eventually(t, "it pauses by itself", func() bool { return r.acme.get("/api/v1/replays/"+id).want(200).text("status") == "paused" })
	r.acme.post("/api/v1/replays/"+id+"/resume", nil).want(200)
	r.acme.post("/api/v1/replays/"+id+"/pause", nil).want(200).shows(map[string]any{"status": "paused"})
	r.acme.post("/api/v1/replays/"+id+"/cancel", nil).want(200).shows(map[string]any{"status": "cancelled"})

	for _, c := range []struct{ body, field, detail string }{
		{`{"subscription_ids":["x"]}`, "subscription_ids[0]", "is not an id"},
		{`{"subscription_ids":["` + sub + `"],"target_subscription_id":"x"}`, "target_subscription_id", "is not an id"},
		{`{"subscription_ids":["` + sub + `"],"delivery_status":["pending"]}`, "delivery_status[0]", "can't be replayed"},
		{`{"subscription_ids":["` + sub + `"],"delivery_status":["gone"]}`, "delivery_status[0]", "can't be replayed"},
		{`{"subscription_ids":["` + sub + `"],"delivery_status":["dead","gone"]}`, "delivery_status[1]", "can't be replayed"},
		{`{"subscription_ids":["` + sub + `"],"since":"yesterday"}`, "since", "is not a time; write it as"},
		{`{"subscription_ids":["` + sub + `"],"filter":"data.("}`, "filter", "expected name"},
		{`{"subscription_ids":["` + sub + `"],"rate":-1}`, "rate", "must be 1 to"},
		{`{}`, "subscription_ids", "must name"},
	} {
		r.acme.post("/api/v1/replays", c.body).refused(422, c.field, c.detail)
	}
	r.acme.get("/api/v1/replays/nonsense").refused(404, "", "there is no replay")
	r.acme.get("/api/v1/replays?cursor=x").refused(422, "cursor", "")
}

func TestReplays_SlowOnesDoNotBlockOthers(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	published := func(c *client, n int) (subscription string) {
		subscription = c.subscribe("a", hook.URL)
		c.post("/api/v1/events", batch(n)).want(202)
		eventually(t, "all is delivered", func() bool {
			return len(c.get("/api/v1/deliveries?status=succeeded&limit=500").want(200).column("id")) == n
		})
		return subscription
	}
	slow := published(r.acme, 300) // at one a second: longer than anybody waits here
	var ids []string
	for range 8 {
		ids = append(ids, r.acme.post("/api/v1/replays", object{"subscription_ids": []string{slow}, "delivery_status": []string{"succeeded"}, "rate": 1}).want(202).text("id"))
	}
	id := r.rival.post("/api/v1/replays", object{"subscription_ids": []string{published(r.rival, 2)}, "delivery_status": []string{"succeeded"}}).want(202).text("id")
	eventually(t, "the replay is through", func() bool { return r.rival.get("/api/v1/replays/"+id).want(200).text("status") == "completed" })
	for _, id := range ids {
		r.acme.post("/api/v1/replays/"+id+"/cancel", nil).want(200)
	}
}
