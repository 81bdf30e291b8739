package server_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// script creates a script with these versions, the first of which is live, and returns its id.
func (c *client) script(kind, name string, sources ...string) string {
	c.t.Helper()
	id := c.post("/api/v1/scripts", map[string]any{"name": name, "kind": kind, "source": sources[0]}).want(201).text("id")
	for _, source := range sources[1:] {
		c.post("/api/v1/scripts/"+id+"/versions", map[string]any{"source": source}).want(201)
	}
	return id
}

// goLive activates a version of a script.
func (c *client) goLive(script string, version int) *answer {
	c.t.Helper()
	return c.post(fmt.Sprintf("/api/v1/scripts/%s/versions/%d/activate", script, version), nil).want(200)
}

const bodyOf = "export default (event) => event.data"

func TestScripts_Lifecycle(t *testing.T) {
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
		if a := c.get(path).want(200).shows(want); !strings.HasPrefix(a.header.Get("ETag"), strings.TrimSuffix(made.header.Get("ETag"), `"`)+".") {
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
	c.do("POST", "/api/v1/scripts/"+id+"/versions/1/activate", nil, "If-Match", etag).refused(412, "", "it was changed since it was read")
	c.do("DELETE", "/api/v1/scripts/"+id, nil, "If-Match", etag).refused(412, "", "it was changed since it was read")
	c.get("/api/v1/scripts/big%20orders").refused(404, "", "there is no script")
	byName := "/api/v1/scripts/" + url.PathEscape("größer")
	c.get(byName).want(200).shows(map[string]any{"id": id, "description": "e"})

	c.do("DELETE", byName, nil, "If-Match", changed.header.Get("ETag")).want(204)
	for _, path := range []string{"/api/v1/scripts/" + id, byName, byName + "/versions", byName + "/subscriptions"} {
		c.get(path).refused(404, "", "there is no script")
	}
	c.do("DELETE", byName, nil).refused(404, "", "there is no script")
	c.script("transform", "größer", bodyOf) // the name is free again
}

func TestScripts_ListByKindAndPages(t *testing.T) {
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
	c.get("/api/v1/scripts?cursor=x").refused(422, "cursor", "is not an id of this kind")
	r.admin.get("/api/v1/scripts").want(200).shows(map[string]any{"data": "[]"})
	if got := fmt.Sprint(r.admin.pages("/api/v1/scripts?account=acme", "name")); got != "[f0 f1 f2 f3 f4 t]" {
		t.Error(got)
	}
}

func TestScripts_InvalidAreRefused(t *testing.T) {
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
	c.do("PATCH", "/api/v1/scripts/taken", `{"live_version":2}`).refused(422, "live_version", "is not changed here")
	c.do("PATCH", "/api/v1/scripts/taken", `{"kind":"transform"}`).refused(422, "kind", "can't be changed")
	c.do("PATCH", "/api/v1/scripts/taken", `{"account":"rival"}`).refused(422, "account", "can't be changed")
	c.do("PATCH", "/api/v1/scripts/taken", `{"cases":[{"name":"n"}]}`).refused(422, "cases[0].event", "must be an object")
	c.script("filter", "other", "true")
	c.do("PATCH", "/api/v1/scripts/other", `{"name":"taken"}`).refused(409, "name", "already")
	c.get("/api/v1/scripts/other").want(200)
}

func TestScripts_CompileErrorShowsSnippet(t *testing.T) {
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

func TestScripts_PUTReplacesAndPATCHMerges(t *testing.T) {
	c := start(t).acme
	c.post("/api/v1/scripts", `{"name":"f","kind":"filter","description":"d","source":"true","cases":[{"name":"n","event":{"type":"a","data":1},"expect":{"matches":true}}]}`).want(201)
	path := "/api/v1/scripts/f"
	c.do("PATCH", path, `{"cases":null}`).want(200).shows(map[string]any{"name": "f", "description": "d", "cases": "[]"})
	c.do("PATCH", path, `{"description":null}`).want(200).shows(map[string]any{"description": ""})
	c.do("PATCH", path, `{"description":"e"}`).want(200)
	for _, body := range []string{`{}`, `{"name":null}`, `{"name":""}`, `{"description":"x"}`} {
		c.do("PUT", path, body).refused(422, "name", "is missing")
	}
	c.do("PUT", path, `{"name":"f","kind":"transform"}`).refused(422, "kind", "can't be changed")
	c.do("PUT", "/api/v1/scripts/nobody", `{"name":"nobody"}`).refused(404, "", "there is no script")
	replaced := c.do("PUT", path, `{"name":"g"}`, "If-Match", "*").want(200).shows(map[string]any{"name": "g", "description": "", "live_version": 1})
	c.do("PUT", "/api/v1/scripts/g", `{"name":"h"}`, "If-Match", `"1"`).refused(412, "", "changed")
	c.do("PUT", "/api/v1/scripts/g", `{"name":"h"}`, "If-Match", replaced.header.Get("ETag")).want(200)
}
