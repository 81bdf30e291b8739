package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"switchhook/server"
)

// testdata/oas31-schema.json is the OpenAPI Initiative's own schema of OpenAPI 3.1
// documents (https://spec.openapis.org/oas/3.1/schema/2022-10-07, Apache-2.0).
func TestOpenAPI_ValidatesAgainst31Schema(t *testing.T) {
	source, err := os.ReadFile("testdata/oas31-schema.json")
	must(t, err)
	meta, err := jsonschema.UnmarshalJSON(bytes.NewReader(source))
	must(t, err)
	c := jsonschema.NewCompiler()
	must(t, c.AddResource("oas31.json", meta))
	schema, err := c.Compile("oas31.json")
	must(t, err)
	if err := schema.Validate(openapi().root); err != nil {
		t.Errorf("%#v", err)
	}
	for _, name := range openapi().at("components", "schemas").names() {
		if _, err := openapi().at("components", "schemas", name).schema(); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
}

func TestOpenAPI_DescribesExactlyTheRoutes(t *testing.T) {
	var routes, described []string
	for _, op := range server.New(server.Config{}).Operations() {
		routes = append(routes, op.Method+" "+op.Path)
	}
	for path, item := range openapi().root["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(routes)
	slices.Sort(described)
	if !slices.Equal(routes, described) {
		t.Errorf("routes:\n%s\ndescribed:\n%s", strings.Join(routes, "\n"), strings.Join(described, "\n"))
	}
}

func TestOpenAPI_ReferencesResolveAndComponentsAreUsed(t *testing.T) {
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				if !openapi().at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).exists() {
					t.Errorf("%s leads nowhere", ref)
				}
				if v["properties"] != nil || v["required"] != nil {
					t.Errorf("members beside a reference to %s: client generators ignore them, use allOf", ref)
				}
			}
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(openapi().root)
	for _, kind := range []string{"schemas", "responses", "parameters", "headers"} {
		for _, name := range openapi().at("components", kind).names() {
			if ref := "#/components/" + kind + "/" + name; !used[ref] {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

func TestOpenAPI_OperationIDsAndParameters(t *testing.T) {
	ids := map[string]string{}
	verbs := map[string]*regexp.Regexp{
		"get": regexp.MustCompile("^(list|get|diff)[A-Z]"), "put": regexp.MustCompile("^replace[A-Z]"), "patch": regexp.MustCompile("^update[A-Z]"),
		"delete": regexp.MustCompile("^(delete|stop)[A-Z]"), "post": regexp.MustCompile("^[a-z]+([A-Z]|$)"),
	}
	for path, item := range openapi().root["paths"].(map[string]any) {
		for method := range maps.Keys(item.(map[string]any)) {
			if method == "parameters" {
				continue
			}
			op := openapi().at("paths", path, method)
			id, _ := op.at("operationId").value.(string)
			if other := ids[id]; other != "" || id == "" {
				t.Errorf("%s %s and %s have the operationId %q", method, path, other, id)
			}
			ids[id] = method + " " + path
			if !verbs[method].MatchString(id) {
				t.Errorf("%s %s: %s does not begin with the verb of its method", method, path, id)
			}
			if !op.at("summary").exists() {
				t.Errorf("%s has no summary", id)
			}
		}
		described := map[string]bool{}
		parameters, _ := item.(map[string]any)["parameters"].([]any)
		for _, p := range parameters {
			if ref, ok := p.(map[string]any)["$ref"].(string); ok {
				p = openapi().at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).value
			}
			described["{"+fmt.Sprint(p.(map[string]any)["name"])+"}"] = true
		}
		for part := range strings.SplitSeq(path, "/") {
			if strings.HasPrefix(part, "{") && !described[part] {
				t.Errorf("%s: the parameter %s is not described", path, part)
			}
		}
	}
}

// Each example is sent to a router of its own, where the things that its path names exist.
func TestOpenAPI_ExamplesWork(t *testing.T) {
	sent := 0
	for path := range openapi().root["paths"].(map[string]any) {
		for method := range openapi().at("paths", path).value.(map[string]any) {
			body := openapi().at("paths", path, method, "requestBody", "content", "application/json")
			for _, name := range body.at("examples").names() {
				sent++
				t.Run(fmt.Sprintf("%s %s %s", method, path, name), func(t *testing.T) {
					t.Parallel()
					text, err := json.Marshal(body.at("examples", name, "value").value)
					must(t, err)
					if err := body.at("schema").validate(text); err != nil {
						t.Error(err)
					}
					r := start(t)
					sub := r.exemplary(path)
					real := strings.NewReplacer("{name}", "order.created", "subscriptions/{id}", "subscriptions/"+sub, "scripts/{id}", "scripts/to-chat", "keys/{id}", "keys/"+r.acme.keyID, "{version}", "2").Replace(path)
					a := r.admin.do(strings.ToUpper(method), real, strings.ReplaceAll(string(text), "sub_0dkwa9ap8h00g", sub))
					if a.status >= 300 || strings.Contains(string(a.body), `"problem"`) {
						t.Errorf("%d: %s", a.status, a.body)
					}
					if strings.Contains(path, "/scripts/") && strings.HasSuffix(path, "/test") && a.at("failed") == nil || path == "/api/v1/preview" && a.at("request") == nil {
						t.Errorf("came to nothing: %s", a.body)
					}
				})
			}
		}
	}
	if sent < 25 {
		t.Errorf("only %d examples found", sent)
	}
}

// exemplary creates the resources that the examples of a path name, and returns the subscription.
func (r *testServer) exemplary(path string) (subscription string) {
	c := r.admin
	if path != "/api/v1/event-types" {
		c.post("/api/v1/event-types", `{"name":"order.created","samples":[{"id":1001,"total":129.5,"currency":"EUR"}]}`).want(201)
	}
	c.script("filter", "large-orders", "data.total > 100")
	c.script("transform", "to-chat", "export default (event) => ({text: 'order ' + event.data.id})", "export default (event) => ({text: `Order ${event.data.id}`})")
	subscription = c.subscribe("order.created", anywhere, map[string]any{"filter": "data.total > 1", "transform_script": "to-chat"})
	if path == "/api/v1/preview" {
		c.post("/api/v1/events", `{"id":"order-1001-created","type":"order.created","data":{"id":1001,"total":129.5,"currency":"EUR"}}`).want(202)
	}
	return subscription
}

// Every response of every test is checked against the document (see conforms). This test calls each
// operation with existing resources.
func TestOpenAPI_ResponsesMatchSchemas(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	admin, ids := r.admin, map[string]string{}
	admin.post("/api/v1/event-types", `{"name":"order.created","description":"d","schema":{"type":"object"},"samples":[{"id":1}]}`).want(201)
	ids["subscriptions"] = admin.subscribe("order.*", hook.URL+"/x?y=1", map[string]any{
		"headers": map[string]string{"Authorization": "Bearer x"}, "metadata": map[string]string{"a": "b"},
		"transform": "export default (event) => { console.log('hi'); return event.data }",
	})
	ids["events"] = admin.publish("order.created", map[string]any{"id": 1})
	eventually(t, "the delivery", func() bool {
		a := admin.get("/api/v1/deliveries?status=succeeded").want(200)
		if a.at("data.0.id") == nil {
			return false
		}
		ids["deliveries"] = a.text("data.0.id")
		return true
	})
	ids["event-types"] = "order.created"
	ids["scripts"] = admin.script("transform", "t", "export default (event) => event.data", "export default (event) => 1")
	ids["keys"] = admin.post("/api/v1/keys", `{"name":"n"}`).want(201).text("id")
	ids["accounts"] = "acme"
	bodies := map[string]string{
		"PUT /api/v1/accounts/{name}": `{"quota":{"subscriptions":10}}`, "PATCH /api/v1/accounts/{name}": `{"retention":{"dead":"1h"}}`,
		"POST /api/v1/subscriptions": `{"event":"*","target_url":"` + hook.URL + `"}`, "PUT /api/v1/subscriptions/{id}": `{"event":"a","target_url":"` + hook.URL + `"}`,
		"PATCH /api/v1/subscriptions/{id}": `{}`, "POST /api/v1/events": `[{"type":"a","data":null}]`, "POST /api/v1/event-types": `{"name":"a.b"}`,
		"PUT /api/v1/event-types/{name}": `{"schema":true}`, "PATCH /api/v1/event-types/{name}": `{}`, "PATCH /api/v1/keys/{id}": `{}`, "POST /api/v1/keys": `{"account":"x"}`, "POST /api/v1/scripts": `{"name":"n","kind":"filter","source":"true"}`,
		"PATCH /api/v1/scripts/{id}": `{"cases":[]}`, "POST /api/v1/scripts/{id}/versions": `{"source":"export default () => 3"}`, "PUT /api/v1/scripts/{id}": `{"name":"t"}`,
		"POST /api/v1/scripts/{id}/test": `{}`, "POST /api/v1/scripts/{id}/compare": `{"version":2}`, "POST /api/v1/scripts/{id}/shadow": `{"version":2,"duration":"60s"}`, "POST /api/v1/subscriptions/{id}/test": `{"sample":"order.created"}`, "POST /api/v1/preview": `{"event":{"type":"order.created","data":{}}}`,
	}
	off := admin.subscribe("off", hook.URL, map[string]any{"active": false})
	bodies["POST /api/v1/replays"] = `{"subscription_ids":["` + off + `"]}`
	deletes := func(op server.Operation) bool { return op.Method == "DELETE" }
	admin.post("/api/v1/scripts/t/shadow", bodies["POST /api/v1/scripts/{id}/shadow"]).want(201)
	asked := receive(t, nil)
	waiting := admin.subscribe("a", asked.URL, map[string]any{"verify": "hook-secret"})
	admin.post("/api/v1/subscriptions/"+waiting+"/confirm", map[string]any{"secret": asked.wait(t, 1)[0].header.Get("X-Hook-Secret")}).want(204)
	operations := r.server.Operations()
	slices.SortFunc(operations, func(a, b server.Operation) int { return len(b.Path) - len(a.Path) }) // what is deleted is no parent yet
	for _, last := range []bool{false, true} {
		for _, op := range operations {
			if deletes(op) != last || strings.HasSuffix(op.Path, "/confirm") {
				continue
			}
			noun := strings.Split(strings.TrimPrefix(op.Path, "/api/v1/"), "/")[0]
			if noun == "replays" { // one that is not finished, since its subscription is off
				ids[noun] = admin.post("/api/v1/replays", bodies["POST /api/v1/replays"]).want(202).text("id")
			}
			var body any
			if b := bodies[op.Method+" "+op.Path]; b != "" {
				body = b
			}
			a := admin.do(op.Method, op.Fill(op.Path, ids[noun]), body)
			if a.status >= 300 {
				t.Errorf("%s: %d: %s", a.what, a.status, a.body)
			}
			location := a.header.Get("Location")
			if location != "" {
				admin.get(location).want(200)
			}
			if (a.status == 201) != (location != "") && op.Method != "POST" { // some POSTs have one with 200 or 202
				t.Errorf("%s: %d with the Location %q", a.what, a.status, location)
			}
			if a.status == 201 && location == "" {
				t.Errorf("%s: 201 without a Location", a.what)
			}
			if !openapi().seen[op.Method+" "+op.Path] {
				t.Errorf("%s %s was not held against the document", op.Method, op.Path)
			}
		}
	}
}

func TestOpenAPI_IsServed(t *testing.T) {
	r := start(t)
	want, err := os.ReadFile("openapi.json")
	must(t, err)
	if a := r.admin.with(t, "").get("/api/v1/openapi.json").want(200); !bytes.Equal(a.body, want) {
		t.Error("another document is served")
	}
}
