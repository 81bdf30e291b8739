package server_test

import (
	"fmt"
	"strings"
	"testing"
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

// Every name works, in one spelling each; the first of each row in all spellings.
func TestFieldAliases_AcceptedAndEchoed(t *testing.T) {
	c := start(t).acme
	n := 0
	for _, row := range []struct {
		member, names string
		value, echo   any // what is sent, and shown under the API's name and the client's; nil: a new URL
	}{
		{"target_url", "target_url hook_url url webhook_url callback_url callback endpoint endpoint_url notification_url destination uri address target sink", nil, nil},
		{"event", "event event_type event_name event_key topic type trigger webhook_event scope subscription_type hook", "user.created", "user.created"},
		{"events", "events event_types topics types triggers subscribed_events event_names enabled_events filter_types", []string{"a.b", "c"}, "[a.b c]"},
		{"active", "active is_active enabled", false, false},
	} {
		for i, name := range strings.Fields(row.names) {
			all := spellings(name)
			if i > 0 {
				all = all[i%len(all) : i%len(all)+1]
			}
			for _, spelling := range all {
				n++
				address := fmt.Sprintf("%s/%d", anywhere, n)
				body := map[string]any{"event": "order.created", "target_url": address}
				value, echo := row.value, row.echo
				if row.member == "target_url" {
					value, echo = address, address
				}
				delete(body, strings.TrimSuffix(row.member, "s"))
				delete(body, row.member)
				body[spelling] = value
				made := c.post("/api/v1/subscriptions", body).want(201).shows(map[string]any{row.member: echo, spelling: echo})
				path := made.text("href")
				if path != "/api/v1/subscriptions/"+made.text("id") || path != made.header.Get("Location") {
					t.Errorf("href is %q", path)
				}
				c.get(path).want(200).shows(map[string]any{row.member: echo, spelling: echo})
			}
		}
	}
	for _, test := range []struct{ member, active, shown string }{
		{`"status":"active"`, "true", `"status":"active"`},
		{`"status":"Enabled"`, "true", `"status":"active"`},
		{`"status":"on"`, "true", `"status":"active"`},
		{`"status":"inactive"`, "false", `"status":"inactive"`},
		{`"status":"paused"`, "false", `"status":"inactive"`},
		{`"status":"DISABLED"`, "false", `"status":"inactive"`},
		{`"disabled":true`, "false", `"disabled":true`},
		{`"disabled":false`, "true", `"disabled":false`},
		{`"Disabled":"yes"`, "false", `"Disabled":true`},
		{`"disabled":true,"active":false`, "false", `"disabled":true`},
		{`"disabled":null`, "true", ""},
		{`"is_active":0`, "false", `"is_active":false`},
		{`"enabled":1`, "true", `"enabled":true`},
	} {
		n++
		a := c.post("/api/v1/subscriptions", fmt.Sprintf(`{"event":"a","url":"%s/%d",%s}`, anywhere, n, test.member)).want(201)
		if body := string(a.body); fmt.Sprint(a.at("active")) != test.active || !strings.Contains(body, test.shown) {
			t.Errorf("%s: %s", test.member, body)
		}
	}
	list := c.get("/api/v1/subscriptions?limit=500").want(200)
	if got := len(list.column("id")); got != n {
		t.Errorf("%d subscriptions, %d were made", got, n)
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

func TestFieldAliases_EveryErrorHasTheClientsName(t *testing.T) {
	c := start(t).acme
	for _, test := range []struct{ body, fields string }{
		{`{"topics":["a","b c"],"hookUrl":"ftp://x","policy":{"timeout":"1h"},"filter":"data."}`, "[topics[1] hookUrl policy.timeout filter]"},
		{`{"hook":{"event":"b c","target":5,"enabled":"often"},"batch":{"size":"x"}}`, "[hook.enabled batch.size hook.target]"},
		{`{"url":"","expires_in":"1s","headers":{"X":"[hidden]"},"secret_type":"rsa"}`, "[secret_type headers expires_in]"},
	} {
		a := c.post("/api/v1/subscriptions", test.body)
		var got []any
		for i := 0; a.at(fmt.Sprintf("errors.%d", i)) != nil; i++ {
			got = append(got, a.at(fmt.Sprintf("errors.%d.field", i)))
		}
		if a.status != 422 || fmt.Sprint(got) != test.fields {
			t.Errorf("%s: %v, want %s: %s", test.body, got, test.fields, a.body)
		}
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

func TestFieldAliases_NotOfLongNamesAndMembersOfResponses(t *testing.T) {
	c := start(t).acme
	long := "url" + strings.Repeat("_", 100)
	c.post("/api/v1/subscriptions", map[string]any{"event": "a", long: anywhere}).refused(422, "target_url", "is missing")
	// A member that looks like one of the response's own is not an alias.
	a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "url": anywhere, "id": "mine", "href": "x", "zap_id": 3, "dialect": "z"}).want(201)
	if a.text("id") == "mine" || a.text("href") == "x" || a.at("dialect") != nil {
		t.Errorf("answered %s", a.body)
	}
}

// Each comparison with the known names costs time, and a body can have a hundred thousand members:
// see BenchmarkSubscription_HostileBody.
func TestFieldAliases_FewUnknownMembersAreCompared(t *testing.T) {
	c := start(t).acme
	body := func(strangers int) string {
		var b strings.Builder
		for i := range strangers {
			fmt.Fprintf(&b, `"stranger%d":1,`, i)
		}
		return `{` + b.String() + `"filtr":"true","event":"a","target_url":"` + anywhere + `"}`
	}
	headers := strings.Builder{}
	for i := range 101 {
		fmt.Fprintf(&headers, `"X-%d":"1",`, i)
	}
	c.post("/api/v1/subscriptions", `{"event":"a","target_url":"`+anywhere+`","headers":{`+strings.TrimSuffix(headers.String(), ",")+`}}`).
		refused(422, "headers", "changes 101 headers; at most 100")
	c.post("/api/v1/subscriptions", body(60)).refused(422, "filtr", `did you mean "filter"?`)
	c.post("/api/v1/subscriptions", body(200)).refused(422, "metadata.client", "holds 201 members")
}
