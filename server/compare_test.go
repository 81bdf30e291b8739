package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// compared reads a comparison's stream.
type compared struct {
	totals  map[string]any
	changes map[string]map[string]any // by event
	order   []string                  // of the lines: their kinds
	problem map[string]any
}

func (c *client) compare(script string, body map[string]any) compared {
	c.t.Helper()
	a := c.post("/api/v1/scripts/"+script+"/compare", body).want(200)
	if got := a.header.Get("Content-Type"); got != "application/x-ndjson" {
		c.t.Errorf("Content-Type %q", got)
	}
	b := compared{changes: map[string]map[string]any{}}
	for line := range bytes.Lines(a.body) {
		var v map[string]any
		must(c.t, json.Unmarshal(line, &v))
		kind := v["kind"].(string)
		b.order = append(b.order, kind)
		switch kind {
		case "change":
			b.changes[v["event_id"].(string)] = v
		case "totals":
			b.totals = v
		case "problem":
			b.problem = v["problem"].(map[string]any)
		}
	}
	if last := b.order[len(b.order)-1]; last != "totals" && last != "problem" {
		c.t.Errorf("the stream ends with %q", last)
	}
	return b
}

// counts returns the non-zero totals.
func (b compared) counts() string {
	counts := []string{}
	for _, name := range []string{"events", "same", "differs", "newly_matched", "no_longer_matched", "dropped", "errors"} {
		if n := b.totals[name]; n != 0.0 {
			counts = append(counts, fmt.Sprint(name, " ", n))
		}
	}
	return strings.Join(counts, ", ")
}

func (b compared) changeOf(event string) any { return b.changes[event]["change"] }

func TestCompare_CountsChanges(t *testing.T) {
	c := start(t).acme
	live := `export default ({data}) => {
		if (data.n === 4) return drop("four")
		if (data.n === 5) throw new Error("five")
		if (data.n === 7) return drop("seven")
		return {n: data.n}
	}`
	candidate := `export default ({data}, request) => {
		if (data.n === 1) return {n: -1}
		if (data.n === 2) return drop("two")
		if (data.n === 3) throw new Error("three")
		if (data.n === 6) request.path = "/six"
		if (data.n === 7) return drop("seven, for another reason")
		return {n: data.n}
	}`
	c.script("transform", "t", live, candidate)
	for n := range 10 {
		c.post("/api/v1/events", fmt.Sprintf(`{"type":"a","id":"e%d","data":{"n":%d}}`, n, n)).want(202)
	}
	for _, body := range []map[string]any{{"version": 2}, {"source": candidate}} {
		b := c.compare("t", body)
		if got := b.counts(); got != "events 10, same 3, differs 3, newly_matched 2, dropped 1, errors 1" {
			t.Errorf("%v: %s", body, got)
		}
		if b.totals["live_version"] != 1.0 || b.totals["p50_ms"].(float64) <= 0 || b.totals["p99_ms"].(float64) < b.totals["p50_ms"].(float64) {
			t.Errorf("%v", b.totals)
		}
		if got := strings.Join(b.order, " "); got != strings.Repeat("change ", 7)+"progress totals" {
			t.Errorf("lines: %s", got)
		}
		for event, want := range map[string]string{"e1": "differs", "e2": "dropped", "e3": "error", "e4": "newly_matched", "e5": "newly_matched", "e6": "differs", "e7": "differs"} {
			if got := b.changeOf(event); got != want {
				t.Errorf("%s: %v", event, got)
			}
		}
		side := func(event, side, member string) any { return b.changes[event][side].(map[string]any)[member] }
		if side("e1", "live", "body") != `{"n":1}` || side("e1", "candidate", "body") != `{"n":-1}` || side("e2", "candidate", "dropped") != "two" || side("e2", "candidate", "sent") != false ||
			side("e3", "candidate", "error").(map[string]any)["line"] != 4.0 || side("e4", "live", "dropped") != "four" || side("e6", "candidate", "request").(map[string]any)["path"] != "/six" {
			t.Errorf("%v", b.changes)
		}
	}
	if got := c.compare("t", map[string]any{"version": 1}).counts(); got != "events 10, same 9, errors 1" { // one event fails in both
		t.Errorf("with itself: %s", got)
	}
	c.get("/api/v1/scripts/t").shows(map[string]any{"stats.runs": 0})
	c.get("/api/v1/scripts/t/versions").want(200).shows(map[string]any{"data.2": nil})
}

func TestCompare_Filter(t *testing.T) {
	c := start(t).acme
	c.script("filter", "f", "data.n < 4", "data.n >= 2 and (data.n != 5 or lower(data.n) == \"\")")
	for n := range 8 {
		c.post("/api/v1/events", fmt.Sprintf(`{"type":"a","id":"e%d","data":{"n":%d}}`, n, n)).want(202)
	}
	b := c.compare("f", map[string]any{"version": 2})
	if got := b.counts(); got != "events 8, same 2, newly_matched 3, no_longer_matched 2, errors 1" {
		t.Errorf("%s %v", got, b.changes)
	}
	if b.changeOf("e0") != "no_longer_matched" || b.changeOf("e7") != "newly_matched" || b.changeOf("e5") != "error" {
		t.Errorf("%v", b.changes)
	}
	// Without a live version every match is new.
	c.post("/api/v1/scripts", `{"name":"g","kind":"filter"}`).want(201)
	b = c.compare("g", map[string]any{"source": "data.n < 2"})
	if got := b.counts(); got != "events 8, same 6, newly_matched 2" || b.totals["live_version"] != 0.0 {
		t.Errorf("%s %v", got, b.totals)
	}
}

func TestCompare_SelectsEvents(t *testing.T) {
	c := start(t).acme
	c.script("transform", "t", "export default () => 1", "export default (_, request) => { request.method = 'PUT'; return 1 }")
	publish := func(kind string, n int) {
		c.post("/api/v1/events", fmt.Sprintf(`{"type":%q,"id":"%s-%d","data":{"n":%d}}`, kind, kind, n, n)).want(202)
	}
	for n := range 6 {
		publish("a", n)
	}
	time.Sleep(20 * time.Millisecond)
	between := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(20 * time.Millisecond)
	for n := range 4 {
		publish("b", n)
	}
	counts := func(body map[string]any, want string) compared {
		t.Helper()
		body["version"] = 2
		b := c.compare("t", body)
		if got := b.counts(); got != want {
			t.Errorf("%v: %s", body, got)
		}
		return b
	}
	counts(map[string]any{}, "events 10, differs 10") // unused script: all events
	counts(map[string]any{"last": 7}, "events 7, differs 7")
	if b := counts(map[string]any{"last": 1}, "events 1, differs 1"); b.changeOf("b-3") != "differs" {
		t.Errorf("the newest is not the first: %v", b.changes)
	}
	counts(map[string]any{"since": between}, "events 4, differs 4")
	counts(map[string]any{"until": between}, "events 6, differs 6")
	counts(map[string]any{"since": between, "until": between}, "")
	counts(map[string]any{"since": nil, "until": between, "last": 2}, "events 2, differs 2")

	// The event types of its subscriptions.
	sub := c.subscribe("a", anywhere, map[string]any{"transform_script": "t", "filter": "data.n > 3", "headers": map[string]string{"Authorization": "Bearer t0k3n", "X-A": "1"}, "visible_headers": []string{"x-a"}})
	counts(map[string]any{}, "events 6, differs 6")
	// One of them: its filter comes first, and its request is what the transform sees.
	b := counts(map[string]any{"subscription_id": sub}, "events 2, differs 2")
	request := b.changes["a-5"]["candidate"].(map[string]any)["request"].(map[string]any)
	if request["path"] != "/hook" || request["method"] != "PUT" || fmt.Sprint(request["headers"]) != "map[Authorization:[hidden] X-A:1]" {
		t.Errorf("the transform's request: %v", request)
	}
	other := c.subscribe("b", anywhere)
	c.post("/api/v1/scripts/t/compare", map[string]any{"version": 2, "subscription_id": other}).refused(422, "subscription_id", "does not use this script")
	c.do("PATCH", "/api/v1/subscriptions/"+sub, `{"filter_script":null,"filter":"data.n > 4"}`).want(200)
	counts(map[string]any{"subscription_id": sub}, "events 1, differs 1")
	c.script("filter", "f", "data.n == 0 or data.n == 1")
	c.do("PATCH", "/api/v1/subscriptions/"+sub, `{"filter_script":"f"}`).want(200)
	counts(map[string]any{"subscription_id": sub, "last": 1}, "events 1, differs 1")
}

func TestCompare_InvalidInput(t *testing.T) {
	c := start(t).acme
	c.script("transform", "t", bodyOf)
	for body, want := range map[string]struct {
		status        int
		field, detail string
	}{
		`{}`:                                  {422, "version", "or source must be given"},
		`{"version":1,"source":"x"}`:          {422, "version", "or source must be given"},
		`{"version":2}`:                       {404, "", "no version"},
		`{"version":-1}`:                      {404, "", "no version"},
		`{"version":1,"last":-1}`:             {422, "last", "must be 1 to"},
		`{"version":1,"last":1000001}`:        {422, "last", "must be 1 to"},
		`{"version":1,"since":"then"}`:        {422, "since", ""},
		`{"version":1,"subscription_id":"x"}`: {404, "", "there is no subscription"},
		`{"version":1,"subscription_id":"sub_0000000000000"}`: {404, "", "there is no subscription"},
		`{"source":"export default ("}`:                       {422, "source", ""},
		`{"vesion":1}`:                                        {422, "vesion", "did you mean"},
	} {
		c.post("/api/v1/scripts/t/compare", body).refused(want.status, want.field, want.detail)
	}
	c.post("/api/v1/scripts/nobody/compare", `{"version":1}`).refused(404, "", "there is no script")
	c.compare("t", map[string]any{"version": 1}) // the slot was released
	c.compare("t", map[string]any{"version": 1})
	c.compare("t", map[string]any{"version": 1})
}

// stalledComparison opens a comparison whose response exceeds the connection's buffers, and reads only the
// first line, so that the comparison runs until the test ends it.
func stalledComparison(t *testing.T, r *testServer) *http.Response {
	t.Helper()
	c := r.acme
	if c.get("/api/v1/scripts/long").status == 404 {
		c.script("transform", "long", "export default ({data}) => data", "export default ({data}) => data + data")
		events := make([]map[string]any, 40)
		for i := range events {
			events[i] = map[string]any{"type": "a", "data": strings.Repeat("x", 15<<10)}
		}
		for range 30 { // 38 MB of changes
			c.post("/api/v1/events", events).want(202)
		}
	}
	req, err := http.NewRequest("POST", r.url+"/api/v1/scripts/long/compare", strings.NewReader(`{"version":2}`))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+c.key)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	t.Cleanup(func() { res.Body.Close() })
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	must(t, err)
	if res.StatusCode != 200 || !strings.Contains(line, `"kind":"change"`) {
		t.Fatalf("%d: the first line is %.300s", res.StatusCode, line)
	}
	return res
}

func TestCompare_StopsOnClientDisconnect(t *testing.T) {
	r := start(t)
	first := stalledComparison(t, r)
	a := r.acme.post("/api/v1/scripts/long/compare", `{"version":1,"last":1}`)
	a.refused(429, "", "too many comparisons of this account are running")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	first.Body.Close()
	eventually(t, "there is room again", func() bool {
		return r.acme.post("/api/v1/scripts/long/compare", `{"version":1,"last":1}`).status == 200
	})
	r.acme.get("/healthz").want(200)
}

func TestCompare_StopsOnShutdown(t *testing.T) {
	r := start(t)
	stalledComparison(t, r)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // a write may take longer
	defer cancel()
	check(t, r.server.Shutdown(ctx))
}

func TestShadow_CountsLiveEventsWithoutSending(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	c.script("transform", "t", "export default ({data}) => ({n: data.n})", "export default ({data}) => data.n % 2 ? ({n: -1}) : data.n == 2 ? drop('two') : ({n: data.n})")
	c.script("filter", "f", "data.n >= 0", "data.n >= 4")
	sub := c.subscribe("a", hook.URL, map[string]any{"transform_script": "t", "filter_script": "f"})
	shadow := func(script string) string { return "/api/v1/scripts/" + script + "/shadow" }
	c.get(shadow("t")).refused(404, "", "there is no shadow run")
	c.do("DELETE", shadow("t"), nil).refused(404, "", "there is no shadow run")
	for body, want := range map[string]struct {
		status int
		field  string
	}{
		`{"version":2,"duration":-1}`: {422, "duration"}, `{"version":2,"duration":604801}`: {422, "duration"}, `{"version":2,"duration":9223372036854775807}`: {422, "duration"},
		`{"version":2,"duration":"169h"}`: {422, "duration"}, `{"version":2,"duration":0}`: {422, "duration"}, `{"version":2,"duration":"week"}`: {422, "duration"},
		`{"duration":60}`: {422, "version"}, `{"version":1,"duration":60}`: {422, "version"}, `{"version":9,"duration":60}`: {404, ""}, `{"version":2,"duration":"1"}`: {422, "duration"},
	} {
		c.do("POST", shadow("t"), body).refused(want.status, want.field, "")
	}
	c.post("/api/v1/scripts", `{"name":"empty","kind":"filter"}`).want(201)
	c.do("POST", shadow("empty"), `{"version":1,"duration":"60s"}`).refused(409, "", "nothing to compare with")

	until, err := time.Parse(time.RFC3339, c.do("POST", shadow("t"), `{"version":2}`).want(201).text("until"))
	if left := time.Until(until); err != nil || left < 59*time.Minute || left > time.Hour {
		t.Errorf("without a duration it ends in %s (%v)", left, err)
	}
	for _, script := range []string{"t", "f"} {
		c.do("POST", shadow(script), `{"version":2,"duration":"60s"}`).want(201).shows(map[string]any{"version": 2, "events": 0, "skipped": 0})
	}
	const n = 10
	for i := range n {
		c.publish("a", map[string]any{"n": i})
		hook.wait(t, i+1) // one by one, within the concurrency limit
	}
	c.post("/api/v1/preview", map[string]any{"subscription_id": sub, "event": json.RawMessage(`{"type":"a","data":{"n":1}}`)}).want(200) // a preview is not live traffic
	c.get(shadow("f")).want(200).shows(map[string]any{"events": n, "no_longer_matched": 4, "same": 6})
	eventually(t, "all are compared", func() bool {
		a := c.get(shadow("t")).want(200)
		return fmt.Sprint(a.at("events"), "+", a.at("skipped")) == "10+0" || a.at("skipped") != json.Number("0")
	})
	if a := c.get(shadow("t")); fmt.Sprint(a.at("skipped")) == "0" {
		a.shows(map[string]any{"differs": 5, "dropped": 1, "same": 4, "errors": 0})
	}
	for i, req := range hook.all() {
		if req.body != fmt.Sprintf(`{"n":%d}`, i) {
			t.Errorf("sent: %s", req.body)
		}
	}
	// A new run counts from 0; a stopped one is deleted.
	c.do("POST", shadow("f"), `{"version":2,"duration":"1m"}`).want(201).shows(map[string]any{"events": 0})
	c.do("DELETE", shadow("f"), nil).want(204)
	c.get(shadow("f")).refused(404, "", "there is no shadow run")
	c.publish("a", map[string]any{"n": 0})
	// Activating the candidate ends the run.
	c.goLive("t", 2)
	c.publish("a", map[string]any{"n": 100})
	hook.wait(t, n+2)
	c.get(shadow("t")).want(200).shows(map[string]any{"version": 2})
	// After its duration the counts stay.
	c.goLive("t", 1)
	c.do("POST", shadow("t"), `{"version":2,"duration":"1s"}`).want(201)
	time.Sleep(1100 * time.Millisecond)
	c.publish("a", map[string]any{"n": 1})
	hook.wait(t, n+3)
	c.get(shadow("t")).want(200).shows(map[string]any{"events": 0, "skipped": 0})
}

// A candidate that never ends would take its time limit, and a process, for each of 10,000 events.
func TestCompare_EndsIfTheSandboxStopsEveryRun(t *testing.T) {
	c := start(t).acme
	c.script("transform", "t", "export default ({data}) => data")
	events := make([]map[string]any, 60)
	for i := range events {
		events[i] = map[string]any{"type": "a", "data": i}
	}
	c.post("/api/v1/events", events).want(202)
	b := c.compare("t", map[string]any{"source": "export default () => { for (;;); }"})
	if detail := fmt.Sprint(b.problem["detail"]); len(b.changes) != 19 || !strings.Contains(detail, "for 20 events in a row: timeout after 50 ms") {
		t.Errorf("after %d changes: %v", len(b.changes), b.problem)
	}
	some := c.compare("t", map[string]any{"source": "export default ({data}) => { while (data % 10 != 0); return data }"})
	if some.problem != nil || some.totals["errors"] != 54.0 {
		t.Errorf("%v, %v", some.problem, some.totals)
	}
}
