package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"switchhook/server/api"
	"sync"
	"testing"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const orderEvent = `{"type":"order.created","data":{"id":1001,"total":129.5,"currency":"EUR"}}`

func TestPreview_ShowsRequest(t *testing.T) {
	c := start(t).acme
	a := c.post("/api/v1/preview", `{
		"filter": "data.total > 100 and data.currency == \"EUR\"",
		"transform": "export default (event, request) => { console.log('id', event.data.id); request.headers['X-Id'] = String(event.data.id); return {order: event.data.id} }",
		"event": {"type":"order.created","id":"mine","time":"2026-01-31T09:30:00Z","headers":{"X-Region":"eu"},"data":{"id":1001,"total":129.5,"currency":"EUR"}}}`).want(200)
	a.shows(map[string]any{
		"matched": true, "dropped": nil, "error": nil, "event.id": "mine", "event.time": "2026-01-31T09:30:00Z", "event.account": "acme",
		"filter.matched": true, "filter.terms.0.depth": 0, "filter.terms.0.result": true,
		"request.method": "POST", "request.url": "https://example.com/", "request.body": `{"order":1001}`, "request.headers.X-Id": "1001", "request.headers.Content-Type": "application/json",
		"request.headers.webhook-signature": nil, "script.console": "[log: id 1001]", "script.id": nil,
	})
	if id := a.text("request.headers.webhook-id"); id != a.text("event.webhook_id") {
		t.Errorf("webhook-id %q", id)
	}
	terms := []string{}
	for i := range a.at("filter.terms").([]any) {
		terms = append(terms, fmt.Sprint(a.at(fmt.Sprintf("filter.terms.%d.source", i)), "=", a.at(fmt.Sprintf("filter.terms.%d.value", i))))
	}
	for _, want := range []string{"data.total=129.5", "data.currency=EUR", "data.total > 100=true"} {
		if !slices.Contains(terms, want) {
			t.Errorf("the filter's terms are %q, without %q", terms, want)
		}
	}
	// Without a transform it is the standard payload.
	a = c.post("/api/v1/preview", map[string]any{"event": json.RawMessage(orderEvent)}).want(200)
	a.shows(map[string]any{"filter": nil, "matched": true, "script": nil})
	if body := a.text("request.body"); !strings.HasPrefix(body, `{"type":"order.created","timestamp":"`) {
		t.Errorf("body %s", body)
	}
}

func TestPreview_ExplainsMismatch(t *testing.T) {
	c := start(t).acme
	a := c.post("/api/v1/preview", `{"filter":"data.total > 1000 and data.vip","transform":"export default () => 1","event":`+orderEvent+`}`).want(200)
	a.shows(map[string]any{"matched": false, "request": nil, "script": nil, "filter.matched": false, "filter.terms.0.result": false})
	states := map[string]string{}
	for i := range a.at("filter.terms").([]any) {
		states[a.text(fmt.Sprintf("filter.terms.%d.source", i))] = a.text(fmt.Sprintf("filter.terms.%d.state", i))
	}
	if states["data.total > 1000"] != "evaluated" || states["data.vip"] != "skipped" {
		t.Errorf("terms: %v", states)
	}
	c.post("/api/v1/preview", `{"filter":"data.vip == true","event":`+orderEvent+`}`).want(200).shows(map[string]any{"matched": false, "filter.terms.1.source": "data.vip", "filter.terms.1.missing": true})
	// A failing filter counts as no match, with the position of the error.
	c.post("/api/v1/preview", `{"filter":"lower(data.total) == \"x\"","event":`+orderEvent+`}`).want(200).
		shows(map[string]any{"matched": false, "request": nil, "filter.error.line": 1, "filter.terms.0.state": "failed"})
}

func TestPreview_ShowsScriptError(t *testing.T) {
	c := start(t).acme
	preview := func(source string) *answer {
		return c.post("/api/v1/preview", map[string]any{"transform": source, "event": json.RawMessage(orderEvent)}).want(200)
	}
	preview("export default () => drop('not today')").shows(map[string]any{"matched": true, "dropped": "not today", "request": nil, "error": nil})
	preview("export default () => drop()").shows(map[string]any{"dropped": "dropped by the transform", "request": nil})
	preview("export default (event) => {\n  console.warn('here')\n  return event.data.customer.name\n}").shows(map[string]any{
		"request": nil, "dropped": nil, "error.phase": "run", "error.line": 3, "error.column": 30, "error.console": "[warn: here]", "error.snippet": "  return event.data.customer.name\n                             ^",
	})
	preview("export default () => { for (;;); }").shows(map[string]any{"request": nil, "error.phase": "timeout", "error.message": "timeout after 50 ms"})
	preview("export default (event, request) => { request.headers['Host'] = 'x'; return 1 }").shows(map[string]any{"request": nil, "error.phase": "run"})
}

// A script that does not compile hides nothing of the other one.
func TestPreview_ShowsAllDiagnostics(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.paid","schema":{"type":"object","properties":{"total":{"type":"number"}}},"samples":[{"total":700}]}`).want(201)
	c := r.acme
	diagnostics := func(a *answer) string {
		list := []string{}
		for i := range a.at("diagnostics").([]any) {
			d := a.at(fmt.Sprintf("diagnostics.%d", i)).(map[string]any)
			list = append(list, fmt.Sprint(d["source"], " ", d["severity"], " ", d["line"], ":", d["column"], "-", d["end_line"], ":", d["end_column"]))
		}
		return strings.Join(list, ", ")
	}
	const twice = "const a = 1; const a = 2\nexport default () => 1; export default e => e.toLocaleDateString()"
	const in = "export default e => ({n: e.data.total})"
	for name, test := range map[string]struct {
		filter, transform, diagnostics string
		shows                          map[string]any
	}{
		"neither is wrong":    {"data.total > 1", in, "", map[string]any{"matched": true, "request.body": `{"n":700}`, "filter.matched": true, "error": nil}},
		"the transform":       {"data.total > 1", "export default (", "transform error 1:17-1:17", map[string]any{"matched": true, "request": nil, "filter.terms.1.value": 700, "error.phase": "compile", "script": nil}},
		"of no match":         {"data.total > 1000", "export default (", "transform error 1:17-1:17", map[string]any{"matched": false, "request": nil, "filter.matched": false}},
		"the filter":          {"data.total >", in, "filter error 1:13-1:13", map[string]any{"matched": nil, "filter": nil, "request.body": `{"n":700}`, "error": nil}},
		"both, all":           {"data.total >", twice, "filter error 1:13-1:13, transform error 1:20-1:21, transform error 2:32-2:39, transform warning 2:47-2:65", map[string]any{"matched": nil, "filter": nil, "request": nil}},
		"not of the schema":   {"data.totl > 1", in, "filter error 1:6-1:10", map[string]any{"matched": false, "filter.terms.1.missing": true, "request": nil}},
		"while they run":      {"lower(data.total) == \"x\"", in, "filter error 1:12-1:17, filter error 1:1-1:6", map[string]any{"matched": false, "filter.terms.0.state": "failed"}},
		"the transform's run": {"true", "export default e => e.data.x.y", "transform error 1:30-1:31", map[string]any{"matched": true, "error.phase": "run", "request": nil, "script.id": nil}},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.post("/api/v1/preview", map[string]any{"filter": test.filter, "transform": test.transform, "sample": "order.paid"}).want(200)
			if got := diagnostics(a); got != test.diagnostics {
				t.Errorf("%s\n%s", got, a.body)
			}
			a.shows(test.shows)
		})
	}
}

func TestPreview_SubscriptionSignatureAndHeaders(t *testing.T) {
	r := start(t)
	c, hook := r.acme, receive(t, nil)
	made := c.post("/api/v1/subscriptions", map[string]any{
		"event": "order.created", "target_url": hook.URL + "/x?y=1", "payload_format": "data", "filter": "data.total > 100", "headers": map[string]string{"Authorization": "Bearer t0k3n", "X-A": "1"}, "visible_headers": []string{"X-A"},
	}).want(201)
	sub := made.text("id")
	signed := func(body map[string]any) *answer {
		t.Helper()
		body["subscription_id"] = sub
		a := c.post("/api/v1/preview", body).want(200)
		wh, err := webhooks.NewWebhook(made.text("secret"))
		must(t, err)
		headers := http.Header{}
		for name, value := range a.at("request.headers").(map[string]any) {
			headers.Set(name, fmt.Sprint(value))
		}
		check(t, wh.Verify([]byte(a.text("request.body")), headers))
		return a
	}
	signed(map[string]any{"event": json.RawMessage(orderEvent)}).shows(map[string]any{
		"request.url": hook.URL + "/x?y=1", "request.body": `{"id":1001,"total":129.5,"currency":"EUR"}`, "request.headers.X-A": "1", "request.headers.Authorization": "[hidden]", "filter.matched": true,
	})
	// Another filter in place of its own, or none.
	small := json.RawMessage(`{"type":"order.created","data":{"total":1}}`)
	c.post("/api/v1/preview", map[string]any{"subscription_id": sub, "event": small}).want(200).shows(map[string]any{"matched": false})
	signed(map[string]any{"filter": "", "event": small}).shows(map[string]any{"filter": nil})
	signed(map[string]any{"filter": nil, "event": json.RawMessage(orderEvent)}).shows(map[string]any{"filter.matched": true})
	signed(map[string]any{"transform": "export default () => ({tried: true})", "event": json.RawMessage(orderEvent)}).shows(map[string]any{"request.body": `{"tried":true}`})

	// A script, live or at a version.
	id := c.script("transform", "t", "export default () => 'one'", "export default () => 'two'")
	signed(map[string]any{"transform_script": "t", "event": json.RawMessage(orderEvent)}).shows(map[string]any{"request.body": "one", "script.id": id, "script.version": 1})
	signed(map[string]any{"transform_script": map[string]any{"name": "t", "version": 2}, "event": json.RawMessage(orderEvent)}).shows(map[string]any{"request.body": "two", "script.version": 2})
	c.script("filter", "f", "data.total > 1000")
	c.post("/api/v1/preview", map[string]any{"subscription_id": sub, "filter_script": "f", "event": json.RawMessage(orderEvent)}).want(200).shows(map[string]any{"matched": false})

	// A stored event by either id, and the sample of a type.
	c.post("/api/v1/events", `{"type":"other","id":"o-1","data":{"total":500}}`).want(202)
	evt := c.get("/api/v1/events/o-1").text("webhook_id")
	for _, name := range []string{"o-1", evt} {
		signed(map[string]any{"event_id": name}).shows(map[string]any{"event.id": "o-1", "request.body": `{"total":500}`, "request.headers.webhook-id": evt})
	}
	r.admin.post("/api/v1/event-types", `{"name":"order.paid","samples":[{"total":700},{"total":2}]}`).want(201)
	signed(map[string]any{"sample": "order.paid"}).shows(map[string]any{"event.type": "order.paid", "request.body": `{"total":700}`})

	// Nothing was stored, sent or counted.
	if got := c.get("/api/v1/events").column("id"); fmt.Sprint(got) != "[o-1]" {
		t.Errorf("events %v", got)
	}
	c.get("/api/v1/deliveries").shows(map[string]any{"data": "[]"})
	c.get("/api/v1/scripts/t").shows(map[string]any{"stats.runs": 0})
	c.get("/api/v1/scripts/f").shows(map[string]any{"stats.runs": 0})
	if got := hook.all(); len(got) != 0 {
		t.Errorf("%d requests were sent", len(got))
	}
}

func TestPreview_InvalidInput(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.paid","schema":{"type":"object","required":["id"]}}`).want(201)
	c := r.acme
	c.script("transform", "t", bodyOf)
	c.script("filter", "f", "true")
	const ev = `,"event":{"type":"a","data":1}`
	for body, want := range map[string]struct {
		status        int
		field, detail string
	}{
		`{}`:                             {422, "event", "one of the three"},
		`{"event_id":"x","sample":"y"}`:  {422, "event", "one of the three"},
		`{"event_id":"x"` + ev + `}`:     {422, "event", "one of the three"},
		`{"event":5}`:                    {422, "event", "must be an object"},
		`{"event":null}`:                 {422, "event", "must be an object"},
		`{"event":{"type":"a"}}`:         {422, "event.data", "is missing"},
		`{"event":{"data":1}}`:           {422, "event.type", ""},
		`{"event":{"type":"a","dta":1}}`: {422, "event.dta", "is not known"},
		`{"event":{"type":"a","data":1,"time":"now"}}`:            {422, "event.time", "is not a time"},
		`{"event":{"type":"order.paid","data":{}}}`:               {422, "event.data", "schema"},
		`{"event":{"type":"a","data":1,"account":"rival"}}`:       {422, "event.account", "must be left out"},
		`{"account":"rival"` + ev + `}`:                           {422, "account", "must be left out"},
		`{"event_id":"nobody"}`:                                   {404, "", "there is no event"},
		`{"sample":"nobody"}`:                                     {404, "", "there is no event type"},
		`{"sample":"order.paid"}`:                                 {422, "sample", "has no samples"},
		`{"subscription_id":"x"` + ev + `}`:                       {404, "", "there is no subscription"},
		`{"subscription_id":"sub_0000000000000"` + ev + `}`:       {404, "", "there is no subscription"},
		`{"filter":5` + ev + `}`:                                  {422, "filter", "a string"},
		`{"filter":"true","filter_script":"f"` + ev + `}`:         {422, "filter", "both given"},
		`{"filter_script":"t"` + ev + `}`:                         {422, "filter_script", "is a transform, not a filter"},
		`{"transform_script":"f"` + ev + `}`:                      {422, "transform_script", "is a filter, not a transform"},
		`{"transform_script":"nobody"` + ev + `}`:                 {422, "transform_script", "names no script"},
		`{"transform_script":{"name":"t","version":9}` + ev + `}`: {422, "transform_script", "no version"},
		`{"trasform":"x"` + ev + `}`:                              {422, "trasform", "did you mean"},
		`[]`:                                                      {422, "", "must be a JSON object"},
	} {
		c.post("/api/v1/preview", body).refused(want.status, want.field, want.detail)
	}
	c.post("/api/v1/preview", `{`).refused(400, "", "")
}

func TestPreview_ConcurrencyLimit(t *testing.T) {
	c := start(t).acme
	const n, endless = 40, "export default () => { for (;;); }"
	for i := range n {
		c.post("/api/v1/events", map[string]any{"type": "a", "id": fmt.Sprint(i), "data": 1}).want(202)
	}
	flood := func(body func(i int) map[string]any) map[int]int {
		var mu sync.Mutex
		came := map[int]int{}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				a := c.post("/api/v1/preview", body(i))
				if a.status == 429 && a.header.Get("Retry-After") == "" || a.status == 409 && (a.header.Get("Retry-After") != "" || a.text("code") != "superseded") {
					t.Errorf("%d: %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
				}
				mu.Lock()
				defer mu.Unlock()
				came[a.status]++
			})
		}
		wg.Wait()
		return came
	}
	// Different things wait until their time is over.
	came := flood(func(i int) map[string]any { return map[string]any{"transform": endless, "event_id": fmt.Sprint(i)} })
	if came[200] == 0 || came[429] == 0 || came[200]+came[429] != n {
		t.Errorf("answers: %v", came)
	}
	// Of the same thing only the newest waits, as the others are out of date.
	came = flood(func(i int) map[string]any {
		return map[string]any{"transform": fmt.Sprint(endless, " //", i), "event_id": "1"}
	})
	if came[200] == 0 || came[409] == 0 || came[200]+came[409]+came[429] != n {
		t.Errorf("answers: %v", came)
	}
	c.post("/api/v1/preview", map[string]any{"event": json.RawMessage(orderEvent)}).want(200) // the slots are released
}

func TestClient_PreviewAndCompare(t *testing.T) {
	r := start(t)
	client, ctx := api.NewClient(r.url, r.acme.key), t.Context()
	filter, transform := "data.total > 100", "export default ("
	p, err := client.Preview(ctx, api.PreviewRequest{Filter: &filter, Transform: &transform, Event: json.RawMessage(orderEvent)})
	must(t, err)
	if p.Matched == nil || !*p.Matched || p.Filter == nil || p.Request != nil || len(p.Diagnostics) != 1 || p.Diagnostics[0].Source != "transform" || p.Error == nil {
		t.Errorf("%+v", p)
	}
	r.acme.script("transform", "t", "export default e => e.data", "export default e => e.data % 2 ? 'odd' : e.data")
	for n := range 5 {
		r.acme.publish("a", n)
	}
	var changes []api.ComparisonChange
	progress := 0
	totals, err := client.CompareScript(ctx, "t", api.CompareScriptRequest{Version: 2}, func(c api.ComparisonChange) { changes = append(changes, c) }, func(api.ComparisonTotals) { progress++ })
	must(t, err)
	if totals.Events != 5 || totals.Differs != 2 || totals.LiveVersion != 1 || progress == 0 || len(changes) != 2 || changes[0].Change != "differs" || changes[0].Candidate.Body != "odd" || changes[0].Live.Body != "3" {
		t.Errorf("%+v, %d times progress, %+v", totals, progress, changes)
	}
	_, err = client.CompareScript(ctx, "t", api.CompareScriptRequest{Source: "export default ("}, nil, nil)
	if refused, ok := errors.AsType[*api.Error](err); !ok || refused.Field != "source" || refused.Script == nil || refused.Script.EndColumn == 0 {
		t.Errorf("%v", err)
	}
}
