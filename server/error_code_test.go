package server_test

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"switchhook/engine"
	"switchhook/server"
)

// parsePackage parses the sources of a folder, without its tests.
func parsePackage(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	must(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		must(t, err)
		files = append(files, file)
	}
	if len(files) == 0 {
		t.Fatalf("%s: %v", dir, fs.ErrNotExist)
	}
	return files
}

// constants returns the values of a package's string constants of a type.
func constants(t *testing.T, dir, typ string) (values []string) {
	t.Helper()
	for _, file := range parsePackage(t, dir) {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				must(t, err)
				values = append(values, value)
			}
			return true
		})
	}
	if len(values) == 0 {
		t.Fatalf("%s has no constants of type %s", dir, typ)
	}
	return values
}

// answeredStatuses returns the error statuses that the package's code names, as fiber.StatusX or
// fiber.ErrX.
func answeredStatuses(t *testing.T) []int {
	t.Helper()
	named := map[string]int{}
	for status := 400; status < 600; status++ {
		named[strings.Map(func(r rune) rune {
			if !unicode.IsLetter(r) {
				return -1
			}
			return r
		}, http.StatusText(status))] = status
	}
	found := map[int]bool{}
	for _, file := range parsePackage(t, ".") {
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "fiber" {
				name := strings.TrimPrefix(strings.TrimPrefix(sel.Sel.Name, "Status"), "Err")
				if status := named[name]; status != 0 {
					found[status] = true
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(found))
}

// documentedCodes reads the table of error codes of docs/api.md: code to status.
func documentedCodes(t *testing.T) map[string]int {
	t.Helper()
	file, err := os.Open("../docs/api.md")
	must(t, err)
	defer file.Close()
	row := regexp.MustCompile("^\\| `([a-z_]+)` \\| ([45][0-9]{2}) \\| [^|]+ \\| [^|]+ \\|$")
	codes := map[string]int{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if m := row.FindStringSubmatch(lines.Text()); m != nil {
			if codes[m[1]] != 0 {
				t.Errorf("docs/api.md lists %s twice", m[1])
			}
			codes[m[1]], err = strconv.Atoi(m[2])
			must(t, err)
		}
	}
	must(t, lines.Err())
	return codes
}

func TestErrorCode_Documented(t *testing.T) {
	documented := documentedCodes(t)
	want := slices.Sorted(slices.Values(constants(t, "api", "ErrorCode")))
	if got := slices.Sorted(maps.Keys(documented)); !slices.Equal(got, want) {
		t.Errorf("docs/api.md lists\n%v, the server has\n%v", got, want)
	}
	var inSchema []string
	for _, code := range openapi().at("components", "schemas", "ErrorCode", "enum").value.([]any) {
		inSchema = append(inSchema, code.(string))
	}
	slices.Sort(inSchema)
	if !slices.Equal(inSchema, want) {
		t.Errorf("openapi.json lists\n%v, the server has\n%v", inSchema, want)
	}
	used := map[string]bool{}
	for _, code := range constants(t, "../engine", "Code") {
		status, got, ok := server.EngineError(engine.Code(code))
		if !ok || documented[got] != status {
			t.Errorf("engine code %s: answered with %d %q, docs/api.md says %d", code, status, got, documented[got])
		}
	}
	for _, status := range answeredStatuses(t) {
		code, ok := server.StatusCode(status)
		if !ok || documented[code] != status {
			t.Errorf("status %d: answered with %q, docs/api.md says %d", status, code, documented[code])
		}
		used[code] = true
	}
	if len(used) < 15 {
		t.Errorf("only the codes %v were found to be answered", slices.Sorted(maps.Keys(used)))
	}
}

func TestFieldErrorCode_Documented(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "### Field errors\n")
	section, _, _ = strings.Cut(section, "\n#")
	var documented, inSchema []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\|$").FindAllStringSubmatch(section, -1) {
		documented = append(documented, row[1])
	}
	for _, code := range openapi().at("components", "schemas", "FieldError", "properties", "code", "enum").value.([]any) {
		inSchema = append(inSchema, code.(string))
	}
	want := constants(t, "../engine", "FieldCode")
	for where, got := range map[string][]string{"docs/api.md": documented, "openapi.json": inSchema} {
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s lists\n%v, the engine has\n%v", where, got, want)
		}
	}
}

func TestErrorCode_Answers(t *testing.T) {
	r := start(t, setup{maxBody: 1 << 20})
	c := r.admin
	event := map[string]any{"id": "twice", "type": "order.paid", "data": 1}
	c.post("/api/v1/events", event).want(202)
	c.post("/api/v1/event-types", map[string]any{"name": "order.paid"}).want(201)
	sub := map[string]any{"event": "order.paid", "target_url": "http://127.0.0.1:9/"}
	c.post("/api/v1/subscriptions", sub, "Idempotency-Key", "k").want(201)
	for _, test := range []struct {
		code string
		got  *answer
	}{
		{"invalid_json", c.do("POST", "/api/v1/events", "{")},
		{"invalid_json", c.do("POST", "/api/v1/events", `{"type": "a", "type": "b"}`)},
		{"unauthorized", c.with(t, "").get("/api/v1/subscriptions")},
		{"key_unknown", c.with(t, "no-such-key-"+strings.Repeat("x", 30)).get("/api/v1/subscriptions")},
		{"forbidden", r.acme.get("/api/v1/accounts")},
		{"not_found", c.get("/api/v1/events/evt_0000000000001")},
		{"route_not_found", c.get("/api/v1/nothing")},
		{"method_not_allowed", c.do("PATCH", "/api/v1/events", nil)},
		{"conflict", c.post("/api/v1/event-types", map[string]any{"name": "order.paid"})},
		{"idempotency_conflict", c.post("/api/v1/events", map[string]any{"id": "twice", "type": "order.paid", "data": 2})},
		{"idempotency_conflict", c.post("/api/v1/events", []any{map[string]any{"id": "twice", "type": "order.paid", "data": 2}})},
		{"idempotency_conflict", c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": "http://127.0.0.1:9/"}, "Idempotency-Key", "k")},
		{"precondition_failed", c.do("PUT", "/api/v1/event-types/order.paid", map[string]any{}, "If-None-Match", "*")},
		{"payload_too_large", c.do("POST", "/api/v1/events", strings.Repeat(" ", 2<<20))},
		{"unsupported_media_type", c.do("POST", "/api/v1/events", "{}", "Content-Type", "text/csv")},
		{"invalid_request", c.post("/api/v1/events", map[string]any{"type": 1})},
		{"invalid_request", c.get("/api/v1/events?limit=x")},
	} {
		t.Run(fmt.Sprintf("%s %s", test.code, test.got.what), func(t *testing.T) {
			documented := documentedCodes(t)[test.code]
			if got := test.got.text("code"); got != test.code || test.got.status != documented {
				t.Errorf("want %d %s, got %d: %s", documented, test.code, test.got.status, test.got.body)
			}
		})
	}
}
