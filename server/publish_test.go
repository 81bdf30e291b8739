package server_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPublish_EventIsVisibleAtOnce(t *testing.T) {
	c := start(t).acme
	for _, data := range []string{
		`{"id":9007199254740993,"z":1,"a":{"<&>":"\u003c ü 💩"},"f":1.0,"e":1e400}`, `[1,"two",null]`, `"text"`, `12345678901234567890`, `null`, `true`, `{}`, `""`,
	} {
		a := c.post("/api/v1/events", `{"type":"order.created","time":"2026-01-31T10:30:00.123456+01:00","headers":{"X-A":"1"},"data":`+data+`}`).want(202)
		a.shows(map[string]any{"matched": 0})
		got := c.get("/api/v1/events/" + a.text("id")).want(200).shows(map[string]any{
			"id": a.text("id"), "webhook_id": a.text("id"), "type": "order.created", "account": "acme", "time": "2026-01-31T09:30:00.123Z",
			"headers": "map[X-A:1]", "matched": 0,
		})
		if !strings.Contains(string(got.body), `"data":`+data+`,`) && !strings.Contains(string(got.body), `"data":`+data+`}`) {
			t.Errorf("%s was published, %s is shown", data, got.body)
		}
		if list := c.get("/api/v1/events?limit=1").want(200); list.text("data.0.id") != a.text("id") {
			t.Errorf("the newest event is not the first of the list: %s", list.body)
		}
	}
}

func TestPublish_KeepsPublisherID(t *testing.T) {
	c := start(t).acme
	for _, id := range []string{"order-1", "1", "a/b?c=d#e", "%2F", "..", "ord:1@x", "~!$&'()*+,;=", "evt_0sa6jzbaw0000", strings.Repeat("x", 255)} {
		a := c.post("/api/v1/events", map[string]any{"type": "a", "data": 1, "id": id}).want(202).shows(map[string]any{"id": id})
		if a.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%q counts as published before", id)
		}
		path := strings.ReplaceAll("/api/v1/events/"+url.PathEscape(id), "/..", "/%2e%2e") // PathEscape leaves full stops
		c.get(path).want(200).shows(map[string]any{"id": id, "data": 1})
	}
	for _, id := range []string{"a b", "ö", "a\nb", "\x00", strings.Repeat("x", 256)} {
		c.post("/api/v1/events", map[string]any{"type": "a", "data": 1, "id": id}).refused(422, "id", "visible ASCII")
	}
}

func TestPublish_RepeatIsIdempotent(t *testing.T) {
	r := start(t)
	c, hook := r.acme, receive(t, nil)
	c.subscribe("*", hook.URL)
	for _, test := range []struct {
		name, body, other string
		headers           []string
	}{
		{"by id", `{"type":"a","id":"one","data":{"x":1}}`, `{"type":"a","id":"one","data":{"x":2}}`, nil},
		{"by Idempotency-Key", `{"type":"a","data":{"x":3}}`, `{"type":"b","data":{"x":3}}`, []string{"Idempotency-Key", "k1"}},
		{"by both", `{"type":"a","id":"two","data":{"x":4}}`, `{"type":"a","id":"two","data":{"x":5}}`, []string{"Idempotency-Key", "k2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.in(t)
			before := len(hook.all())
			first := c.post("/api/v1/events", test.body, test.headers...).want(202).shows(map[string]any{"matched": 1})
			if first.header.Get("Idempotent-Replayed") != "" {
				t.Error("the first counts as a repeat")
			}
			hook.wait(t, before+1)
			c.subscribe("other", anywhere) // the answer stays the same whatever was subscribed since
			for range 3 {
				again := c.post("/api/v1/events", test.body, test.headers...).want(202)
				if string(again.body) != string(first.body) || again.header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("first %s, then %s (replayed %q)", first.body, again.body, again.header.Get("Idempotent-Replayed"))
				}
			}
			c.post("/api/v1/events", test.other, test.headers...).refused(409, "", "")
			c.publish("marker", test.name)
			hook.wait(t, before+2)
			if got := len(hook.all()); got != before+2 {
				t.Errorf("%d deliveries instead of 2", got-before)
			}
			if r.rival.in(t).post("/api/v1/events", test.other, test.headers...).want(202).header.Get("Idempotent-Replayed") != "" {
				t.Error("another account's key counts")
			}
		})
	}
	for _, key := range []string{"a b", "\xc3\xb6", strings.Repeat("k", 256)} {
		c.post("/api/v1/events", `{"type":"a","data":1}`, "Idempotency-Key", key).refused(422, "Idempotency-Key", "visible ASCII")
	}
	for _, body := range []string{`{"type":"a","data":1}`, `[{"type":"a","data":1}]`} {
		c.post("/api/v1/events", body, "Idempotency-Key", "one", "Idempotency-Key", "other").refused(422, "Idempotency-Key", "given twice")
	}
}

func TestPublish_ConcurrentSameKey(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	c.subscribe("a", hook.URL)
	var wg sync.WaitGroup
	ids, replayed := make([]string, 24), make([]bool, 24)
	for i := range ids {
		wg.Go(func() {
			a := c.post("/api/v1/events", `{"type":"a","data":{"x":1}}`, "Idempotency-Key", "same")
			ids[i], replayed[i] = fmt.Sprintf("%d %v %v", a.status, a.at("id"), a.at("matched")), a.header.Get("Idempotent-Replayed") == "true"
		})
	}
	wg.Wait()
	slices.Sort(ids)
	if ids[0] != ids[len(ids)-1] || !strings.HasPrefix(ids[0], "202 evt_") {
		t.Errorf("answers were %v", slices.Compact(ids))
	}
	fresh := 0
	for _, r := range replayed {
		if !r {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d of the answers say that the event is new", fresh)
	}
	if got := c.pages("/api/v1/events?limit=10", "id"); len(got) != 1 {
		t.Errorf("%d events are stored", len(got))
	}
	c.publish("a", "marker")
	if got := hook.wait(t, 2); len(got) != 2 {
		t.Errorf("%d deliveries", len(got))
	}
}

func batch(n int) []map[string]any {
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = map[string]any{"type": "a", "id": fmt.Sprintf("b-%d", i), "data": map[string]int{"n": i}}
	}
	return list
}

func TestPublish_BatchIsAtomic(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	c.post("/api/v1/events", batch(1001)).refused(422, "", "1 to 1000")
	c.post("/api/v1/events", `[]`).refused(422, "", "1 to 1000")
	for body, want := range map[string][2]string{
		`[{"type":"a","data":1},{"type":"a b","data":1}]`:                   {"events[1].type", "events[1].type"},
		`[{"type":"a b","data":1}]`:                                         {"events[0].type", "is not an event type"},
		`[{"type":"a","data":1},{"type":"a"},{"type":"a","data":2}]`:        {"events[1].data", "is missing"},
		`[{"type":"a","data":1},{"data":1}]`:                                {"events[1].type", "is missing"},
		`[{"type":"a","data":1},5]`:                                         {"events[1]", "must be an object"},
		`[{"type":"a","data":1},{"type":"a","data":1,"x":1}]`:               {"events[1].x", "is not known"},
		`[{"type":"a","data":1},{"type":"a","data":1,"time":"now"}]`:        {"events[1].time", "is not a time"},
		`[{"type":"a","data":1},{"type":"a","data":1,"headers":{"a":1}}]`:   {"events[1].headers.a", "must be a string"},
		`[{"type":"a","data":1},{"type":"a","data":1,"account":"rival"}]`:   {"events[1].account", "must be left out"},
		`[{"type":"a","data":1,"id":"x"},{"type":"a","data":2,"id":"x"}]`:   {"events[1]", ""},
		`[{"type":"a","data":1,"id":"y"},{"type":"a","data":1,"id":"y z"}]`: {"events[1].id", "visible ASCII"},
	} {
		a := c.post("/api/v1/events", body)
		if a.status != 422 && a.status != 409 {
			t.Errorf("%s: %d", body, a.status)
		}
		a.refused(a.status, want[0], want[1])
	}
	if got := c.pages("/api/v1/events?limit=10", "id"); len(got) != 0 {
		t.Fatalf("refused lists left %v", got)
	}
	c.subscribe("a", hook.URL)
	a := c.post("/api/v1/events", batch(1000)).want(202).shows(map[string]any{"data.0.id": "b-0", "data.999.id": "b-999", "data.999.matched": 1, "data.1000": nil})
	if again := c.post("/api/v1/events", batch(1000)).want(202); string(again.body) != string(a.body) || again.header.Get("Idempotent-Replayed") != "true" {
		t.Error("the same list again is answered otherwise")
	}
	if got := c.pages("/api/v1/events?limit=300", "id"); len(got) != 1000 || got[0] != "b-999" {
		t.Errorf("%d events are listed", len(got))
	}
	hook.wait(t, 1000)
	eventually(t, "nothing waits any more", func() bool {
		return len(c.get("/api/v1/deliveries?status=pending&limit=1").want(200).column("id")) == 0
	})
	if got := c.pages("/api/v1/deliveries?status=succeeded&limit=500", "id"); len(got) != 1000 {
		t.Errorf("%d deliveries are recorded", len(got))
	}
	if got := len(hook.all()); got != 1000 {
		t.Errorf("%d deliveries", got)
	}
}

func TestPublish_BatchIdempotencyKey(t *testing.T) {
	c := start(t).acme
	list := `[{"type":"a","data":1},{"type":"a","data":1}]`
	first := c.post("/api/v1/events", list, "Idempotency-Key", "k").want(202)
	if first.text("data.0.id") == first.text("data.1.id") {
		t.Error("two events of a list became one")
	}
	if again := c.post("/api/v1/events", list, "Idempotency-Key", "k").want(202); string(again.body) != string(first.body) {
		t.Errorf("first %s, then %s", first.body, again.body)
	}
	c.post("/api/v1/events", `[{"type":"a","data":1},{"type":"a","data":2}]`, "Idempotency-Key", "k").refused(409, "events[1]", "")
}

func TestPublish_InvalidEvents(t *testing.T) {
	r := start(t)
	for body, want := range map[string][2]string{
		`{"data":1}`:                                          {"type", "is missing"},
		`{"type":"a"}`:                                        {"data", "is missing"},
		`{"type":"","data":1}`:                                {"type", "is missing"},
		`{"type":null,"data":1}`:                              {"type", "is missing"},
		`{"type":"a b","data":1}`:                             {"type", "is not an event type"},
		`{"type":"order.*","data":1}`:                         {"type", "is not an event type"},
		`{"type":5,"data":1}`:                                 {"type", "must be a string, not a number"},
		`{"type":["a"],"data":1}`:                             {"type", "must be a string, not an array"},
		`{"type":"a","data":1,"id":5}`:                        {"id", "must be a string"},
		`{"type":"a","data":1,"time":5}`:                      {"time", "must be a string"},
		`{"type":"a","data":1,"time":"x"}`:                    {"time", "RFC 3339"},
		`{"type":"a","data":1,"headers":5}`:                   {"headers", "must be an object"},
		`{"type":"a","data":1,"time":"0001-02-03T00:00:00Z"}`: {"time", "1970 to 9999"},
		`{"type":"a","data":1,"account":"rival"}`:             {"account", "must be left out"},
		`{"type":"a","data":1,"headers":{"a":"` + strings.Repeat("x", 9<<10) + `"}}`: {"headers", "are allowed"},
		`{"type":"` + strings.Repeat("x", 129) + `","data":1}`:                       {"type", "is not an event type"},
	} {
		r.acme.post("/api/v1/events", body).refused(422, want[0], want[1])
	}
	r.admin.post("/api/v1/events", `{"type":"a","data":1,"account":"acme"}`).want(202)
	for _, account := range []string{"no account", "*", strings.Repeat("x", 129)} {
		r.admin.post("/api/v1/events", map[string]any{"type": "a", "data": 1, "account": account}).refused(422, "account", "")
	}
	if got := r.acme.pages("/api/v1/events?limit=5", "account"); !slices.Equal(got, []string{"acme"}) {
		t.Errorf("acme sees %v", got)
	}
}

func TestPublish_SchemaValidation(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.created","schema":{"type":"object","required":["id"],
		"properties":{"id":{"type":"integer"},"items":{"type":"array","items":{"properties":{"price":{"type":"number","minimum":0}}}}}}}`).want(201)
	r.acme.post("/api/v1/events", `{"type":"order.created","data":{"id":1,"items":[{"price":2}]}}`).want(202)
	for data, field := range map[string]string{
		`{}`: "data", `[]`: "data", `{"id":"1"}`: "data.id", `{"id":1,"items":[{"price":1},{"price":-1}]}`: "data.items[1].price",
	} {
		r.acme.post("/api/v1/events", `{"type":"order.created","data":`+data+`}`).refused(422, field, "does not fit the schema of order.created")
		r.acme.post("/api/v1/events", `[{"type":"x","data":1},{"type":"order.created","data":`+data+`}]`).refused(422, "events[1]."+field, "does not fit the schema of order.created")
	}
	r.acme.post("/api/v1/events", `{"type":"order.paid","data":{}}`).want(202)
	if got := r.acme.pages("/api/v1/events?limit=5", "type"); !slices.Equal(got, []string{"order.paid", "order.created"}) {
		t.Errorf("stored: %v", got)
	}
	r.admin.do("PUT", "/api/v1/event-types/order.created", `{}`).want(200)
	r.acme.post("/api/v1/events", `{"type":"order.created","data":{}}`).want(202)
}

func TestPublish_StrictTypes(t *testing.T) {
	r := start(t, setup{strict: true})
	r.acme.post("/api/v1/events", `{"type":"order.created","data":1}`).refused(422, "type", "is not registered")
	r.admin.post("/api/v1/event-types", `{"name":"order.created"}`).want(201)
	r.acme.post("/api/v1/events", `{"type":"order.created","data":1}`).want(202)
	r.acme.post("/api/v1/events", `[{"type":"order.created","data":1},{"type":"order.craeted","data":1}]`).refused(422, "events[1].type", "is not registered")
}

func TestEvents_ListPagesAndFilters(t *testing.T) {
	r := start(t)
	c := r.acme
	var ids, created []string
	for i := range 7 {
		id := c.publish([]string{"order.created", "user.created"}[i%2], i)
		ids = append([]string{id}, ids...)
		if i%2 == 0 {
			created = append([]string{id}, created...)
		}
	}
	r.rival.publish("order.created", 1)
	r.admin.publish("order.created", 1)
	hour := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for query, want := range map[string][]string{
		"": ids, "type=order.created": created, "type=order.*": nil, "type=none": nil, "since=2026-01-01T00:00:00Z": ids, "since=1999-01-01T00:00:00Z": ids, "since=" + hour: nil,
	} {
		if got := c.pages("/api/v1/events?limit=2&"+query, "id"); !slices.Equal(got, want) {
			t.Errorf("%q: want %v, got %v", query, want, got)
		}
	}
	if all := r.admin.pages("/api/v1/events?account=*&limit=4", "id"); len(all) != 9 {
		t.Errorf("an admin key sees %d events of 9", len(all))
	}
	if got := r.admin.pages("/api/v1/events?account=*&type=order.created&limit=4", "id"); len(got) != 6 {
		t.Errorf("an admin key sees %d events of 6", len(got))
	}
}

// Fiber reuses the memory of a request's body and headers; stored values must be copies.
func TestPublish_ConcurrentEventsDoNotMix(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	c.subscribe("*", hook.URL, map[string]any{"payload_format": "data", "filter": "data.text != nil"})
	const publishers, each = 8, 60
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for n := range each {
				name := fmt.Sprintf("%d-%d", p, n)
				text := strings.Repeat(name+" ", 1+(p*7+n)%50)
				a := c.post("/api/v1/events", map[string]any{
					"type": fmt.Sprintf("type%d.n%d", p, n), "id": name, "headers": map[string]string{"name-" + name: text}, "data": map[string]string{"text": text, "name": name},
				}, "Idempotency-Key", "key-"+name)
				if a.status != 202 || a.at("id") != name {
					c.t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	for p := range publishers {
		for n := range each {
			name := fmt.Sprintf("%d-%d", p, n)
			text := strings.Repeat(name+" ", 1+(p*7+n)%50)
			c.get("/api/v1/events/" + name).want(200).shows(map[string]any{
				"type": fmt.Sprintf("type%d.n%d", p, n), "data.text": text, "data.name": name, "headers.name-" + name: text, "matched": 1,
			})
		}
	}
	seen := map[string]bool{}
	for _, got := range hook.wait(t, publishers*each) {
		var body struct{ Name, Text string }
		must(t, json.Unmarshal([]byte(got.body), &body))
		if !strings.HasPrefix(body.Text, body.Name+" ") || strings.ReplaceAll(body.Text, body.Name+" ", "") != "" || seen[body.Name] {
			t.Errorf("delivered: %.100s", got.body)
		}
		seen[body.Name] = true
	}
}

func TestPublish_RepeatsAreComparedByContent(t *testing.T) {
	r := start(t)
	c := r.acme
	hook := receive(t, nil)
	c.subscribe("a", hook.URL)
	publish := func(body, key string) *answer {
		if key == "" {
			return c.post("/api/v1/events", body)
		}
		return c.post("/api/v1/events", body, once, key)
	}
	for i, test := range []struct{ body, same, other string }{
		{`{"type":"a","data":{"a":1,"b":"é"}}`, `{ "data": { "b": "\u00e9", "a": 1 }, "type": "a" }`, `{"type":"a","data":{"a":2,"b":"é"}}`},
		{`{"type":"a","data":[1,2]}`, `{"type":"a","data":[ 1,2 ]}`, `{"type":"a","data":[2,1]}`},
		{`{"type":"a","data":12345678901234567890}`, `{"type":"a","data": 12345678901234567890 }`, `{"type":"a","data":12345678901234567891}`},
		{`{"type":"a","data":{"x":1},"time":"2026-01-31T09:30:00Z"}`, `{"type":"a","data":{"x": 1},"time":"2026-01-31t10:30:00+01:00"}`, `{"type":"a","data":{"x":1},"time":"2026-01-31T09:30:01Z"}`},
		{`[{"type":"a","data":{"x":1}},{"type":"a","data":2}]`, `[{"type":"a","data":{"x" : 1}},{"type":"a","data": 2}]`, `[{"type":"a","data":{"x":1}},{"type":"a","data":3}]`},
	} {
		key := fmt.Sprint("k", i)
		first := publish(test.body, key).want(202)
		again := publish(test.same, key).want(202)
		if string(again.body) != string(first.body) || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s again: %s", test.body, again.body)
		}
		publish(test.other, key).refused(409, strings.TrimPrefix(map[bool]string{true: "events[1]"}[test.body[0] == '['], ""), "")
	}
	// Under an id of its own as well, and within one list.
	publish(`{"type":"a","id":"mine","data":{"x":1}}`, "").want(202)
	publish(`{"type":"a","id":"mine","data":{ "x":1 }}`, "").want(202).shows(map[string]any{"id": "mine"})
	publish(`[{"type":"a","id":"two","data":{"x":1}},{"type":"a","id":"two","data":{ "x":1 }}]`, "").want(202)
	publish(`[{"type":"a","id":"three","data":{"x":1}},{"type":"a","id":"three","data":{"x":2}}]`, "").refused(409, "events[1]", "")
	if n := len(c.get("/api/v1/events").column("id")); n != 8 {
		t.Errorf("%d events were stored", n)
	}
}
