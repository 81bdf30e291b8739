package server_test

import (
	"fmt"
	"net/url"
	"testing"
)

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
