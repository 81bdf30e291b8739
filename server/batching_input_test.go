package server_test

import "testing"

func TestSubscriptions_BatchAndDebounce(t *testing.T) {
	c := start(t).acme
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "*", "target_url": anywhere, "batch": map[string]any{"size": 10, "wait": "2s"}}).want(201)
	made.shows(map[string]any{"batch.size": 10, "batch.wait": "2s", "debounce": nil})
	path := "/api/v1/subscriptions/" + made.text("id")
	for _, step := range []struct {
		patch string
		want  map[string]any
	}{
		{`{"description":"x"}`, map[string]any{"batch.size": 10}},
		{`{"batch":{"wait":0.5}}`, map[string]any{"batch.size": 10, "batch.wait": "500ms"}},
		{`{"batch":null,"debounce":{"key":"data.id","within":"1m"}}`, map[string]any{"batch": nil, "debounce.key": "data.id", "debounce.within": "1m"}},
		{`{"debounce":{"key":null}}`, map[string]any{"debounce.key": nil, "debounce.within": "1m"}},
		{`{"debounce":null}`, map[string]any{"debounce": nil}},
	} {
		c.do("PATCH", path, step.patch, "Content-Type", "application/merge-patch+json").want(200).shows(step.want)
	}
	for body, field := range map[string]string{
		`{"batch":{"wait":"1s"}}`:                         "batch.size",
		`{"batch":{"sise":5}}`:                            "batch.sise",
		`{"batch":{"size":1}}`:                            "batch.size",
		`{"batch":{"size":2000}}`:                         "batch.size",
		`{"batch":{"size":2,"wait":"6m"}}`:                "batch.wait",
		`{"debounce":{"key":"data.id"}}`:                  "debounce.within",
		`{"debounce":{"within":"1ms"}}`:                   "debounce.within",
		`{"debounce":{"within":"25h"}}`:                   "debounce.within",
		`{"debounce":{"key":"[1]","within":"1s"}}`:        "debounce.key",
		`{"debounce":{"within":"1s"},"batch":{"size":2}}`: "debounce",
	} {
		c.do("PATCH", path, body, "Content-Type", "application/merge-patch+json").refused(422, field, "")
	}
}
