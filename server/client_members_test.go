package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSubscriptions_UnknownMembersAreStored(t *testing.T) {
	r := start(t)
	c := r.acme
	for i, test := range []struct{ members, client string }{
		{`"site_id":"s1","form_id":12345678901234567890`, `{"form_id":12345678901234567890,"site_id":"s1"}`},
		{`"campaignId":[1,{"a":null}],"style":"<b>"`, `{"campaignId":[1,{"a":null}],"style":"<b>"}`},
		{`"passcode":"p","api_token":"q","nested":{"secret_key":"r","x":1}`, `{"api_token":"[hidden]","nested":{"secret_key":"[hidden]","x":1},"passcode":"[hidden]"}`},
		{`"type":"webhook","topic":"a"`, `{"type":"webhook"}`},
		{`"id":"mine","health":{}`, ``}, // shown, and perhaps sent back
		{`"webhook":{"format":"json","active":true}`, `{"webhook":{"format":"json"}}`},
		{`"data":{"x":1},"subscription":5`, `{"data":{"x":1},"subscription":5}`},
	} {
		body := fmt.Sprintf(`{"event":"a","url":"%s/%d",%s}`, anywhere, i, test.members)
		made := c.post("/api/v1/subscriptions", body).want(201)
		want := `"metadata":{"client":` + test.client + `}`
		if test.client == "" {
			want = `"metadata":{}`
		}
		for _, a := range []*answer{made, c.get(made.text("href")), c.get("/api/v1/subscriptions")} {
			if !strings.Contains(string(a.body), want) {
				t.Errorf("%s: want %s in %s", a.what, want, a.body)
			}
		}
		// A duplicate returns the same subscription; a view can be sent back; redacted values stay.
		c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": made.text("id")})
		c.do("PUT", made.text("href"), string(made.body)).want(200)
		c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": made.text("id")})
		for _, entry := range []string{"/api/v1/audit?subject_id=" + made.text("id")} {
			if text := string(c.get(entry).want(200).body); strings.Contains(text, `"passcode":"p"`) || strings.Contains(text, `"api_token":"q"`) || strings.Contains(text, `"secret_key":"r"`) {
				t.Errorf("%s shows a credential: %s", entry, text)
			}
		}
	}
	// Different client members make another subscription.
	one := c.post("/api/v1/subscriptions", map[string]any{"event": "b", "url": anywhere, "site_id": "1", "metadata": map[string]string{"team": "x"}}).want(201)
	two := c.post("/api/v1/subscriptions", map[string]any{"event": "b", "url": anywhere, "site_id": "2"}).want(201)
	path := one.text("href")
	c.do("PUT", path, map[string]any{"target_url": anywhere + "/new"}).want(200).shows(map[string]any{"metadata.client.site_id": "1", "metadata.team": nil})
	c.do("PATCH", path, map[string]any{"metadata": map[string]any{"team": "y"}}).want(200).shows(map[string]any{"metadata.client.site_id": "1", "metadata.team": "y"})
	c.do("PATCH", path, map[string]any{"style": "round", "site_id": nil}).want(200).shows(map[string]any{"metadata.client": map[string]any{"style": "round"}})
	c.do("PATCH", path, map[string]any{"metadata": map[string]any{"client": map[string]any{"page": 3}}}).want(200).shows(map[string]any{"metadata.client": map[string]any{"page": 3, "style": "round"}, "metadata.team": "y"})
	c.do("PUT", path, map[string]any{"metadata": map[string]any{"client": map[string]any{"page": 4}}}).want(200).shows(map[string]any{"metadata.client": map[string]any{"page": 4}})
	c.do("PATCH", path, map[string]any{"metadata": map[string]any{"client": nil}}).want(200).shows(map[string]any{"metadata": map[string]any{}})
	c.do("PATCH", two.text("href"), map[string]any{"metadata": nil}).want(200).shows(map[string]any{"metadata": map[string]any{}})

	c.do("PATCH", path, map[string]any{"metadata": map[string]any{"client": "mine"}}).want(200).shows(map[string]any{"metadata.client": "mine"})
	c.do("PATCH", path, map[string]any{"site_id": 1}).refused(422, "metadata.client", "another name")
	c.do("PATCH", path, map[string]any{"metadata": map[string]any{"client": 5}}).refused(422, "metadata.client", "must be a string")
	c.do("PATCH", two.text("href"), map[string]any{"site_id": strings.Repeat("x", 9<<10)}).refused(422, "metadata.client", "are kept")
}

func TestSubscriptions_ListAcceptsAliasParameters(t *testing.T) {
	c := start(t).acme
	for i := range 5 {
		c.post("/api/v1/subscriptions", map[string]any{"topic": "order.created", "address": fmt.Sprintf("%s/%d", anywhere, i), "site_id": i % 2, "status": []string{"active", "paused"}[i%2]}).want(201)
	}
	all := c.get("/api/v1/subscriptions").column("target_url")
	for query, want := range map[string]int{
		"topic=order.created": 5, "topic=order.paid": 0, "status=active&per_page=100": 3, "status=paused": 2, "status=any": 5, "enabled=false": 2, "disabled=1": 2, "is_active=TRUE": 3,
		"per_page=2": 2, "per_page=2&page=2": 2, "per_page=2&page=3": 1, "per_page=2&page=4": 0, "page=1": 5, "page=0": 5, "page_size=1000": 5, "limit=2&per_page=3": 2,
		"style=x&orderby=date&team_id=9": 5, "site_id=1": 2, "site_id=0": 3, "site_id=7": 0, "site_id=1&status=active": 0, "address=" + anywhere + "/3": 1, "hookUrl=" + anywhere: 0,
		"event=order.created&topic=order.created": 5, "topic=": 5, "q[a]=b": 5,
	} {
		if got := c.get("/api/v1/subscriptions?" + query).want(200).column("id"); len(got) != want {
			t.Errorf("%s: %d, want %d", query, len(got), want)
		}
	}
	if got := c.pages("/api/v1/subscriptions?per_page=2", "target_url"); fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("by cursor: %v", got)
	}
	var pages []string
	for n := 1; n <= 3; n++ {
		pages = append(pages, c.get(fmt.Sprintf("/api/v1/subscriptions?per_page=2&page=%d", n)).column("target_url")...)
	}
	if fmt.Sprint(pages) != fmt.Sprint(all) {
		t.Errorf("by page: %v", pages)
	}
	first, second := c.get("/api/v1/subscriptions?limit=2"), c.get("/api/v1/subscriptions?limit=2&page=2")
	if first.at("event_types") == nil || second.at("event_types") != nil || c.get("/api/v1/subscriptions?limit=2&cursor="+first.text("next_cursor")).at("event_types") != nil {
		t.Error("the event types are not on the first page alone")
	}
	for _, query := range []string{"evet=a", "targeturl2=x", "actve=true"} {
		name, _, _ := strings.Cut(query, "=")
		c.get("/api/v1/subscriptions?"+query).refused(422, name, "did you mean")
	}
}

// A client of a service that names no event and checks a passcode in the body of deliveries.
func TestDialects_FixedEventAndClientMembersInDeliveries(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "recipes.yaml"), []byte(`
name: recipes
path: /api/hooks
request: {target_url: url}
fixed: {event: recipe.created}
operations:
  subscribe: {method: POST, answer: {id: $subscription.id, style: $subscription.metadata.client.style}}
  list: {method: GET}
  unsubscribe: {method: DELETE, path: "/{id}"}
delivery:
  style: $subscription.metadata.client.style
  passcode: $subscription.metadata.client.auth.passcode
  team: $subscription.metadata.team
  recipe: $event.data
`), 0o600))
	r := start(t, setup{dialects: dir})
	hook := receive(t, nil)
	c := r.legacy("X-API-Key", r.acme.key)
	made := c.call("POST", "/api/hooks", `{"url":"`+hook.URL+`","style":"mediterranean","auth":{"passcode":"sesame","user":5}}`, 201).shows(map[string]any{"style": "mediterranean"})
	id := made.text("id")
	if got := made.header.Get("Location"); got != "/api/hooks/"+id {
		t.Errorf("Location is %q", got)
	}
	c.call("GET", "/api/hooks?style=mediterranean&page=1", "", 200).shows(map[string]any{"0.id": id, "0.metadata.client.auth": map[string]any{"passcode": "[hidden]", "user": 5}})
	r.acme.publish("recipe.created", map[string]any{"n": 1})
	if got := hook.wait(t, 1)[0].body; got != `{"style":"mediterranean","passcode":"sesame","team":null,"recipe":{"n":1}}` {
		t.Errorf("came: %s", got)
	}
	c.call("DELETE", "/api/hooks/"+id, "", 204)
}

func TestDialects_JoinedEventParts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pipe": "request: {event: {join: [event_object, event_action]}, target_url: subscription_url}",
		"near": "request: {events: {each: sub.events, join: [object_type, action], with: '/'}, target_url: url}",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name+".yaml"), []byte("name: "+name+"\npath: /"+name+"\n"+text+`
operations:
  subscribe: {method: POST, answer: {id: $subscription.id, event: $subscription.event, events: $subscription.events, kept: "$subscription.metadata.client?"}}
  update: {method: [PUT, PATCH], path: "/{id}", answer: {events: $subscription.events}}
`), 0o600))
	}
	r := start(t, setup{dialects: dir})
	c := r.legacy("X-API-Key", r.acme.key)
	made := c.call("POST", "/pipe", `{"event_object":"deal","event_action":"added","subscription_url":"`+anywhere+`","user_id":5}`, 201).shows(map[string]any{"event": "deal.added", "kept": map[string]any{"user_id": 5}})
	c.call("PATCH", "/pipe/"+made.text("id"), `{"event_object":"deal","event_action":"*"}`, 200).shows(map[string]any{"events": "[deal.*]"})
	c.call("PUT", "/pipe/"+made.text("id"), `{"event_object":"*","event_action":"*"}`, 200).shows(map[string]any{"events": "[*]"})
	c.call("POST", "/pipe", `{"event_object":"deal","subscription_url":"`+anywhere+`"}`, 422).refused(422, "event_object", "is missing")
	c.call("POST", "/pipe", `{"event_object":"*","event_action":"added","subscription_url":"`+anywhere+`"}`, 422).refused(422, "event_object", "")
	c.call("POST", "/near", `{"sub":{"events":[{"object_type":"lead","action":"created"},{"object_type":"lead","action":"deleted"}],"x":1},"url":"`+anywhere+`"}`, 201).
		shows(map[string]any{"events": "[lead/created lead/deleted]", "kept": map[string]any{"sub": map[string]any{"x": 1}}})
	c.call("POST", "/near", `{"sub":{"events":[{"object_type":"lead"}]},"url":"`+anywhere+`"}`, 422).refused(422, "sub.events", "is missing")
	c.call("POST", "/near", `{"sub":{"events":"lead"},"url":"`+anywhere+`/2"}`, 201).shows(map[string]any{"events": "[lead]"})
}

func TestSubscriptions_EventsAsTextFlagsAndConfig(t *testing.T) {
	c := start(t).acme
	c.post("/api/v1/subscriptions", map[string]any{"events": "a.b, c", "url": anywhere + "/1"}).want(201).shows(map[string]any{"events": "[a.b c]"})
	c.post("/api/v1/subscriptions", `{"name":"web","active":true,"events":["push"],"config":{"url":"`+anywhere+`/2","content_type":"json","insecure_ssl":"0"}}`).want(201).
		shows(map[string]any{"event": "push", "target_url": anywhere + "/2", "metadata.client": map[string]any{"name": "web", "config": map[string]any{"content_type": "json", "insecure_ssl": "0"}}})
	c.post("/api/v1/subscriptions", `{"events":["push"],"config":{"url":"`+anywhere+`/2b","secret":"a text of its own"},"signatures":["X-Hub-Signature-256: sha256={hmac-sha256-hex}"]}`).want(201).shows(map[string]any{"secret": "a text of its own"})
	made := c.post("/api/v1/subscriptions", `{"url":"`+anywhere+`/3","push_events":true,"tag_push_events":false,"issues_events":true,"enable_ssl_verification":true,"token":"t"}`).want(201)
	made.shows(map[string]any{"events": "[push issues]", "metadata.client": map[string]any{"enable_ssl_verification": true, "token": "[hidden]"}})
	c.do("PUT", made.text("href"), `{"url":"`+anywhere+`/3","tag_push_events":true,"push_events":false}`).want(200).shows(map[string]any{"events": "[issues tag_push]"})
	c.do("PATCH", made.text("href"), `{"issues_events":false,"tag_push_events":false}`).refused(422, "issues_events", "is missing")
	c.post("/api/v1/subscriptions", `{"url":"`+anywhere+`/4","push_events":false}`).refused(422, "push_events", "is missing")
	c.post("/api/v1/subscriptions", `{"url":"`+anywhere+`/5","event":"a","push_events":true}`).want(201).shows(map[string]any{"event": "a", "metadata.client": map[string]any{"push_events": true}})
	c.do("POST", "/api/v1/subscriptions", "url="+anywhere+"/6&push_events=true&note_events=0", "Content-Type", "application/x-www-form-urlencoded").want(201).shows(map[string]any{"events": "[push]"})
}

// hostileMembers are members, by the hundred thousand, that a decoder may compare with each other or
// with the known names.
var hostileMembers = []struct{ name, text string }{
	{"objects", `"a%d":{"b":1}`}, {"aliases", `"url%s":{}`}, {"aliases beside objects", `"url%s":"x","a%d":{}`},
	{"flags", `"a%d_events":true`}, {"near misses", `"filter%d":1`},
}

// hostileBody returns a subscription of some 900 KiB.
func hostileBody(member string) string {
	var body strings.Builder
	body.WriteString(`{"event":"a","url":"` + anywhere + `"`)
	for i := 0; body.Len() < 900<<10; i++ {
		text := strings.Replace(member, "%s", spelled(i), 1)
		body.WriteString("," + strings.Replace(text, "%d", fmt.Sprint(i), 1))
	}
	return body.String() + "}"
}

func TestSubscription_HostileBodiesAreRefused(t *testing.T) {
	c := start(t).acme
	for _, m := range hostileMembers {
		t.Run(m.name, func(t *testing.T) { c.in(t).post("/api/v1/subscriptions", hostileBody(m.text)).want(422) })
	}
}

// A body must cost about the same whatever its members are.
func BenchmarkSubscription_HostileBody(b *testing.B) {
	c := start(b).acme
	for _, m := range hostileMembers {
		body := hostileBody(m.text)
		b.Run(m.name, func(b *testing.B) {
			for b.Loop() {
				c.post("/api/v1/subscriptions", body).want(422)
			}
		})
	}
}

// spelled returns an ending of "_" and "-" that tells i, and that aliases ignore.
func spelled(i int) string {
	return strings.NewReplacer("0", "_", "1", "-").Replace(fmt.Sprintf("%b", i))
}
