package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"switchhook/server"
)

// testdata/oas31-schema.json is the OpenAPI Initiative's own schema of OpenAPI 3.1
// documents (https://spec.openapis.org/oas/3.1/schema/2022-10-07, Apache-2.0).
func TestTheDocumentIsValidOpenAPI31(t *testing.T) {
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

func TestTheDocumentDescribesEveryRouteAndNothingElse(t *testing.T) {
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

func TestEveryReferenceInTheDocumentLeadsSomewhereAndEveryComponentIsUsed(t *testing.T) {
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

func TestOperationsHaveDistinctIDsAndDescribedParameters(t *testing.T) {
	ids := map[string]string{}
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
func TestTheExamplesOfTheDocumentWork(t *testing.T) {
	sent := 0
	for path := range openapi().root["paths"].(map[string]any) {
		for method := range openapi().at("paths", path).value.(map[string]any) {
			body := openapi().at("paths", path, method, "requestBody", "content", "application/json")
			for _, name := range body.at("examples").names() {
				sent++
				t.Run(fmt.Sprintf("%s %s %s", method, path, name), func(t *testing.T) {
					text, err := json.Marshal(body.at("examples", name, "value").value)
					must(t, err)
					if err := body.at("schema").validate(text); err != nil {
						t.Error(err)
					}
					r := start(t)
					real := strings.Replace(path, "{name}", "order.created", 1)
					if strings.Contains(path, "subscriptions/{id}") {
						real = strings.Replace(path, "{id}", r.admin.subscribe("order.created", "http://127.0.0.1:9/", map[string]any{"filter": "data.x == 1"}), 1)
					}
					if a := r.admin.do(strings.ToUpper(method), real, string(text)); a.status >= 300 {
						t.Errorf("%d: %s", a.status, a.body)
					}
				})
			}
		}
	}
	if sent < 10 {
		t.Errorf("only %d examples found", sent)
	}
}

// Every answer of every test is held against the document (see conforms). Here each
// operation is called so that it has something to show.
func TestEachOperationAnswersAsDescribed(t *testing.T) {
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
	ids["keys"] = admin.post("/api/v1/keys", `{"name":"n"}`).want(201).text("id")
	bodies := map[string]string{
		"POST /api/v1/subscriptions": `{"event":"*","target_url":"` + hook.URL + `"}`, "PUT /api/v1/subscriptions/{id}": `{"event":"a","target_url":"` + hook.URL + `"}`,
		"PATCH /api/v1/subscriptions/{id}": `{}`, "POST /api/v1/events": `[{"type":"a","data":null}]`, "POST /api/v1/event-types": `{"name":"a.b"}`,
		"PUT /api/v1/event-types/{name}": `{"schema":true}`, "POST /api/v1/keys": `{"account":"x"}`,
	}
	deletes := func(op server.Operation) bool { return op.Method == "DELETE" }
	operations := r.server.Operations()
	for _, last := range []bool{false, true} {
		for _, op := range operations {
			if deletes(op) != last {
				continue
			}
			noun := strings.Split(strings.TrimPrefix(op.Path, "/api/v1/"), "/")[0]
			var body any
			if b := bodies[op.Method+" "+op.Path]; b != "" {
				body = b
			}
			if a := admin.do(op.Method, op.Fill(op.Path, ids[noun]), body); a.status >= 300 {
				t.Errorf("%s: %d: %s", a.what, a.status, a.body)
			}
			if !openapi().seen[op.Method+" "+op.Path] {
				t.Errorf("%s %s was not held against the document", op.Method, op.Path)
			}
		}
	}
}

func TestTheDocumentIsServed(t *testing.T) {
	r := start(t)
	want, err := os.ReadFile("openapi.json")
	must(t, err)
	if a := r.admin.with(t, "").get("/api/v1/openapi.json").want(200); !bytes.Equal(a.body, want) {
		t.Error("another document is served")
	}
}
