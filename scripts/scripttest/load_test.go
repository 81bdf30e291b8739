package scripttest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder writes files into a new folder and returns its path.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const oneCase = `{"name": "one", "event": {"type": "a.b", "data": {"n": 5}}, "expect": {"body": "five <5>"}}`

func TestLoad_FindsScripts(t *testing.T) {
	both := map[string]string{"filter.expr": "true", "transform.js": testTransform}
	cases := []struct {
		name       string
		file, text string
		files      map[string]string
		filter     string // paths, relative
		transform  string
		mistake    string
	}{
		{"by default", "cases.test.json", `{"cases": []}`, both, "filter.expr", "transform.js", ""},
		{"by the file's own name", "a.test.json", `{"cases": []}`, map[string]string{"a.ts": "x", "transform.js": "y", "filter.expr": "z"}, "", "a.ts", ""},
		{"by the file's own name in YAML", "a.test.yml", "cases: []", map[string]string{"a.expr": "x", "transform.js": "y"}, "a.expr", "", ""},
		{"by name", "a.test.json", `{"filter": "x/f.expr", "transform": "x/t.js", "cases": []}`, map[string]string{"x/f.expr": "1", "x/t.js": "2", "a.js": "3"}, "x/f.expr", "x/t.js", ""},
		{"inline", "a.test.json", `{"filter_source": "true", "transform_source": "x", "cases": []}`, both, "", "", ""},
		{"null for none", "a.test.json", `{"transform": null, "cases": []}`, both, "filter.expr", "", ""},
		{"not at all", "a.test.json", `{"cases": []}`, nil, "", "", "there is no script to test"},
		{"twice", "a.test.json", `{"cases": []}`, map[string]string{"a.js": "1", "a.ts": "2"}, "", "", "a.js and a.ts both lie in the folder"},
		{"inline and by name", "a.test.json", `{"filter": "filter.expr", "filter_source": "true", "cases": []}`, both, "", "", "filter_source can't be given together with filter"},
		{"that are not there", "a.test.json", `{"transform": "t.js", "cases": []}`, both, "", "", "transform can't be read"},
		{"under a wrong name", "a.test.json", `{"transfrom": "t.js", "cases": []}`, both, "", "", `transfrom is not known: did you mean "transform"?`},
		{"no schema", "a.test.json", `{"schema": "s.json", "cases": []}`, both, "", "", "schema can't be read"},
		{"no cases", "a.test.json", `{}`, both, "", "", "cases must be an array of cases, but is missing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			path := filepath.Join(dir, c.file)
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Load(path)
			if c.mistake != "" {
				if err == nil || !strings.Contains(err.Error(), c.mistake) || !strings.HasPrefix(err.Error(), path+":1: ") {
					t.Errorf("%v, wanted %s", err, c.mistake)
				}
				return
			}
			under := func(name string) string {
				if name == "" {
					return ""
				}
				return filepath.Join(dir, name)
			}
			if err != nil || f.FilterPath != under(c.filter) || f.TransformPath != under(c.transform) {
				t.Errorf("%v, filter %s, transform %s", err, f.FilterPath, f.TransformPath)
			}
		})
	}
}

func TestLoad_EventsFromFiles(t *testing.T) {
	dir := folder(t, map[string]string{
		"filter.expr": "data.n == 1", "schema.json": `{"properties": {"n": {"type": "integer"}}}`,
		"whole.json": `{"type": "a.b", "id": "evt_1", "headers": {"X": "1"}, "data": {"n": 1}}`, "payload.json": `{"type": "a.b", "n": 1}`,
		"cases.test.json": `{"schema": "schema.json", "cases": [
			{"name": "a whole event", "event": {"file": "whole.json", "id": "evt_2"}, "expect": {"matches": true}},
			{"name": "a payload", "event": {"file": "payload.json", "type": "c.d"}, "expect": {"matches": true}}]}`,
	})
	f, err := Load(filepath.Join(dir, "cases.test.json"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := f.Suite.Cases[0].Event, f.Suite.Cases[1].Event
	if first.Type != "a.b" || first.ID != "evt_2" || first.Headers["X"] != "1" || second.Type != "c.d" || string(second.Data) != `{"type": "a.b", "n": 1}` {
		t.Errorf("%+v %+v", first, second)
	}
	if r := Run(context.Background(), pool, f.Suite); !r.OK() || r.Passed != 2 || len(f.Sources) != 5 {
		t.Errorf("%+v %v", r, f.Sources)
	}
	for event, want := range map[string]string{`{"file": "none.json"}`: "cases[0].event.file can't be used", `{"file": "payload.json"}`: "cases[0].event.type is missing", `{"file": "filter.expr", "type": "a"}`: "not valid JSON"} {
		path := filepath.Join(dir, "bad.test.json")
		os.WriteFile(path, []byte("{\"cases\": [\n{\"name\": \"a\", \"event\": "+event+", \"expect\": {}}]}"), 0o644)
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+":2: ") {
			t.Errorf("%v, wanted %s", err, want)
		}
	}
}

const yamlCases = `# Cases of the test.
transform_source: |
  export default event => ({ n: event.data.n, text: event.data.text })
cases:
  - name: numbers keep their digits
    event: {type: a.b, data: {n: 123456789012345678901234567890, text: "yes"}} # a flow
    expect:
      body:
        n: 123456789012345678901234567890
        text: 'yes'
  # The next one has an anchor.
  - name: an anchor
    event: &order
      type: a.b
      time: 2026-02-03T04:05:06Z
      data: {n: 1.50, text: |-
        two
        lines}
    expect:
      body_contains: {n: 2}

  - name: an alias
    event: *order
    expect: {}   # to be filled

  - expect:
      error: nothing
    name: the expectation comes first
    event: {type: a.b, data: {n: [1, {a: "x: y", "b c": null}], text: "` + "`" + `"}}
`

func TestLoad_YAML(t *testing.T) {
	text := strings.ReplaceAll(yamlCases, "data: {n: 1.50, text: |-\n        two\n        lines}", "data:\n        n: 1.50\n        text: |-\n          two\n          lines")
	dir := folder(t, map[string]string{"a.test.yaml": text})
	path := filepath.Join(dir, "a.test.yaml")
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r := Run(context.Background(), pool, f.Suite)
	if r.Passed != 1 || r.Failed != 3 || f.Suite.Cases[2].Event.Time.Month() != 2 {
		t.Fatalf("%+v", r)
	}
	updated, n, err := f.Update(&r)
	if err != nil || len(n) != 3 {
		t.Fatal(n, err)
	}
	os.WriteFile(path, updated, 0o644)
	if f, err = Load(path); err != nil {
		t.Fatalf("%v\n%s", err, updated)
	}
	if r = Run(context.Background(), pool, f.Suite); !r.OK() || r.Passed != 4 {
		t.Errorf("%+v\n%s", r, updated)
	}
	for _, want := range []string{"# Cases of the test.\n", "# a flow\n", "  # The next one has an anchor.\n", "      body_contains:\n        \"n\": 1.5\n\n  - name: an alias\n", "    expect:\n      body:\n        \"n\": 1.5\n        text: \"two\\nlines\"\n\n  - expect:\n      body:\n", "        \"n\":\n          - 1\n          - a: \"x: y\"\n            \"b c\": null\n", "    name: the expectation comes first\n"} {
		if !strings.Contains(string(updated), want) {
			t.Errorf("%q is missing in\n%s", want, updated)
		}
	}
}

func TestLoad_YAMLErrorsNameLine(t *testing.T) {
	cases := []struct{ text, want string }{
		{"filter_source: 'true'\ncases:\n  - name: a\n    event: {type: a.b, data: 1}\n    expect:\n      bdy: 1\n", `:6: cases[0].expect.bdy is not known: did you mean "body"?`},
		{"cases: [", "not valid YAML"},
		{"cases: []\n---\ncases: []\n", "must hold one YAML document, but holds several"},
		{"a: &a [1]\nb: *c\n", `:2: there is no anchor "c"`},
		{"a: .nan\n", ":1: JSON has no such number"},
		{"a: !!str 1\n", ":1: tags are not allowed"},
		{"a: &a {b: 1}\nc:\n  <<: *a\n", "merge keys"},
		{"filter_source: 'true'\ncases: x", ":2: cases must be an array"},
		{"", "must be an object, but is null"},
	}
	for _, c := range cases {
		path := filepath.Join(folder(t, map[string]string{"a.test.yaml": c.text}), "a.test.yaml")
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, wanted %s", c.text, err, c.want)
		}
	}
	var b strings.Builder
	b.WriteString("k00: &k00 [" + strings.Repeat("x", 4<<10) + "]\n")
	for i := 1; i < 40; i++ {
		b.WriteString(strings.NewReplacer("N", itoa(i), "M", itoa(i-1)).Replace("kN: &kN [*kM, *kM]\n"))
	}
	path := filepath.Join(folder(t, map[string]string{"a.test.yaml": b.String()}), "a.test.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("aliases of aliases: %v", err)
	}
}

func TestUpdate_ChangesOnlyFailedExpectations(t *testing.T) {
	head := "{\n  \"filter_source\": \"data.n > 1\",   \"transform\": \"t.js\",\n\t\"cases\": [\n"
	cases := []struct{ n, before, after string }{
		{"1", `{"matches": true}`, `{"matches": false}`},
		{"2", `{"body": 1}`, `{"dropped": "two"}`},
		{"3", `{}`, `{"error": "Error: three is too many"}`},
		{"3", `{"error": {"phase": "filter", "contains": "x", "line": 9}}`, `{"error": {"phase": "transform", "contains": "Error: three is too many", "line": 4}}`},
		{"4", `{"body":  4 }`, `{"body":  4 }`},
		{"5", `{"body": "six", "console": [], "headers": {"content-type": "x"}, "method": "PUT"}`, "{\n      \"body\": \"five <5>\",\n      \"method\": \"POST\",\n      \"headers\": {\"content-type\": \"text/plain; charset=utf-8\"},\n      \"console\": [\"log: n is 5\"]\n    }"},
		{"6", `{"body_contains": {"n": 7, "deep": {"a": 2}}}`, `{"body_contains": {"deep": {"a": 1}, "n": 6}}`},
		{"7", `{}`, "{\n      \"body\": {\n        \"n\": 7,\n        \"deep\": {\"a\": 1, \"b\": [1, 2]},\n        \"id\": \"evt_test\",\n        \"at\": \"2026-01-01T00:00:00Z\",\n        \"now\": 1767225600000\n      },\n      \"method\": \"PUT\",\n      \"path\": \"/n\",\n      \"query\": {\"n\": [\"1\", \"2\"]},\n      \"headers\": {\"X-N\": \"7\"}\n    }"},
	}
	text := func(after bool) string {
		var b strings.Builder
		b.WriteString(head)
		for i, c := range cases {
			expect := c.before
			if after {
				expect = c.after
			}
			b.WriteString("    {\"name\": \"case " + itoa(i) + "\",   \"event\": {\"type\":\"a.b\", \"data\": {\"n\": " + c.n + "}}, \"expect\": " + expect + " }")
			if i < len(cases)-1 {
				b.WriteString(",\n\n")
			}
		}
		return b.String() + "\n  ]}\n"
	}
	dir := folder(t, map[string]string{"a.test.json": text(false), "t.js": testTransform})
	path := filepath.Join(dir, "a.test.json")
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r := Run(context.Background(), pool, f.Suite)
	got, n, err := f.Update(&r)
	if err != nil || len(n) != len(cases)-1 || string(got) != text(true) {
		t.Errorf("%v updated, %v\n%s\nwanted\n%s", n, err, got, text(true))
	}
	os.WriteFile(path, got, 0o644)
	if f, err = Load(path); err != nil {
		t.Fatal(err)
	}
	if r = Run(context.Background(), pool, f.Suite); !r.OK() {
		t.Errorf("%+v", r)
	}
	if got, n, err = f.Update(&r); len(n) != 0 || err != nil || string(got) != text(true) {
		t.Error("what passes is changed", n, err)
	}
}

func itoa(i int) string { return string(rune('0'+i/10)) + string(rune('0'+i%10)) }

func TestFind_WalksFolders(t *testing.T) {
	dir := folder(t, map[string]string{"a.test.json": "", "x/b.test.yaml": "", "x/c.test.yml": "", "x/d.json": "", ".git/e.test.json": "", "node_modules/f.test.json": "", "plain": ""})
	files, err := Find(dir, filepath.Join(dir, "plain"), filepath.Join(dir, "a.test.json"))
	var names []string
	for _, f := range files {
		name, _ := filepath.Rel(dir, f)
		names = append(names, filepath.ToSlash(name))
	}
	if want := []string{"a.test.json", "plain", "x/b.test.yaml", "x/c.test.yml"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v %v", names, err)
	}
	if _, err := Find(filepath.Join(dir, "none")); err == nil {
		t.Error("a path that is not there is no error")
	}
}

// The cases of all examples pass.
func TestRun_ExamplesPass(t *testing.T) {
	files, err := Find("../../examples/scripts")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		f, err := Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		r := Run(context.Background(), pool, f.Suite)
		if !r.OK() || r.Passed < 3 {
			t.Errorf("%s: %s", path, r.String())
			for _, c := range r.Cases {
				for _, failure := range c.Failures {
					t.Logf("%s: %s\n%s", c.Name, failure.Message, failure.Diff)
				}
			}
		}
	}
}
