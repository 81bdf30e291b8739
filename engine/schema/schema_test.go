package schema_test

import (
	"errors"
	"strings"
	"testing"

	"switchhook/engine/schema"
)

const order = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"items":{"type":"array","items":{"$ref":"#/$defs/item"}}},
	"$defs":{"item":{"type":"object","properties":{"price":{"type":"number","minimum":0}}}}}`

func TestValidate_PathAndMessage(t *testing.T) {
	s, err := schema.Compile([]byte(order))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ data, want string }{
		{`{"id":1,"items":[{"price":1.5}]}`, ""},
		{`{"id":9007199254740993}`, ""},
		{`{"items":[]}`, ": missing property 'id'"},
		{`{"id":"1"}`, "id: got string, want integer"},
		{`{"id":1,"items":[{"price":1},{"price":-1}]}`, "items[1].price: minimum: got -1, want 0"},
		{`[]`, ": got array, want object"},
	}
	for _, c := range cases {
		got := ""
		var p *schema.Problem
		if err := s.Validate(t.Context(), []byte(c.data)); errors.As(err, &p) {
			got = p.Path + ": " + p.Message
		} else if err != nil {
			t.Error(err)
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.data, got, c.want)
		}
	}
}

func TestCompile_Refuses(t *testing.T) {
	cases := []struct{ source, want string }{
		{`{"type":"objekt"}`, "not a JSON Schema"},
		{`[]`, "must be an object"},
		{`{"type":`, "EOF"},
		{`{"$ref":"file:///etc/passwd"}`, "not loaded from elsewhere"},
		{`{"$ref":"http://127.0.0.1:1/x.json"}`, "not loaded from elsewhere"},
		{`{"$ref":"other.json"}`, ""},
		{`{"properties":{"a":{"pattern":"("}}}`, ""},
		{`{"$schema":"https://example.com/my-dialect"}`, ""},
		{`{"x":"` + strings.Repeat("x", 300<<10) + `"}`, "are allowed"},
	}
	for _, c := range cases {
		_, err := schema.Compile([]byte(c.source))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: want %q, got %v", c.source, c.want, err)
		}
	}
}
