package server_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// script makes a script with these versions, the first of which is live, and gives its id.
func (c *client) script(kind, name string, sources ...string) string {
	c.t.Helper()
	id := c.post("/api/v1/scripts", map[string]any{"name": name, "kind": kind, "source": sources[0]}).want(201).text("id")
	for _, source := range sources[1:] {
		c.post("/api/v1/scripts/"+id+"/versions", map[string]any{"source": source}).want(201)
	}
	return id
}

// goLive puts a version of a script live.
func (c *client) goLive(script string, version int) *answer {
	c.t.Helper()
	return c.do("PUT", "/api/v1/scripts/"+script+"/live", map[string]any{"version": version}).want(200)
}

const bodyOf = "export default (event) => event.data"

func TestAScriptIsMadeReadChangedAndDeleted(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/scripts", map[string]any{"name": "big orders", "kind": "filter", "description": "d", "source": "data.total > 100", "note": "first"}).want(201)
	id := made.text("id")
	if got := made.header.Get("Location"); got != "/api/v1/scripts/"+id {
		t.Errorf("Location is %q", got)
	}
	want := map[string]any{
		"name": "big orders", "kind": "filter", "account": "acme", "description": "d", "live_version": 1, "cases": "[]", "used_by": 0, "stats.runs": 0, "created_at": made.text("created_at"),
	}
	made.shows(want)
	for _, path := range []string{"/api/v1/scripts/" + id, "/api/v1/scripts/big%20orders", "/api/v1/script/" + id + "/"} {
		if a := c.get(path).want(200).shows(want); a.header.Get("ETag") != made.header.Get("ETag") {
			t.Errorf("%s: ETag %q, made with %q", path, a.header.Get("ETag"), made.header.Get("ETag"))
		}
	}

	etag := made.header.Get("ETag")
	changed := c.do("PATCH", "/api/v1/scripts/"+id, `{"name":"größer/","description":"e"}`, "If-Match", etag)
	changed.refused(422, "name", "without a slash")
	changed = c.do("PATCH", "/api/v1/scripts/"+id, `{"name":"größer","description":"e"}`, "If-Match", etag).want(200)
	changed.shows(map[string]any{"name": "größer", "description": "e", "live_version": 1})
	if changed.header.Get("ETag") == etag {
		t.Error("the change kept the ETag")
	}
	c.do("PATCH", "/api/v1/scripts/"+id, `{"description":"f"}`, "If-Match", etag).refused(412, "", "it was changed since it was read")
	c.do("PUT", "/api/v1/scripts/"+id+"/live", `{"version":1}`, "If-Match", etag).refused(412, "", "it was changed since it was read")
	c.do("DELETE", "/api/v1/scripts/"+id, nil, "If-Match", etag).refused(412, "", "it was changed since it was read")
	c.get("/api/v1/scripts/big%20orders").refused(404, "", "there is no script")
	byName := "/api/v1/scripts/" + url.PathEscape("größer")
	c.get(byName).want(200).shows(map[string]any{"id": id, "description": "e"})

	c.do("DELETE", byName, nil, "If-Match", changed.header.Get("ETag")).want(204)
	for _, path := range []string{"/api/v1/scripts/" + id, byName, byName + "/versions", byName + "/usage"} {
		c.get(path).refused(404, "", "there is no script")
	}
	c.do("DELETE", byName, nil).refused(404, "", "there is no script")
	c.script("transform", "größer", bodyOf) // the name is free again
}

func TestScriptsAreListedByKindAndInPages(t *testing.T) {
	r := start(t)
	c := r.acme
	for i := range 5 {
		c.script("filter", fmt.Sprintf("f%d", i), "true")
	}
	c.script("transform", "t", bodyOf)
	if got := fmt.Sprint(c.pages("/api/v1/scripts?limit=2", "name")); got != "[f0 f1 f2 f3 f4 t]" {
		t.Error(got)
	}
	if got := fmt.Sprint(c.pages("/api/v1/scripts?limit=2&kind=filter", "name")); got != "[f0 f1 f2 f3 f4]" {
		t.Error(got)
	}
	if got := fmt.Sprint(c.get("/api/v1/scripts?kind=transform").want(200).column("name")); got != "[t]" {
		t.Error(got)
	}
	c.get("/api/v1/scripts?kind=both").refused(422, "kind", "filter or transform")
	c.get("/api/v1/scripts?cursor=x").refused(422, "cursor", "no id of this kind")
	r.admin.get("/api/v1/scripts").want(200).shows(map[string]any{"data": "[]"})
	if got := fmt.Sprint(r.admin.pages("/api/v1/scripts?account=acme", "name")); got != "[f0 f1 f2 f3 f4 t]" {
		t.Error(got)
	}
}

func TestAScriptThatCanNotBeIsRefused(t *testing.T) {
	c := start(t).acme
	c.script("filter", "taken", "true")
	for body, want := range map[string]struct {
		status        int
		field, detail string
	}{
		`{"kind":"filter"}`:                                                        {422, "name", "is missing"},
		`{"name":" a","kind":"filter"}`:                                            {422, "name", "without spaces around"},
		`{"name":"a/b","kind":"filter"}`:                                           {422, "name", "slash"},
		`{"name":"a\nb","kind":"filter"}`:                                          {422, "name", "line break"},
		`{"name":"scr_x","kind":"filter"}`:                                         {422, "name", "must not begin with"},
		`{"name":"` + ones(101) + `","kind":"filter"}`:                             {422, "name", "1 to 100"},
		`{"name":"a"}`:                                                             {422, "kind", "filter"},
		`{"name":"a","kind":"Filter"}`:                                             {422, "kind", "must be"},
		`{"name":"a","kind":"filter","description":"` + ones(1001) + `"}`:          {422, "description", "1000 are allowed"},
		`{"name":"a","kind":"filter","source":"true","note":"` + ones(1001) + `"}`: {422, "note", "1000 are allowed"},
		`{"name":"a","kind":"filter","sorce":"true"}`:                              {422, "sorce", "did you mean"},
		`{"name":"a","kind":"filter","source":5}`:                                  {422, "source", "a string"},
		`{"name":"a","kind":"filter","account":"rival"}`:                           {422, "account", "must be left out"},
		`{"name":"taken","kind":"transform"}`:                                      {409, "name", "called \"taken\" already"},
		`{"name":"a","kind":"filter","cases":{}}`:                                  {422, "cases", "must be an array"},
		`{"name":"a","kind":"filter","cases":[{}]}`:                                {422, "cases[0].name", "is missing"},
		`{"name":"a","kind":"filter","cases":[{"name":"n","event":{"type":"t","data":1},"expect":{"matchs":true}}]}`:                                 {422, "cases[0].expect.matchs", "did you mean \"matches\"?"},
		`{"name":"a","kind":"filter","cases":[{"name":"n","event":{"type":"t"},"expect":{}}]}`:                                                       {422, "cases[0].event.data", "is missing"},
		`{"name":"a","kind":"filter","cases":[{"name":"n","event":{"type":"t","data":1},"expect":{"matches":"yes"}}]}`:                               {422, "cases[0].expect.matches", "true or false"},
		`{"name":"a","kind":"filter","cases":[{"name":"n","event":{"file":"/etc/passwd","type":"t","data":1},"expect":{"matches":true}}]}`:           {422, "cases[0].event.file", "is not known"},
		`{"name":"a","kind":"filter","cases":[` + strings.Repeat(`{"name":"n","event":{"type":"t","data":1},"expect":{"matches":true}},`, 2) + `1]}`: {422, "cases[1].name", "as an earlier case"},
	} {
		c.post("/api/v1/scripts", body).refused(want.status, want.field, want.detail)
	}
	many := strings.Repeat(`,{"name":"%d","event":{"type":"t","data":1},"expect":{"matches":true}}`, 201)
	numbers := make([]any, 201)
	for i := range numbers {
		numbers[i] = i
	}
	c.post("/api/v1/scripts", `{"name":"a","kind":"filter","cases":[`+fmt.Sprintf(many, numbers...)[1:]+`]}`).refused(422, "cases", "200 are allowed")
	if got := c.get("/api/v1/scripts").column("name"); len(got) != 1 {
		t.Errorf("stored: %v", got)
	}
	c.do("PATCH", "/api/v1/scripts/taken", `{"source":"false"}`).refused(422, "source", "versions are never changed")
	c.do("PATCH", "/api/v1/scripts/taken", `{"live_version":1}`).refused(422, "live_version", "is not changed here")
	c.do("PATCH", "/api/v1/scripts/taken", `{"kind":"transform"}`).refused(422, "kind", "can't be changed")
	c.do("PATCH", "/api/v1/scripts/taken", `{"account":"rival"}`).refused(422, "account", "can't be changed")
	c.do("PATCH", "/api/v1/scripts/taken", `{"cases":[{"name":"n"}]}`).refused(422, "cases[0].event", "must be an object")
	c.script("filter", "other", "true")
	c.do("PATCH", "/api/v1/scripts/other", `{"name":"taken"}`).refused(409, "name", "already")
	c.get("/api/v1/scripts/other").want(200)
}

func TestASourceThatDoesNotCompileShowsWhere(t *testing.T) {
	c := start(t).acme
	c.post("/api/v1/scripts", `{"name":"t","kind":"transform"}`).want(201).shows(map[string]any{"live_version": nil})
	c.post("/api/v1/scripts", `{"name":"f","kind":"filter"}`).want(201)
	for _, create := range []func(kind, source string) *answer{
		func(kind, source string) *answer {
			return c.post("/api/v1/scripts", map[string]any{"name": "new", "kind": kind, "source": source})
		},
		func(kind, source string) *answer {
			return c.post("/api/v1/scripts/"+kind[:1]+"/versions", map[string]any{"source": source})
		},
	} {
		create("transform", "export default (event) => {\n  return event.data +* 1\n}").refused(422, "source", "").
			shows(map[string]any{"script.line": 2, "script.phase": "compile", "script.column": 22, "script.snippet": "  return event.data +* 1\n                     ^"})
		create("filter", "data.total > 100 and\n  data.name = 5").refused(422, "source", "").shows(map[string]any{"script.line": 2, "script.column": 13, "script.snippet": "  data.name = 5\n            ^"})
		create("transform", " \n").refused(422, "source", "is missing")
		create("transform", strings.Repeat("//", 40_000)).refused(422, "source", "larger than 64 KiB")
	}
	c.get("/api/v1/scripts/new").refused(404, "", "")
	c.get("/api/v1/scripts/t/versions").want(200).shows(map[string]any{"data": "[]", "next_cursor": nil})
}

func TestVersionsAreNeverChangedAndTheSameSourceIsTheSameVersion(t *testing.T) {
	r := start(t)
	c := r.acme
	id := c.post("/api/v1/scripts", map[string]any{"name": "t", "kind": "transform", "source": bodyOf, "note": "first"}).want(201).text("id")
	second := c.post("/api/v1/scripts/t/versions", map[string]any{"source": "export default () => 2", "note": "second"}).want(201)
	second.shows(map[string]any{"version": 2, "live": false, "author": "acme", "note": "second", "tests.passed": 0, "tests.cases": "[]"})
	if got := second.header.Get("Location"); got != "/api/v1/scripts/"+id+"/versions/2" {
		t.Errorf("Location is %q", got)
	}
	again := c.post("/api/v1/scripts/"+id+"/versions", map[string]any{"source": "export default () => 2", "note": "another note"}).want(200)
	again.shows(map[string]any{"version": 2, "note": "second", "created_at": second.text("created_at"), "hash": second.text("hash")})
	// An older source is a new version: what was between stays where it was.
	c.post("/api/v1/scripts/t/versions", map[string]any{"source": bodyOf}).want(201).shows(map[string]any{"version": 3})

	c.get("/api/v1/scripts/t/versions/1").want(200).shows(map[string]any{"source": bodyOf, "note": "first", "live": true, "version": 1})
	c.get("/api/v1/scripts/t/versions/live").want(200).shows(map[string]any{"version": 1})
	for _, number := range []string{"4", "0", "-1", "x", "1.0", "99999999999999999999"} {
		c.get("/api/v1/scripts/t/versions/"+number).refused(404, "", "no version")
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		if a := c.do(method, "/api/v1/scripts/t/versions/1", `{}`); a.status != 405 && a.status != 404 {
			t.Errorf("%s of a version: %d", method, a.status)
		}
	}
	if got := fmt.Sprint(c.pages("/api/v1/scripts/t/versions?limit=1", "version")); got != "[3 2 1]" {
		t.Error(got)
	}
	if got := fmt.Sprint(c.pages("/api/v1/scripts/t/versions?limit=2", "live")); got != "[false false true]" {
		t.Error(got)
	}
	c.get("/api/v1/scripts/t/versions?cursor=x").refused(422, "cursor", "")

	c.get("/api/v1/scripts/t/versions/1/diff/2").want(200).shows(map[string]any{"from": 1, "to": 2, "diff": "- export default (event) => event.data\n+ export default () => 2"})
	c.get("/api/v1/scripts/t/versions/2/diff/live").want(200).shows(map[string]any{"from": 2, "to": 1})
	c.get("/api/v1/scripts/t/versions/1/diff/3").want(200).shows(map[string]any{"diff": ""})
	c.get("/api/v1/scripts/t/versions/1/diff/9").refused(404, "", "no version")
	c.post("/api/v1/scripts", `{"name":"empty","kind":"filter"}`).want(201)
	c.get("/api/v1/scripts/empty/versions/live").refused(404, "", "there is no live version")
}

const sumCases = `[{"name":"adds up","event":{"type":"sum","data":{"a":1,"b":2}},"expect":{"body":{"sum":3}}},
	{"name":"takes what is missing for 0","event":{"type":"sum","data":{"a":1}},"expect":{"body":{"sum":1}}}]`

const (
	sum      = "export default ({data}) => ({sum: (data.a ?? 0) + (data.b ?? 0)})"
	wrongSum = "export default ({data}) => ({sum: data.a + data.b})"
)

func TestAVersionGoesLiveOnceItsCasesPass(t *testing.T) {
	c := start(t).acme
	create := func(source string) *answer {
		return c.post("/api/v1/scripts", fmt.Sprintf(`{"name":"sum","kind":"transform","cases":%s,"source":%q}`, sumCases, source))
	}
	failed := map[string]any{
		"tests.passed": 1, "tests.failed": 1, "tests.cases.0.passed": true, "tests.cases.1.passed": false, "tests.cases.1.name": "takes what is missing for 0",
		"tests.cases.1.failures.0.expected": "body", "tests.cases.1.failures.0.diff": "  {\n-   \"sum\": 1\n+   \"sum\": null\n  }", "tests.cases.1.got.body.sum": nil,
	}
	create(wrongSum).refused(409, "", "fails 1 of its 2 cases").shows(failed)
	c.get("/api/v1/scripts/sum").refused(404, "", "")
	create(sum).want(201).shows(map[string]any{"live_version": 1, "cases.1.name": "takes what is missing for 0"})

	c.post("/api/v1/scripts/sum/versions", map[string]any{"source": wrongSum}).want(201).shows(failed).shows(map[string]any{"version": 2, "live": false})
	before := c.get("/api/v1/scripts/sum").header.Get("ETag")
	c.do("PUT", "/api/v1/scripts/sum/live", `{"version":2}`).refused(409, "", "version 2 fails 1 of its 2 cases").shows(failed)
	if after := c.get("/api/v1/scripts/sum").shows(map[string]any{"live_version": 1}).header.Get("ETag"); after != before {
		t.Error("a refused version changed the script")
	}
	forced := c.do("PUT", "/api/v1/scripts/sum/live", `{"version":2,"force":true}`, "If-Match", before).want(200).shows(failed).shows(map[string]any{"live_version": 2, "name": "sum"})
	c.get("/api/v1/scripts/sum/versions/2").want(200).shows(map[string]any{"live": true})
	// Rolled back, and twice is as good as once.
	back := c.do("PUT", "/api/v1/scripts/sum/live", `{"version":1}`, "If-Match", forced.header.Get("ETag")).want(200).shows(map[string]any{"live_version": 1, "tests.failed": 0, "tests.passed": 2})
	if twice := c.goLive("sum", 1); twice.header.Get("ETag") != back.header.Get("ETag") {
		t.Error("nothing changed, and the ETag did")
	}
	for body, want := range map[string]struct {
		status int
		field  string
	}{`{}`: {422, "version"}, `{"version":0}`: {422, "version"}, `{"version":-1}`: {422, "version"}, `{"version":"1"}`: {422, "version"}, `{"version":3}`: {404, ""}, `{"version":1,"force":"yes"}`: {422, "force"}} {
		c.do("PUT", "/api/v1/scripts/sum/live", body).refused(want.status, want.field, "")
	}

	// The cases alone.
	test := func(body string) *answer { return c.post("/api/v1/scripts/sum/test", body) }
	c.post("/api/v1/scripts/sum/test", nil).want(200).shows(map[string]any{"passed": 2})
	test(`{}`).want(200).shows(map[string]any{"passed": 2, "failed": 0})
	test(`{"version":2}`).want(200).shows(map[string]any{"passed": 1, "failed": 1, "cases.1.passed": false})
	test(fmt.Sprintf(`{"source":%q}`, wrongSum)).want(200).shows(map[string]any{"failed": 1})
	test(`{"source":"export default ("}`).want(200).shows(map[string]any{"passed": 0, "broken.script": "transform", "broken.error.phase": "compile", "broken.error.line": 1})
	test(`{"source":"export default () => { console.log('hm'); throw new Error('no') }"}`).want(200).shows(map[string]any{"failed": 2, "cases.0.got.error.message": "Error: no", "cases.0.got.console": "[log: hm]"})
	test(`{"version":7}`).refused(404, "", "no version")
	c.post("/api/v1/scripts", `{"name":"empty","kind":"filter"}`).want(201)
	c.post("/api/v1/scripts/empty/test", `{}`).refused(404, "", "there is no live version")
	c.post("/api/v1/scripts", `{"name":"f","kind":"filter","source":"data > 1","cases":[{"name":"n","event":{"type":"a","data":1},"expect":{"matches":true}}]}`).
		refused(409, "", "fails 1 of its 1 cases").shows(map[string]any{"tests.cases.0.failures.0.expected": "matches", "tests.cases.0.got.matched": false})
}

func TestASubscriptionUsesAScript(t *testing.T) {
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
	if got := fmt.Sprint(c.get("/api/v1/scripts/f/usage").want(200).column("id")); got != fmt.Sprint([]string{live, pinned}) {
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
	// An attempt says which version it was.
	for sub, version := range map[string]int{live: 2, pinned: 1} {
		c.delivered(sub, "succeeded")
		d := c.get("/api/v1/deliveries?event=" + second + "&subscription=" + sub).want(200).text("data.0.id")
		eventually(t, "the attempt", func() bool { return c.get("/api/v1/deliveries/"+d).want(200).at("attempts.0") != nil })
		c.get("/api/v1/deliveries/" + d).want(200).shows(map[string]any{"attempts.0.script.id": id, "attempts.0.script.version": version})
	}

	// In use it is not deleted, and says who uses it.
	c.do("DELETE", "/api/v1/scripts/t", nil).refused(409, "", "2 subscriptions use this script, "+live)
	for _, sub := range []string{live, pinned} {
		c.do("DELETE", "/api/v1/subscriptions/"+sub, nil).want(204)
	}
	c.get("/api/v1/scripts/t/usage").want(200).shows(map[string]any{"data": "[]"})
	c.do("DELETE", "/api/v1/scripts/t", nil).want(204)
	// What was delivered still says what ran.
	c.get("/api/v1/deliveries?event=" + second).want(200)
}

func TestAScriptThatASubscriptionCanNotUseIsRefused(t *testing.T) {
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
		`"transform_script":{"name":"t","verison":1}`:           {"transform_script", "is not known"},
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

func TestPATCHSwitchesBetweenASourceAndAScript(t *testing.T) {
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
	// What GET gave can be sent back.
	patch(`{"filter_script":"f"}`, map[string]any{"filter": ""})
	c.do("PUT", path, string(c.get(path).body)).want(200).shows(map[string]any{"filter_script.name": "f", "filter": "", "transform": own})
	c.do("PUT", path, map[string]any{"event": "a", "target_url": anywhere}).want(200).shows(map[string]any{"filter_script": nil, "transform": ""})
}

func TestALiveFilterMustSuitTheEventTypesOfItsSubscriptions(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.created","schema":{"type":"object","properties":{"total":{"type":"number"}},"additionalProperties":false}}`).want(201)
	c := r.acme
	c.script("filter", "f", "data.total > 100", "data.totl > 100")
	sub := c.subscribe("order.created", anywhere, map[string]any{"filter_script": "f"})
	a := c.do("PUT", "/api/v1/scripts/f/live", `{"version":2,"force":true}`).refused(422, "version", "does not suit the event types of "+sub)
	a.shows(map[string]any{"script.line": 1, "script.column": 6})
	if !strings.Contains(a.text("detail"), "did you mean") {
		t.Errorf("no suggestion: %s", a.body)
	}
	c.post("/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": anywhere, "filter_script": map[string]any{"name": "f", "version": 2}}).refused(422, "filter", "totl")
	c.get("/api/v1/scripts/f").shows(map[string]any{"live_version": 1})
	c.do("PATCH", "/api/v1/subscriptions/"+sub, `{"filter_script":{"name":"f","version":1}}`).want(200) // pinned, it has no say
	c.goLive("f", 2)
}

func TestAnAdminKeyNamesScriptsOfItsOwnAccountOrAnother(t *testing.T) {
	r := start(t)
	ops := r.admin.with(t, r.admin.post("/api/v1/keys", `{"account":"ops","admin":true}`).want(201).text("key"))
	acmes, mine := r.acme.script("filter", "f", "true", "false"), ops.script("filter", "f", "false")
	r.acme.script("filter", "acmes", "true")
	ops.get("/api/v1/scripts/f").want(200).shows(map[string]any{"id": mine, "account": "ops"})
	ops.get("/api/v1/scripts/f?account=acme").want(200).shows(map[string]any{"id": acmes, "account": "acme"})
	ops.get("/api/v1/scripts/" + acmes).want(200).shows(map[string]any{"account": "acme"})
	ops.get("/api/v1/scripts/acmes").refused(404, "", "there is no script")
	ops.do("PUT", "/api/v1/scripts/f/live?account=acme", `{"version":2}`).want(200).shows(map[string]any{"id": acmes})
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

func TestRunsOfScriptsAreCounted(t *testing.T) {
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

func TestAQuarantineIsVisibleAndANewVersionEndsIt(t *testing.T) {
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
