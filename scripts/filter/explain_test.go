package filter

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/scriptstest"
)

const explainData = `{"amount": 120, "big": 9007199254740993, "huge": 1e999, "note": null, "flag": true, "name": "Ada",
	"customer": {"country": "CA", "tags": ["a", "b"]}, "nested": [{"price": 5}, {"price": 50}], "key": "name"}`

// explained formats an explanation with one line per term.
func explained(t *testing.T, source, data string) string {
	t.Helper()
	f, err := Compile(source)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	in := NewInput(&scripts.Event{Type: "order.created", Headers: map[string]string{"X-Shop": "north"}, Data: []byte(data)})
	defer in.Release()
	ex := f.Explain(in)
	matched, err := f.Match(in)
	if matched != ex.Matched || (err == nil) != (ex.Error == nil) || err != nil && err.Error() != ex.Error.Error() {
		t.Errorf("%s: explained as %v, %v, but Match says %v, %v", source, ex.Matched, ex.Error, matched, err)
	}
	if _, err := json.Marshal(ex); err != nil {
		t.Errorf("%s: %v", source, err)
	}
	var b strings.Builder
	for _, term := range ex.Terms {
		b.WriteString(strings.Repeat("  ", term.Depth) + term.Source)
		switch {
		case term.State == scripts.TermSkipped:
			b.WriteString(" : skipped")
		case term.State == scripts.TermFailed:
			b.WriteString(" : failed " + term.Error)
		case term.Missing:
			b.WriteString(" = missing")
		case term.Summary != "":
			b.WriteString(" = (" + term.Summary + ")")
		default:
			value, _ := json.Marshal(term.Value)
			b.WriteString(" = " + string(value))
		}
		if term.Result != nil {
			b.WriteString(fmt.Sprintf(" → %v", *term.Result))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestExplain_ValueOfEachTerm(t *testing.T) {
	cases := []struct{ name, source, want string }{
		{"a conjunction", `data.amount > 100 && data.customer.country in ["US"]`, `
data.amount > 100 && data.customer.country in ["US"] = false → false
  data.amount > 100 = true → true
    data.amount = 120
  data.customer.country in ["US"] = false → false
    data.customer.country = "CA"`},
		{"a chain lies side by side and stops early", "data.amount > 1 and data.amount < 5\n   and len(data.name) == 3", `
data.amount > 1 and data.amount < 5 and len(data.name) == 3 = false → false
  data.amount > 1 = true → true
    data.amount = 120
  data.amount < 5 = false → false
    data.amount = 120
  len(data.name) == 3 : skipped
    len(data.name) : skipped
      data.name : skipped`},
		{"brackets belong to what they hold together", `(data.flag || type == "x") && !(data.amount == 3)`, `
(data.flag || type == "x") && !(data.amount == 3) = true → true
  data.flag || type == "x" = true → true
    data.flag = true → true
    type == "x" : skipped
      type : skipped
  !(data.amount == 3) = true → true
    data.amount == 3 = false → false
      data.amount = 120`},
		{"missing is not null", `data.nothing == 1 || data.note == 1 || headers["x-shop"] == "s" || headers.none == "x"`, `
data.nothing == 1 || data.note == 1 || headers["x-shop"] == "s" || headers.none == "x" = false → false
  data.nothing == 1 = false → false
    data.nothing = missing
  data.note == 1 = false → false
    data.note = null
  headers["x-shop"] == "s" = false → false
    headers["x-shop"] = "north"
  headers.none == "x" = false → false
    headers.none = missing`},
		{"a missing condition is false", `data.nothing && true`, `
data.nothing && true = false → false
  data.nothing = missing → false`},
		{"predicates stay closed", `any(data.nested, .price > 10 && .price < 99) && count(data.nested, {.price > 1}) == 2`, `
any(data.nested, .price > 10 && .price < 99) && count(data.nested, {.price > 1}) == 2 = true → true
  any(data.nested, .price > 10 && .price < 99) = true → true
    data.nested = [{"price":5},{"price":50}]
  count(data.nested, {.price > 1}) == 2 = true → true
    count(data.nested, {.price > 1}) = 2
      data.nested = [{"price":5},{"price":50}]`},
		{"a pipe", `data.nested | map(.price) | sum() > 50`, `
data.nested | map(.price) | sum() > 50 = true → true
  data.nested | map(.price) | sum() = 55
    data.nested | map(.price) = [5,50]
      data.nested = [{"price":5},{"price":50}]`},
		{"arithmetic, alternatives and choices", `(data.amount ?? 1) * 2 + 1 == 241 ? data.flag : data.nothing`, `
(data.amount ?? 1) * 2 + 1 == 241 ? data.flag : data.nothing = true → true
  (data.amount ?? 1) * 2 + 1 == 241 = true → true
    (data.amount ?? 1) * 2 + 1 = 241
      (data.amount ?? 1) * 2 = 240
        data.amount ?? 1 = 120
          data.amount = 120
  data.flag = true → true
  data.nothing : skipped`},
		{"not in, a computed member and a list of values", `data[data.key] not in [data.name, "x"]`, `
data[data.key] not in [data.name, "x"] = false → false
  data[data.key] = "Ada"
    data.key = "name"
  data.name = "Ada"`},
		{"exact and endless numbers", `data.big == 9007199254740993 && data.huge > 1 && -data.amount < -1`, `
data.big == 9007199254740993 && data.huge > 1 && -data.amount < -1 = true → true
  data.big == 9007199254740993 = true → true
    data.big = 9007199254740993
  data.huge > 1 = true → true
    data.huge = (the number +Inf)
  -data.amount < -1 = true → true
    -data.amount = -120
      data.amount = 120`},
		{"an optional chain", `data?.customer?.country == "CA"`, "\ndata?.customer?.country == \"CA\" = true → true\n  data?.customer?.country = \"CA\""},
		{"a literal", `true`, "\ntrue = true → true"},
		{"a negated literal", `!false`, "\n!false = true → true"},
		{"a pattern and texts", `lower(data.name) matches "^a" && "é" != data.name`, "\nlower(data.name) matches \"^a\" && \"é\" != data.name = true → true\n  lower(data.name) matches \"^a\" = true → true\n    lower(data.name) = \"ada\"\n      data.name = \"Ada\"\n  \"é\" != data.name = true → true\n    data.name = \"Ada\""},
		{"an error", `data.flag && data.amount > "x" && data.name == "Ada"`, `
data.flag && data.amount > "x" && data.name == "Ada" : failed 
  data.flag = true → true
  data.amount > "x" : failed the number 120 can't be compared with the text "x": > takes two numbers or two texts
    data.amount = 120
  data.name == "Ada" : skipped
    data.name : skipped`},
		{"an error inside of a predicate", `data.flag && any(data.nested, .price > "x")`, `
data.flag && any(data.nested, .price > "x") : failed 
  data.flag = true → true
  any(data.nested, .price > "x") : failed the number 5 can't be compared with the text "x": > takes two numbers or two texts
    data.nested = [{"price":5},{"price":50}]`},
		{"a value that is no condition", `data.amount || data.flag`, `
data.amount || data.flag : failed the number 120 is neither true nor false
  data.amount = 120
  data.flag : skipped`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, want := explained(t, c.source, explainData), c.want[1:]+"\n"; got != want {
				t.Errorf("got\n%s\nwanted\n%s", got, want)
			}
		})
	}
}

func TestExplain_TruncatesLargeValues(t *testing.T) {
	data := `{"text": "` + strings.Repeat("é", 5000) + `", "list": [` + strings.Repeat("1,", 999) + `1], "object": {"a": "` + strings.Repeat("x", 500) + `"}}`
	got := explained(t, `data.text == "" || 7 in data.list || len(data.object) > 5 || len(map(data.list, #)) < 0 || len(filter(data.list, false)) > 0`, data)
	for _, want := range []string{"data.text = (a text of 5000 characters)", "data.list = (a list of 1000 values)", "data.object = (an object with 1 members)", "map(data.list, #) = (a list of 1000 values)", "filter(data.list, false) = []"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	value, summary := displayValue(strings.Repeat("é", 201))
	if value != strings.Repeat("é", 200)+"…" || summary != "a text of 201 characters" {
		t.Errorf("cut to %v, %q", value, summary)
	}
	if value, summary := displayValue(strings.Repeat("é", 200)); summary != "" || len(value.(string)) != 400 {
		t.Errorf("200 characters are not cut, but got %v, %q", value, summary)
	}
}

func TestExplain_UnreadableEventFailsAsAWhole(t *testing.T) {
	if got, want := explained(t, `data.a == 1 && type == "x"`, `{"a":`), "data.a == 1 && type == \"x\" : failed the event's data is not valid JSON"; !strings.HasPrefix(got, want) {
		t.Error(got)
	}
}

func TestExplain_IsBounded(t *testing.T) {
	numbers := strings.TrimSuffix(strings.Repeat("1,", 15_000), ",")
	got := explained(t, `any(data.a, any(data.a, # == 7))`, `{"a":[`+numbers+`]}`)
	if !strings.Contains(got, "step budget") {
		t.Error(got)
	}
	source := "data.t != nil" + strings.Repeat(` || data.t == "x"`, (maxSource-20)/17)
	f, err := Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	in := NewInput(&scripts.Event{Data: []byte(`{"t":"` + strings.Repeat("x", 1<<20) + `"}`)})
	defer in.Release()
	var raw []byte
	if took := scriptstest.CPU(func() { raw, err = json.Marshal(f.Explain(in)) }); err != nil || len(raw) > 400<<10 || took > time.Second {
		t.Errorf("%v, %d bytes after %s", err, len(raw), took)
	}
	nested, err := Compile("data.n" + strings.Repeat("+1", (maxSource-10)/2) + "> 1")
	if err != nil {
		t.Fatal(err)
	}
	took := scriptstest.CPU(func() { raw, err = json.Marshal(nested.Explain(in)) })
	if err != nil || len(raw) > 2<<20 || took > 3*time.Second {
		t.Errorf("%v, %d bytes after %s", err, len(raw), took)
	}
	t.Logf("%d bytes after %s", len(raw), took)
}

func TestExplain_LeavesInputUnchanged(t *testing.T) {
	f, err := Compile(`any(data.list, # == data.n) && data.n > 1`)
	if err != nil {
		t.Fatal(err)
	}
	in := NewInput(&scripts.Event{Data: []byte(`{"list":[1,2],"n":2}`)})
	defer in.Release()
	for range 3 {
		if ok, err := f.Match(in); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ex := f.Explain(in); !ex.Matched || ex.Error != nil {
			t.Fatal(ex)
		}
	}
}

// Every filter that compiles can be explained, with the same verdict.
func FuzzExplainAgreesWithMatch(f *testing.F) {
	for _, source := range []string{`data.amount > 1`, `!(data.a in [1, data.b]) || (data.c ?? 1) == 2`, `data | len() > 1`, `any(data.nested, .price == 5) ? true : data["a"]?.b`, `((data.a)) and not (not data.b)`, `data[data.key][0] == -1`} {
		f.Add(source, explainData)
	}
	f.Fuzz(func(t *testing.T, source, data string) {
		if _, err := Compile(source); err == nil {
			explained(t, source, data)
		}
	})
}
