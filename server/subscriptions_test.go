package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

const anywhere = "http://127.0.0.1:9/hook" // a target where nobody listens

func TestSubscriptions_Lifecycle(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{
		"event": "order.created", "target_url": anywhere, "filter": " data.total > 100 ", "description": "d",
		"headers": map[string]string{"X-A": "1"}, "visible_headers": []string{"X-A"}, "metadata": map[string]string{"team": "sales"},
	}).want(201)
	path := "/api/v1/subscriptions/" + made.text("id")
	if got := made.header.Get("Location"); got != path {
		t.Errorf("Location is %q", got)
	}
	want := map[string]any{
		"event": "order.created", "events": "[order.created]", "target_url": anywhere, "account": "acme", "active": true, "filter": "data.total > 100",
		"transform": "", "headers.X-A": "1", "metadata.team": "sales", "payload_format": "standard", "description": "d",
	}
	made.shows(want)
	c.get(path).want(200).shows(want)

	changed := c.do("PUT", path, map[string]any{"events": []string{"a.b", "c.*"}, "target_url": anywhere + "2", "payload_format": "data", "active": false}).want(200)
	changed.shows(map[string]any{
		"event": nil, "events": "[a.b c.*]", "target_url": anywhere + "2", "active": false, "filter": "data.total > 100", "headers": "map[]", "metadata": "map[]",
		"payload_format": "data", "description": "", "created_at": made.text("created_at"),
	})
	c.get(path).want(200).shows(map[string]any{"events": "[a.b c.*]", "inactive_reason": nil})

	c.do("DELETE", path, nil).want(204)
	c.get(path).refused(404, "", "there is no subscription")
	c.do("DELETE", path, nil).refused(404, "", "there is no subscription")
	c.do("PATCH", path, `{}`).refused(404, "", "there is no subscription")
	c.do("PUT", path, map[string]any{"event": "a", "target_url": anywhere}).refused(404, "", "there is no subscription")
	c.get(path+"/secret").refused(404, "", "there is no subscription")
}

func TestSubscriptions_PUTKeepsOmittedMembers(t *testing.T) {
	c := start(t).acme
	c.script("filter", "large", "data.total > 100")
	transform := "export default (event) => event.data"
	for _, names := range []struct{ target, event string }{{"target_url", "event"}, {"hookUrl", "topic"}} {
		made := c.post("/api/v1/subscriptions", map[string]any{
			names.event: "order.created", names.target: anywhere, "filter_script": "large", "transform": transform, "description": "d", "headers": map[string]string{"X-A": "1"},
			"metadata": map[string]string{"team": "sales"}, "payload_format": "data", "numbered": true, "policy": map[string]any{"in_flight": 3}, "batch": map[string]any{"size": 2, "wait": "5s"}, "expires_in": "1h",
		}, "Content-Type", "application/json").want(201)
		path := "/api/v1/subscriptions/" + made.text("id")
		secret := c.get(path + "/secret").text("secret")
		c.do("PUT", path, map[string]any{names.target: anywhere + "2"}).want(200).shows(map[string]any{
			"event": "order.created", "target_url": anywhere + "2", "filter_script.name": "large", "filter": "", "transform": transform,
			"description": "", "headers": "map[]", "metadata": "map[]", "payload_format": "standard", "numbered": false, "policy.in_flight": nil, "batch": nil, "expires_at": nil, "active": true,
		})
		if got := c.get(path + "/secret").text("secret"); got != secret {
			t.Errorf("the secret was %s and is %s", secret, got)
		}
		c.do("PUT", path, map[string]any{names.event: "order.paid"}).want(200).shows(map[string]any{"event": "order.paid", "target_url": anywhere + "2", "transform": transform})
		// Members that are sent apply: another filter replaces the script, "" and null remove it.
		c.do("PUT", path, map[string]any{"filter": "data.total > 5"}).want(200).shows(map[string]any{"filter_script": nil, "filter": "data.total > 5", "transform": transform})
		c.do("PUT", path, map[string]any{"filter": "", "transform": nil}).want(200).shows(map[string]any{"filter": "", "transform": "", "target_url": anywhere + "2"})
		c.do("PUT", path, map[string]any{}).want(200).shows(map[string]any{"event": "order.paid", "target_url": anywhere + "2"})
		c.do("PUT", path, map[string]any{names.target: nil}).refused(422, names.target, "is missing")
		c.do("PUT", path, map[string]any{names.event: []string{}}).refused(422, names.event, "is missing")
	}
}

func TestSubscriptions_PUTWithoutScriptsScopeKeepsTransform(t *testing.T) {
	r := start(t)
	id := r.acme.subscribe("a", anywhere, map[string]any{"transform": "export default (event) => event.data"})
	key := r.admin.post("/api/v1/keys", `{"account":"acme","scopes":["subscribe","read"]}`).want(201).text("key")
	c := r.acme.with(t, key)
	c.do("PUT", "/api/v1/subscriptions/"+id, map[string]any{"target_url": anywhere + "2"}).want(200).shows(map[string]any{"transform": "export default (event) => event.data"})
	c.do("PUT", "/api/v1/subscriptions/"+id, map[string]any{"transform": nil}).refused(403, "transform", "scope")
}

func TestSubscriptions_EventAndEvents(t *testing.T) {
	c := start(t).acme
	for body, want := range map[string]string{
		`"event":"a.b"`:                   "[a.b]",
		`"event":["a.b","c"]`:             "[a.b c]",
		`"events":["a.b","c"]`:            "[a.b c]",
		`"events":"a.b"`:                  "[a.b]",
		`"event":"a.b","events":["a.b"]`:  "[a.b]",
		`"event":null,"events":["a","b"]`: "[a b]",
		`"event":"a","events":null`:       "[a]",
		`"event":"*"`:                     "[*]",
		`"event":"order.*"`:               "[order.*]",
		`"event":"order.line.*"`:          "[order.line.*]",
		`"events":["a","order.*","*"]`:    "[a order.* *]",
		`"event":"pull-request/opened:x"`: "[pull-request/opened:x]",
	} {
		a := c.post("/api/v1/subscriptions?allow_duplicates=true", fmt.Sprintf(`{%s,"target_url":%q}`, body, anywhere))
		if a.status != 201 || fmt.Sprint(a.at("events")) != want {
			t.Errorf("%s: want %s, got %d %s", body, want, a.status, a.body)
		}
	}
	for body, field := range map[string]string{
		`"x":1`:                           "event",
		`"event":""`:                      "event",
		`"event":"a","events":["b"]`:      "event",
		`"event":"a b"`:                   "event",
		`"event":"a.*.b"`:                 "event",
		`"event":"a*"`:                    "event",
		`"event":".*"`:                    "event",
		`"event":"a..b"`:                  "event",
		`"events":["a","b c"]`:            "events[1]",
		`"events":["a","a"]`:              "events[1]",
		`"events":["a",""]`:               "events[1]",
		`"event":"\u0000"`:                "event",
		`"event":"ö.created"`:             "event",
		`"event":5`:                       "event",
		`"events":[5]`:                    "events[0]",
		`"events":{"a":1}`:                "events",
		`"event":"` + ones(129) + `"`:     "event",
		`"events":[` + names(101) + `]`:   "events",
		`"event":"a","active":"yes"`:      "active",
		`"event":"a","filter":5`:          "filter",
		`"event":"a","headers":[]`:        "headers",
		`"event":"a","metadata":{"a":{}}`: "metadata.a",
		`"event":"a","headers":{"X-A":5}`: "headers.X-A",
	} {
		a := c.post("/api/v1/subscriptions?allow_duplicates=true", fmt.Sprintf(`{%s,"target_url":%q}`, body, anywhere))
		if got, _ := a.at("field").(string); a.status != 422 || got != field {
			t.Errorf("%.80s: want field %q, got %d %.300s", body, field, a.status, a.body)
		}
	}
}

func ones(n int) string { return strings.Repeat("1", n) }

func names(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"a%d"`, i)
	}
	return strings.Join(list, ",")
}

func TestSecrets_ShownOnCreateAndSecretRouteOnly(t *testing.T) {
	r := start(t)
	c := r.acme
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}).want(201)
	secret, path := made.text("secret"), "/api/v1/subscriptions/"+made.text("id")
	if !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("secret %q", secret)
	}
	shown := c.get(path + "/secret").want(200).shows(map[string]any{"secret": secret})
	if got := shown.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	for _, a := range []*answer{
		c.get(path), c.get("/api/v1/subscriptions"), r.admin.get("/api/v1/subscriptions?account=*"), c.do("PATCH", path, `{"description":"x"}`),
		c.do("PUT", path, map[string]any{"event": "b", "target_url": anywhere}),
		c.do("PUT", path, map[string]any{"event": "b", "target_url": anywhere, "secret": ""}),
		c.do("PATCH", path, `{"secret":null}`),
	} {
		if a.want(200); strings.Contains(string(a.body), "whsec_") {
			t.Errorf("%s shows the secret", a.what)
		}
	}
	c.get(path + "/secret").want(200).shows(map[string]any{"secret": secret})

	own := "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	if a := c.do("PATCH", path, map[string]any{"secret": own}).want(200); strings.Contains(string(a.body), "whsec_") {
		t.Error("PATCH shows the secret")
	}
	c.get(path + "/secret").want(200).shows(map[string]any{"secret": own})
	for _, bad := range []string{"geheim", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="} {
		c.do("PATCH", path, map[string]any{"secret": bad}).refused(422, "secret", "")
	}
}

func TestSubscriptions_IfMatch(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}).want(201)
	path, first := "/api/v1/subscriptions/"+made.text("id"), made.header.Get("ETag")
	if got := c.get(path).header.Get("ETag"); !strings.HasPrefix(got, strings.TrimSuffix(first, `"`)+".") {
		t.Errorf("ETag is %q and then %q", first, got)
	}
	second := c.do("PATCH", path, `{"description":"mine"}`, "If-Match", first).want(200).header.Get("ETag")
	if second == first {
		t.Error("the ETag stays after a change")
	}
	c.do("PATCH", path, `{"description":"theirs"}`, "If-Match", first).refused(412, "", "read it again")
	c.do("PUT", path, map[string]any{"event": "b", "target_url": anywhere}, "If-Match", first).refused(412, "", "read it again")
	c.do("DELETE", path, nil, "If-Match", first).refused(412, "", "read it again")
	c.do("PATCH", path, `{}`, "If-Match", "nonsense").refused(412, "", "is not a version")
	c.do("PATCH", path, `{}`, "If-Match", `"99999999999999999999"`).refused(412, "", "is not a version")
	c.get(path).shows(map[string]any{"description": "mine"})
	c.do("PATCH", path, `{}`, "If-Match", "*").want(200)
	now := c.do("PATCH", path, `{"description":"again"}`, "If-Match", "W/"+c.get(path).header.Get("ETag")).want(200).header.Get("ETag")
	c.do("DELETE", path, nil, "If-Match", now).want(204)
}

func TestSubscriptions_ConcurrentChangesOneWinsPerVersion(t *testing.T) {
	c := start(t).acme
	path := "/api/v1/subscriptions/" + c.subscribe("a", anywhere)
	tag := c.get(path).header.Get("ETag")
	var wg sync.WaitGroup
	status := make([]int, 16)
	for i := range status {
		wg.Go(func() {
			status[i] = c.do("PATCH", path, fmt.Sprintf(`{"metadata":{"m%d":"x"}}`, i), "If-Match", tag).status
		})
	}
	wg.Wait()
	slices.Sort(status)
	if status[0] != 200 || status[1] != 412 {
		t.Errorf("answers were %v", status)
	}
	for i := range status { // without If-Match none is lost
		wg.Go(func() { c.do("PATCH", path, fmt.Sprintf(`{"metadata":{"n%d":"x"}}`, i)) })
	}
	wg.Wait()
	if got := len(c.get(path).at("metadata").(map[string]any)); got != 17 {
		t.Errorf("%d of 17 changes are there", got)
	}
}

func TestSubscriptions_PATCHMergesAndNullResets(t *testing.T) {
	c := start(t).acme
	path := "/api/v1/subscriptions/" + c.subscribe("a.b", anywhere, map[string]any{
		"filter": "data.x == 1", "transform": "export default (event) => event.data", "description": "d", "payload_format": "data",
		"headers": map[string]string{"X-A": "1", "X-B": "2"}, "visible_headers": []string{"X-A", "X-C"}, "metadata": map[string]string{"a": "1", "b": "2"}, "active": false,
	})
	before := c.get(path)
	same := map[string]any{}
	for _, name := range []string{"events", "target_url", "filter", "transform", "description", "payload_format", "headers", "metadata", "active"} {
		same[name] = before.at(name)
	}
	c.do("PATCH", path, `{}`).want(200).shows(same)
	for _, step := range []struct {
		patch string
		want  map[string]any
	}{
		{`{"headers":{"X-B":null,"X-C":"3"}}`, map[string]any{"headers": "map[X-A:1 X-C:3]"}},
		{`{"metadata":{"a":"9","b":null}}`, map[string]any{"metadata": "map[a:9]"}},
		{`{"headers":null,"metadata":null}`, map[string]any{"headers": "map[]", "metadata": "map[]"}},
		{`{"filter":null}`, map[string]any{"filter": "", "transform": same["transform"]}},
		{`{"transform":null,"payload_format":null,"description":null}`, map[string]any{"transform": "", "payload_format": "standard", "description": ""}},
		{`{"active":true}`, map[string]any{"active": true}},
		{`{"active":false}`, map[string]any{"active": false}},
		{`{"active":null}`, map[string]any{"active": true}},
		{`{"events":["x","y.*"]}`, map[string]any{"events": "[x y.*]", "event": nil}},
		{`{"event":"z"}`, map[string]any{"events": "[z]", "event": "z", "target_url": anywhere}},
		{`{"account":"acme"}`, map[string]any{"account": "acme"}},
	} {
		c.do("PATCH", path, step.patch, "Content-Type", "application/merge-patch+json").want(200).shows(step.want)
		c.get(path).want(200).shows(step.want)
	}
	c.do("PATCH", path, `{"event":null}`).refused(422, "event", "is missing")
	c.do("PATCH", path, `{"target_url":null}`).refused(422, "target_url", "is missing")
	c.do("PATCH", path, `{"account":"rival"}`).refused(422, "account", "can't be changed")
	c.do("PATCH", path, `{"filter":"data."}`).refused(422, "filter", "")
	c.get(path).shows(map[string]any{"events": "[z]", "filter": ""})
}

func TestHeaders_RedactedValuesSurvivePUT(t *testing.T) {
	c := start(t).acme
	hook := receive(t, nil)
	path := "/api/v1/subscriptions/" + c.subscribe("a", hook.URL, map[string]any{
		"headers": map[string]string{"Authorization": "Bearer t0k3n", "x-api-key": "k3y", "X-Plain": "plain"}, "visible_headers": []string{"x-plain"}, "filter": "data.x == 1",
	})
	got := c.get(path).want(200).shows(map[string]any{"headers": "map[Authorization:[hidden] X-Plain:plain x-api-key:[hidden]]"})
	for _, a := range []*answer{c.get("/api/v1/subscriptions"), c.do("PUT", path, string(got.body)).want(200), c.do("PATCH", path, `{"headers":{"Authorization":"[hidden]"}}`).want(200)} {
		if strings.Contains(string(a.body), "t0k3n") || strings.Contains(string(a.body), "k3y\"") {
			t.Errorf("%s shows a credential", a.what)
		}
	}
	c.publish("a", map[string]any{"x": 1})
	h := hook.wait(t, 1)[0].header
	if h.Get("Authorization") != "Bearer t0k3n" || h.Get("X-Api-Key") != "k3y" || h.Get("X-Plain") != "plain" {
		t.Errorf("the target got %v", h)
	}
}

func TestHeaders_NamesAreCaseInsensitive(t *testing.T) {
	c := start(t).acme
	hook := receive(t, nil)
	path := "/api/v1/subscriptions/" + c.subscribe("a", hook.URL, map[string]any{"headers": map[string]string{"Authorization": "Bearer t0k3n", "X-A": "1"}})
	c.do("PUT", path, map[string]any{"event": "a", "target_url": hook.URL, "headers": map[string]string{"authorization": "[hidden]", "X-A": "1"}}).want(200)
	c.publish("a", 1)
	if got := hook.wait(t, 1)[0].header.Get("Authorization"); got != "Bearer t0k3n" {
		t.Errorf("after PUT the target got %q", got)
	}
	c.do("PATCH", path, `{"headers":{"x-a":"2"}}`).want(200)
	c.do("PATCH", path, `{"headers":{"AUTHORIZATION":null}}`).want(200)
	c.publish("a", 2)
	if got := hook.wait(t, 2)[1].header; got.Get("Authorization") != "" || got.Get("X-A") != "2" {
		t.Errorf("after PATCH the target got %v", got)
	}
	for _, body := range []string{`{"headers":{"Cookie":"[hidden]"}}`, `{"headers":{"Authorization":"[hidden]"}}`} {
		c.do("PATCH", path, body).refused(422, "headers", "[hidden]")
	}
}

func TestSubscriptions_ListPagesAndFilters(t *testing.T) {
	r := start(t)
	c := r.acme
	r.admin.post("/api/v1/event-types", `{"name":"order.created","description":"An order"}`).want(201)
	ids := []string{}
	for i := range 7 {
		ids = append(ids, c.subscribe([]string{"order.created", "order.*", "*", "user.created"}[i%4], fmt.Sprintf("%s/%d", anywhere, i%2), map[string]any{"active": i < 5}))
	}
	r.rival.subscribe("*", anywhere)
	for query, want := range map[string][]int{
		"":                                 {0, 1, 2, 3, 4, 5, 6},
		"event=order.created":              {0, 1, 2, 4, 5, 6},
		"event=order.*":                    {1, 2, 5, 6},
		"event=user.created":               {2, 3, 6},
		"event=*":                          {2, 6},
		"active=true":                      {0, 1, 2, 3, 4},
		"active=false":                     {5, 6},
		"target_url=" + anywhere + "/1":    {1, 3, 5},
		"active=true&event=order.created":  {0, 1, 2, 4},
		"target_url=http://127.0.0.1/none": {},
		"account=acme&active=false":        {5, 6},
	} {
		expected := []string{}
		for _, i := range want {
			expected = append(expected, ids[i])
		}
		if got := c.pages("/api/v1/subscriptions?limit=2&"+query, "id"); !slices.Equal(got, expected) {
			t.Errorf("%q: want %v, got %v", query, expected, got)
		}
	}
	page := c.get("/api/v1/subscriptions?limit=7").shows(map[string]any{"next_cursor": nil})
	if types := fmt.Sprint(page.at("event_types")); !strings.HasPrefix(types, "[map[description:An order name:order.created] map[") || strings.Count(types, "name:") != 1+len(operational) {
		t.Errorf("event_types %s", types)
	}
	c.get("/api/v1/subscriptions?limit=1").shows(map[string]any{"next_cursor": ids[0]})
	if all := r.admin.pages("/api/v1/subscriptions?account=*&limit=3", "account"); len(all) != 8 {
		t.Errorf("an admin key sees %v", all)
	}
	if own := r.admin.pages("/api/v1/subscriptions?limit=3", "id"); len(own) != 0 {
		t.Errorf("an admin key sees %v without asking for it", own)
	}
	if one := r.admin.pages("/api/v1/subscriptions?account=rival", "account"); !slices.Equal(one, []string{"rival"}) {
		t.Errorf("an admin key that asks for rival sees %v", one)
	}
}

func TestSubscriptions_PatternsAndFiltersMatch(t *testing.T) {
	r := start(t)
	c := r.acme
	for _, event := range []string{"order.created", "order.*", "*", "order.line.*", "user.created"} {
		c.subscribe(event, anywhere)
	}
	c.subscribe("*", anywhere, map[string]any{"filter": "data.total > 100"})
	c.subscribe("*", anywhere, map[string]any{"active": false})
	c.post("/api/v1/subscriptions", map[string]any{"events": []string{"order.created", "order.*", "*"}, "target_url": anywhere}).want(201)
	r.rival.subscribe("*", anywhere)
	for _, test := range []struct {
		event string
		total int
		want  int
	}{
		{"order.created", 50, 4}, {"order.created", 500, 5}, {"order.line.added", 0, 4}, {"orders", 0, 2}, {"user.created", 0, 3}, {"user.created", 101, 4},
	} {
		c.post("/api/v1/events", map[string]any{"type": test.event, "data": map[string]any{"total": test.total}}).want(202).shows(map[string]any{"matched": test.want})
	}
}

func TestSubscriptions_DeactivatedByGone(t *testing.T) {
	c := start(t).acme
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	path := "/api/v1/subscriptions/" + c.subscribe("a", hook.URL)
	c.publish("a", 1)
	eventually(t, "the subscription is off", func() bool { return c.get(path).at("active") == false })
	c.get(path).shows(map[string]any{"inactive_reason": "the target answered 410 Gone"})
	c.do("PATCH", path, `{"active":true}`).want(200).shows(map[string]any{"active": true, "inactive_reason": nil})
}

func TestDeliveries_FilterErrorIsShown(t *testing.T) {
	c := start(t).acme
	path := "/api/v1/subscriptions/" + c.subscribe("a", anywhere, map[string]any{"filter": "len(data.items) > 1"})
	c.post("/api/v1/events", `{"type":"a","data":{"items":5}}`).want(202).shows(map[string]any{"matched": 0})
	a := c.get(path).want(200).shows(map[string]any{"filter_errors.count": 1})
	if a.text("filter_errors.last") == "" {
		t.Error("nothing is said of the error")
	}
}
