package filter_test

import (
	"strings"
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/filter"
)

func TestKey_DistinguishesEvents(t *testing.T) {
	of := func(source, data string) string {
		t.Helper()
		k, err := filter.CompileKey(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		in := filter.NewInput(&scripts.Event{ID: "evt_1", Type: "order.created", Account: "a", Data: []byte(data)})
		defer in.Release()
		value, err := k.Of(in)
		if err != nil {
			return "error: " + err.Error()
		}
		return value
	}
	cases := []struct{ source, data, want string }{
		{`data.id`, `{"id":"a"}`, "sa"},
		{`data.id`, `{"id":1}`, "n1"},
		{`data.id`, `{"id":1.0}`, "n1"},
		{`data.id`, `{"id":"1"}`, "s1"},
		{`data.id`, `{"id":true}`, "btrue"},
		{`data.id`, `{"id":9007199254740993}`, "n9007199254740993"},
		{`data.id ?? data.other`, `{"other":2.5}`, "n2.5"},
		{`type`, `{}`, "sorder.created"},
		{`data.a > 1 ? "big" : "small"`, `{"a":2}`, "sbig"},
		{`lower(data.mail)`, `{"mail":"A@B"}`, "sa@b"},
		{`data.id % 4`, `{"id":7}`, "n3"},
	}
	for _, c := range cases {
		if got := of(c.source, c.data); got != c.want {
			t.Errorf("%s of %s is %q, want %q", c.source, c.data, got, c.want)
		}
	}
	for source, data := range map[string]string{`data.id`: `{}`, `data.list`: `{"list":[1]}`, `data.object`: `{"object":{}}`, `lower(data.n)`: `{"n":1}`} {
		if got := of(source, data); !strings.HasPrefix(got, "error: ") {
			t.Errorf("%s of %s is %q, want an error", source, data, got)
		}
	}
}

func TestKey_HasFilterLimits(t *testing.T) {
	cases := []struct{ source, want string }{
		{"", "empty"},
		{"data.a +", ""},
		{strings.Repeat("data.a + ", 600) + "1", "longer than 4096"},
		{strings.Repeat("(", 30) + "1", "nested deeper"},
		{`repeat("x", 1000000)`, "repeat"},
		{`now()`, "now"},
		{`[1, 2]`, "a list"},
		{`data.name + "x"`, "joined"},
		{`map(data.list, .id)`, "a list"},
	}
	for _, c := range cases {
		if _, err := filter.CompileKey(c.source); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.source, err, c.want)
		}
	}
	schema := []byte(`{"type":"object","properties":{"customer":{"type":"object","properties":{"id":{"type":"string"}}}},"additionalProperties":false}`)
	if _, err := filter.CompileKey("data.custmer.id", schema); err == nil || !strings.Contains(err.Error(), `did you mean "customer"`) {
		t.Error(err)
	}
	k, err := filter.CompileKey(`sum(data.list, count(data.list, .x == 1))`)
	if err != nil {
		t.Fatal(err)
	}
	in := filter.NewInput(&scripts.Event{Data: []byte(`{"list":[` + strings.Repeat(`{"x":1},`, 5000) + `{"x":1}]}`)})
	defer in.Release()
	if _, err := k.Of(in); err == nil || !strings.Contains(err.Error(), "budget") {
		t.Errorf("a key that works without end: %v", err)
	}
}
