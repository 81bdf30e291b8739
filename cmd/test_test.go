package cmd

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"switchhook/engine/testkit"
	"switchhook/scripts/sandbox"
)

const (
	goodCases = `{"cases": [
  {"name": "a large order is sent", "event": {"type": "order.created", "data": {"total": 120}}, "expect": {"body": {"total": 120, "kind": "<order>"}, "console": ["log: hi"]}},
  {"name": "a small order is not", "event": {"type": "order.created", "data": {"total": 1}}, "expect": {"matches": false}}
]}
`
	badCases = `cases:
  - name: a wrong body # stays
    event: {type: order.created, data: {total: 7}}
    expect:
      body: {total: 8, kind: "<order>"}
  - name: a right one
    event: {type: order.created, data: {total: 7}}
    expect: {body_contains: {total: 7}}
`
)

var testFiles = map[string]string{
	"filter.expr": "data.total > 5", "transform.js": "export default event => { console.log(\"hi\"); return { total: event.data.total, kind: \"<order>\" } }",
	"good.test.json": goodCases, "bad.test.yaml": badCases,
}

func TestTest_RunsCasesAndSetsStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		files  map[string]string // in addition to testFiles
		args   []string
		status int
		want   string
		errors string
	}{
		{"all pass", nil, []string{"good.test.json"}, 0, "good.test.json\n  ✓ a large order is sent\n  ✓ a small order is not\n\n2 passed, 0 failed (", ""},
		{"one fails", nil, nil, 1, "  ✗ a wrong body\n      body differs\n        {\n          \"kind\": \"<order>\",\n      -   \"total\": 8\n      +   \"total\": 7\n        }\n      console log: hi\n  ✓ a right one\n", ""},
		{"totals", nil, []string{"."}, 1, "3 passed, 1 failed (", ""},
		{"only some", nil, []string{"--run", "^a (right|small)"}, 0, "2 passed, 0 failed", ""},
		{"none of that name", nil, []string{"--run", "zzz"}, 2, "", "no case was run"},
		{"a bad pattern", nil, []string{"--run", "("}, 2, "", "--run: "},
		{"no such path", nil, []string{"none"}, 2, "", "none"},
		{"no such path, said plainly", nil, []string{"none"}, 2, "", "switchhook: there is no none\n"},
		{"a folder without cases", nil, []string{"sub"}, 2, "", "no *.test.json, *.test.yaml or *.test.yml in sub"},
		{"a file of something else", map[string]string{"o.json": `{"total": 1}`}, []string{"o.json"}, 2, "o.json: this is not a file of cases; those are named *.test.json", ""},
		{"a script in place of cases", nil, []string{"transform.js"}, 2, "transform.js: this is not a file of cases", ""},
		{"no cases there", map[string]string{"x": ""}, []string{"testdata"}, 2, "", "testdata"},
		{"a file that can't be read", map[string]string{"z.test.json": "{\n\"cases\": [{\"nam\": \"x\"}]}"}, nil, 2, "z.test.json:2: cases[0].nam is not known: did you mean \"name\"?", ""},
		{"a script that is wrong", map[string]string{"z.test.json": `{"cases": []}`, "z.expr": "data.total >"}, nil, 2, "  ✗ z.expr: unexpected end of filter (line 1, column 13)\n    data.total >\n                ^", ""},
		{"an inline one that is", map[string]string{"z.test.json": `{"filter_source": "data.x +", "cases": []}`}, nil, 2, "z.test.json, filter_source: ", ""},
		{"console of what passes", nil, []string{"good.test.json", "--verbose"}, 0, "is sent\n      console log: hi\n", "sandbox ready"},
		{"watch and update", nil, []string{"--watch", "--update"}, 2, "", "--watch goes neither"},
		{"an escape sequence in text", map[string]string{"z.test.json": strings.ReplaceAll(goodCases, "is sent", `\u001b[2J`)}, nil, 1, `\u001b[2J`, ""},
		{"help on the exit status", nil, []string{"--help"}, 0, "2 there are no cases", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, testFiles)
			os.Mkdir(filepath.Join(dir, "sub"), 0o755)
			for file, text := range c.files {
				os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
			}
			stdout, stderr, status := runIn(t, dir, "", append([]string{"test"}, c.args...)...)
			if status != c.status || !strings.Contains(stdout, c.want) || !strings.Contains(stderr, c.errors) || c.errors == "" && stderr != "" {
				t.Errorf("status %d, wanted %d\n%s%s", status, c.status, stdout, stderr)
			}
			if strings.Contains(stdout, "\x1b") {
				t.Error("an escape sequence reaches the terminal")
			}
		})
	}
}

func TestTest_UpdatesSelectedCases(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, testFiles)
	stdout, stderr, status := runIn(t, dir, "", "test", "--update")
	got, err := os.ReadFile(filepath.Join(dir, "bad.test.yaml"))
	want := strings.Replace(badCases, "      body: {total: 8, kind: \"<order>\"}\n", "      body:\n        total: 7\n        kind: \"<order>\"\n", 1)
	if status != 0 || err != nil || string(got) != want || !strings.Contains(stdout, "wrote what came out into 1 case\n") || !strings.Contains(stdout, "4 passed, 0 failed, 1 updated") {
		t.Errorf("status %d, %v\n%s%s\n%s", status, err, stdout, stderr, got)
	}
	if want := "  ~ a wrong body  now expects {\"body\": {\"total\": 7, \"kind\": \"<order>\"}}\n"; !strings.Contains(stdout, want) {
		t.Errorf("%q is missing in\n%s", want, stdout)
	}
	if good, _ := os.ReadFile(filepath.Join(dir, "good.test.json")); string(good) != goodCases {
		t.Errorf("what passes was changed:\n%s", good)
	}
	two := `{"cases": [
  {"name": "first", "event": {"type": "a.b", "data": {"total": 9}}, "expect": {"body": 1}},
  {"name": "second", "event": {"type": "a.b", "data": {"total": 9}}, "expect": {}}
]}`
	path := filepath.Join(dir, "two.test.json")
	os.WriteFile(path, []byte(two), 0o600)
	if _, _, status := runIn(t, dir, "", "test", "--update", "--run", "second", "two.test.json"); status != 0 {
		t.Error(status)
	}
	got, _ = os.ReadFile(path)
	if want := strings.Replace(two, "{}", `{"body": {"total": 9, "kind": "<order>"}}`, 1); string(got) != want {
		t.Errorf("got\n%s\nwanted\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("the file's mode has changed")
	}
}

func TestTest_UpdateKeepsBodyOnError(t *testing.T) {
	t.Parallel()
	const cases = `{"cases": [
  {"name": "a body", "event": {"type": "a.b", "data": 1}, "expect": {"body": 1}},
  {"name": "a verdict", "event": {"type": "a.b", "data": {"total": "x"}}, "expect": {"matches": true}},
  {"name": "nothing", "event": {"type": "a.b", "data": 1}, "expect": {}},
  {"name": "another error", "event": {"type": "a.b", "data": 1}, "expect": {"error": "boom"}}
]}`
	dir := writeFiles(t, map[string]string{"filter.expr": "data != nil && (data == 1 || data.total > 1)", "transform.js": "export default () => { throw new Error('bang') }", "a.test.json": cases})
	stdout, stderr, status := runIn(t, dir, "", "test", "--update")
	for _, want := range []string{"✗ a body\n      the transform failed", "✗ a verdict\n      the filter failed", "~ nothing  now expects {\"error\": \"Error: bang\"}", "~ another error  now", "--update writes no error", "2 passed, 2 failed, 2 updated"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s%s", want, stdout, stderr)
		}
	}
	got, _ := os.ReadFile(filepath.Join(dir, "a.test.json"))
	want := strings.Replace(strings.Replace(cases, "{}", `{"error": "Error: bang"}`, 1), "boom", "Error: bang", 1)
	if status != 1 || string(got) != want {
		t.Errorf("status %d\n%s", status, got)
	}
}

func TestTest_JSONAndJUnitReports(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, testFiles)
	os.WriteFile(filepath.Join(dir, "z.test.json"), []byte("{"), 0o644)
	stdout, _, status := runIn(t, dir, "", "test", "--json", "--junit", "out.xml")
	var got testResults
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 2 || got.Passed != 3 || got.Failed != 1 || got.Broken != 1 || len(got.Files) != 3 {
		t.Errorf("%v, status %d\n%s", err, status, stdout)
	}
	if c := got.Files[0].Report.Cases[0]; c.Passed || c.Failures[0].Expected != "body" || string(c.Got.Body) == "" {
		t.Errorf("%+v", c)
	}
	text, err := os.ReadFile(filepath.Join(dir, "out.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var report junitSuites
	if err := xml.Unmarshal(text, &report); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if report.Tests != 5 || report.Failures != 1 || report.Errors != 1 || len(report.Suites) != 3 || report.Suites[0].Cases[0].Failure == nil || report.Suites[2].Cases[0].Error == nil ||
		!strings.Contains(report.Suites[0].Cases[0].Failure.Text, `-   "total": 8`) || report.Suites[1].Cases[0].Output != "log: hi" {
		t.Errorf("%s", text)
	}
}

// The test sends the ticks.
func TestTest_WatchRerunsOnChange(t *testing.T) {
	dir := writeFiles(t, map[string]string{"transform.js": testFiles["transform.js"], "good.test.json": `{"cases": [{"name": "one", "event": {"file": "e.json"}, "expect": {"matches": true}}]}`, "e.json": `{"type": "a.b", "data": {"total": 9}}`})
	pool, err := sandbox.Start(sandbox.Config{Processes: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ticks, reports, ended := make(chan time.Time), make(chan *testResults, 1), make(chan error, 1)
	w := &tester{runner: pool, only: regexp.MustCompile(""), paths: []string{dir}}
	go func() {
		ended <- w.watch(ctx, ticks, func(r *testResults) error { reports <- r; return nil })
	}()
	next := func(what string, passed, failed, broken int) {
		t.Helper()
		for {
			select {
			case r := <-reports:
				if r.Passed != passed || r.Failed != failed || r.Broken != broken {
					t.Errorf("%s: %+v", what, r)
				}
				return
			case ticks <- time.Time{}:
			case <-time.After(testkit.Timeout):
				t.Fatalf("%s: no run", what)
			}
		}
	}
	aside := t.TempDir()
	write := func(name, text string) { // atomically: a scan may be running, and must not see half of it
		if err := os.WriteFile(filepath.Join(aside, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(aside, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	next("at first", 1, 0, 0)
	for range 3 { // no change, so no run
		ticks <- time.Time{}
	}
	select {
	case <-reports:
		t.Error("run without a change")
	default:
	}
	write("filter.expr", "data.total > 100")
	next("a new script", 0, 1, 0)
	write("e.json", `{"type": "a.b", "data": {"total": 1000}}`)
	next("another sample", 1, 0, 0)
	write("filter.expr", "data.total >")
	next("a mistake", 0, 0, 1)
	write("filter.expr", "data.total > 999")
	next("mended", 1, 0, 0)
	write("more.test.json", `{"transform_source": "x", "filter": null, "cases": []}`)
	next("a new file of cases", 1, 0, 1)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
