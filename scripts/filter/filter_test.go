package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
)

const order = `{
	"id": 9007199254740993,
	"amount": 129.5,
	"quantity": 3,
	"currency": "EUR",
	"test": false,
	"paid": true,
	"note": null,
	"customer": {"name": "Åsa Öberg", "country": "US", "tags": ["vip", "new"], "mail": "asa@shop.example"},
	"items": [
		{"sku": "a-1", "price": 9.5, "options": ["red", "big"]},
		{"sku": "b-2", "price": 120, "options": []}
	],
	"matrix": [[1, 2], [3, 4]],
	"weird key": {"a.b": 1, "ü": "yes"},
	"twice": 1, "twice": 2,
	"esc\u0061ped": "line\nbreak \u00e9"
}`

func event(data string) *scripts.Event {
	return &scripts.Event{
		ID:      "evt_1",
		Type:    "order.created",
		Account: "acme",
		Time:    time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("CET", 3600)),
		Headers: map[string]string{"X-Shop": "berlin"},
		Data:    []byte(data),
	}
}

func mustCompile(t testing.TB, source string, schemas ...[]byte) *Filter {
	t.Helper()
	f, err := Compile(source, schemas...)
	if err != nil {
		t.Fatalf("compile %s: %v", source, err)
	}
	return f
}

func match(t testing.TB, source, data string) (bool, error) {
	t.Helper()
	f := mustCompile(t, source)
	in := NewInput(event(data))
	defer in.Release()
	return f.Match(in)
}

func TestFilter_Match(t *testing.T) {
	cases := []struct {
		source string
		want   bool
	}{
		{`true`, true},
		{`data.amount > 100 && data.customer.country in ["US", "CA"]`, true},
		{`data.amount > 100 and not (data.customer.country in ["US", "CA"])`, false},
		{`data.customer.country not in ["DE"]`, true},
		{`type == "order.created"`, true},
		{`type startsWith "order." && id == "evt_1" && account == "acme"`, true},
		{`time == "2026-03-04T04:06:07Z"`, true},
		{`time < "2027"`, true},
		{`headers["X-Shop"] == "berlin"`, true},
		{`headers["x-shop"] == "berlin"`, true},
		{`"X-Shop" in headers`, true},
		{`headers["none"] == nil`, true},
		{`len(headers) == 1`, true},
		{`data["amount"] == 129.5`, true},
		{`data["weird key"]["a.b"] == 1`, true},
		{`data["weird key"].ü == "yes"`, true},
		{`data.items[0].price < 10`, true},
		{`data.items[-1].sku == "b-2"`, true},
		{`data?.customer?.country == "US"`, true},
		{`data.escaped == "line\nbreak é"`, true},
		{`data.twice == 2`, true},
		{`data.customer.name contains "Ö"`, true},
		{`lower(data.customer.name) startsWith "åsa"`, true},
		{`len(data.customer.name) == 9`, true},
		{`data.customer.mail matches "^[a-z]+@shop\\.example$"`, true},
		{`data.customer.mail not matches "@other"`, true},
		{`data.customer.mail endsWith ".example"`, true},
		{`"vip" in data.customer.tags`, true},
		{`3 in data.customer.tags`, false},
		{`"country" in data.customer`, true},
		{`"zip" in data.customer`, false},
		{`any(data.items, .price > 100)`, true},
		{`all(data.items, .price > 100)`, false},
		{`none(data.items, #.price > 1000)`, true},
		{`one(data.items, {.price > 100})`, true},
		{`count(data.items, .price > 1) == 2`, true},
		{`any(data.items, any(.options, # == "red"))`, true},
		{`any(data.items, "big" in .options && .sku == "a-1")`, true},
		{`any(data.matrix, sum(#) > 6)`, true},
		{`sum(data.items, .price) == 129.5`, true},
		{`sum(data.matrix[1]) == 7`, true},
		{`sum(map(data.items, .price)) > 129`, true},
		{`len(filter(data.items, .price > 100)) == 1`, true},
		{`find(data.items, .price > 100).sku == "b-2"`, true},
		{`first(data.items).sku == "a-1" && last(data.items)?.sku == "b-2"`, true},
		{`data.items | any(.price == 120)`, true},
		{`data.quantity % 2 == 1`, true},
		{`data.quantity * 2 + 1 == 7 && data.quantity / 2 == 1.5`, true},
		{`-data.quantity == -3 && +data.quantity == 3`, true},
		{`abs(-2) == 2 && floor(1.5) == 1 && ceil(1.5) == 2 && round(1.5) == 2`, true},
		{`min(1, 2.5) == 1 && max(data.quantity, 2) == 3`, true},
		{`int("12") == 12 && float("1.5") == 1.5 && string(12) == "12"`, true},
		{`trim(" a ") == "a" && upper("é") == "É" && indexOf("abc", "c") == 2`, true},
		{`hasPrefix(data.currency, "E") && hasSuffix(data.currency, "R")`, true},
		{`data.test`, false},
		{`!data.test && data.paid`, true},
		{`data.paid ? data.amount > 1 : false`, true},
		{`(data.discount ?? 0) == 0`, true},
		{`(data.customer.tags ?? []) == nil`, false},
		{`len(data.customer.tags ?? []) == 2`, true},
		{`data[data.currency] == nil`, true},
		{`data.items[data.quantity - 2].sku == "b-2"`, true},
		{`data.amount == "129.5"`, false},
		{`data.currency == "EUR" // a comment`, true},
		{"data.currency ==\n\t`EUR`", true},
	}
	for _, c := range cases {
		t.Run(c.source, func(t *testing.T) {
			got, err := match(t, c.source, order)
			if err != nil || got != c.want {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestFilter_MissingValuesCompareAsFalse(t *testing.T) {
	missing := []string{"data.none", "data.none.deeper", "data.note", "data.note.x", "data.amount.x", "data.items[9].price",
		"data.items.price", "data.currency[0]", "first(data.none)", "data[data.none]", "data.none + 1", "-data.none"}
	for _, m := range missing {
		for _, test := range []string{`%s > 1`, `%s < 1`, `%s >= 1`, `%s <= 1`, `1 < %s`, `%s in [1, nil]`, `"a" in %s && true`,
			`%s == 1`, `%s > "a"`, `%s in data.items`, `%s > data.amount`} {
			source := fmt.Sprintf(test, m)
			if got, err := match(t, source, order); got || err != nil {
				t.Errorf("%s: got %v, %v; want false", source, got, err)
			}
		}
		for _, test := range []string{`%s == nil`, `%s != 1`, `not (%s > 1)`} {
			source := fmt.Sprintf(test, m)
			if got, err := match(t, source, order); !got || err != nil {
				t.Errorf("%s: got %v, %v; want true", source, got, err)
			}
		}
	}
	cases := []struct {
		source string
		want   bool
	}{
		{`data.none contains "a"`, false},
		{`lower(data.none) == nil`, true},
		{`len(data.none) > 0 || len(data.note) == 0`, false},
		{`upper(trim(data.none)) contains "a"`, false},
		{`data.none startsWith "a"`, false},
		{`data.none endsWith "a"`, false},
		{`data.none matches "a"`, false},
		{`data.none`, false},
		{`!data.none`, true},
		{`data.none && data.paid`, false},
		{`any(data.none, .a > 1)`, false},
		{`all(data.none, .a > 1)`, true},
		{`any(data.items, .discount > 10)`, false},
		{`all(data.items, .discount == nil)`, true},
		{`any(data.items, .options[7].x.y > 1)`, false},
		{`any(data.items, .name contains "x")`, false},
		{`any(data.items, .none)`, false},
		{`sum(data.items, .discount) == 0`, true},
		{`"a" in data.note`, false},
		{`find(data.items, .price > 999).x > 1`, false},
		{`find(data.items, .price > 999)?.x == 1`, false},
	}
	for _, c := range cases {
		if got, err := match(t, c.source, order); got != c.want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", c.source, got, err, c.want)
		}
	}
}

func TestFilter_ComparesNumbersExactly(t *testing.T) {
	cases := []struct {
		source string
		want   bool
	}{
		{`data.id == 9007199254740993`, true},
		{`data.id == 9007199254740992`, false},
		{`data.id > 9007199254740992`, true},
		{`data.id > 9007199254740992.0`, true},
		{`data.id in [9007199254740992]`, false},
		{`data.id in [1, 9007199254740993]`, true},
		{`data.max == 9223372036854775807`, true},
		{`data.max < 9223372036854775808.0`, true},
		{`data.max + 1 > data.max`, true}, // beyond 64 bits it continues in floats
		{`data.beyond > data.max`, true},
		{`data.one == 1 && data.one in [1]`, true},
		{`data.huge > data.beyond`, true},
		{`data.min == -9223372036854775807 - 1`, true},
		{`data.id - 1 == 9007199254740992`, true},
		{`data.min / -1 > 0 && data.min * -1 > 0`, true},
		{`any(data.ids, # == 9007199254740993)`, true},
		{`9007199254740993 in data.ids`, true},
		{`9007199254740992 in data.ids`, false},
		{`data.zero == 0 && data.zero * -1 == 0`, true},
		{`data.id % 2 == 1 && int(data.one) % 2 == 1`, true},
	}
	for _, c := range cases {
		got, err := match(t, c.source, `{"id":9007199254740993,"max":9223372036854775807,"min":-9223372036854775808,"beyond":18446744073709551616,
			"one":1.0,"huge":1e999,"ids":[1,9007199254740993],"zero":0}`)
		if got != c.want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", c.source, got, err, c.want)
		}
	}
}

func TestFilter_PayloadKinds(t *testing.T) {
	cases := []struct {
		source, data string
		want         bool
	}{
		{`data == 7`, `7`, true},
		{`data == "ja"`, `"ja"`, true},
		{`data == nil`, `null`, true},
		{`data`, `true`, true},
		{`data[1] == 2`, `[1,2]`, true},
		{`any(data, .a == 1)`, `[{"a":1}]`, true},
		{`len(data) == 2`, `[1,2]`, true},
		{`data.x == nil`, `7`, true},
		{`data.名前 == "日本"`, `{"名前":"日本"}`, true},
		{`data["\u540d"] == 1`, `{"名":1}`, true},
	}
	for _, c := range cases {
		if got, err := match(t, c.source, c.data); got != c.want || err != nil {
			t.Errorf("%s over %s: got %v, %v", c.source, c.data, got, err)
		}
	}
}

func TestFilter_RunErrors(t *testing.T) {
	cases := []struct {
		source, message string
		line, column    int
	}{
		{`data.currency > 5`, `the text "EUR" can't be compared with the number 5: > takes two numbers or two texts`, 1, 15},
		{"data.paid &&\n  data.amount", `the number 129.5 is neither true nor false`, 2, 8},
		{`data.amount contains "1"`, `contains works on texts, not on the number 129.5`, 1, 13},
		{`data.customer.tags contains "vip"`, "contains works on texts, not on a list: to search a list write `x in list`", 1, 20},
		{`"E" in data.currency`, "`in` looks through a list or an object: to search a text write `text contains part`", 1, 5},
		{`any(data.amount, # > 1)`, `data.amount must be a list, but it is the number 129.5`, 1, 10},
		{`any(data.items, .sku > 1)`, `the text "a-1" can't be compared with the number 1: > takes two numbers or two texts`, 1, 22},
		{`data.amount / data.zero == 1 || 1 / (data.quantity - 3) > 0`, `division by zero`, 1, 35},
		{`data.currency + data.quantity > 1`, `texts can't be joined in a filter: compare them one by one`, 1, 15},
		{`data.currency - 1 == 1`, `- takes two numbers, not the text "EUR" and the number 1`, 1, 15},
		{`data.items == data.matrix`, `a list and a list can't be compared as a whole: compare what is in them`, 1, 12},
		{`lower(data.amount) == "x"`, `lower works on texts, not on the number 129.5`, 1, 1},
		{`int(data.currency) == 1`, `int can't make an integer of the text "EUR"`, 1, 1},
		{`data.customer`, `an object is neither true nor false`, 1, 6},
	}
	for _, c := range cases {
		t.Run(c.source, func(t *testing.T) {
			got, err := match(t, c.source, order)
			if got {
				t.Error("a failed filter matched")
			}
			e, ok := errors.AsType[*scripts.Error](err)
			if !ok || e.Phase != scripts.PhaseRun || e.Message != c.message || e.Line != c.line || e.Column != c.column {
				t.Errorf("got %#v", e)
			}
		})
	}
	_, err := match(t, `data.a == 1`, `{"a":`)
	if e, ok := errors.AsType[*scripts.Error](err); !ok || e.Phase != scripts.PhaseRun {
		t.Errorf("bad JSON: got %v", err)
	}
}

func TestFilter_Paths(t *testing.T) {
	f := mustCompile(t, `data.customer.country == "US" && data["weird key"]?.x[0] > 1 && type == "a" && any(data.items, .price > data.amount) && headers.a == "b"`)
	want := []string{"data.amount", "data.customer.country", "data.items", `data["weird key"].x[0]`}
	slices.Sort(want)
	if got := f.Paths(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if f.Source() == "" {
		t.Error("the source is lost")
	}
}

func TestFilter_DottedNamesAreNotPaths(t *testing.T) {
	got, err := match(t, `data["a.b"] == 1 && data.a.b == 2 && data["a"]["b"] == 2`, `{"a.b":1,"a":{"b":2}}`)
	if !got || err != nil {
		t.Error(got, err)
	}
}

func TestInput_SharedByManyFilters(t *testing.T) {
	doc, err := jsonindex.Parse([]byte(order), jsonindex.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	e := event(order)
	e.Doc = doc.Root()
	in := NewInput(e)
	defer in.Release()
	for i := range 200 {
		f := mustCompile(t, fmt.Sprintf(`data.amount > %d && data.customer.country == "US"`, i))
		if got, err := f.Match(in); got != (i < 130) || err != nil {
			t.Errorf("%d: got %v, %v", i, got, err)
		}
	}
	if len(in.filled) != 2 {
		t.Errorf("looked up %q", in.filled)
	}
}

func TestInput_ReleaseForgetsEvent(t *testing.T) {
	f := mustCompile(t, `data.a == 1 || type == "x"`)
	for i := range 100 {
		in := NewInput(event(fmt.Sprintf(`{"a":%d}`, i%2)))
		if got, _ := f.Match(in); got != (i%2 == 1) {
			t.Fatalf("round %d: got %v", i, got)
		}
		in.Release()
	}
}

func TestFilter_ConcurrentUse(t *testing.T) {
	f := mustCompile(t, `data.n > 500 && any(data.list, # == data.n) && lower(data.s) contains "x"`)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				n := i + g*300
				in := NewInput(event(fmt.Sprintf(`{"n":%d,"list":[1,%d],"s":"AXB"}`, n, n)))
				if got, err := f.Match(in); got != (n > 500) || err != nil {
					t.Errorf("%d: got %v, %v", n, got, err)
				}
				in.Release()
			}
		})
	}
	wg.Wait()
}

func TestCache_SameTextSameFilter(t *testing.T) {
	size := filterBytes + BytesPerSourceByte*len(`data.a == 1`)
	c := NewCache(2 * size)
	get := func(source string, schemas ...[]byte) *Filter {
		f, err := c.Compile(source, schemas...)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a := get(`data.a == 1`)
	if get(`data.a == 1`) != a {
		t.Error("the same text gave another filter")
	}
	if get(`data.a == 1`, []byte(`{}`)) == a {
		t.Error("another schema gave the same filter")
	}
	if get(`data.a == 1`) != a {
		t.Error("a filter in use was dropped")
	}
	get(`data.b == 1`)
	get(`data.c == 1`)
	if get(`data.a == 1`) == a || c.filters.Len() != 2 || c.bytes != 2*size {
		t.Error("the cache outgrew its size")
	}
	get(`data.a == 1 || ` + strings.Repeat(`data.b > 1 || `, 50) + `data.c`)
	if c.filters.Len() != 1 || c.bytes < 10*size {
		t.Errorf("a large filter is beside %d others, %d bytes", c.filters.Len()-1, c.bytes)
	}
	if _, err := c.Compile(`data.`); err == nil {
		t.Error("a bad filter was cached")
	}
	var wg sync.WaitGroup
	got := make([]*Filter, 8)
	for i := range got {
		wg.Go(func() { got[i] = get(`data.same > 1`) })
	}
	wg.Wait()
	for _, f := range got {
		if f != got[0] {
			t.Error("goroutines got different filters")
		}
	}
}
