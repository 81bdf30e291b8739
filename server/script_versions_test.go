package server_test

import (
	"fmt"
	"testing"
)

func TestVersions_ImmutableAndDeduplicated(t *testing.T) {
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
	// An older source becomes a new version; the versions between stay.
	c.post("/api/v1/scripts/t/versions", map[string]any{"source": bodyOf}).want(201).shows(map[string]any{"version": 3})

	c.get("/api/v1/scripts/t/versions/1").want(200).shows(map[string]any{"source": bodyOf, "note": "first", "live": true, "version": 1})
	c.get("/api/v1/scripts/t/versions/live").want(200).shows(map[string]any{"version": 1})
	c.get("/api/v1/scripts/t/versions/latest").want(200).shows(map[string]any{"version": 3})
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

	c.get("/api/v1/scripts/t/versions/2/diff").want(200).shows(map[string]any{"from": 1, "to": 2, "diff": "- export default (event) => event.data\n+ export default () => 2"})
	c.get("/api/v1/scripts/t/versions/live/diff?against=2").want(200).shows(map[string]any{"from": 2, "to": 1})
	c.get("/api/v1/scripts/t/versions/latest/diff?against=1").want(200).shows(map[string]any{"diff": ""})
	c.get("/api/v1/scripts/t/versions/1/diff?against=9").refused(404, "", "no version")
	c.post("/api/v1/scripts", `{"name":"empty","kind":"filter"}`).want(201)
	c.get("/api/v1/scripts/empty/versions/live").refused(404, "", "there is no live version")
	c.get("/api/v1/scripts/empty/versions/latest").refused(404, "", "no version")
}

const sumCases = `[{"name":"adds up","event":{"type":"sum","data":{"a":1,"b":2}},"expect":{"body":{"sum":3}}},
	{"name":"takes what is missing for 0","event":{"type":"sum","data":{"a":1}},"expect":{"body":{"sum":1}}}]`

const (
	sum      = "export default ({data}) => ({sum: (data.a ?? 0) + (data.b ?? 0)})"
	wrongSum = "export default ({data}) => ({sum: data.a + data.b})"
)

func TestVersions_ActivationNeedsPassingCases(t *testing.T) {
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
	c.post("/api/v1/scripts/sum/versions/2/activate", nil).refused(409, "", "version 2 fails 1 of its 2 cases").shows(failed)
	if after := c.get("/api/v1/scripts/sum").shows(map[string]any{"live_version": 1}).header.Get("ETag"); after != before {
		t.Error("a refused version changed the script")
	}
	forced := c.post("/api/v1/scripts/sum/versions/2/activate", `{"force":true}`, "If-Match", before).want(200).shows(failed).shows(map[string]any{"live_version": 2, "name": "sum"})
	c.get("/api/v1/scripts/sum/versions/2").want(200).shows(map[string]any{"live": true})
	// A rollback is idempotent.
	back := c.post("/api/v1/scripts/sum/versions/1/activate", nil, "If-Match", forced.header.Get("ETag")).want(200).shows(map[string]any{"live_version": 1, "tests.failed": 0, "tests.passed": 2})
	if twice := c.goLive("sum", 1); twice.header.Get("ETag") != back.header.Get("ETag") {
		t.Error("nothing changed, and the ETag did")
	}
	for _, version := range []string{"0", "-1", "x", "3"} {
		c.post("/api/v1/scripts/sum/versions/"+version+"/activate", `{}`).refused(404, "", "no version")
	}
	c.post("/api/v1/scripts/sum/versions/1/activate", `{"force":"yes"}`).refused(422, "force", "")
	c.post("/api/v1/scripts/sum/versions/1/activate", `{"version":2}`).refused(422, "version", "")

	// Only the test cases change.
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
