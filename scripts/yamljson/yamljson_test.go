package yamljson

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"switchhook/scripts/jsonindex"
)

func TestParse_PreservesDigitsAndLines(t *testing.T) {
	d, wrong := Parse([]byte("# a comment\na: 9007199254740993\nb:\n  - 1.10\n  - {c: \"<x>\", 1: yes}\nd: |\n  x > 1\n  y\ne: &here [1]\nf: *here\ng: ~\nh:\n  # why\n  i: on\n"), Limits{})
	if wrong != nil {
		t.Fatal(wrong)
	}
	const want = `{"a":9007199254740993,"b":[1.10,{"c":"<x>","1":"yes"}],"d":"x > 1\ny\n","e":[1],"f":[1],"g":null,"h":{"i":"on"}}`
	if string(d.JSON) != want {
		t.Errorf("%s\nwant\n%s", d.JSON, want)
	}
	doc, err := jsonindex.Parse(d.JSON, jsonindex.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	root := doc.Root()
	for name, line := range map[string]int{"a": 2, "b": 4, "d": 6, "e": 9, "f": 9, "g": 11, "h": 14} {
		if got := d.Line(root.Get(name).Offset()); got != line && !(name == "d" && got == 7) {
			t.Errorf("%s: got line %d, want %d", name, got, line)
		}
	}
	if got := d.Line(root.Offset()); got != 2 {
		t.Errorf("root: got line %d, want 2", got)
	}
}

func TestParse_Refuses(t *testing.T) {
	cases := []struct {
		name, text, want string
		line             int
	}{
		{"no YAML", "a: [1\nb: 2", "not valid YAML", 2},
		{"twice", "a: 1\na: 2", "already defined", 2},
		{"two documents", "a: 1\n---\nb: 2", "one YAML document", 3},
		{"a tag", "a: !!binary aGk=", "tags", 1},
		{"a merge key", "x: &x {a: 1}\ny:\n  <<: *x", "merge keys", 3},
		{"an alias", "a: *nobody", "no anchor", 1},
		{"infinity", "a: .inf", "no such number", 1},
		{"aliases of self", "a: &a [*a]", "too deep", 1},
	}
	for _, c := range cases {
		_, err := Parse([]byte(c.text), Limits{})
		if err == nil || !strings.Contains(err.Message, c.want) || err.Line != c.line {
			t.Errorf("%s: %#v", c.name, err)
		}
	}
}

// Parsing any text of the allowed size ends soon.
func TestParse_HostileTextEndsSoon(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, 128<<10/len(s)) }
	bomb := "a: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("b%d: &a%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	stairs := ""
	for i := range 300 {
		stairs += strings.Repeat(" ", i) + "a:\n"
	}
	tagDirectives := ""
	for i := range 30_000 {
		tagDirectives += fmt.Sprintf("%%TAG !a%d! t\n", i)
	}
	cases := []struct{ name, text string }{
		{"tag directives", tagDirectives + "---\na"},
		{"brackets", fill("[")}, {"braces", fill("{a: ")}, {"pairs of brackets", fill("[][")}, {"dashes", fill("- ")}, {"questions", fill("? ")}, {"keys", fill("a: ")}, {"keys and words", fill("a: x ")}, {"quoted keys", fill(`"a": `)},
		{"anchors", fill("&a ")}, {"tags", fill("!!str ")}, {"quotes", fill(`"`)}, {"apostrophes", fill("'a")}, {"documents", fill("---\n")}, {"aliases", fill("*a ")}, {"pipes", fill("a: |\n")}, {"colons", fill(":")}, {"commas", fill(",")}, {"spaces", fill(" ")}, {"tabs", fill("\t")}, {"breaks", fill("\n")}, {"percents", fill("%")},
		{"bomb", bomb}, {"stairs", stairs}, {"huge", strings.Repeat("a", MaxBytes+1)}, {"keys without space", fill(`"":`)}, {"dashes and brackets", fill("- [")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			_, err := Parse([]byte(c.text), Limits{JSONBytes: 256 << 10})
			// Far above the time on a slow machine, far below that of unbounded growth.
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %v: %.100v", took, err)
			}
		})
	}
}

func TestParse_EmptyTextIsNull(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# only a comment\n", "---\n"} {
		d, err := Parse([]byte(text), Limits{})
		if err != nil || string(d.JSON) != "null" {
			t.Errorf("%q: %v %v", text, d, err)
			continue
		}
		if _, _, ok := d.BlockKey("a"); ok || d.Line(0) != 0 {
			t.Errorf("%q has positions", text)
		}
	}
}

func TestParse_CallerSetsLimits(t *testing.T) {
	large := "a: " + strings.Repeat("x", MaxBytes)
	if _, err := Parse([]byte(large), Limits{}); err == nil || err.Error() != "is larger than 512 KiB" {
		t.Error(err)
	}
	if _, err := Parse([]byte(large), Limits{Bytes: 2 * MaxBytes}); err != nil {
		t.Error(err)
	}
	if _, err := Parse([]byte("a: &a [xxxxxxxxxx]\nb: [*a, *a, *a]\nc: 1"), Limits{JSONBytes: 30}); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
}

func TestParse_BlockKeyPosition(t *testing.T) {
	d, err := Parse([]byte("list: &list\n  - name: a\n    want:\n      x: 1\n  - &second\n    want: 2\n  - {want: 3}\nagain: *list\nflow: [{want: 4}]\none:\n  only: 5\n"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		path         []any
		line, column int // 0 if there is none
	}{
		{[]any{"list"}, 1, 1}, {[]any{"list", 0, "want"}, 3, 5}, {[]any{"list", 0, "want", "x"}, 4, 7}, {[]any{"list", 1, "want"}, 6, 5},
		{[]any{"again", 0, "want"}, 3, 5}, {[]any{"one", "only"}, 11, 3},
		{[]any{"list", 2, "want"}, 0, 0}, {[]any{"flow", 0, "want"}, 0, 0}, {[]any{"list", 3, "want"}, 0, 0}, {[]any{"list", "want"}, 0, 0},
		{[]any{"list", 0}, 0, 0}, {[]any{0}, 0, 0}, {[]any{"none"}, 0, 0}, {[]any{"one", "none"}, 0, 0}, {[]any{"one", "only", "x"}, 0, 0}, {nil, 0, 0},
	}
	for _, c := range cases {
		line, column, ok := d.BlockKey(c.path...)
		if line != c.line || column != c.column || ok != (c.line > 0) {
			t.Errorf("%v: %d:%d %v, not %d:%d", c.path, line, column, ok, c.line, c.column)
		}
	}
}

// FuzzParse checks that the JSON of any accepted text is valid, and that no text makes the library panic.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"a: [1, {b: ~}]\n", "- &x 0x1F\n- *x\n", "? a\n: |\n  b\n", "---\na: 1\n...\n", "'a': \"\\u00e9\" # c\n", "{a: 1_000, b: .5, c: yes}", "a: 2026-01-01"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse([]byte(text), Limits{})
		if err != nil {
			if err.Line < 0 || err.Line > len(text)+2 {
				t.Errorf("%q: %#v", text, err)
			}
			return
		}
		if _, err := jsonindex.Parse(d.JSON, jsonindex.Limits{NoDuplicates: true}); err != nil {
			t.Errorf("%q is %q: %v", text, d.JSON, err)
		}
	})
}
