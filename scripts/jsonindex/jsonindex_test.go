package jsonindex_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/scriptstest"
)

func TestParse_AcceptsWhatEncodingJSONAccepts(t *testing.T) {
	for _, src := range seeds {
		_, err := jsonindex.Parse([]byte(src), jsonindex.Limits{})
		if valid := json.Valid([]byte(src)); valid != (err == nil) {
			t.Errorf("%q: encoding/json says valid=%v, jsondoc says %v", src, valid, err)
		}
	}
}

var seeds = []string{
	`null`, `true`, `false`, `0`, `-0`, `-1.5e+10`, `1E400`, `"x"`, `""`, `[]`, `{}`, ` [ 1 , 2 ] `,
	`{"a":{"b":[1,{"c":"d"}]},"e":null}`, `"\u00e9\ud83d\ude00\n\"\\\/"`, `"\ud800"`, `{"\u0061":1}`,
	``, ` `, `nul`, `truex`, `01`, `1.`, `.5`, `-`, `1e`, `+1`, `"`, `"\x"`, `"\u12"`, "\"\n\"", `[1,]`, `[,1]`, `{"a"}`,
	`{"a":}`, `{"a":1,}`, `{a:1}`, `{'a':1}`, `1 2`, `[1`, `{"a":1`, `]`, `NaN`, `[1}`, "\ufeff1",
}

func TestParse_ErrorsNameOffset(t *testing.T) {
	cases := []struct {
		src          string
		offset       int
		line, column int
		msg          string
	}{
		{"{\"a\": 1,\n \"b\": nope}", 15, 2, 7, "unexpected 'n', expected a value"},
		{`{"a":1}x`, 7, 1, 8, "after the value"},
		{`"abc`, 0, 1, 1, "string is not closed"},
		{"\"a\xff\"", 2, 1, 3, "not valid UTF-8"},
		{`[1 2]`, 3, 1, 4, "expected ',' or ']'"},
		{``, 0, 1, 1, "empty"},
	}
	for _, c := range cases {
		_, err := jsonindex.Parse([]byte(c.src), jsonindex.Limits{})
		var se *jsonindex.SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("%q: got %v", c.src, err)
			continue
		}
		if se.Offset != c.offset || se.Line != c.line || se.Column != c.column || !strings.Contains(se.Msg, c.msg) {
			t.Errorf("%q: got %+v", c.src, *se)
		}
	}
}

func TestParse_BoundsNesting(t *testing.T) {
	ok := strings.Repeat("[", 128) + strings.Repeat("]", 128)
	if _, err := jsonindex.Parse([]byte(ok), jsonindex.Limits{}); err != nil {
		t.Errorf("128 deep: %v", err)
	}
	bad := strings.Repeat("[", 1_000_000)
	if _, err := jsonindex.Parse([]byte(bad), jsonindex.Limits{}); err == nil || !strings.Contains(err.Error(), "deeper than 128") {
		t.Errorf("a million deep: %v", err)
	}
}

func TestParse_DuplicateMembers(t *testing.T) {
	var many strings.Builder
	many.WriteString(`{"k7":0`)
	for i := range 40 {
		fmt.Fprintf(&many, `,"k%d":1`, i)
	}
	many.WriteString(`}`)
	for _, src := range []string{`{"a":1,"b":2,"a":3}`, `{"x":{"a":1,"\u0061":2}}`, many.String()} {
		if _, err := jsonindex.Parse([]byte(src), jsonindex.Limits{NoDuplicates: true}); err == nil || !strings.Contains(err.Error(), "named twice") {
			t.Errorf("%.40s: %v", src, err)
		}
		if _, err := jsonindex.Parse([]byte(src), jsonindex.Limits{}); err != nil {
			t.Errorf("%.40s: allowed, but %v", src, err)
		}
	}
	if _, err := jsonindex.Parse([]byte(`{"a":{"a":1},"b":[{"a":1},{"a":2}]}`), jsonindex.Limits{NoDuplicates: true}); err != nil {
		t.Error(err)
	}
}

func TestParse_DetectsDuplicateAtIndexThreshold(t *testing.T) {
	for n := range 40 {
		var b strings.Builder
		b.WriteString("{")
		for i := range n {
			fmt.Fprintf(&b, `"k%d":1,`, i)
		}
		b.WriteString(`"dup":1,"dup":2}`)
		if _, err := jsonindex.Parse([]byte(b.String()), jsonindex.Limits{NoDuplicates: true}); err == nil {
			t.Errorf("%d members before the pair: accepted", n)
		}
	}
}

func TestValue_Accessors(t *testing.T) {
	d, err := jsonindex.Parse([]byte(`{"n":9007199254740993,"f":1.50,"s":"a\u00e9","k\n":[1,"two",{"x":null}],"b":true,"n2":1,"n2":2}`), jsonindex.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r := d.Root()
	if n, ok := r.Get("n").Int64(); !ok || n != 9007199254740993 {
		t.Error("n", n, ok)
	}
	if string(r.Get("f").Raw()) != "1.50" || r.Get("f").Float64() != 1.5 {
		t.Error("f", string(r.Get("f").Raw()))
	}
	if r.Get("s").Text() != "aé" || string(r.Get("s").Raw()) != `"a\u00e9"` {
		t.Error("s", r.Get("s").Text())
	}
	list := r.Get("k\n")
	if list.Kind() != jsonindex.Array || list.Len() != 3 || list.Size() != 5 {
		t.Error("list", list.Kind(), list.Len(), list.Size())
	}
	var kinds []string
	for _, e := range list.Elements() {
		kinds = append(kinds, e.Kind().String())
	}
	if strings.Join(kinds, " ") != "number string object" {
		t.Error(kinds)
	}
	if n, _ := r.Get("n2").Int64(); n != 2 {
		t.Error("the last of two members counts, got", n)
	}
	if r.Get("none").Exists() || r.Get("none").Get("x").Kind() != jsonindex.Missing || r.Get("n").Get("x").Exists() {
		t.Error("missing values exist")
	}
	var names []string
	for name := range r.Members() {
		names = append(names, name)
	}
	if fmt.Sprintf("%q", names) != `["n" "f" "s" "k\n" "b" "n2" "n2"]` {
		t.Errorf("%q", names)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := jsonindex.Parse(src, jsonindex.Limits{MaxDepth: 1000})
		if err != nil {
			// encoding/json takes invalid UTF-8 and deeper nesting; nothing else may differ.
			if json.Valid(src) && !strings.Contains(err.Error(), "UTF-8") && !strings.Contains(err.Error(), "deeper") {
				t.Fatalf("%q is valid JSON, but: %v", src, err)
			}
			return
		}
		if !json.Valid(src) {
			t.Fatalf("%q was accepted and is not JSON", src)
		}
		walk(t, d.Root())
	})
}

func walk(t *testing.T, v jsonindex.Value) int {
	n := 1
	if !json.Valid(v.Raw()) {
		t.Fatalf("%q is not a value", v.Raw())
	}
	for _, e := range v.Elements() {
		n += walk(t, e)
	}
	for _, m := range v.Members() {
		n += walk(t, m)
	}
	if n != v.Size() {
		t.Fatalf("%q has %d values, Size says %d", v.Raw(), n, v.Size())
	}
	return n
}

func BenchmarkParse(b *testing.B) {
	for _, items := range []int{2, 20, 200} {
		src := scriptstest.Order(items)
		b.Run(fmt.Sprintf("%dB", len(src)), func(b *testing.B) {
			var d jsonindex.Doc
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Reset(src, jsonindex.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
