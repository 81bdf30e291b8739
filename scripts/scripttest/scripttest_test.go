package scripttest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/scripts/scripteval"

	"github.com/google/go-cmp/cmp"
)

var pool *sandbox.Pool

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	var err error
	if pool, err = sandbox.Start(sandbox.Config{Processes: 2}); err != nil {
		panic(err)
	}
	code := m.Run()
	pool.Close()
	os.Exit(code)
}

const (
	testFilter    = `data.n > 1`
	testTransform = `export default function transform(event, request) {
  console.log("n is", event.data.n)
  if (event.data.n === 2) return drop("two")
  if (event.data.n === 3) throw new Error("three is too many")
  if (event.data.n === 4) return "4"
  if (event.data.n === 5) return "five <5>"
  request.headers["X-N"] = String(event.data.n)
  request.query.n = [1, 2]
  request.path = "/n"
  request.method = "PUT"
  return { n: event.data.n, big: event.data.big, deep: { a: 1, b: [1, 2] }, id: event.id, at: event.time, now: Date.now() }
}`
)

// check runs one case, whose expectations are JSON, with n in its event.
func check(t *testing.T, s Suite, n, expect string) scripts.TestCaseReport {
	t.Helper()
	cases, err := ParseCases([]byte(`[{"name": "case", "event": {"type": "a.b", "data": {"n": ` + n + `, "big": 9007199254740993}}, "expect": ` + expect + `}]`))
	if err != nil {
		t.Fatal(err)
	}
	s.Cases = cases
	r := Run(context.Background(), pool, s)
	if r.Broken != nil || len(r.Cases) != 1 || r.Passed+r.Failed != 1 || r.OK() != r.Cases[0].Passed {
		t.Fatalf("%+v", r)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Error(err)
	}
	var read scripts.TestReport
	if err := json.Unmarshal(text, &read); err != nil || read.Passed != r.Passed || len(read.Cases[0].Got.Query) != len(r.Cases[0].Got.Query) {
		t.Errorf("%v: %s", err, text)
	}
	return r.Cases[0]
}

func TestRun_Expectations(t *testing.T) {
	whole := `{"now": 1767225600000, "at": "2026-01-01T00:00:00Z", "id": "evt_test", "n": 7.0, "big": 9007199254740993, "deep": {"b": [1, 2e0], "a": 1}}`
	cases := []struct{ name, n, expect, failure string }{
		{"a match", "7", `{"matches": true}`, ""},
		{"no match", "1", `{"matches": false}`, ""},
		{"a match that should be none", "7", `{"matches": false}`, "the filter lets this event through"},
		{"a match without a look at throw", "3", `{"matches": true}`, ""},
		{"a filter that fails", `"x"`, `{"matches": true}`, "the filter failed: the text"},
		{"a filter's failure", `"x"`, `{"error": {"phase": "filter", "contains": "can't be compared", "line": 1}}`, ""},
		{"nothing", "7", `{}`, "expects nothing"},
		{"the whole body", "7", `{"body": ` + whole + `}`, ""},
		{"another digit beyond 2^53", "7", `{"body_contains": {"big": 9007199254740992}}`, "  {\n-   \"big\": 9007199254740992\n+   \"big\": 9007199254740993\n  }"},
		{"a part of the body", "7", `{"body_contains": {"deep": {"b": [1, 2]}}}`, ""},
		{"a part of an array is not enough", "7", `{"body_contains": {"deep": {"b": [1]}}}`, "+       2"},
		{"a member that is not there", "7", `{"body_contains": {"deep": {"c": 1}}}`, `-     "c": 1`},
		{"one member too few", "7", `{"body": {"n": 7}}`, `+   "big": 9007199254740993`},
		{"a text body", "5", `{"body": "five <5>"}`, ""},
		{"a text body that is JSON", "4", `{"body": "4"}`, ""},
		{"a text body read as JSON", "4", `{"body": 4}`, ""},
		{"another text", "5", `{"body": "six"}`, "- \"six\"\n+ \"five <5>\""},
		{"method, path, query", "7", `{"method": "put", "path": "/n", "query": {"n": ["1", "2"]}}`, ""},
		{"another method", "7", `{"method": "POST"}`, "- \"POST\"\n+ \"PUT\""},
		{"another query", "7", `{"query": {"n": "1"}}`, `-   "n": "1"`},
		{"no query", "5", `{"query": {}, "path": "/hook", "method": "POST"}`, ""},
		{"headers in any case", "7", `{"headers": {"x-n": "7", "content-type": "application/json"}}`, ""},
		{"another header", "7", `{"headers": {"X-N": "8", "X-M": "1"}}`, "-   \"X-M\": \"1\",\n-   \"X-N\": \"8\"\n+   \"X-N\": \"7\""},
		{"dropped", "2", `{"dropped": true}`, ""},
		{"dropped for this reason", "2", `{"dropped": "two"}`, ""},
		{"dropped for another reason", "2", `{"dropped": "2"}`, "another reason"},
		{"not dropped", "5", `{"dropped": true}`, `it sends "five <5>"`},
		{"dropped instead of sent", "2", `{"body": {}}`, "the transform drops this event: two"},
		{"an error", "3", `{"error": "too many"}`, ""},
		{"an error with its place", "3", `{"error": {"phase": "run", "contains": "three", "line": 4}}`, ""},
		{"an error on another line", "3", `{"error": {"line": 5}}`, "fails in line 4, not in line 5"},
		{"an error in another script", "3", `{"error": {"phase": "filter"}}`, "fails in phase run of the transform"},
		{"an error with another text", "3", `{"error": "four"}`, `does not hold "four": Error: three is too many`},
		{"an error that nobody expects", "3", `{"body": {}}`, "throw new Error"},
		{"no error", "5", `{"error": "x"}`, "nothing fails: the transform sends"},
		{"no error but no match", "1", `{"error": "x"}`, "nothing fails: the filter keeps this event back"},
		{"console", "5", `{"console": ["log: n is 5"]}`, ""},
		{"another console", "5", `{"console": []}`, `+   "log: n is 5"`},
		{"console of a failure", "3", `{"error": "three", "console": ["log: n is 3"]}`, ""},
		{"a body of an event that is filtered", "1", `{"body": {}}`, "the filter keeps this event back, so nothing else can come of it"},
		{"match and body", "5", `{"matches": true, "body": "five <5>"}`, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := check(t, Suite{Filter: testFilter, Transform: testTransform}, c.n, c.expect)
			var said []string
			for _, f := range r.Failures {
				said = append(said, f.Message, f.Diff)
			}
			got := strings.Join(said, "\n")
			if r.Passed != (c.failure == "") || !strings.Contains(got, c.failure) {
				t.Errorf("passed %v, wanted %q in\n%s", r.Passed, c.failure, got)
			}
		})
	}
}

func TestRun_OneScriptMayBeMissing(t *testing.T) {
	if r := check(t, Suite{Transform: testTransform}, "1", `{"matches": true, "body_contains": {"n": 1}}`); !r.Passed {
		t.Errorf("%+v", r.Failures)
	}
	if r := check(t, Suite{Filter: testFilter}, "2", `{"matches": true}`); !r.Passed {
		t.Errorf("%+v", r.Failures)
	}
	if r := check(t, Suite{Filter: testFilter}, "2", `{"body": 1}`); r.Passed || !strings.Contains(r.Failures[0].Message, "there is no transform") {
		t.Errorf("%+v", r.Failures)
	}
}

func TestRun_ReportsCompileErrorOnce(t *testing.T) {
	cases := []Case{{Name: "a", Event: Event{Type: "a.b", Data: []byte("1")}}}
	for _, c := range []struct {
		name   string
		suite  Suite
		script string
	}{
		{"filter", Suite{Filter: "data.n >", Cases: cases}, "filter"},
		{"schema", Suite{Filter: "data.m > 1", Schemas: [][]byte{[]byte(`{"properties":{"n":{"type":"number"}}}`)}, Cases: cases}, "filter"},
		{"transform", Suite{Transform: "export default (", Cases: cases}, "transform"},
	} {
		r := Run(context.Background(), pool, c.suite)
		if r.Broken == nil || r.Broken.Script != c.script || r.Broken.Error.Line == 0 || r.OK() || len(r.Cases) != 0 {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestRun_CaseNotRunFails(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, err := pool.Compile(ctx, testTransform)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	c := Case{Name: "a", Event: Event{Type: "a.b", Data: []byte(`{"n":9}`)}, Expect: Expect{Error: &Failing{}}}
	r := runCase(ctx, scripteval.Scripts{Transformer: pool, Transform: p}, &c)
	if r.Passed || !strings.Contains(r.Failures[0].Message, "it was not run") {
		t.Errorf("%+v", r)
	}
}

func TestCase_JSONRoundTrip(t *testing.T) {
	text := `[{"name":"all","event":{"type":"a.b","id":"1","account":"acme","time":"2026-02-03T04:05:06Z","headers":{"X":"<y>"},"data":{"big":9007199254740993}},` +
		`"expect":{"matches":true,"body":null,"body_contains":{"a":1},"method":"PUT","path":"/x","query":{"a":"1","b":["1","2"]},"headers":{},"dropped":true,"error":{"phase":"run","line":3},"console":[]}},` +
		`{"name":"short","event":{"type":"a.b","data":null},"expect":{"dropped":"why","error":"text"}}]`
	cases, err := ParseCases([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := marshal(cases)
	if err != nil || string(out) != text {
		t.Errorf("%v\n%s\nwanted\n%s", err, out, text)
	}
	var again []Case
	if err := json.Unmarshal(out, &again); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(cases, again); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var expect Expect
	if err := json.Unmarshal([]byte(`{"dropped":true,"query":{"a":"1"}}`), &expect); err != nil || expect.Dropped == nil || expect.Query["a"][0] != "1" {
		t.Errorf("%v %+v", err, expect)
	}
	if err := json.Unmarshal([]byte(`[{"name":"x","event":{"type":"a","data":1},"expect":{"bdy":1}}]`), &again); err == nil || !strings.Contains(err.Error(), "did you mean") {
		t.Error(err)
	}
}

func TestDecode_CaseErrorsNamePosition(t *testing.T) {
	cases := []struct{ text, want string }{
		{`{}`, "cases must be an array of cases, but is an object"},
		{`[1]`, "cases[0] must be an object, but is a number"},
		{"[{\"name\": \"a\",\n\n]", "not valid JSON"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"body_contain":1}}]`, `cases[0].expect.body_contain is not known: did you mean "body_contains"?`},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"zzz":1}}]`, "cases[0].expect.zzz is not known: the members are matches, body"},
		{`[{"event":{"type":"a.b","data":1},"expect":{}}]`, "cases[0].name is missing"},
		{`[{"name":"a","event":{"data":1},"expect":{}}]`, "cases[0].event.type is missing"},
		{`[{"name":"a","event":{"type":"a.b"},"expect":{}}]`, "cases[0].event.data is missing"},
		{`[{"name":"a","expect":{}}]`, "cases[0].event must be an object, but is missing"},
		{`[{"name":"a","event":{"type":"a.b","data":1}}]`, "cases[0].expect is missing"},
		{`[{"name":"a","event":{"type":"a.b","data":1,"file":"x"},"expect":{}}]`, "cases[0].event.file is not known"},
		{`[{"name":"a","event":{"type":"a.b","data":1,"time":"today"},"expect":{}}]`, "cases[0].event.time must be an RFC 3339 time"},
		{`[{"name":"a","event":{"type":"a.b","data":1,"headers":{"a":1}},"expect":{}}]`, "cases[0].event.headers.a must be a string, but is a number"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"matches":"yes"}}]`, "cases[0].expect.matches must be true or false, but is a string"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"dropped":false}}]`, "cases[0].expect.dropped must be true or the reason"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"error":{"phase":"runn"}}}]`, "cases[0].expect.error.phase is not a phase"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"error":{"line":0}}}]`, "cases[0].expect.error.line must be a line number"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"error":1}}]`, "cases[0].expect.error must be a part of the message"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"console":["a",2]}}]`, "cases[0].expect.console[1] must be a string"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"query":{"a":1}}}]`, "cases[0].expect.query.a must be a string"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{"matches":true,"matches":true}}]`, "named twice"},
		{`[{"name":"a","event":{"type":"a.b","data":1},"expect":{}},{"name":"a","event":{"type":"a.b","data":1},"expect":{}}]`, "cases[1].name is \"a\", as an earlier case is called"},
	}
	for _, c := range cases {
		_, err := ParseCases([]byte(c.text))
		wrong, ok := errors.AsType[*ParseError](err)
		if !ok || !strings.Contains(err.Error(), c.want) || wrong.Line < 1 {
			t.Errorf("%s\n got    %v\n wanted %s", c.text, err, c.want)
		}
	}
}

func TestRun_ComparesNumbersByValue(t *testing.T) {
	cases := []struct {
		a, b string
		same bool
	}{
		{"1", "1.0", true}, {"1e2", "100", true}, {"0.001", "1e-3", true}, {"-0", "0.0e9", true}, {"12.50", "125e-1", true}, {"-1", "1", false},
		{"9007199254740993", "9007199254740992", false}, {"1e400", "1e401", false}, {"1e99999999999", "1e99999999998", false}, {"10", "1", false}, {"100200", "1002e2", true},
	}
	for _, c := range cases {
		if equal(json.Number(c.a), json.Number(c.b)) != c.same {
			t.Errorf("%s and %s: %v %v", c.a, c.b, decimalOf(c.a), decimalOf(c.b))
		}
	}
}

func TestDiff_ShowsContextAndIsBounded(t *testing.T) {
	var a, b []string
	for i := range 40 {
		a = append(a, strings.Repeat("x", i))
	}
	b = append(append(append(b, a[:20]...), "new"), a[21:]...)
	got := strings.Join(lineDiff(a, b), "\n")
	want := "  …\n  " + a[17] + "\n  " + a[18] + "\n  " + a[19] + "\n- " + a[20] + "\n+ new\n  " + a[21] + "\n  " + a[22] + "\n  " + a[23] + "\n  …"
	if got != want {
		t.Errorf("got\n%s\nwanted\n%s", got, want)
	}
	long := make([]string, 100_000)
	other := make([]string, 100_000)
	for i := range long {
		long[i], other[i] = "a", "b"
	}
	if lines := lineDiff(long, other); len(lines) != diffLines+1 {
		t.Errorf("%d lines", len(lines))
	}
}
