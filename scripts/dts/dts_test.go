package dts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/dts"
	"switchhook/scripts/transform"
)

const orderSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["id", "total", "state", "customer", "items", "number", "pair"],
  "additionalProperties": false,
  "properties": {
    "id": {"type": "string", "description": "As it stands on the invoice."},
    "total": {"type": "number", "minimum": 0},
    "number": {"type": "integer", "format": "int64"},
    "state": {"enum": ["new", "paid"]},
    "test": {"type": "boolean", "deprecated": true, "description": "Two\nlines */ and an end."},
    "note": {"type": ["string", "null"]},
    "customer": {"$ref": "#/$defs/customer"},
    "items": {"type": "array", "items": {
      "type": "object",
      "required": ["sku", "price", "quantity"],
      "properties": {"sku": {"type": "string"}, "price": {"type": "number"}, "quantity": {"type": "integer"}, "related": {"$ref": "#"}}
    }},
    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
    "pair": {"type": "array", "prefixItems": [{"type": "number"}, {"anyOf": [{"type": "string"}, {"const": 5}]}], "items": false, "minItems": 1},
    "odd-name": {"oneOf": [{"$ref": "#/$defs/customer"}, {"type": "string", "nullable": true}]}
  },
  "$defs": {
    "customer": {
      "type": "object",
      "properties": {
        "name": {"type": "string"},
        "address": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "parent": {"$ref": "#/$defs/customer"}
      }
    }
  }
}`

func TestSchema_BecomesTypeScriptType(t *testing.T) {
	cases := []struct{ name, schema, want string }{
		{"text", `{"type":"string"}`, `string`},
		{"several types", `{"type":["string","null","integer"]}`, `string | null | number`},
		{"nullable", `{"type":"string","nullable":true}`, `string | null`},
		{"enum", `{"enum":["a",1,null,true,"a",-1.5]}`, `"a" | 1 | null | true | -1.5`},
		{"enum of objects", `{"enum":[{"a":1}]}`, `unknown`},
		{"const", `{"const":"a\"b"}`, `"a\"b"`},
		{"a large const", `{"const":9007199254740993}`, `9007199254740993n`},
		{"a large integer", `{"type":"integer","maximum":1e18}`, `number | bigint`},
		{"array", `{"type":"array","items":{"type":"string"}}`, `Array<string>`},
		{"array of anything", `{"type":"array"}`, `Array<unknown>`},
		{"tuple", `{"type":"array","prefixItems":[{"type":"string"},{"type":["number","null"]}],"minItems":1}`, `[string, (number | null)?, ...Array<unknown>]`},
		{"old tuple", `{"items":[{"type":"string"}],"additionalItems":false,"minItems":1}`, `[string]`},
		{"object", `{"type":"object","required":["a"],"properties":{"a":{"type":"string"},"b-c":{}}}`, "{\n  a: string\n  \"b-c\"?: unknown\n}"},
		{"required but not described", `{"required":["x"],"properties":{"a":true}}`, "{\n  a?: unknown\n  x: unknown\n}"},
		{"open object", `{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":{"type":"number"}}`, "{\n  a?: string\n  [name: string]: unknown\n}"},
		{"map", `{"type":"object","additionalProperties":{"type":"number"}}`, `Record<string, number>`},
		{"empty object", `{"type":"object","additionalProperties":false}`, `Record<string, never>`},
		{"any object", `{"type":"object"}`, `Record<string, unknown>`},
		{"descriptions", `{"properties":{"a":{"description":" one\n*/two ","deprecated":true}}}`, "{\n  /**\n   * one\n   * *\u200b/two\n   * @deprecated\n   */\n  a?: unknown\n}"},
		{"anyOf", `{"anyOf":[{"type":"string"},{"type":"number"}]}`, `string | number`},
		{"anyOf with anything", `{"anyOf":[{"type":"string"},{}]}`, `unknown`},
		{"allOf", `{"allOf":[{"type":"object","additionalProperties":{"type":"string"}},{"anyOf":[{"type":"string"},{"type":"null"}]}]}`, `Record<string, string> & (string | null)`},
		{"reference", `{"$ref":"#/definitions/a~1b","definitions":{"a/b":{"type":"string"}}}`, `string`},
		{"reference into nothing", `{"$ref":"#/definitions/a"}`, `unknown`},
		{"reference elsewhere", `{"$ref":"https://example.com/x"}`, `unknown`},
		{"reference in a circle", `{"$ref":"#/definitions/a","definitions":{"a":{"$ref":"#/definitions/b"},"b":{"$ref":"#/definitions/a"}}}`, `unknown`},
		{"not", `{"not":{"type":"string"}}`, `unknown`},
		{"true", `true`, `unknown`},
		{"false", `false`, `never`},
		{"an unknown type", `{"type":"file"}`, `unknown`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := dts.ForSchema("x", []byte(c.schema))
			if err != nil || got != c.want {
				t.Errorf("got %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
	for _, bad := range []string{``, `5`, `{"a"`, strings.Repeat("[", 1000)} {
		if got, err := dts.ForSchema("x", []byte(bad)); err == nil || !strings.Contains(err.Error(), "schema of x") {
			t.Errorf("%.20s: got %q, %v", bad, got, err)
		}
	}
}

func TestSchema_HostileOutputIsBounded(t *testing.T) {
	wide := `{"$defs":{"z":{"type":"string"}`
	for i := range 12 { // each refers twice to the next: 2^12 of the last
		next := string(rune('a' + i + 1))
		if i == 11 {
			next = "z"
		}
		wide += `,"` + string(rune('a'+i)) + `":{"properties":{"x":{"$ref":"#/$defs/` + next + `"},"y":{"$ref":"#/$defs/` + next + `"}}}`
	}
	wide += `},"$ref":"#/$defs/a"}`
	deep := strings.Repeat(`{"type":"array","items":`, 60) + `{}` + strings.Repeat(`}`, 60)
	long := `{"properties":{"` + strings.Repeat("x", 1<<20) + `":{"type":"string"}}}`
	for _, schema := range []string{wide, deep, long} {
		got, err := dts.ForSchema("x", []byte(schema))
		if len(got) > 300<<10 {
			t.Errorf("%.40s…: %d bytes, %v", schema, len(got), err)
		}
	}
}

func TestDeclarations_MatchRuntime(t *testing.T) {
	text := dts.Declarations()
	names := regexp.MustCompile(`(?m)^declare (?:function|var) (\w+)`).FindAllStringSubmatch(text, -1)
	if len(names) < 12 {
		t.Fatalf("only %v", names)
	}
	source := "export default () => ({"
	for _, m := range names {
		source += m[1] + ": typeof " + m[1] + ","
	}
	if got := run(t, source+"})"); strings.Contains(got, "undefined") {
		t.Errorf("declared, but not there: %s", got)
	}
	source = "export default () => ({"
	group := regexp.MustCompile(`(?ms)^declare var (\w+): \{$(.*?)^\}`)
	for _, g := range group.FindAllStringSubmatch(text, -1) {
		for _, m := range regexp.MustCompile(`(?m)^  (\w+)\(`).FindAllStringSubmatch(g[2], -1) {
			source += `"` + g[1] + "." + m[1] + `": typeof ` + g[1] + "." + m[1] + ","
		}
	}
	if got := run(t, source+"})"); strings.Contains(got, "undefined") || !strings.Contains(got, "crypto.hmac") {
		t.Errorf("declared, but not there: %s", got)
	}
	for _, m := range regexp.MustCompile(`(?m)^declare module "(\S+)"`).FindAllStringSubmatch(text, -1) {
		if got := run(t, `import * as m from "`+m[1]+`"; export default () => Object.keys(m).length`); len(got) > 3 || got == "1" || got == "0" {
			t.Errorf("%s has %s", m[1], got)
		}
	}
	for _, class := range []string{"URL", "URLSearchParams", "TextEncoder", "TextDecoder"} {
		body := regexp.MustCompile(`(?ms)^interface ` + class + ` \{$(.*?)^\}`).FindStringSubmatch(text)[1]
		source := "const has = (n) => n in " + class + ".prototype || n in " + class + "\nexport default () => ["
		for _, m := range regexp.MustCompile(`(?m)^  (?:readonly )?(\w+)`).FindAllStringSubmatch(body, -1) {
			source += `has("` + m[1] + `") || "` + m[1] + `",`
		}
		if got := run(t, source+"]"); strings.Contains(got, `"`) {
			t.Errorf("%s: %s", class, got)
		}
	}
}

func run(t *testing.T, source string) string {
	t.Helper()
	p, err := transform.Compile(source, scripts.DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := transform.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.Run(&scripts.Event{ID: "evt_1", Data: []byte(`{}`)}, scripts.Request{}, scripts.DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(res.Body)
}

func TestDeclarations_TypedTransformsCompile(t *testing.T) {
	files, err := filepath.Glob("testdata/*.?s")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transform.Compile(string(source), scripts.DefaultLimits(), nil); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// TestDeclarations_PassTypeScriptCompiler runs tsc over testdata. mistakes.ts marks each mistake
// with @ts-expect-error, which is an error itself if there is no mistake.
func TestDeclarations_PassTypeScriptCompiler(t *testing.T) {
	tsc := findTSC()
	if tsc == "" {
		t.Skip("no tsc: npm install --prefix ~/.cache/switchhook typescript")
	}
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("switchhook.d.ts", dts.Declarations())
	put("tsconfig.json", dts.Config())
	put("events.d.ts", dts.Events([]dts.EventType{
		{Name: "order.created", Description: "An order was made.", Schema: []byte(orderSchema)},
		{Name: "free.form"},
		{Name: "order.broken", Schema: []byte(`[]`)},
	}))
	files, _ := filepath.Glob("testdata/*.?s")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		put(filepath.Base(f), string(text))
	}
	check := func() string {
		cmd := exec.CommandContext(t.Context(), tsc, "--project", dir, "--pretty", "false")
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput() // its status says whether there is output
		return string(out)
	}
	if out := check(); out != "" {
		events, _ := os.ReadFile(filepath.Join(dir, "events.d.ts"))
		t.Fatalf("%s\n%s", out, events)
	}
	put("mistakes.ts", `export default (event: SwitchhookEvent<"order.created">) => event.data.custmer`)
	if out := check(); !strings.Contains(out, "mistakes.ts(1,") || !strings.Contains(out, "custmer") {
		t.Errorf("got %q", out)
	}
	// Without any event types, all names are valid and data is any.
	put("events.d.ts", "")
	put("mistakes.ts", `export default (event: SwitchhookEvent<"what.ever">) => event.data.custmer`)
	if out := check(); strings.Contains(out, "mistakes.ts") && strings.Contains(out, "error TS") && !strings.Contains(out, "sample.ts") {
		t.Errorf("got %q", out)
	}
}

func findTSC() string {
	if path, err := exec.LookPath("tsc"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	path := filepath.Join(cache, "switchhook", "node_modules", ".bin", "tsc")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
