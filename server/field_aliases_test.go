package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/server"
)

// spellings returns the spellings of a name.
func spellings(name string) []string {
	parts := strings.Split(name, "_")
	camel, pascal := parts[0], ""
	for i, p := range parts {
		capital := strings.ToUpper(p[:1]) + p[1:]
		pascal += capital
		if i > 0 {
			camel += capital
		}
	}
	return []string{name, camel, pascal, strings.ReplaceAll(name, "_", "-"), strings.ReplaceAll(name, "_", ""), strings.ToUpper(name)}
}

var (
	targetNames = []string{"target_url", "hook_url", "url", "webhook_url", "callback_url", "callback", "endpoint", "endpoint_url", "notification_url", "destination", "uri", "address", "target", "sink"}
	eventNames  = []string{"event", "event_type", "event_name", "event_key", "topic", "type", "trigger", "webhook_event", "scope", "subscription_type", "hook"}
	listNames   = []string{"events", "event_types", "topics", "types", "triggers", "subscribed_events", "event_names", "enabled_events", "filter_types"}
	activeNames = []string{"active", "is_active", "enabled"}
)

func TestFieldAliases_AcceptedAndEchoed(t *testing.T) {
	c := start(t).acme
	n := 0
	try := func(name string, value any, ours string, body map[string]any) {
		t.Helper()
		for _, spelling := range spellings(name) {
			n++
			b := map[string]any{"event": "order.created", "target_url": fmt.Sprintf("%s/%d", anywhere, n)}
			for k, v := range body {
				b[k] = v
			}
			delete(b, ours)
			v := value
			if ours == "target_url" {
				v = fmt.Sprintf("%s/%d", anywhere, n)
			}
			b[spelling] = v
			made := c.post("/api/v1/subscriptions", b).want(201).shows(map[string]any{ours: v, spelling: v})
			path := made.text("href")
			if path != "/api/v1/subscriptions/"+made.text("id") || path != made.header.Get("Location") {
				t.Errorf("href is %q", path)
			}
			c.get(path).want(200).shows(map[string]any{ours: v, spelling: v})
		}
	}
	for _, name := range targetNames {
		try(name, nil, "target_url", nil)
	}
	for _, name := range eventNames {
		try(name, "user.created", "event", nil)
	}
	for _, name := range listNames {
		for _, spelling := range spellings(name) {
			n++
			body := map[string]any{"target_url": fmt.Sprintf("%s/%d", anywhere, n), spelling: []string{"a.b", "c"}}
			c.post("/api/v1/subscriptions", body).want(201).shows(map[string]any{"events": "[a.b c]", spelling: "[a.b c]", "event": nil})
		}
	}
	for _, name := range activeNames {
		try(name, false, "active", nil)
	}
	for word, want := range map[string]bool{"active": true, "Enabled": true, "on": true, "inactive": false, "paused": false, "DISABLED": false} {
		n++
		shown := map[bool]string{true: "active", false: "inactive"}[want]
		a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "url": fmt.Sprintf("%s/%d", anywhere, n), "status": word}).want(201)
		a.shows(map[string]any{"active": want, "status": shown})
	}
	for i, test := range []struct{ member, active, shown string }{
		{`"disabled":true`, "false", `"disabled":true`},
		{`"disabled":false`, "true", `"disabled":false`},
		{`"Disabled":"yes"`, "false", `"Disabled":true`},
		{`"disabled":true,"active":false`, "false", `"disabled":true`},
		{`"disabled":null`, "true", ""},
		{`"is_active":0`, "false", `"is_active":false`},
		{`"enabled":1`, "true", `"enabled":true`},
	} {
		a := c.post("/api/v1/subscriptions", fmt.Sprintf(`{"event":"a","url":"%s/state/%d",%s}`, anywhere, i, test.member)).want(201)
		if body := string(a.body); fmt.Sprint(a.at("active")) != test.active || !strings.Contains(body, test.shown) {
			t.Errorf("%s: %s", test.member, body)
		}
	}
	list := c.get("/api/v1/subscriptions?limit=500").want(200)
	if got := len(list.column("id")); got < 150 {
		t.Errorf("%d subscriptions were made", got)
	}
	if !strings.Contains(string(list.body), `"hookUrl":"`+anywhere) { // where n8n looks for its URL
		t.Errorf("the list does not show hookUrl: %.500s", list.body)
	}
}

func TestFieldAliases_EventObjectsAndWrappers(t *testing.T) {
	c := start(t).acme
	for i, test := range []struct{ body, events string }{
		{`"event":{"name":"a.b"},"url":%q`, "[a.b]"},
		{`"hook":{"name":"a.b"},"url":%q`, "[a.b]"},
		{`"trigger":{"name":"a.b","id":7},"url":%q`, "[a.b]"},
		{`"events":[{"name":"a.b"},"c"],"url":%q`, "[a.b c]"},
		{`"subscription":{"topic":"a.b","endpoint":%q}`, "[a.b]"},
		{`"webhook":{"topic":"a.b","address":%q,"format":"json"}`, "[a.b]"},
		{`"hook":{"event":"a.b","target":%q}`, "[a.b]"},
		{`"hook":{"name":"My hook","event":"a.b","target":%q}`, "[a.b]"},
		{`"Hook":{"event":"a.b","target":%q}`, "[a.b]"},
		{`"data":{"type":"a.b","sink":%q}`, "[a.b]"},
		{`"data":{"type":"webhook","event":"a.b","sink":%q}`, "[a.b]"},
		{`"type":"webhook","scope":"all","event":"a.b","sink":%q`, "[a.b]"},
		{`"type":3,"event":"a.b","sink":%q`, "[a.b]"},
		{`"event":"a.b","webhook":{"url":%q}`, "[a.b]"},
		{`"event":"a.b","url":%q,"subscription":"sub_9","data":null,"webhook":[]`, "[a.b]"}, // something else
	} {
		url := fmt.Sprintf("%s/%d", anywhere, i)
		a := c.post("/api/v1/subscriptions", "{"+fmt.Sprintf(test.body, url)+"}")
		if a.status != 201 {
			t.Errorf("%s: %d %s", test.body, a.status, a.body)
			continue
		}
		a.shows(map[string]any{"events": test.events, "target_url": url})
	}
	// Only one level of nesting is read.
	c.post("/api/v1/subscriptions", `{"event":"a","data":{"webhook":{"url":"http://127.0.0.1:9/x"}}}`).refused(422, "target_url", "is missing")
	c.post("/api/v1/subscriptions", `{"event":"a","other":{"url":"http://127.0.0.1:9/x"}}`).refused(422, "target_url", "is missing")
}

func TestFieldAliases_ContradictionsAreRefused(t *testing.T) {
	c := start(t).acme
	for _, test := range []struct{ body, field, detail string }{
		{`"event":"a","target_url":"http://127.0.0.1:9/1","hookUrl":"http://127.0.0.1:9/2"`, "target_url", "and hookUrl name different targets"},
		{`"event":"a","url":"http://127.0.0.1:9/1","subscription":{"target":"http://127.0.0.1:9/2"}`, "url", "and subscription.target name different targets"},
		{`"event":"a","topic":"b","url":"http://127.0.0.1:9/1"`, "event", "and topic name different event types"},
		{`"events":["a"],"topics":["a","b"],"url":"http://127.0.0.1:9/1"`, "events", "and topics name different event types"},
		{`"event":"a","url":"http://127.0.0.1:9/1","active":true,"status":"paused"`, "active", "and status name different states"},
		{`"event":"a","url":"http://127.0.0.1:9/1","filter":"true","hook":{"filter":"false"}`, "hook.filter", "says what filter says already"},
		{`"event":"a","url":"http://127.0.0.1:9/1","status":"resting"`, "status", `"resting" is not known`},
		{`"event":"a","url":"http://127.0.0.1:9/1","enabled":5`, "enabled", "must be true or false"},
		{`"event":"a","url":"http://127.0.0.1:9/1","active":1`, "active", "must be true or false"},
		{`"event":"a","url":"http://127.0.0.1:9/1","disabled":"perhaps"`, "disabled", "must be true or false"},
		{`"event":"a","url":"http://127.0.0.1:9/1","disabled":true,"active":true`, "disabled", "and active name different states"},
		{`"event":5,"url":"http://127.0.0.1:9/1"`, "event", "must be a string or a list of strings, not a number"},
		{`"topics":{"a":1},"url":"http://127.0.0.1:9/1"`, "topics", "must be a string or a list of strings, not an object"},
		{`"event":"a","target":{"a":1}`, "target", "must be a string, not an object"},
		{`"event":"a","url":"http://127.0.0.1:9/1","batch":{"size":10.5}`, "batch.size", "must be a whole number, not 10.5"},
		{`"event":"a","url":"http://127.0.0.1:9/1","batch":{"size":99999999999999999999}`, "batch.size", "is out of range: 99999999999999999999"},
		{`"event":"a","url":"http://127.0.0.1:9/1","expires_in":{}`, "expires_in", `must be a string such as "1m30s", or a number of seconds, not an object`},
		{`"event":"a","hookUrl":5`, "hookUrl", "must be a string, not a number"},
		{`"event":"a","hookUrl":"ftp://x/"`, "hookUrl", "hookUrl must begin with https:// or http://"},
		{`"event":"a","hookUrl":"http://x/#f"`, "hookUrl", "hookUrl has a fragment"},
		{`"event":"a","target":{"url":"http://127.0.0.1:9/1"}`, "target", "must be a string, not an object"},
		{`"topics":["a","b c"],"url":"http://127.0.0.1:9/1"`, "topics[1]", "neither an event type"},
		{`"topic":"b c","url":"http://127.0.0.1:9/1"`, "topic", "neither an event type"},
		{`"hook":{"event":"a","target":"x"}`, "hook.target", ""},
		{`"hook":{"event":"a","target":"http://127.0.0.1:9/1","filtr":"x"}`, "hook.filtr", `did you mean "filter"?`},
		{`"hook":{"event":"a","target":"http://127.0.0.1:9/1","filter":"daat("}`, "hook.filter", ""},
	} {
		c.post("/api/v1/subscriptions", "{"+test.body+"}").refused(422, test.field, test.detail)
	}
	// The same value under two names is no contradiction, and neither is a name without a value.
	for i, body := range []string{
		`"event":"a","topic":"a","target_url":%[1]q,"hookUrl":%[1]q`, `"event":"a","topic":null,"target_url":"","hookUrl":%[1]q`, `"events":[],"topics":["a"],"status":"active","active":true,"url":%[1]q`,
	} {
		c.post("/api/v1/subscriptions", "{"+fmt.Sprintf(body, fmt.Sprintf("%s/%d", anywhere, i))+"}").want(201)
	}
	c.post("/api/v1/subscriptions", `{"event":"a","url":"http://127.0.0.1:9/1","url":"http://127.0.0.1:9/1"}`).refused(400, "", "named twice")
	if n := len(c.get("/api/v1/subscriptions").column("id")); n != 3 {
		t.Errorf("%d subscriptions were made", n)
	}
}

func TestFieldAliases_RoundTripWithOneChange(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{"topic": "a.b", "hookUrl": anywhere, "status": "active"}).want(201)
	path := made.text("href")
	shown := string(made.body)
	for _, change := range [][2]string{
		{`"target_url":"` + anywhere + `"`, `"target_url":"` + anywhere + `/2"`},
		{`"hookUrl":"` + anywhere + `/2"`, `"hookUrl":"` + anywhere + `/3"`},
		{`"active":true`, `"active":false`},
		{`"topic":"a.b"`, `"topic":"c.d"`},
		{`"status":"inactive"`, `"status":"active"`},
	} {
		if !strings.Contains(shown, change[0]) {
			t.Fatalf("%s is not in %s", change[0], shown)
		}
		shown = string(c.do("PUT", path, strings.Replace(shown, change[0], change[1], 1)).want(200).body)
	}
	c.get(path).shows(map[string]any{"target_url": anywhere + "/3", "hookUrl": anywhere + "/3", "event": "c.d", "topic": "c.d", "active": true, "status": "active"})
	c.do("PATCH", path, map[string]any{"callbackUrl": anywhere + "/4"}).want(200).shows(map[string]any{"target_url": anywhere + "/4", "callbackUrl": anywhere + "/4", "hookUrl": nil, "topic": "c.d"})
	c.do("PATCH", path, map[string]any{"target_url": anywhere + "/5"}).want(200).shows(map[string]any{"callbackUrl": anywhere + "/5"})
	c.do("PATCH", path, map[string]any{"topics": []string{"x", "y"}}).want(200).shows(map[string]any{"topics": "[x y]", "topic": nil, "event": nil})
	c.do("PATCH", path, map[string]any{"url": anywhere + "/6", "target_url": anywhere + "/7"}).refused(422, "target_url", "name different targets")
}

func TestSubscriptions_ViewMatchesOpenAPI(t *testing.T) {
	described := openapi().at("components", "schemas", "Subscription", "properties")
	for _, name := range server.SubscriptionMembers() {
		if !described.at(name).exists() {
			t.Errorf("%s is not described", name)
		}
	}
	c := start(t).acme
	long := "url" + strings.Repeat("_", 100)
	c.post("/api/v1/subscriptions", map[string]any{"event": "a", long: anywhere}).refused(422, "target_url", "is missing")
	// A member that looks like one of the response's own is not an alias.
	a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "url": anywhere, "id": "mine", "href": "x", "zap_id": 3, "dialect": "z"}).want(201)
	if a.text("id") == "mine" || a.text("href") == "x" || a.at("dialect") != nil {
		t.Errorf("answered %s", a.body)
	}
}

func TestSubscriptions_FormBodies(t *testing.T) {
	c := start(t).acme
	hook := receive(t, nil)
	form := func(method, path string, fields ...string) *answer {
		values := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			values.Add(fields[i], fields[i+1])
		}
		return c.do(method, path, values.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	}
	made := form("POST", "/api/v1/subscriptions", "event", "a.b", "hookUrl", hook.URL, "active", "true", "payload_format", "data", "headers[X-A]", "1", "metadata", `{"a":"b"}`, "filter", "data == 5", "description", "17").want(201)
	made.shows(map[string]any{"event": "a.b", "hookUrl": hook.URL, "headers.X-A": "[hidden]", "metadata.a": "b", "description": "17", "filter": "data == 5"})
	path := made.text("href")
	c.publish("a.b", 5)
	if got := hook.wait(t, 1)[0]; got.body != "5" || got.header.Get("X-A") != "1" {
		t.Errorf("came: %+v", got)
	}
	form("PATCH", path, "enabled", "0").want(200).shows(map[string]any{"active": false, "enabled": false, "description": "17"})
	form("PATCH", path, "status", "active", "expires_in", "3600").want(200).shows(map[string]any{"active": true})
	// With indexes, as PHP and others write lists.
	form("PUT", path, "enabled_events[10]", "z", "enabled_events[2]", "y", "enabled_events[0]", "x", "signatures[0]", "standard", "metadata[0]", "m", "url", hook.URL+"/3").want(200).shows(map[string]any{"events": "[x y z]", "metadata.0": "m"})
	form("PUT", path, "hook[topics][1]", "y", "hook[topics][0]", "x", "hook[address]", hook.URL+"/4").want(200).shows(map[string]any{"events": "[x y]"})
	form("PATCH", path, "events[0]", "x", "events[00]", "y").refused(422, "events", "is given in two ways")
	form("PATCH", path, "events[0]", "x", "events[]", "y").refused(422, "events", "is given in two ways")
	form("PATCH", path, "events[0]", "x", "events", "y").refused(422, "events", "is given in two ways")
	form("PATCH", path, "events[0]", "x", "events[0]", "y").refused(422, "events", "is given in two ways")
	form("PATCH", path, "events[1000]", "x").refused(422, "events", "must be a string or a list of strings")
	form("PUT", path, "events[]", "x", "events[]", "y", "url", hook.URL+"/2").want(200).shows(map[string]any{"events": "[x y]", "url": hook.URL + "/2", "description": ""})
	for i, fields := range [][]string{{"topics", "x", "topics", "y"}, {"topics", "x, y"}, {"subscription[topics][]", "x", "subscription[topics][]", "y"}} {
		form("POST", "/api/v1/subscriptions", append(fields, "url", fmt.Sprintf("%s/form/%d", hook.URL, i))...).want(201).shows(map[string]any{"events": "[x y]", "topics": "[x y]"})
	}
	form("POST", "/api/v1/subscriptions", "hook[event]", "a", "hook[target]", hook.URL+"/h").want(201)
	form("POST", "/api/v1/subscriptions", "event", "a", "url", hook.URL, "url", hook.URL).refused(400, "", "names url twice")
	form("POST", "/api/v1/subscriptions", "event", "a", "url", hook.URL, "target", anywhere).refused(422, "target", "name different targets")
	form("POST", "/api/v1/subscriptions", "event", "a", "url", hook.URL, "active", "maybe").refused(422, "active", "must be true or false")
	form("POST", "/api/v1/subscriptions", "event", "a", "url", "http://\xff/").refused(422, "url", "UTF-8")
	form("POST", "/api/v1/subscriptions", "event", "numbers", "url", hook.URL, "batch[size]", "10", "batch[wait]", "5s", "policy[in_flight]", "4", "policy[timeout]", "5s").
		want(201).shows(map[string]any{"batch": map[string]any{"size": 10, "wait": "5s"}, "policy.in_flight": 4, "policy.timeout": "5s"})
	form("POST", "/api/v1/subscriptions", "event", "a", "url", hook.URL, "batch[size]", "ten").refused(422, "batch.size", "must be a number")
	c.do("POST", "/api/v1/subscriptions", "--x--", "Content-Type", "multipart/form-data; boundary=x").refused(415, "", "application/x-www-form-urlencoded")
	form("POST", "/api/v1/subscriptions", "event", "a", "a[b][c]", "1").refused(422, "a[b][c]", "can't be read")
	c.do("POST", "/api/v1/subscriptions", "event=%zz", "Content-Type", "application/x-www-form-urlencoded").refused(400, "", "not a valid form")
	c.do("POST", "/api/v1/subscriptions", "", "Content-Type", "application/x-www-form-urlencoded").refused(422, "event", "is missing")
	// curl -d labels JSON as a form.
	c.do("POST", "/api/v1/subscriptions", `{"event":"curl","target_url":"`+hook.URL+`"}`, "Content-Type", "application/x-www-form-urlencoded").want(201)
	// Other routes refuse forms.
	c.do("POST", "/api/v1/events", "type=a", "Content-Type", "application/x-www-form-urlencoded").refused(415, "", "must be JSON")
}

func TestSubscribe_DuplicateReturnsExisting(t *testing.T) {
	r := start(t)
	c := r.acme
	body := map[string]any{"events": []string{"a", "b.*"}, "target_url": anywhere, "filter": "data.x == 1", "headers": map[string]string{"X-A": "1"}}
	first := c.post("/api/v1/subscriptions", body).want(201)
	again := c.post("/api/v1/subscriptions", map[string]any{"topics": []string{"b.*", "a"}, "hookUrl": anywhere, "filter": "data.x == 1", "headers": map[string]string{"X-A": "1"}}).want(200)
	again.shows(map[string]any{"id": first.text("id"), "href": first.text("href"), "secret": nil, "hookUrl": anywhere})
	if again.header.Get("Location") != first.header.Get("Location") || again.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("headers: %v", again.header)
	}
	c.do("PATCH", first.text("href"), `{"active":false,"description":"d"}`).want(200)
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": first.text("id"), "active": false, "description": "d"})
	for name, value := range map[string]any{
		"filter": "data.x == 2", "headers": map[string]string{"X-A": "2"}, "transform": "export default (event) => 1", "payload_format": "data", "events": []string{"a"},
		"target_url": anywhere + "/", "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	} {
		other := map[string]any{}
		for k, v := range body {
			other[k] = v
		}
		other[name] = value
		if a := c.post("/api/v1/subscriptions", other); a.status != 201 {
			t.Errorf("with another %s: %d", name, a.status)
		}
		c.post("/api/v1/subscriptions", other).want(200)
	}
	body["secret_type"] = "ed25519"
	signed := c.post("/api/v1/subscriptions", body).want(201)
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": signed.text("id")})
	delete(body, "secret_type")
	c.post("/api/v1/subscriptions?allow_duplicates=true", body).want(201)
	c.post("/api/v1/subscriptions?allow_duplicates=yes", body).refused(422, "allow_duplicates", "true or false")
	r.rival.post("/api/v1/subscriptions", body).want(201)
	c.do("DELETE", first.text("href"), nil).want(204)
	c.do("DELETE", first.text("href"), nil).refused(404, "", "there is no subscription")
	if third := c.post("/api/v1/subscriptions", body).want(200); third.text("id") == first.text("id") {
		t.Error("a subscription that was deleted came back")
	}
}

func TestSubscribe_DuplicateReactivatesDisabled(t *testing.T) {
	var gone atomic.Bool
	gone.Store(true)
	hook := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if gone.Load() {
			w.WriteHeader(http.StatusGone)
		}
	})
	r := start(t)
	c := r.acme
	body := map[string]any{"event": "a", "hookUrl": hook.URL}
	made := c.post("/api/v1/subscriptions", body).want(201)
	off := func() bool { return c.get(made.text("href")).at("active") == false }
	c.publish("a", 1)
	eventually(t, "410 to switch it off", off)
	body["active"] = false
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"active": false, "inactive_reason": "the target answered 410 Gone"})
	delete(body, "active")
	gone.Store(false)
	second := c.post("/api/v1/subscriptions?allow_duplicates=true", body).want(201)
	c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": second.text("id")}) // or each event would go twice
	c.get(made.text("href")).want(200).shows(map[string]any{"active": false})
	c.do("DELETE", second.text("href"), "").want(204)
	again := c.post("/api/v1/subscriptions", body).want(200).shows(map[string]any{"id": made.text("id"), "active": true, "inactive_reason": nil})
	if again.header.Get("ETag") == made.header.Get("ETag") {
		t.Error("the ETag is the old one")
	}
	c.publish("a", 2)
	hook.wait(t, 2)
	// In a dialect as well.
	gone.Store(true)
	django, dialect := r.legacy("Authorization", "Token "+c.key), `{"event":"d","target":"`+hook.URL+`"}`
	first := django.call("POST", "/api/v1/hooks", dialect, 201)
	c.publish("d", 1)
	path := "/api/v1/subscriptions/" + first.text("id")
	eventually(t, "410 to switch it off", func() bool { return c.get(path).at("active") == false })
	django.call("POST", "/api/v1/hooks", dialect, 201)
	c.get(path).want(200).shows(map[string]any{"active": true})
}

func TestSubscribe_DuplicateExtendsExpiry(t *testing.T) {
	c := start(t).acme
	subscribe := func(in any) *answer {
		body := map[string]any{"event": "a", "target_url": anywhere}
		if in != nil {
			body["expires_in"] = in
		}
		return c.post("/api/v1/subscriptions", body)
	}
	short := subscribe("1m").want(201).text("expires_at")
	long := subscribe("1h").want(200).text("expires_at")
	if long <= short {
		t.Errorf("renewed for an hour, it expires at %s; before at %s", long, short)
	}
	subscribe("2m").want(200).shows(map[string]any{"expires_at": long}) // it may be somebody else's
	subscribe(nil).want(200).shows(map[string]any{"expires_at": nil})
	subscribe("1h").want(200).shows(map[string]any{"expires_at": nil})
}

func TestSubscribe_ConcurrentDuplicatesMakeOne(t *testing.T) {
	c := start(t).acme
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids, made := map[string]bool{}, 0
	for range 32 {
		wg.Go(func() {
			a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere})
			mu.Lock()
			defer mu.Unlock()
			ids[a.text("id")] = true
			if a.status == 201 {
				made++
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || made != 1 {
		t.Errorf("%d were made, with the ids %v", made, ids)
	}
}

func TestSubscriptions_Expire(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "url": anywhere, "expires_in": "1m"}).want(201)
	in := func(a *answer) time.Duration {
		at, err := time.Parse(time.RFC3339, a.text("expires_at"))
		must(t, err)
		return time.Until(at)
	}
	if left := in(made); left > time.Minute || left < 0 {
		t.Errorf("expires in %s", left)
	}
	path := made.text("href")
	if left := in(c.do("PATCH", path, `{"expires_in":86400}`).want(200)); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("renewed, it expires in %s", left)
	}
	before := c.get(path).text("expires_at")
	c.do("PATCH", path, `{"description":"x"}`).want(200).shows(map[string]any{"expires_at": before})
	c.do("PUT", path, string(c.get(path).body)).want(200).shows(map[string]any{"expires_at": before})
	at := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	c.do("PATCH", path, map[string]any{"expiresAt": at}).want(200).shows(map[string]any{"expires_at": at.Format(time.RFC3339), "expiresAt": at.Format(time.RFC3339)})
	c.do("PATCH", path, `{"expires_at":null}`).want(200).shows(map[string]any{"expires_at": nil})
	c.post("/api/v1/subscriptions", map[string]any{"event": "b", "url": anywhere}).want(201).shows(map[string]any{"expires_at": nil})
	for value, field := range map[string]string{
		`"expires_in":"59s"`: "expires_in", `"expires_in":"90000h"`: "expires_in", `"expires_in":"soon"`: "expires_in", `"expires_in":-5`: "expires_in", `"expires_in":{}`: "expires_in",
		`"expires_at":"2020-01-01T00:00:00Z"`: "expires_at", `"expires_at":"2200-01-01T00:00:00Z"`: "expires_at", `"expires_at":"tomorrow"`: "expires_at", `"expires_at":5`: "expires_at",
		`"expires_at":"` + at.Format(time.RFC3339) + `","expires_in":60`: "expires_in",
	} {
		for _, a := range []*answer{c.do("PATCH", path, "{"+value+"}"), c.post("/api/v1/subscriptions", `{"event":"c","url":"`+anywhere+`",`+value+"}")} {
			if got, _ := a.at("field").(string); a.status != 422 || got != field {
				t.Errorf("%s: %d %s", value, a.status, a.body)
			}
		}
	}
}

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
			t.Errorf("%s: ?format=page is no page", list)
		}
		r.admin.get("/api/v1/"+list+"?format=csv").refused(422, "format", `must be "array" or "page"`)
	}
	r.admin.get("/api/v1/scripts/f0/subscriptions?format=array").want(200).shows(map[string]any{"0.event": "a"})
	if got := string(r.rival.get("/api/v1/subscriptions?format=array").want(200).body); got != "[]\n" {
		t.Errorf("an empty list is %s", got)
	}
}
