package server_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestLists_ArrayProfileWithLinkHeader(t *testing.T) {
	r := start(t)
	for i := range 3 {
		r.admin.subscribe("a", fmt.Sprintf("%s/%d", anywhere, i))
		r.admin.publish("b", i)
		r.admin.post("/api/v1/event-types", map[string]any{"name": fmt.Sprintf("t%d", i)}).want(201)
	}
	r.admin.script("filter", "f0", "true", "false", "true")
	r.admin.script("filter", "f1", "true")
	r.admin.script("filter", "f2", "true")
	r.admin.subscribe("a", anywhere, map[string]any{"filter_script": "f0"})
	r.admin.publish("a", 1)
	for _, list := range []string{"subscriptions", "events", "deliveries", "event-types", "scripts", "keys", "scripts/f0/versions"} {
		path := "/api/v1/" + list + "?limit=2&format=array"
		count := 0
		for path != "" {
			a := r.admin.get(path).want(200)
			entries, ok := a.at("0").(map[string]any)
			if !ok || entries == nil {
				t.Errorf("%s: no array: %.200s", path, a.body)
				break
			}
			for a.at(fmt.Sprint(count)) != nil && count < 2 {
				count++
			}
			link, rest, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
			if path = link; link != "" && rest != `; rel="next"` {
				t.Errorf("%s: Link is %q", list, a.header.Get("Link"))
			}
		}
		page := r.admin.get("/api/v1/" + list + "?limit=2").want(200)
		if cursor := page.text("next_cursor"); !strings.Contains(page.header.Get("Link"), "cursor="+url.QueryEscape(cursor)) {
			t.Errorf("%s: Link is %q, the cursor %q", list, page.header.Get("Link"), cursor)
		}
		r.admin.get("/api/v1/"+list, "Accept", "application/json; profile=array").want(200).shows(map[string]any{"data": nil})
		r.admin.get("/api/v1/"+list, "Accept", "text/html, application/json;profile=\"array\"").want(200).shows(map[string]any{"data": nil})
		if got := r.admin.get("/api/v1/"+list+"?format=page", "Accept", "application/json; profile=array").want(200).at("data"); got == nil {
			t.Errorf("%s: ?format=page is not a page", list)
		}
		r.admin.get("/api/v1/"+list+"?format=csv").refused(422, "format", `must be "array" or "page"`)
	}
	r.admin.get("/api/v1/scripts/f0/subscriptions?format=array").want(200).shows(map[string]any{"0.event": "a"})
	if got := string(r.rival.get("/api/v1/subscriptions?format=array").want(200).body); got != "[]\n" {
		t.Errorf("an empty list is %s", got)
	}
}
