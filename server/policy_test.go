package server_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
)

func TestPolicy_SetMergeReplace(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}).want(201)
	made.shows(map[string]any{"policy": "map[give_up_after:<nil> in_flight:<nil> ordering:none ordering_key:<nil> rate:<nil> retries:<nil> timeout:<nil>]"})
	path := "/api/v1/subscriptions/" + made.text("id")
	patch := func(body string, want map[string]any) {
		t.Helper()
		c.do("PATCH", path, body).want(200).shows(want)
		c.get(path).want(200).shows(want)
	}
	patch(`{"policy":{"retries":["0s","5s",90],"timeout":"2s","in_flight":4,"rate":{"count":10,"per":"1s"},"ordering":"key","ordering_key":"data.id","give_up_after":"72h"}}`, map[string]any{
		"policy.retries": "[0s 5s 90s]", "policy.timeout": "2s", "policy.in_flight": 4, "policy.rate": "map[count:10 per:1s]",
		"policy.ordering": "key", "policy.ordering_key": "data.id", "policy.give_up_after": "72h",
	})
	patch(`{"policy":{"timeout":null,"rate":{"count":20}}}`, map[string]any{
		"policy.retries": "[0s 5s 90s]", "policy.timeout": nil, "policy.in_flight": 4, "policy.rate": "map[count:20 per:1s]", "policy.ordering": "key",
	})
	patch(`{"policy":{"ordering":"fifo"}}`, map[string]any{"policy.ordering": "fifo", "policy.ordering_key": nil})
	patch(`{"policy":{}}`, map[string]any{"policy.in_flight": 4})
	patch(`{"description":"x"}`, map[string]any{"policy.in_flight": 4})
	patch(`{"policy":{"retries":{"first":"5s","factor":3,"cap":"1m","attempts":5},"ordering":"none"}}`, map[string]any{"policy.retries": "[0s 5s 15s 45s 1m]", "policy.ordering": "none"})
	patch(`{"policy":{"retries":{"first":"5s","attempts":1}}}`, map[string]any{"policy.retries": "[0s]"})
	patch(`{"policy":{"retries":{"first":"1500ms","attempts":4},"rate":null}}`, map[string]any{"policy.retries": "[0s 1500ms 3s 6s]", "policy.rate": nil})
	patch(`{"policy":null}`, map[string]any{"policy.retries": nil, "policy.in_flight": nil})

	patch(`{"policy":{"in_flight":4}}`, map[string]any{"policy.in_flight": 4})
	c.do("PUT", path, map[string]any{"event": "a", "target_url": anywhere, "policy": map[string]any{"timeout": 1}}).want(200).
		shows(map[string]any{"policy.in_flight": nil, "policy.timeout": "1s"})
	c.do("PUT", path, map[string]any{"event": "a", "target_url": anywhere}).want(200).shows(map[string]any{"policy.timeout": nil})
}

func TestPolicy_InvalidAreRefused(t *testing.T) {
	c := start(t).acme
	id := c.subscribe("a", anywhere)
	for policy, want := range map[string][2]string{
		`5`:                                            {"policy", "must be an object"},
		`[]`:                                           {"policy", "must be an object"},
		`{"timeot":"1s"}`:                              {"policy.timeot", `did you mean "timeout"`},
		`{"timeout":"soon"}`:                           {"policy.timeout", "is not a duration"},
		`{"timeout":"-1s"}`:                            {"policy.timeout", "is not a duration"},
		`{"timeout":true}`:                             {"policy.timeout", "must be a string"},
		`{"timeout":"99ms"}`:                           {"policy.timeout", "100ms to 1m"},
		`{"timeout":61}`:                               {"policy.timeout", "100ms to 1m"},
		`{"timeout":0}`:                                {"policy.timeout", "null for the router's default"},
		`{"in_flight":0}`:                              {"policy.in_flight", "null for the router's default"},
		`{"in_flight":-1}`:                             {"policy.in_flight", "1 to 512"},
		`{"in_flight":513}`:                            {"policy.in_flight", "1 to 512"},
		`{"in_flight":1.5}`:                            {"policy.in_flight", "must be a whole number, not 1.5"},
		`{"in_flight":"many"}`:                         {"policy.in_flight", "must be a number"},
		`{"rate":10}`:                                  {"policy.rate", "must be an object"},
		`{"rate":{}}`:                                  {"policy.rate.count", "is missing"},
		`{"rate":{"count":1}}`:                         {"policy.rate.per", "is missing"},
		`{"rate":{"per":"1s"}}`:                        {"policy.rate.count", "is missing"},
		`{"rate":{"count":0,"per":"1s"}}`:              {"policy.rate", "lets nothing through"},
		`{"rate":{"count":-1,"per":"1s"}}`:             {"policy.rate.count", "1 to 100000"},
		`{"rate":{"count":100001,"per":"1s"}}`:         {"policy.rate.count", "1 to 100000"},
		`{"rate":{"count":1,"per":"999ms"}}`:           {"policy.rate.per", "1s to 1h"},
		`{"rate":{"count":1,"per":"61m"}}`:             {"policy.rate.per", "1s to 1h"},
		`{"rate":{"cuont":1,"per":"1s"}}`:              {"policy.rate.cuont", `did you mean "count"`},
		`{"ordering":"random"}`:                        {"policy.ordering", `use "none", "fifo" or "key"`},
		`{"ordering":"key"}`:                           {"policy.ordering_key", "is missing"},
		`{"ordering_key":"data.id"}`:                   {"policy.ordering_key", "goes with"},
		`{"ordering":5}`:                               {"policy.ordering", "must be a string"},
		`{"give_up_after":"999ms"}`:                    {"policy.give_up_after", "1s to 720h"},
		`{"give_up_after":"721h"}`:                     {"policy.give_up_after", "1s to 720h"},
		`{"retries":"5s"}`:                             {"policy.retries", "must be a list"},
		`{"retries":[]}`:                               {"policy.retries", "1 to 50"},
		`{"retries":["5s"]}`:                           {"policy.retries", `begin with "0s"`},
		`{"retries":["0s","x"]}`:                       {"policy.retries[1]", "is not a duration"},
		`{"retries":["0s",null]}`:                      {"policy.retries[1]", "must be a string"},
		`{"retries":["0s",{}]}`:                        {"policy.retries[1]", "must be a string"},
		`{"retries":["0s","721h"]}`:                    {"policy.retries", "30 days"},
		`{"retries":["0s"` + repeated(`,1`, 50) + `]}`: {"policy.retries", "1 to 50"},
		`{"retries":{"first":"5s"}}`:                   {"policy.retries.attempts", "is missing"},
		`{"retries":{"attempts":3}}`:                   {"policy.retries.first", "is missing"},
		`{"retries":{"first":"5s","attempts":51}}`:     {"policy.retries.attempts", "1 to 50"},
		`{"retries":{"first":"5s","attempts":0}}`:      {"policy.retries.attempts", "1 to 50"},
		`{"retries":{"first":"5s","attempts":3,"factor":0.5}}`:              {"policy.retries.factor", "1 to 100"},
		`{"retries":{"first":"5s","attempts":3,"factor":1e300}}`:            {"policy.retries.factor", "1 to 100"},
		`{"retries":{"first":"5s","attempts":50,"factor":10}}`:              {"policy.retries", "30 days"},
		`{"retries":{"frist":"5s","attempts":3}}`:                           {"policy.retries.frist", `did you mean "first"`},
		`{"retries":{"first":"700h","attempts":50,"factor":100,"cap":1e9}}`: {"policy.retries", "30 days"},
	} {
		c.do("PATCH", "/api/v1/subscriptions/"+id, fmt.Sprintf(`{"policy":%s}`, policy)).refused(422, want[0], want[1])
		c.post("/api/v1/subscriptions", fmt.Sprintf(`{"event":"a","target_url":%q,"policy":%s}`, anywhere, policy)).refused(422, want[0], want[1])
	}
	c.get("/api/v1/subscriptions/" + id).want(200).shows(map[string]any{"policy.timeout": nil, "policy.retries": nil})
}

func repeated(s string, n int) (all string) {
	for range n {
		all += s
	}
	return all
}

func TestSubscriptions_Health(t *testing.T) {
	r := start(t)
	var down atomic.Bool
	down.Store(true)
	target := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(500)
		}
	})
	path := "/api/v1/subscriptions/" + r.acme.subscribe("a", target.URL)
	r.acme.get(path).want(200).shows(map[string]any{"health.state": "healthy", "health.failing_since": nil, "health.failures": 0})
	r.acme.do("PATCH", path, `{"policy":{"retries":["0s"],"in_flight":1}}`).want(200)
	for range 5 {
		r.acme.publish("a", 1)
	}
	state := func() string { return r.acme.get(path).want(200).text("health.state") }
	eventually(t, "the circuit is open", func() bool { return state() == "probing" })
	r.acme.get(path).want(200).shows(map[string]any{"health.failures": 5, "health.last_error": "the target answered 500 Internal Server Error"})
	down.Store(false)
	r.acme.publish("a", 2)
	eventually(t, "it is healthy again", func() bool { return state() == "healthy" })
	r.acme.get(path).want(200).shows(map[string]any{"health.failing_since": nil, "health.next_probe_at": nil, "health.last_error": ""})
}
