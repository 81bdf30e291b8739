package jsontemplate_test

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"testing"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/jsontemplate"
)

// order is the scope of the tests: $order.id, $order.note and the data of "...", which is JSON; $each
// goes through lines, whose placeholder is $line.
type order struct {
	id, note, data, line string
	lines                []string
}

var language = &jsontemplate.Language[order]{
	Members: map[string][]string{"order": {"id", "note", "data"}},
	Field: func(path ...string) jsontemplate.Field[order] {
		return map[string]jsontemplate.Field[order]{
			"order.id":   func(b []byte, o order) []byte { return append(b, o.id...) },
			"order.note": func(b []byte, o order) []byte { return append(b, o.note...) },
		}[strings.Join(path, ".")]
	},
	Spread: "$order.data",
	Data:   func(o order) []byte { return []byte(o.data) },
	Lists: map[string]jsontemplate.List[order]{"lines": {
		Entries: func(o order) iter.Seq[order] {
			return func(yield func(order) bool) {
				for _, line := range o.lines {
					if !yield(order{line: line}) {
						return
					}
				}
			}
		},
		Entry: &jsontemplate.Language[order]{
			Members: map[string][]string{"line": {}},
			Field: func(path ...string) jsontemplate.Field[order] {
				if !slices.Equal(path, []string{"line"}) {
					return nil
				}
				return func(b []byte, o order) []byte { return append(b, o.line...) }
			},
		},
	}},
}

func compile(t *testing.T, template string) (*jsontemplate.Template[order], *jsontemplate.Error) {
	t.Helper()
	doc, err := jsonindex.Parse([]byte(template), jsonindex.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return jsontemplate.Compile(doc.Root(), "answer", language)
}

func TestTemplate_Append(t *testing.T) {
	full := order{id: "7", note: `"n"`, data: `{"a":1,"id":2}`, lines: []string{"1", `"two"`}}
	cases := []struct {
		name, template string
		scope          order
		want           string
	}{
		{"literal", `{ "a" : [1, "b", "costs $5"] }`, full, `{ "a" : [1, "b", "costs $5"] }`},
		{"placeholders", `{"id":"$order.id","list":["$order.note",2]}`, full, `{"id":7,"list":["n",2]}`},
		{"escaped dollar", `["$$order.id"]`, full, `["$order.id"]`},
		{"missing", `{"id":"$order.id","note":"$order.note"}`, order{}, `{"id":null,"note":null}`},
		{"optional", `{"id":"$order.id?","x":1,"note":"$order.note?"}`, order{note: "null"}, `{"x":1}`},
		{"optional with value", `{"id":"$order.id?"}`, full, `{"id":7}`},
		{"spread", `{"...":"$order.data","id":"$order.id"}`, full, `{"a":1,"id":7}`},
		{"spread of nothing", `{"x":1,"...":"$order.data","id":"$order.id"}`, order{data: "{}"}, `{"x":1,"id":null}`},
		{"spread of a list", `{"...":"$order.data"}`, order{data: "[1]"}, `{"data":[1]}`},
		{"each", `{"all":[{"$each":"lines","line":"$line"}]}`, full, `{"all":[{"line":1},{"line":"two"}]}`},
		{"each of nothing", `[{"$each":"lines","line":"$line"}]`, order{}, `[]`},
		{"item", `[{"$each":"lines","$item":"$line"}]`, full, `[1,"two"]`},
		{"empty object and list", `{"a":{},"b":[],"id":"$order.id"}`, full, `{"a":{},"b":[],"id":7}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			template, err := compile(t, c.template)
			if err != nil {
				t.Fatal(err)
			}
			got := string(template.Append(nil, c.scope))
			if got != c.want || !json.Valid([]byte(got)) {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if uses := strings.Contains(c.template, "$each"); template.Uses("lines") != uses {
				t.Errorf("Uses is %v", !uses)
			}
		})
	}
}

func TestCompile_Refuses(t *testing.T) {
	cases := []struct{ name, template, want string }{
		{"unknown name", `{"a":["$odrer.id"]}`, `answer.a[]: "$odrer.id" is not a placeholder; there is $order, and "$$" begins a text with "$"`},
		{"unknown member", `"$order.idd"`, `answer: "$order.idd" is not a placeholder; did you mean "$order.id"?`},
		{"name alone", `"$order"`, `answer: "$order" is not a placeholder; $order has id, note, data`},
		{"within a text", `{"a":"Order $order.id"}`, `answer.a: "Order $order.id": a placeholder must be the whole text`},
		{"spread of something else", `{"...":"$order.id"}`, `answer....: must be "$order.data"`},
		{"spread beside data", `{"...":"$order.data","data":1}`, `can't be used with a member "data"`},
		{"each in an object", `{"$each":"lines"}`, `answer.$each: must be in the only element of a list`},
		{"each of an unknown list", `[{"$each":"rows"}]`, `answer[].$each: must be "lines", in the only element of a list`},
		{"each beside an element", `[{"$each":"lines"},1]`, `answer[].$each: must be "lines", in the only element of a list`},
		{"outer name in each", `[{"$each":"lines","id":"$order.id"}]`, `answer[].id: "$order.id" is not a placeholder; there is $line`},
		{"each within each", `[{"$each":"lines","x":[{"$each":"lines"}]}]`, `answer[].x[].$each: can't be used in this place`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := compile(t, c.template); err == nil || !strings.HasPrefix(err.Error(), "answer") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
