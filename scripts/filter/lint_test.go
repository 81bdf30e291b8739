package filter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/expr-lang/expr/builtin"

	"switchhook/scripts"
	"switchhook/scripts/scriptstest"
)

const orderSchema = `{
	"type": "object",
	"properties": {
		"id": {"type": "integer"},
		"amount": {"type": "number"},
		"currency": {"type": ["string", "null"]},
		"test": {"type": "boolean"},
		"either": {"type": ["string", "number"]},
		"customer": {"$ref": "#/$defs/customer"},
		"items": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}, "price": {"type": "number"}}}},
		"extra": {"type": "object", "additionalProperties": true, "properties": {"known": {"type": "string"}}},
		"free": {"type": "object"},
		"composed": {"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"properties": {"b": {}}}]},
		"parent": {"$ref": "#"}
	},
	"$defs": {"customer": {"properties": {"name": {"type": "string"}, "country": {"type": "string"}}}}
}`

const refundSchema = `{"type":"object","properties":{"amount":{"type":"integer"},"currency":{"type":"integer"},"reason":{"type":"string"}}}`

func TestCompile_Refuses(t *testing.T) {
	lint, compile := scripts.PhaseLint, scripts.PhaseCompile
	cases := []struct {
		source       string
		phase        scripts.Phase
		line, column int
		message      string
	}{
		// names
		{`event.type == "a"`, lint, 1, 1, "there is no `event`: write `type` instead of `event.type`"},
		{`event.data.x == 1`, lint, 1, 1, "there is no `event`: write `data` instead of `event.data`"},
		{`event.x == 1`, lint, 1, 1, "there is no `event`: the event's parts are `data`, `type`, `id`, `account`, `time` and `headers`"},
		{`payload.x == 1`, lint, 1, 1, "there is no `payload`: the event's payload is `data`"},
		{`dta.x == 1`, lint, 1, 1, "there is no `dta`: did you mean `data`?"},
		{`data.a == null`, lint, 1, 11, "there is no `null`: write `nil`"},
		{`data.a == EUR`, lint, 1, 11, "write `data.EUR` for a field of the payload, \"EUR\" for a text"},
		{`$env["data"].x`, lint, 1, 1, "there is no `$env`"},
		{`data.a == len`, lint, 1, 11, "`len` is a function"},

		// syntax
		{``, lint, 0, 0, "filter is empty"},
		{`   `, lint, 0, 0, "filter is empty"},
		{"data.a = 1", lint, 1, 8, "`=` is not an operator: write `==`"},
		{`any(data.labels, l => l.name == "bug")`, lint, 1, 20, "write `any(list, .name == \"bug\")`"},
		{`data.a =~ "x"`, lint, 1, 8, "write `text matches"},
		{`lenght(data.a) > 1`, lint, 1, 1, "did you mean len?"},
		{`data.a & data.b`, lint, 1, 8, "write `&&`"},
		{`data.a AND data.b`, lint, 1, 8, "operators are written in lower case: `and`"},
		{`data.a ==`, compile, 1, 10, "unexpected end of filter"},
		{"data.a == 1 &&\n  && data.b", compile, 2, 3, `unexpected "&&"`},
		{`(data.a == 1`, compile, 1, 13, "unexpected end of filter"},
		{`data.a == "x`, compile, 1, 13, "text is not closed"},
		{`data.a @ 1`, compile, 1, 8, "unrecognized character"},
		{`data.a == 0xFFFFFFFFFFFFFFFFFF`, compile, 1, 30, "value out of range: write it in decimal digits"},
		{`data.a == 1e400`, compile, 1, 15, "value out of range: the largest is about 1.8e308"},
		{`data.a <> 1`, lint, 1, 8, "`<>` is not an operator: write `!=`"},
		{`data.a LIKE "x%"`, lint, 1, 8, "write `startsWith`, `endsWith`, `contains` or `matches`"},
		{`data.a == 1 && data.b is nil`, lint, 1, 23, "`is` is not an operator"},
		{`data.a between 1 and 2`, lint, 1, 8, "write `a >= 1 && a <= 2`"},
		{`data.a == “OPEN”`, compile, 1, 11, "unrecognized character: U+201C '“': write \""},
		{`data.a ≥ 1`, compile, 1, 8, "write >="},

		// constructs
		{`let a = 1; a == 1`, lint, 1, 1, "`let` is not allowed"},
		{`if data.a { true } else { false }`, lint, 1, 1, "`if` is not allowed"},
		{`1; true`, lint, 1, 2, "`;` is not allowed"},
		{`data.a ?: true`, lint, 1, 8, "`?:` is not allowed: write `a ?? b`"},
		{`1 < data.a < 5`, lint, 1, 10, "comparisons can't be chained: write `a < b && b < c`"},
		{`5 in 1..9`, lint, 1, 7, "`..` is not allowed"},
		{`2 ** 3 == 8`, lint, 1, 3, "`**` is not allowed"},
		{`2 ^ 3 == 8`, lint, 1, 3, "`^` is not allowed"},
		{`data.a[1:2] == "x"`, lint, 1, 7, "parts of a list or text can't be cut out"},
		{`{a: 1} == nil`, lint, 1, 1, "objects can't be made"},
		{`b"x" == data.a`, lint, 1, 1, "byte strings"},
		{`data.a.b()`, lint, 1, 8, "values have no methods"},
		{`data.name.lower() == "a"`, lint, 1, 11, "write lower(value)"},
		{`data.name.contains("a")`, lint, 1, 11, "write `value contains other`"},
		{`any(data.a, #acc > 1)`, lint, 1, 13, "`#acc` is not allowed"},
		{`"a" + data.b == "ab"`, lint, 1, 5, "texts can't be joined"},

		// functions
		{`repeat(data.a, 100000) == "a"`, lint, 1, 1, "repeat is not allowed: it can make a value much larger"},
		{`reduce(data.a, #acc + #) > 1`, lint, 1, 1, "reduce is not allowed"},
		{`len(uniq(data.a)) > 1`, lint, 1, 5, "uniq is not allowed"},
		{`now() > data.a`, lint, 1, 1, "now is not allowed: a filter has no clock"},
		{`toJSON(data) contains "x"`, lint, 1, 1, "toJSON is not allowed"},
		{`type(data.a) == "string"`, lint, 1, 1, "type is not allowed: `type` is the event's type"},
		{`get(data, "a") == 1`, lint, 1, 1, "write data.name"},
		{`lowercase(data.a) == "a"`, lint, 1, 1, "there is no function lowercase"},
		{`lowr(data.a) == "a"`, lint, 1, 1, "there is no function lowr: did you mean lower?"},
		{`lower() == "a"`, lint, 1, 1, "lower takes one argument, not 0"},
		{`trim(data.a, "x") == "a"`, lint, 1, 1, "trim takes one argument, not 2"},
		{`count(data.a) > 1`, lint, 1, 1, "write len(list)"},
		{`any(data.a, any(#, any(#, # > 1)))`, lint, 1, 20, "predicates are nested deeper than 2"},

		// patterns
		{`data.a matches data.b`, lint, 1, 21, "constant pattern"},
		{`data.a matches "("`, lint, 1, 16, "bad pattern \"(\": missing closing )"},
		{`data.a matches "(?=a)"`, lint, 1, 16, "bad pattern"},
		{`data.a matches "` + strings.Repeat("a", 257) + `"`, lint, 1, 16, "pattern is longer than 256 bytes"},
		{`data.a matches "(a{30}){30}"`, lint, 1, 16, "too complex"},

		// types that are known without a schema
		{`type > 5`, compile, 1, 6, "`>` can't be used between a text and a number: write \"5\" in quotes"},
		{`len(data.a)`, compile, 1, 1, "a filter must be true or false, but this is a number"},
		{`any(type, # == "a")`, compile, 1, 5, "any goes through a list, not through a text"},
		{`!type`, compile, 1, 1, "`!` can't be used with a text"},
		{`count(data.a, 1) > 0`, compile, 1, 15, "a predicate must be true or false, but this is a number"},
		{`lower(1) == "a"`, compile, 1, 7, "lower takes a text, not a number"},
		{`type in [1, 2]`, compile, 1, 6, "a text can't be in a list of numbers"},
		{"true &&\n\tdata.ä == 1 && typ == 1", lint, 2, 17, "there is no `typ`: did you mean `type`?"},
	}
	for _, c := range cases {
		t.Run(c.source, func(t *testing.T) { wantError(t, c.phase, c.line, c.column, c.message, c.source) })
	}
}

func TestAllowlist_CoversEveryExprFunction(t *testing.T) {
	for _, name := range builtin.Names {
		_, yes := allowed[name]
		_, no := refused[name]
		if yes == no {
			t.Errorf("%s: allowed %v, refused %v", name, yes, no)
		}
	}
}

func wantError(t *testing.T, phase scripts.Phase, line, column int, message, source string, schemas ...[]byte) {
	t.Helper()
	_, err := Compile(source, schemas...)
	e, ok := errors.AsType[*scripts.Error](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, message)
	}
	if e.Phase != phase || e.Line != line || e.Column != column || !strings.Contains(e.Message, message) {
		t.Errorf("got  %s %d:%d %s\nwant %s %d:%d %s", e.Phase, e.Line, e.Column, e.Message, phase, line, column, message)
	}
	if e.Line > 0 && !strings.HasSuffix(e.Snippet, "^") {
		t.Errorf("snippet %q has no caret", e.Snippet)
	}
}

func TestSchema_FindsMistakes(t *testing.T) {
	compile := scripts.PhaseCompile
	cases := []struct {
		source       string
		line, column int
		message      string
	}{
		{`data.amuont > 100`, 1, 6, `unknown field "amuont": did you mean "amount"?`},
		{`data["amuont"] > 100`, 1, 6, `unknown field "amuont": did you mean "amount"?`},
		{`data?.customer?.contry == "US"`, 1, 17, `unknown field "contry": did you mean "country"?`},
		{`data.customer.zip == "1"`, 1, 15, `unknown field "zip": the schema has country, name`},
		{`any(data.items, .prize > 10)`, 1, 18, `unknown field "prize": did you mean "price"?`},
		{`data.items[0].prize > 10`, 1, 15, `unknown field "prize"`},
		{`find(data.items, .price > 1).skuu == "a"`, 1, 30, `unknown field "skuu": did you mean "sku"?`},
		{`data.parent.parent.amuont > 1`, 1, 20, `unknown field "amuont"`},
		{`data.amount > "100"`, 1, 13, "`>` can't be used between a number and a text: write 100 without quotes"},
		{`data.test == "true"`, 1, 11, "`==` can't be used between a boolean and a text: write true without quotes"},
		{`data.amount == "100"`, 1, 13, "`==` can't be used between a number and a text"},
		{`data.currency in [1, 2]`, 1, 15, "a text can't be in a list of numbers"},
		{`data.amount`, 1, 1, "a filter must be true or false, but this is a number"},
		{`data.test && data.amount`, 1, 11, "`&&` can't be used between a boolean and a number"},
		{`any(data.customer, .x)`, 1, 10, "any goes through a list, not through an object"},
		{`data.items.price > 1`, 1, 12, "write any(list, .name == …)"},
		{`data.amount.x == 1`, 1, 13, `a number has no field "x"`},
		{`data.amount contains "1"`, 1, 13, "`contains` can't be used between a number and a text"},
		{`data.currency + data.currency == "x"`, 1, 15, "texts can't be joined"},
	}
	for _, c := range cases {
		phase := compile
		if strings.Contains(c.message, "joined") {
			phase = scripts.PhaseLint
		}
		t.Run(c.source, func(t *testing.T) {
			wantError(t, phase, c.line, c.column, c.message, c.source, []byte(orderSchema))
		})
	}
	wantError(t, compile, 0, 0, "the event type's schema is not valid JSON", `true`, []byte(`{`))
}

func TestSchema_AcceptsValidFilters(t *testing.T) {
	for _, source := range []string{
		`data.amount > 100 && data.customer.country in ["US", "CA"]`,
		`data.id % 2 == 0 && data.amount == 100 && data.amount > data.id`,
		`data.currency == nil || data.currency == "EUR"`,
		`data.either == "a" || data.either > 5`,
		`data.extra.known == "a" && data.extra.other > 5 && data.extra.other == "x"`,
		`data.free.anything.at.all == 1`,
		`data.composed.a == "x" && data.composed.b == 1`,
		`data.parent.parent.amount > 1`,
		`any(data.items, .price > 10 && .sku startsWith "a")`,
		`sum(data.items, .price) > 10 && len(data.items) > 2`,
		`data.items[0].price > 1 && "a" in data.extra`,
		`data.test`,
	} {
		if _, err := Compile(source, []byte(orderSchema)); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
	// The schema and the run of the program must agree.
	f := mustCompile(t, `data.amount > 100 && data.customer.country == "US" && any(data.items, .price > 100)`, []byte(orderSchema))
	in := NewInput(event(order))
	defer in.Release()
	if got, err := f.Match(in); !got || err != nil {
		t.Error(got, err)
	}
}

func TestSchema_UnionOfSeveral(t *testing.T) {
	schemas := [][]byte{[]byte(orderSchema), []byte(refundSchema)}
	mustCompile(t, `data.reason == "x" && data.customer.name == "y" && data.amount > 1`, schemas...)
	mustCompile(t, `data.currency == "EUR" || data.currency == 5`, schemas...)
	wantError(t, scripts.PhaseCompile, 1, 6, `unknown field "reasn": did you mean "reason"?`, `data.reasn == "x"`, schemas...)
	mustCompile(t, `data.reasn == "x"`, []byte(orderSchema), []byte(`{"type":"object"}`))
	mustCompile(t, `data.whatever == "x"`, []byte(orderSchema), []byte(`true`))
}

func TestSchema_HostileIsBounded(t *testing.T) {
	wide := strings.Builder{}
	for i := range 40 {
		if i > 0 {
			wide.WriteByte(',')
		}
		wide.WriteString(`"f` + string(rune('A'+i)) + `":{"$ref":"#"}`)
	}
	for _, schema := range []string{
		`{"$ref":"#"}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`,
		`{"type":"object","properties":{` + wide.String() + `}}`,
		`{"type":["object"],"properties":[],"items":1}`, `[]`, `null`, `7`, `{"$ref":"http://example.com/x"}`, `{"$ref":"#/nope"}`,
		strings.Repeat(`{"items":`, 100) + `{}` + strings.Repeat(`}`, 100),
	} {
		if d := scriptstest.CPU(func() { _, _ = Compile(`data.fA.fA.fA == 1`, []byte(schema)) }); d > time.Second {
			t.Errorf("%.60s took %v", schema, d)
		}
	}
}

// Each of these crashes the process, or blocks it for seconds, in bare expr v1.17.8 at some
// length.
func TestCompile_HostileSourceEndsAtOnce(t *testing.T) {
	fill := func(unit string) string { return strings.Repeat(unit, maxSource/len(unit)) }
	sources := []string{}
	for _, unit := range []string{"(", "[", "{", "!", "not ", "-", "+", "!-", "- +", "true?", "true?true:", "a?:", "1<", "1<(1<", "1**", "2^",
		"data.", "data?.", "data[", "data[0]", ".a", "?.a", "any(data,", "any(data,{", "lower(", "trim(", "trim(trim(", "max(1,", "data|any(", "data|lower()", "1+", "1+(",
		"let a=1;", "if true {", "if true {true} else ", "[1,", "{a:", "\"", "'", "`", "/*", "//\n", "#", "::len(", "1..", "a in ", "a not in ", "data ?? ", "1==", "true&&", "true||(",
		"data matches \"a{99}\"||", "data.a matches \"(a*)*b\"||", "1e308*", "\\", "\x00", "\xff", "é", "data.é"} {
		sources = append(sources, fill(unit), "true && "+fill(unit)[:maxSource-200], strings.Repeat(unit, 1_000_000/len(unit)), strings.Repeat(unit, 20), strings.Repeat(unit, 300))
	}
	nested := func(open, inner, shut string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
	}
	for _, n := range []int{3, 6, 12, 24, 100, 500} {
		sources = append(sources,
			nested("(", "true", ")", n), nested("!(", "true", ")", n), nested("trim(", "data.a", ")", n)+`=="a"`, nested("trimPrefix(", "data.a", ")", n)+`=="a"`,
			nested("1<(", "2<3", ")<4", n), nested("data[", "0", "]", n)+"==1", nested("[", "1", "]", n)+"==1", nested("min(1,", "data.a", ")", n)+"==1",
			nested("true?(", "true", "):false", n), nested("any(data,", "true", ")", n), `data.a`+strings.Repeat(`|trim()`, n)+`=="a"`, `data.a`+strings.Repeat(`|trim("a")`, n)+`=="a"`,
			`data`+strings.Repeat(` ?: 1`, n), `data`+strings.Repeat(` ?? 1`, n), `data`+strings.Repeat(`.a`, n)+`==1`, `any(data,#`+strings.Repeat(`.a`, n)+`==1)`)
	}
	for _, source := range sources {
		d := scriptstest.CPU(func() {
			if f, err := Compile(source); err == nil {
				in := NewInput(event(order))
				_, _ = f.Match(in)
				in.Release()
			}
		})
		if d > 500*time.Millisecond {
			t.Errorf("%.60q (%d bytes) took %v", source, len(source), d)
		}
	}
}

func TestCompile_ErrorRange(t *testing.T) {
	schema := []byte(`{"properties": {"total": {"type": "number"}}}`)
	cases := []struct {
		source string
		want   [4]int
	}{
		{"data.totl > 1", [4]int{1, 6, 1, 10}},
		{"data.total > \"x\"", [4]int{1, 12, 1, 13}}, // the operator
		{"true and\n  data.totl == 1", [4]int{2, 8, 2, 12}},
		{"data.total =~ \"x\"", [4]int{1, 12, 1, 14}},
		{"data.total +\n 1", [4]int{1, 1, 2, 3}}, // the whole is no condition
		{"data.total > 1 && (", [4]int{1, 20, 1, 20}},
		{`data.total > 1 && "é" == type ~`, [4]int{1, 31, 1, 32}},
	}
	for _, c := range cases {
		_, err := Compile(c.source, schema)
		e, ok := errors.AsType[*scripts.Error](err)
		if !ok || [4]int{e.Line, e.Column, e.EndLine, e.EndColumn} != c.want {
			t.Errorf("%s: %+v", c.source, err)
			if ok {
				t.Errorf("%+v", e.Location)
			}
		}
	}
}
