package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestScriptUse_SubscriptionReferences(t *testing.T) {
	c, hook := start(t).acme, receive(t, nil)
	id := c.script("transform", "t", "export default () => 'one'", "export default () => 'two'")
	c.script("filter", "f", "data.n > 0", "data.n > 10")
	live := c.subscribe("a", hook.URL+"/live", map[string]any{"transform_script": "t", "filter_script": map[string]any{"name": "f"}})
	pinned := c.subscribe("a", hook.URL+"/pinned", map[string]any{"transform_script": map[string]any{"id": id, "version": 1}, "filter_script": map[string]any{"name": "f", "version": 1}})
	c.get("/api/v1/subscriptions/" + live).want(200).shows(map[string]any{
		"transform": "", "transform_script.id": id, "transform_script.name": "t", "transform_script.version": nil, "filter": "", "filter_script.name": "f",
	})
	c.get("/api/v1/subscriptions/" + pinned).want(200).shows(map[string]any{"transform_script.version": 1, "filter_script.version": 1})
	c.get("/api/v1/scripts/t").want(200).shows(map[string]any{"used_by": 2})
	if got := fmt.Sprint(c.get("/api/v1/scripts/f/subscriptions").want(200).column("id")); got != fmt.Sprint([]string{live, pinned}) {
		t.Errorf("usage: %s", got)
	}

	c.post("/api/v1/events", `{"type":"a","data":{"n":0}}`).want(202).shows(map[string]any{"matched": 0})
	c.post("/api/v1/events", `{"type":"a","data":{"n":1}}`).want(202).shows(map[string]any{"matched": 2})
	hook.wait(t, 2)
	c.goLive("t", 2)
	c.goLive("f", 2)
	c.post("/api/v1/events", `{"type":"a","data":{"n":1}}`).want(202).shows(map[string]any{"matched": 1}) // the pinned one
	second := c.publish("a", map[string]any{"n": 11})
	got := map[string]int{}
	for _, req := range hook.wait(t, 5) {
		got[req.uri+" "+req.body]++
	}
	if want := map[string]int{"/live one": 1, "/live two": 1, "/pinned one": 3}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("came: %v", got)
	}
	// An attempt names the version that ran.
	for sub, version := range map[string]int{live: 2, pinned: 1} {
		c.delivered(sub, "succeeded")
		d := c.get("/api/v1/deliveries?event_id=" + second + "&subscription_id=" + sub).want(200).text("data.0.id")
		eventually(t, "the attempt", func() bool { return c.get("/api/v1/deliveries/"+d).want(200).at("attempts.0") != nil })
		c.get("/api/v1/deliveries/" + d).want(200).shows(map[string]any{"attempts.0.script.id": id, "attempts.0.script.version": version})
	}

	// A script in use is not deleted, and the error names a subscription.
	c.do("DELETE", "/api/v1/scripts/t", nil).refused(409, "", "2 subscriptions use this script, "+live)
	for _, sub := range []string{live, pinned} {
		c.do("DELETE", "/api/v1/subscriptions/"+sub, nil).want(204)
	}
	c.get("/api/v1/scripts/t/subscriptions").want(200).shows(map[string]any{"data": "[]"})
	c.do("DELETE", "/api/v1/scripts/t", nil).want(204)
	// The delivery still names the version that ran.
	c.get("/api/v1/deliveries?event_id=" + second).want(200)
}

func TestScriptUse_InvalidReferences(t *testing.T) {
	r := start(t)
	c := r.acme
	id := c.script("transform", "t", bodyOf)
	c.script("filter", "f", "true")
	c.post("/api/v1/scripts", `{"name":"empty","kind":"transform"}`).want(201)
	r.admin.script("transform", "admins", bodyOf)
	for body, want := range map[string][2]string{
		`"transform_script":"nobody"`:                           {"transform_script", "names no script"},
		`"transform_script":"admins"`:                           {"transform_script", "names no script"},
		`"transform_script":{"name":"nobody"}`:                  {"transform_script", "names no script"},
		`"transform_script":{"version":1}`:                      {"transform_script", "must name a script"},
		`"transform_script":{"name":"t","verison":1}`:           {"transform_script.verison", "is not known"},
		`"transform_script":"scr_0000000000000"`:                {"transform_script", "names no script"},
		`"transform_script":{"name":"t","version":2}`:           {"transform_script", "no version"},
		`"transform_script":{"name":"t","version":-1}`:          {"transform_script.version", "must be the number"},
		`"transform_script":{"name":"t","version":"1"}`:         {"transform_script.version", "a number"},
		`"transform_script":5`:                                  {"transform_script", "must be"},
		`"transform_script":["t"]`:                              {"transform_script", "must be"},
		`"transform_script":"f"`:                                {"transform_script", "is a filter, not a transform"},
		`"filter_script":"t"`:                                   {"filter_script", "is a transform, not a filter"},
		`"transform_script":"empty"`:                            {"transform_script", "no live version yet"},
		`"transform_script":"t","transform":"export default 1"`: {"transform_script", "both given"},
		`"filter_script":"f","filter":"true"`:                   {"filter_script", "both given"},
		`"filter_scripts":"f"`:                                  {"filter_scripts", "did you mean"},
	} {
		c.post("/api/v1/subscriptions", fmt.Sprintf(`{"event":"a","target_url":%q,%s}`, anywhere, body)).refused(422, want[0], want[1])
	}
	for _, body := range []string{
		`"transform_script":null`, `"transform_script":""`, `"transform_script":{"id":"` + id + `","name":"t","version":null}`, `"transform_script":"t","transform":""`, `"filter_script":"f","filter":null`,
	} {
		c.post("/api/v1/subscriptions?allow_duplicates=true", fmt.Sprintf(`{"event":"a","target_url":%q,%s}`, anywhere, body)).want(201)
	}
}

func TestScriptUse_PATCHSwitchesSourceAndScript(t *testing.T) {
	c := start(t).acme
	c.script("transform", "t", bodyOf)
	c.script("filter", "f", "data.x == 1")
	id := c.subscribe("a", anywhere, map[string]any{"transform": "export default () => 1", "filter": "true"})
	path := "/api/v1/subscriptions/" + id
	patch := func(body string, want map[string]any) {
		t.Helper()
		c.do("PATCH", path, body).want(200).shows(want)
		c.get(path).want(200).shows(want)
	}
	own, named := "export default () => 1", map[string]any{"transform": "", "transform_script.name": "t", "transform_script.version": nil}
	patch(`{"transform_script":"t"}`, named)
	patch(`{"description":"d"}`, named)
	patch(`{"transform_script":{"name":"t","version":1}}`, map[string]any{"transform": "", "transform_script.version": 1})
	patch(fmt.Sprintf(`{"transform":%q}`, own), map[string]any{"transform": own, "transform_script": nil})
	patch(`{"transform":null}`, map[string]any{"transform": "", "transform_script": nil})
	patch(`{"transform_script":"t","transform":null}`, named)
	patch(`{"transform_script":null}`, map[string]any{"transform": "", "transform_script": nil})
	patch(fmt.Sprintf(`{"transform":%q,"transform_script":null}`, own), map[string]any{"transform": own, "transform_script": nil})
	patch(`{"filter_script":"f"}`, map[string]any{"filter": "", "filter_script.name": "f", "transform": own})
	patch(`{"filter":"false"}`, map[string]any{"filter": "false", "filter_script": nil})
	c.do("PATCH", path, `{"filter":"true","filter_script":"f"}`).refused(422, "filter_script", "both given")
	c.get(path).shows(map[string]any{"filter": "false"})
	// The response to GET can be sent back.
	patch(`{"filter_script":"f"}`, map[string]any{"filter": ""})
	c.do("PUT", path, string(c.get(path).body)).want(200).shows(map[string]any{"filter_script.name": "f", "filter": "", "transform": own})
	c.do("PUT", path, map[string]any{"event": "a", "target_url": anywhere}).want(200).shows(map[string]any{"filter_script.name": "f", "transform": own})
	c.do("PUT", path, map[string]any{"filter_script": nil, "transform": nil}).want(200).shows(map[string]any{"filter_script": nil, "transform": ""})
}

func TestScriptUse_LiveFilterMustSuitEventTypes(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.created","schema":{"type":"object","properties":{"total":{"type":"number"}},"additionalProperties":false}}`).want(201)
	c := r.acme
	c.script("filter", "f", "data.total > 100", "data.totl > 100")
	sub := c.subscribe("order.created", anywhere, map[string]any{"filter_script": "f"})
	a := c.post("/api/v1/scripts/f/versions/2/activate", `{"force":true}`).refused(422, "version", "does not suit the event types of "+sub)
	a.shows(map[string]any{"script.line": 1, "script.column": 6})
	if !strings.Contains(a.text("detail"), "did you mean") {
		t.Errorf("no suggestion: %s", a.body)
	}
	c.post("/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": anywhere, "filter_script": map[string]any{"name": "f", "version": 2}}).refused(422, "filter", "totl")
	c.get("/api/v1/scripts/f").shows(map[string]any{"live_version": 1})
	c.do("PATCH", "/api/v1/subscriptions/"+sub, `{"filter_script":{"name":"f","version":1}}`).want(200) // pinned, it has no say
	c.goLive("f", 2)
}

func TestScriptUse_AdminKeyAcrossAccounts(t *testing.T) {
	r := start(t)
	ops := r.admin.with(t, r.admin.post("/api/v1/keys", `{"account":"ops","admin":true}`).want(201).text("key"))
	acmes, mine := r.acme.script("filter", "f", "true", "false"), ops.script("filter", "f", "false")
	r.acme.script("filter", "acmes", "true")
	ops.get("/api/v1/scripts/f").want(200).shows(map[string]any{"id": mine, "account": "ops"})
	ops.get("/api/v1/scripts/f?account=acme").want(200).shows(map[string]any{"id": acmes, "account": "acme"})
	ops.get("/api/v1/scripts/" + acmes).want(200).shows(map[string]any{"account": "acme"})
	ops.get("/api/v1/scripts/acmes").refused(404, "", "there is no script")
	ops.post("/api/v1/scripts/f/versions/2/activate?account=acme", nil).want(200).shows(map[string]any{"id": acmes})
	ops.do("DELETE", "/api/v1/scripts/f", nil).want(204)
	r.acme.get("/api/v1/scripts/f").want(200).shows(map[string]any{"live_version": 2})
	r.acme.get("/api/v1/scripts/f?account=ops").refused(422, "account", "must be left out")
	made := ops.post("/api/v1/scripts", `{"name":"for acme","kind":"filter","source":"true","account":"acme"}`).want(201).text("id")
	r.acme.get("/api/v1/scripts/" + made).want(200)
	too := ops.post("/api/v1/scripts?account=acme", `{"name":"for acme too","kind":"filter","source":"true"}`).want(201).text("id")
	r.acme.get("/api/v1/scripts/" + too).want(200)
	r.acme.post("/api/v1/scripts?account=ops", `{"name":"x","kind":"filter"}`).refused(422, "account", "must be left out")
	sub := ops.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "account": "acme", "filter_script": "for acme"}).want(201)
	sub.shows(map[string]any{"filter_script.id": made})
}

func TestScripts_Stats(t *testing.T) {
	r := start(t)
	c, hook := r.acme, receive(t, nil)
	f := c.script("filter", "f", "data.n > 0")
	tr := c.script("transform", "t", "export default ({data}) => { if (data.n == 1) return drop('one'); if (data.n == 2) throw 1; if (data.n == 3) for(;;); return data }")
	for range 3 { // they share the filter's run
		c.subscribe("a", hook.URL, map[string]any{"filter_script": "f"})
	}
	c.subscribe("b", hook.URL, map[string]any{"filter": "data.n > 0", "transform_script": "t"})
	for n := range 5 {
		c.publish("a", map[string]any{"n": n % 2})
		c.publish("b", map[string]any{"n": n})
	}
	eventually(t, "the runs are counted", func() bool { return fmt.Sprint(c.get("/api/v1/scripts/t").at("stats.runs")) == "4" })
	c.get("/api/v1/scripts/f").want(200).shows(map[string]any{"stats.runs": 5, "stats.dropped": 3, "stats.errors": 0})
	a := c.get("/api/v1/scripts/t").want(200).shows(map[string]any{"stats.runs": 4, "stats.dropped": 1, "stats.errors": 2, "stats.timeouts": 1})
	runs := 0
	buckets := a.at("stats.histogram").([]any)
	for i := range buckets {
		n, err := a.at(fmt.Sprintf("stats.histogram.%d.runs", i)).(json.Number).Int64()
		must(t, err)
		runs += int(n)
	}
	if last := a.at(fmt.Sprintf("stats.histogram.%d.le_ms", len(buckets)-1)); last != nil {
		t.Errorf("the last bound is %v", last)
	}
	if runs != 4 {
		t.Errorf("the histogram holds %d runs: %s", runs, a.body)
	}
	metrics := string(c.get("/metrics").want(200).body)
	for _, line := range []string{
		`switchhook_script_runs_total{script="` + f + `"} 5`, `switchhook_script_dropped_total{script="` + f + `"} 3`, `switchhook_script_runs_total{script="` + tr + `"} 4`,
		`switchhook_script_timeouts_total{script="` + tr + `"} 1`, `switchhook_script_seconds_count{script="` + tr + `"} 4`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

func TestQuarantine_EndsWithNewVersion(t *testing.T) {
	r := start(t)
	c, hook := r.acme, receive(t, nil)
	c.script("transform", "t", "export default () => { for(;;); }", bodyOf)
	sub := c.subscribe("a", hook.URL, map[string]any{"transform_script": "t"})
	for n := range 5 {
		c.publish("a", n)
	}
	why := ""
	eventually(t, "the quarantine", func() bool {
		why, _ = c.get("/api/v1/subscriptions/" + sub).want(200).at("quarantine").(string)
		return why != ""
	})
	if !strings.Contains(why, "times in a row: timeout after 50 ms") {
		t.Errorf("it says %q", why)
	}
	late := c.publish("a", "late")
	c.goLive("t", 2)
	c.get("/api/v1/subscriptions/" + sub).want(200).shows(map[string]any{"quarantine": nil})
	eventually(t, "what waited has come", func() bool {
		return c.get("/api/v1/events/"+late).want(200).at("deliveries.0.status") == "succeeded"
	})
}
