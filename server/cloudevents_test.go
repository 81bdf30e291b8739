package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	ceevent "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const (
	structured = "application/cloudevents+json"
	batched    = "application/cloudevents-batch+json"
)

// ce returns an event in the JSON format; more is inserted verbatim.
func ce(source, id, more string) string {
	return fmt.Sprintf(`{"specversion":"1.0","type":"com.example.object.deleted.v2","source":%q,"id":%q%s}`, source, id, more)
}

func TestCloudEvents_SDKModes(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	r.acme.subscribe("com.example.*", hook.URL, map[string]any{"payload_format": "data", "filter": `headers["ce-subject"] == "orders/1" && headers["ce-source"] startsWith "https://shop"`})
	made := func(id string) ceevent.Event {
		ev := cloudevents.NewEvent()
		ev.SetID(id)
		ev.SetSource("https://shop.example/orders")
		ev.SetType("com.example.order.created")
		ev.SetSubject("orders/1")
		ev.SetTime(time.Date(2026, 1, 31, 9, 30, 0, 123456789, time.UTC))
		ev.SetDataSchema("https://shop.example/schema")
		ev.SetExtension("region", "eu")
		ev.SetExtension("attempt", 3)
		ev.SetExtension("urgent", true)
		must(t, ev.SetData(cloudevents.ApplicationJSON, map[string]any{"via": id}))
		return ev
	}
	p, err := cloudevents.NewHTTP(cehttp.WithTarget(r.url+"/api/v1/events"), cehttp.WithHeader("Authorization", "Bearer "+r.acme.key))
	must(t, err)
	sender, err := cloudevents.NewClient(p)
	must(t, err)
	for id, ctx := range map[string]cloudevents.Event{"binary": made("binary"), "structured": made("structured")} {
		mode := cloudevents.WithEncodingBinary(t.Context())
		if id == "structured" {
			mode = cloudevents.WithEncodingStructured(t.Context())
		}
		for range 2 { // the second one is a repeat
			var answer *cehttp.Result
			if result := sender.Send(mode, ctx); !cloudevents.ResultAs(result, &answer) || answer.StatusCode != 202 || !cloudevents.IsACK(result) {
				t.Fatalf("%s: %v", id, result)
			}
		}
	}
	req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), r.url+"/api/v1/events", []ceevent.Event{made("batch-1"), made("batch-2")})
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+r.acme.key)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	res.Body.Close()
	if res.StatusCode != 202 {
		t.Fatalf("the batch: %d", res.StatusCode)
	}
	for _, id := range []string{"binary", "structured", "batch-1", "batch-2"} {
		r.acme.get("/api/v1/events/" + id).want(200).shows(map[string]any{
			"id": id, "type": "com.example.order.created", "time": "2026-01-31T09:30:00.123Z", "data.via": id, "matched": 1,
			"headers.ce-source": "https://shop.example/orders", "headers.ce-subject": "orders/1", "headers.ce-dataschema": "https://shop.example/schema",
			"headers.ce-datacontenttype": "application/json", "headers.ce-region": "eu", "headers.ce-attempt": "3", "headers.ce-urgent": "true",
		})
	}
	bodies := []string{}
	for _, got := range hook.wait(t, 4) {
		bodies = append(bodies, got.body)
	}
	slices.Sort(bodies)
	if want := []string{`{"via":"batch-1"}`, `{"via":"batch-2"}`, `{"via":"binary"}`, `{"via":"structured"}`}; !slices.Equal(bodies, want) {
		t.Errorf("delivered: %q", bodies)
	}
}

func TestCloudEvents_IdempotentBySourceAndID(t *testing.T) {
	c := start(t).acme
	post := func(source, more string) *answer {
		return c.post("/api/v1/events", ce(source, "1", more), "Content-Type", structured)
	}
	post("/a", `,"data":1`).want(202).shows(map[string]any{"id": "1"})
	post("/b", `,"data":2`).want(202).shows(map[string]any{"id": "1"})
	c.post("/api/v1/events", `{"type":"x","id":"1","data":3}`).want(202)
	for _, more := range []string{`,"data":1`, `,"data":1,"traceparent":"00-x"`, `,"data":1,"time":"2026-01-31T09:30:00Z"`} {
		if a := post("/a", more).want(202); a.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s is new", more)
		}
	}
	post("/a", `,"data":2`).refused(409, "", "other content")
	c.post("/api/v1/events", "["+ce("/c", "1", "")+","+ce("/a", "1", `,"data":7`)+"]", "Content-Type", batched).refused(409, "events[1]", "other content")
	if n := len(c.pages("/api/v1/events?limit=50", "id")); n != 3 {
		t.Errorf("%d events are stored", n)
	}
	for query, data := range map[string]any{"": 3, "?source=/a": 1, "?source=" + url.QueryEscape("/b"): 2} {
		c.get("/api/v1/events/1" + query).want(200).shows(map[string]any{"data": data})
	}
	c.get("/api/v1/events/1?source=/c").refused(404, "", "there is no event")
	c.post("/api/v1/events", ce("/x", "two words €", `,"data":1`), "Content-Type", structured).want(202)
	c.post("/api/v1/events", ce("/y", "two words €", `,"data":2`), "Content-Type", structured).want(202)
	c.get("/api/v1/events/" + url.PathEscape("two words €")).want(200).shows(map[string]any{"data": 1, "id": "two words €"})
}

func TestCloudEvents_InvalidAreRefused(t *testing.T) {
	c := start(t, setup{maxBody: 4096}).acme
	send := func(contentType, body string, headers ...string) *answer {
		return c.post("/api/v1/events", body, append([]string{"Content-Type", contentType}, headers...)...)
	}
	send(structured, `{"specversion":"1.0"`).refused(400, "", "not JSON")
	send(structured, `[]`).refused(422, "", "must be a JSON object")
	send(structured, `{"specversion":"0.3"}`).refused(422, "specversion", "1.0")
	send(structured, ce("/a", "", "")).refused(422, "id", "must not be empty")
	send(structured, ce("/a", "1", `,"type":"x"`)).refused(400, "", "twice")
	send(structured, strings.Replace(ce("/a", "1", ""), "com.example", "com example", 1)).refused(422, "type", "is not an event type")
	send(structured, ce("/a", strings.Repeat("x", 2047), "")).refused(422, "id", "2048 are allowed")
	send(batched, `{}`).refused(422, "", "must be a JSON array")
	send(batched, `[5]`).refused(422, "events[0]", "must be a JSON object")
	send(batched, "["+ce("/a", "1", "")+","+ce("/a", "2", `,"time":"now"`)+"]").refused(422, "events[1].time", "RFC 3339")
	send(batched, "["+strings.TrimSuffix(strings.Repeat("{},", 1001), ",")+"]").refused(422, "", "1000 can be published")
	for _, contentType := range []string{"application/cloudevents", "application/cloudevents+avro", "application/cloudevents-batch+xml", structured + "; charset=iso-8859-1"} {
		send(contentType, ce("/a", "1", "")).refused(415, "", "")
	}
	send(structured, ce("/a", "1", ""), "Content-Encoding", "gzip").refused(415, "", "Content-Encoding")
	send(structured, ce("/a", "1", `,"data":"`+strings.Repeat("x", 5000)+`"`)).refused(413, "", "larger than")
	send("application/json", `{}`, "ce-specversion", "1.0").refused(422, "ce-id", "is missing")
	send("application/json", `{}`, "ce-id", "1").refused(422, "ce-specversion", "is missing")
	all := []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "a"}
	send("application/json", `{`, all...).refused(400, "", "not JSON")
	send("application/json", `{}`, append(all, "ce-subject", "%C0%A0")...).refused(422, "ce-subject", "is not valid UTF-8")
	send("application/json", `{}`, append(all, "ce-datacontenttype", "application/json")...).refused(422, "ce-datacontenttype", "must not be there")
	if n := len(c.pages("/api/v1/events?limit=50", "id")); n != 0 {
		t.Errorf("%d events are stored", n)
	}
	send(batched, `[]`).want(202).shows(map[string]any{"data": "[]"})
}

// The requests are written by hand, to follow the HTTP binding exactly.
func TestCloudEvents_BinaryMode(t *testing.T) {
	r := start(t)
	for i, c := range []struct {
		contentType, body, data, encoding string
	}{
		{"application/json; charset=utf-8", `{"a":1.0}`, `{"a":1.0}`, ""},
		{"text/plain", "Grüße", `"Grüße"`, ""},
		{"image/png", "\x89PNG\x00", `"iVBORwA="`, "base64"},
		{"", `[1]`, `[1]`, ""},
		{"", ``, `null`, ""},
	} {
		req, err := http.NewRequest("POST", r.url+"/api/v1/event/", bytes.NewReader([]byte(c.body)))
		must(t, err)
		req.Header = http.Header{
			"authorization": {"Bearer " + r.acme.key}, "CE-SPECVERSION": {"1.0"}, "ce-type": {"com.example.someevent"}, "ce-time": {"2018-04-05T03:56:24Z"},
			"Ce-Id": {fmt.Sprint("1234-", i)}, "ce-source": {"/mycontext/subcontext"}, "ce-subject": {"Euro%20%E2%82%AC%20%F0%9F%98%80"}, "ce-comexampleothervalue": {"5"},
		}
		if c.contentType != "" {
			req.Header.Set("Content-Type", c.contentType)
		}
		res, err := http.DefaultClient.Do(req)
		must(t, err)
		var accepted struct{ ID string }
		must(t, json.NewDecoder(res.Body).Decode(&accepted))
		res.Body.Close()
		if res.StatusCode != 202 || accepted.ID != fmt.Sprint("1234-", i) {
			t.Fatalf("%v: %d %v", c, res.StatusCode, accepted)
		}
		got := r.acme.get("/api/v1/events/" + accepted.ID + "?source=/mycontext/subcontext").want(200)
		got.shows(map[string]any{"headers.ce-subject": "Euro € 😀", "headers.ce-comexampleothervalue": "5", "time": "2018-04-05T03:56:24Z"})
		if encoding, _ := got.at("headers.ce-data-encoding").(string); encoding != c.encoding || !strings.Contains(string(got.body), `"data":`+c.data) {
			t.Errorf("%v is shown as %s", c, got.body)
		}
	}
}
