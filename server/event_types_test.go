package server_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestEventTypes_Lifecycle(t *testing.T) {
	r := start(t)
	c := r.admin
	made := c.post("/api/v1/event-types", `{"name":"order.created","description":"d","schema":{"type":"object","title":"<b>"},"samples":[{"n":9007199254740993},{}]}`).want(201)
	path := "/api/v1/event-types/order.created"
	if got := made.header.Get("Location"); got != path {
		t.Errorf("Location is %q", got)
	}
	want := map[string]any{"name": "order.created", "description": "d", "schema.title": "<b>", "samples": "[map[n:9007199254740993] map[]]"}
	made.shows(want)
	first := r.acme.get(path).want(200).shows(want).header.Get("ETag")
	c.post("/api/v1/event-types", `{"name":"order.created"}`).refused(409, "name", "already")

	changed := c.do("PUT", path, `{"description":"e"}`, "If-Match", first).want(200).shows(map[string]any{"description": "e", "schema": nil, "samples": "[]", "created_at": made.text("created_at")})
	c.do("PUT", path, `{"description":"f"}`, "If-Match", first).refused(412, "", "read it again")
	c.do("DELETE", path, nil, "If-Match", first).refused(412, "", "read it again")
	c.do("PUT", path, `{"name":"other"}`).refused(422, "name", "can't be renamed")
	c.do("PUT", path, string(changed.body)).want(200).shows(map[string]any{"description": "e"})
	c.do("DELETE", path, nil).want(204)
	for _, method := range []string{"GET", "DELETE"} {
		c.do(method, path, nil).refused(404, "", "there is no event type")
	}
	c.do("PUT", path, `{"name":"order.created","description":"back"}`).want(201).shows(map[string]any{"description": "back"})
}

func TestEventTypes_Update(t *testing.T) {
	c := start(t).admin
	path := "/api/v1/event-types/order.created"
	c.do("PATCH", path, `{"description":"d"}`).refused(404, "", "there is no event type")
	first := c.do("PUT", path, `{"description":"d","schema":{"type":"object"},"samples":[{}],"verify":"hook-secret"}`).want(201).header.Get("ETag")
	c.do("PATCH", path, `{"description":"e"}`, "If-Match", first).want(200).
		shows(map[string]any{"description": "e", "schema.type": "object", "samples": "[map[]]", "verify": "hook-secret"})
	c.do("PATCH", path, `{"description":"f"}`, "If-Match", first).refused(412, "", "read it again")
	c.do("PATCH", path, `{"schema":null,"samples":[1],"verify":null}`).want(200).
		shows(map[string]any{"description": "e", "schema": nil, "samples": "[1]", "verify": ""})
	c.do("PATCH", path, `{"schema":{"type":"object"}}`).refused(422, "samples[0]", "does not fit")
	c.do("PATCH", path, `{"name":"other"}`).refused(422, "name", "can't be renamed")
}

func TestEventTypes_EscapedNames(t *testing.T) {
	c := start(t).admin
	for _, name := range []string{"pull-request/opened", "a:b", "A_1"} {
		made := c.post("/api/v1/event-types", map[string]any{"name": name}).want(201)
		c.get(made.header.Get("Location")).want(200).shows(map[string]any{"name": name})
		c.do("PUT", "/api/v1/event-types/"+url.PathEscape(name), `{"description":"d"}`).want(200).shows(map[string]any{"name": name, "description": "d"})
		c.do("DELETE", made.header.Get("Location"), nil).want(204)
	}
}

func TestEventTypes_InvalidAreRefused(t *testing.T) {
	c := start(t).admin
	for body, want := range map[string][2]string{
		`{}`:                      {"name", "is not an event type"},
		`{"name":"a b"}`:          {"name", "is not an event type"},
		`{"name":"order.*"}`:      {"name", "is not an event type"},
		`{"name":5}`:              {"name", "must be a string"},
		`{"name":"a","schema":5}`: {"schema", "must be an object"},
		`{"name":"a","schema":{"type":"objekt"}}`:                                                    {"schema", "not a JSON Schema"},
		`{"name":"a","schema":{"$ref":"http://127.0.0.1/x"}}`:                                        {"schema", "not loaded from elsewhere"},
		`{"name":"a","schema":{"$ref":"file:///etc/passwd"}}`:                                        {"schema", "not loaded from elsewhere"},
		`{"name":"a","samples":5}`:                                                                   {"samples", "must be a list"},
		`{"name":"a","samples":[` + strings.Repeat("1,", 20) + `1]}`:                                 {"samples", "20 are allowed"},
		`{"name":"a","samples":["` + strings.Repeat("x", 65<<10) + `"]}`:                             {"samples[0]", "are allowed"},
		`{"name":"a","schema":{"properties":{"n":{"type":"number"}}},"samples":[{"n":1},{"n":"x"}]}`: {"samples[1].n", "does not fit the schema given"},
		`{"name":"a","description":"` + strings.Repeat("x", 1001) + `"}`:                             {"description", "1000 are allowed"},
	} {
		c.post("/api/v1/event-types", body).refused(422, want[0], want[1])
	}
	if got := c.pages("/api/v1/event-types?limit=5", "name"); !slices.Equal(got, operational) {
		t.Errorf("stored: %v", got)
	}
}

func TestEventTypes_ListSortedForAllAccounts(t *testing.T) {
	r := start(t)
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("n%d.x", (i*5)%7)
		r.admin.post("/api/v1/event-types", map[string]any{"name": name}).want(201)
		want = append(want, name)
	}
	want = append(want, operational...)
	slices.Sort(want)
	for _, c := range []*client{r.admin, r.acme} {
		for _, limit := range []int{1, 3, 7, 100} {
			if got := c.pages(fmt.Sprintf("/api/v1/event-types?limit=%d", limit), "name"); !slices.Equal(got, want) {
				t.Errorf("by %d: want %v, got %v", limit, want, got)
			}
		}
	}
}
