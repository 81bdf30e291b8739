package api_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/server/api"
)

// described are the types that openapi.json describes in a schema of the same name.
var described = []any{
	api.Error{}, api.FieldError{}, scripts.Error{}, scripts.Diagnostic{},
	api.Key{}, api.CreateKeyRequest{}, api.UpdateKeyRequest{}, api.RotateKeyRequest{},
	api.Replay{}, api.CreateReplayRequest{},
	api.EventType{}, api.EventTypeRequest{},
	api.Account{}, api.Quota{}, api.Retention{}, api.AccountLimits{}, api.AccountUsage{}, api.StoredBytes{}, api.UpdateAccountRequest{},
	api.AuditEntry{}, api.AuditActor{}, api.Me{}, api.Health{}, api.Readiness{},
	api.Script{}, api.ScriptStats{}, api.ScriptRunBucket{}, api.ScriptVersion{}, api.ScriptDiff{}, api.ScriptShadow{}, api.ChangeCounts{},
	api.CreateScriptRequest{}, api.UpdateScriptRequest{}, api.CreateScriptVersionRequest{}, api.ActivateScriptVersionRequest{}, api.StartScriptShadowRequest{}, api.TestScriptRequest{}, api.TestSubscriptionRequest{},
	api.PreviewRequest{}, api.Preview{}, scripts.Explanation{},
	api.CompareScriptRequest{}, api.ComparisonChange{}, api.ComparisonTotals{}, api.ComparisonProblem{}, api.ScriptOutcome{}, api.ScriptOutcomeRequest{},
	scripts.TestReport{}, scripts.BrokenScript{}, scripts.TestCaseReport{}, scripts.TestFailure{}, scripts.TestOutcome{},
	api.Event{}, api.EventByToken{}, api.PublishRequest{}, api.EventTarget{}, api.AcceptedEvent{}, api.AcceptedTarget{}, api.AcceptedEvents{},
	api.Delivery{}, api.Attempt{}, api.AttemptRequest{}, api.AttemptResponse{}, api.ScriptRun{},
	api.Subscription{}, api.SubscriptionRequest{}, api.Policy{}, api.Rate{}, api.Backoff{}, api.Batch{}, api.Debounce{},
	api.TargetHealth{}, api.FilterErrors{}, api.Verification{}, api.ConfirmSubscriptionRequest{}, api.ScriptRef{},
	api.Secret{}, api.OldSecret{}, api.RotateSubscriptionSecretRequest{}, api.Rotation{},
}

// schemaNames are the schemas with another name than their type.
var schemaNames = map[string]string{"Error": "Problem", "scripts.Error": "ScriptError", "scripts.Explanation": "FilterExplanation"}

// notDescribed are the exported structs of this package that are no part of a body.
var notDescribed = []string{"Client", "Page", "Optional", "Versioned", "AttemptBody"}

type schema = map[string]any

func document(t *testing.T) schema {
	t.Helper()
	source, err := os.ReadFile("../openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(source, &root); err != nil {
		t.Fatal(err)
	}
	return root["components"].(schema)["schemas"].(schema)
}

// resolve follows references.
func resolve(schemas, s schema) schema {
	for {
		ref, ok := s["$ref"].(string)
		if !ok {
			return s
		}
		s = schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(schema)
	}
}

// members collects the properties and the required members of a schema and of those it refers to.
func members(schemas, s schema, properties schema, required map[string]bool) {
	if ref, ok := s["$ref"].(string); ok {
		members(schemas, schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(schema), properties, required)
	}
	if all, ok := s["allOf"].([]any); ok {
		for _, part := range all {
			members(schemas, part.(schema), properties, required)
		}
	}
	own, _ := s["properties"].(schema)
	maps.Copy(properties, own)
	names, _ := s["required"].([]any)
	for _, name := range names {
		required[name.(string)] = true
	}
}

// field is a member of a JSON object as a Go type has it.
type field struct {
	name     string
	optional bool
	t        reflect.Type
}

func fields(t reflect.Type) (list []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			list = append(list, fields(f.Type)...)
		case name != "-" && name != "":
			list = append(list, field{name, strings.Contains(options, "omit"), f.Type})
		}
	}
	return list
}

func typeNameOf(v any) string {
	t := reflect.TypeOf(v)
	if filepath.Base(t.PkgPath()) != "api" {
		return filepath.Base(t.PkgPath()) + "." + t.Name()
	}
	return t.Name()
}

func schemaName(v any) string {
	if name := schemaNames[typeNameOf(v)]; name != "" {
		return name
	}
	return strings.TrimPrefix(typeNameOf(v), "scripts.")
}

func TestTypes_MatchOpenAPI(t *testing.T) {
	schemas := document(t)
	for _, v := range described {
		t.Run(typeNameOf(v), func(t *testing.T) {
			s, ok := schemas[schemaName(v)].(schema)
			if !ok {
				t.Fatalf("openapi.json has no schema %s", schemaName(v))
			}
			properties, required := schema{}, map[string]bool{}
			members(schemas, s, properties, required)
			request := strings.HasSuffix(typeNameOf(v), "Request")
			seen := map[string]bool{}
			for _, f := range fields(reflect.TypeOf(v)) {
				seen[f.name] = true
				property, ok := properties[f.name].(schema)
				switch {
				case !ok:
					t.Errorf("%s is not in the schema", f.name)
					continue
				case !request && required[f.name] == f.optional:
					t.Errorf("%s: optional in the type is %t, required in the schema is %t", f.name, f.optional, required[f.name])
				}
				if want := jsonTypes(f.t); want != nil {
					if got := schemaTypes(schemas, property); got != nil && !overlap(want, got) {
						t.Errorf("%s is %v in the type, %v in the schema", f.name, want, got)
					}
				}
			}
			for name := range properties {
				if !seen[name] {
					t.Errorf("%s is not in the type", name)
				}
			}
		})
	}
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// jsonTypes returns the JSON types of a Go type's text; nil if its own methods decide.
func jsonTypes(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[api.Duration]():
		return []string{"string"}
	case strings.HasPrefix(t.Name(), "Optional["):
		decode, _ := reflect.PointerTo(t).MethodByName("Get")
		return jsonTypes(decode.Type.Out(0))
	case t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()):
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		return []string{"string"}
	case reflect.Bool:
		return []string{"boolean"}
	case reflect.Float64:
		return []string{"number"}
	case reflect.Int, reflect.Int64:
		return []string{"integer"}
	case reflect.Slice:
		return []string{"array"}
	case reflect.Struct, reflect.Map:
		return []string{"object"}
	}
	return nil
}

// schemaTypes returns the types that a schema allows; nil if it does not say.
func schemaTypes(schemas, s schema) (list []string) {
	s = resolve(schemas, s)
	for _, key := range []string{"oneOf", "anyOf"} {
		choices, _ := s[key].([]any)
		for _, choice := range choices {
			list = append(list, schemaTypes(schemas, choice.(schema))...)
		}
	}
	switch kind := s["type"].(type) {
	case string:
		list = append(list, kind)
	case []any:
		for _, k := range kind {
			list = append(list, k.(string))
		}
	}
	for _, value := range append(slices.Clone(asList(s["enum"])), asList(s["const"])...) {
		if _, text := value.(string); text {
			list = append(list, "string")
		}
	}
	return list
}

func asList(v any) []any {
	if list, ok := v.([]any); ok || v == nil {
		return list
	}
	return []any{v}
}

// An exported struct that is added to the package must be held to its schema.
func TestTypes_AllAreDescribed(t *testing.T) {
	known := slices.Clone(notDescribed)
	for _, v := range described {
		known = append(known, typeNameOf(v))
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			_, isStruct := spec.Type.(*ast.StructType)
			if isStruct && spec.Name.IsExported() && !strings.HasSuffix(spec.Name.Name, "Params") && !slices.Contains(known, spec.Name.Name) {
				t.Errorf("%s: %s is not held to a schema of openapi.json: add it to described", file, spec.Name.Name)
			}
			return true
		})
	}
}

// withoutMethod are the operations that the client lacks: their answers are texts.
var withoutMethod = []string{"getOpenAPI", "getTypes", "getMetrics", "getStartPage"}

// Every operation has a client method of its name.
func TestClient_HasEveryOperation(t *testing.T) {
	source, err := os.ReadFile("../openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var root struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(source, &root); err != nil {
		t.Fatal(err)
	}
	for path, item := range root.Paths {
		for method, text := range item {
			if method == "parameters" {
				continue
			}
			var operation struct{ OperationID string }
			if err := json.Unmarshal(text, &operation); err != nil {
				t.Fatal(err)
			}
			id := operation.OperationID
			_, has := reflect.TypeFor[*api.Client]().MethodByName(strings.ToUpper(id[:1]) + id[1:])
			if has == slices.Contains(withoutMethod, id) {
				t.Errorf("%s %s: the client has a method for %s: %t", method, path, id, has)
			}
		}
	}
}
