package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"switchhook/engine/schema"
)

// doubled returns a schema whose references double n times, each time by the format in.
func doubled(n int, in string) string {
	var b strings.Builder
	for i := range n {
		ref := fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)
		fmt.Fprintf(&b, `"d%d":`+in+`,`, i, ref, ref)
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/d0","$defs":{%s"d%d":{"type":"object"}}}`, b.String(), n)
}

const both = `{"allOf":[%s,%s]}`

func repeat(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }

// checkAllocation fails the test if do allocates far more than a request may. (The step budget
// bounds the time, and the tests check its error. Under the race detector sync.Pool drops its
// content, so allocation is not checked.)
func checkAllocation(t *testing.T, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 1500 && !raceDetector {
		t.Errorf("allocated %d MB", mb)
	}
}

// scaled returns n, or a tenth of it under the race detector, where a step takes ten times as
// long. The step budget is proportional to the size of the data, so the same budget ends.
func scaled(n int) int {
	if raceDetector {
		return n / 10
	}
	return n
}

func TestCompile_RefusesExponentialSchemas(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	cases := []struct{ name, source, want string }{
		{"references that double", doubled(40, both), "more than 10000 subschemas to one value"},
		{"by anyOf", doubled(40, `{"anyOf":[%s,%s]}`), "more than 10000 subschemas to one value"},
		{"by oneOf, in a draft before 2019", `{"$schema":"http://json-schema.org/draft-07/schema#","allOf":[` + strings.ReplaceAll(doubled(40, `{"oneOf":[%s,%s]}`), `"$ref":"#/`, `"$ref":"#/allOf/0/`) + `]}`, "more than 10000 subschemas to one value"},
		{"by if", doubled(40, `{"if":%s,"then":true,"else":%s}`), "more than 10000 subschemas to one value"},
		{"by not", doubled(40, `{"not":{"allOf":[%s,%s]}}`), "more than 10000 subschemas to one value"},
		{"by dependentSchemas", doubled(40, `{"dependentSchemas":{"a":%s,"b":%s}}`), "more than 10000 subschemas to one value"},
		{"in a part of the value", strings.Replace(doubled(40, both), `{"$ref":"#/$defs/d0"`, `{"items":{"$ref":"#/$defs/d0"}`, 1), "more than 10000 subschemas to one value"},
		{"behind a dynamic reference", strings.Replace(strings.Replace(doubled(40, both), `{"$ref":"#/$defs/d0"`, `{"$dynamicRef":"#a"`, 1), `"d0":{`, `"d0":{"$dynamicAnchor":"a",`, 1), "more than 10000 subschemas to one value"},
		{"a reference to itself", `{"$ref":"#"}`, "endlessly"},
		{"a reference to itself by another", `{"anyOf":[{"type":"string"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"not":{"$ref":"#"}}}}`, "endlessly"},
		{"a multiple of a tiny number", `{"multipleOf":1e-999999}`, "digits"},
		{"a number without bounds", `{"maximum":1e1000000000}`, "digits"},
		{"a number with very many digits", `{"minimum":` + strings.Repeat("9", 200_000) + `}`, "digits"},
		{"a constant without bounds", `{"const":{"a":[1e999999]}}`, "digits"},
		{"many subschemas", `{"allOf":[` + repeat("{}", 60_000) + `]}`, "more than"},
		{"a long list", `{"enum":[` + repeat("0", 100_000) + `]}`, "more than 20000 elements"},
		{"many under one long name", `{"properties":{"` + long + `":{"allOf":[` + repeat("{}", 9000) + `]}}}`, "long names"},
		{"depth", strings.Repeat(`{"not":`, 20_000) + `{}` + strings.Repeat("}", 20_000), ""},
		{"a regular expression that grows", `{"pattern":"(((x{100}){100}){100})"}`, ""},
		{"many that grow", `{"properties":{` + strings.TrimSuffix(manyPatterns(200), ",") + `}}`, "instructions together"},
		{"a long one", `{"pattern":"` + strings.Repeat("a", 5000) + `"}`, "4096 are allowed"},
		{"a dialect that is the schema itself", `{"$schema":"switchhook:///schema","$id":"switchhook:///schema","allOf":[` + doubled(40, both) + `]}`, "dialect"},
		{"a dialect within", `{"$defs":{"a":{"$id":"b","$schema":"switchhook:///schema"}}}`, "dialect"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			checkAllocation(t, func() {
				_, err := schema.Compile([]byte(c.source))
				if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 1000 {
					t.Errorf("want %q, got %.300v", c.want, err)
				}
			})
		})
	}
}

func manyPatterns(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"p%d":{"pattern":"(x{100}){9}%d"},`, i, i)
	}
	return b.String()
}

// An earlier version may have stored any schema.
func TestValidate_IsBoundedForAnySchema(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 120) + "1" + strings.Repeat("}", 120)
	numbers := "[" + repeat("1e999", scaled(30_000)) + "]"
	objects := "[" + repeat("{}", scaled(300_000)) + "]"
	names := make([]string, scaled(15_000))
	keys := make([]string, scaled(10_000))
	for i := range names {
		names[i] = fmt.Sprintf("%q", fmt.Sprint("name", i))
	}
	for i := range keys {
		keys[i] = fmt.Sprintf(`"x%d":0`, i)
	}
	required := strings.Join(names, ",")
	patterns := make([]string, 800)
	for i := range patterns {
		patterns[i] = fmt.Sprintf(`"x.*x%d":{}`, i)
	}
	equal := "[" + repeat("[0,1,2,3,4,5,6,7,8,9]", scaled(1000)) + "]"
	cases := []struct{ name, source, data, want string }{
		{"references that double", doubled(40, both), `{"a":"twenty bytes."}`, "too many steps"},
		{"in an older draft", `{"$schema":"http://json-schema.org/draft-04/schema#","allOf":[` + strings.ReplaceAll(doubled(40, both), `"$ref":"#/`, `"$ref":"#/allOf/0/`) + `]}`, `{}`, "too many steps"},
		{"behind a dynamic reference", `{"$id":"switchhook:///schema","$ref":"#/$defs/list","$defs":{"real":{"$dynamicAnchor":"item","$ref":"#/$defs/d0"},"list":{"$id":"list","items":{"$dynamicRef":"#item"},"$defs":{"default":{"$dynamicAnchor":"item"}}},` + strings.TrimPrefix(doubled(40, both), `{"$ref":"#/$defs/d0","$defs":{`), `[{}]`, "too many steps"},
		{"a depth that doubles", `{"allOf":[{"properties":{"a":{"$ref":"#"}}},{"properties":{"a":{"$ref":"#"}}}]}`, deep, "too many steps"},
		{"one that triples, to false", `{"anyOf":[{"properties":{"a":{"$ref":"#"}},"required":["b"]},{"properties":{"a":{"$ref":"#"}},"required":["b"]}]}`, deep, "too many steps"},
		{"unevaluated properties", `{"unevaluatedProperties":{"$ref":"#"},"anyOf":[` + repeat(`{"$ref":"#/$defs/x"}`, scaled(5000)) + `],"$defs":{"x":{"properties":{"a":{"$ref":"#"}}}}}`, deep, ""},
		{"long lists of names", `{"items":{"not":{"required":[` + required + `]}}}`, objects, "too many steps"},
		{"long lists that fail", `{"items":{"required":[` + required + `]}}`, objects, "too many steps"},
		{"many values", `{"items":{"enum":[` + repeat("[1]", scaled(9000)) + `]}}`, objects, "too many steps"},
		{"many patterns", `{"patternProperties":{` + strings.Join(patterns, ",") + `}}`, "{" + strings.Join(keys, ",") + "}", "too many steps"},
		{"a slow pattern", `{"pattern":"^(x?){900}(x*x*x*)*y$"}`, `"` + strings.Repeat("x", scaled(1<<20)) + `"`, "does not match pattern"},
		{"a pattern that is too slow", `{"allOf":[` + repeat(`{"pattern":"^(x?){900}(x*x*x*)*y$"}`, 20) + `]}`, `"` + strings.Repeat("x", scaled(1<<20)) + `"`, "too many steps"},
		{"an expression in the data", `{"$schema":"http://json-schema.org/draft-07/schema#","items":{"format":"regex"}}`, "[" + repeat(`"((x{100}){9}){9}"`, scaled(3000)) + "]", ""},
		{"constants that are equal", `{"allOf":[` + repeat(`{"$ref":"#/$defs/c"}`, scaled(9000)) + `],"$defs":{"c":{"const":` + equal + `}}}`, equal, "too many steps"},
		{"constants that are not", `{"not":{"anyOf":[` + repeat(`{"$ref":"#/$defs/c"}`, scaled(5000)) + `]},"$defs":{"c":{"const":` + equal[:len(equal)-1] + `,1]}}}`, equal[:len(equal)-1] + `,2]`, "too many steps"},
		{"unique items", `{"allOf":[` + repeat(`{"uniqueItems":true}`, scaled(4000)) + `]}`, "[" + equal + "," + equal[:len(equal)-1] + ",0]]", "too many steps"},
		{"numbers beyond bounds", `{"items":{"minimum":0}}`, `[1e1000000]`, "can't be checked"},
		{"that have no exponent", `{"multipleOf":3}`, strings.Repeat("9", 900_000), "can't be checked"},
		{"a number deep below", `{"type":"object"}`, `{"a":[{"b":-1e-999999999}]}`, "can't be checked"},
		{"many large numbers", `{"items":{"multipleOf":7e-500,"minimum":1}}`, numbers, ""},
		{"many failures", `{"items":{"type":"string"}}`, "[" + repeat("1", 110_000) + "]", "too many steps"},
		{"a text that is shown", `{"const":1}`, `"` + strings.Repeat("x", scaled(1<<20)) + `"`, "value must be 1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := schema.Load([]byte(c.source))
			if err != nil {
				t.Fatalf("%.300v", err)
			}
			checkAllocation(t, func() {
				var p *schema.Problem
				switch err := s.Validate(t.Context(), []byte(c.data)); {
				case c.want == "" && err == nil:
				case !errors.As(err, &p) || !strings.Contains(p.Message, c.want) || len(p.Message) > 1000:
					t.Errorf("want %q, got %.300v", c.want, err)
				}
			})
		})
	}
}

// ended is a context that ends after the given number of calls of Err.
type ended struct {
	context.Context
	calls int
}

func (c *ended) Err() error {
	if c.calls--; c.calls < 0 {
		return context.Canceled
	}
	return nil
}

func TestValidate_EndsWithContext(t *testing.T) {
	s, err := schema.Load([]byte(doubled(40, both)))
	if err != nil {
		t.Fatal(err)
	}
	for calls := range 3 {
		if err := s.Validate(&ended{context.Background(), calls}, []byte(`{}`)); !errors.Is(err, context.Canceled) {
			t.Errorf("after %d calls: %v", calls, err)
		}
	}
	var p *schema.Problem
	if err := s.Validate(context.Background(), []byte(`{}`)); !errors.As(err, &p) { // the canceled validations left nothing behind
		t.Error(err)
	}
}

func TestValidate_AllowsLargeSchemasAndEvents(t *testing.T) {
	var fields, variants, codes []string
	for i := range 300 {
		fields = append(fields, fmt.Sprintf(`"field%d":{"type":["string","null"],"maxLength":100,"pattern":"^[a-z0-9 ]*$"}`, i))
	}
	for i := range 150 {
		variants = append(variants, fmt.Sprintf(`{"type":"object","required":["kind"],"properties":{"kind":{"const":"kind%d"},"value":{"$ref":"#/$defs/value"}}}`, i))
	}
	for i := range 5000 {
		codes = append(codes, fmt.Sprintf(`"code%d"`, i))
	}
	source := `{"type":"object","properties":{` + strings.Join(fields, ",") + `,
		"items":{"type":"array","items":{"oneOf":[` + strings.Join(variants, ",") + `]}},
		"codes":{"type":"array","items":{"enum":[` + strings.Join(codes, ",") + `]}},
		"tree":{"$ref":"#/$defs/tree"},"numbers":{"type":"array","items":{"type":"integer","minimum":0},"uniqueItems":true}},
		"unevaluatedProperties":false,
		"$defs":{"value":{"anyOf":[{"type":"string"},{"type":"number"}]},"tree":{"type":"object","properties":{"left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#/$defs/tree"}}}}}`
	s, err := schema.Compile([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	event := map[string]any{}
	var items, numbers []any
	for i := range 300 {
		event[fmt.Sprint("field", i)] = "some text of it"
		items = append(items, map[string]any{"kind": fmt.Sprint("kind", i%150), "value": 1.5})
	}
	for i := range scaled(20_000) {
		numbers = append(numbers, i)
	}
	tree := map[string]any{}
	for range 60 {
		tree = map[string]any{"left": tree, "right": map[string]any{}}
	}
	event["items"], event["numbers"], event["tree"], event["codes"] = items, numbers, tree, []string{"code4999", "code0"}
	data, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(t.Context(), data); err != nil {
		t.Errorf("%.300v", err)
	}
	event["codes"] = []string{"code5000"}
	data, _ = json.Marshal(event)
	var p *schema.Problem
	if err := s.Validate(t.Context(), data); !errors.As(err, &p) || p.Path != "codes[0]" || !strings.HasPrefix(p.Message, "value must be one of 'code0', 'code1'") {
		t.Errorf("%.300v", err)
	}
}

// The hooks return the library's error texts.
func TestValidate_TypesConstantsAndEnums(t *testing.T) {
	cases := []struct{ source, data, want string }{
		{`{"type":"integer"}`, `1.0`, ""},
		{`{"type":"integer"}`, `10e-1`, ""},
		{`{"type":"integer"}`, `1.5`, "got number, want integer"},
		{`{"type":["integer","null"]}`, `null`, ""},
		{`{"type":["integer","null"]}`, `"1"`, "got string, want null or integer"},
		{`{"type":"number"}`, `1`, ""},
		{`{"type":"boolean"}`, `[]`, "got array, want boolean"},
		{`{"const":1}`, `1.00`, ""},
		{`{"const":{"a":[1,true,null]}}`, `{"a":[1e0,true,null]}`, ""},
		{`{"const":{"a":[1,true,null]}}`, `{"a":[1,true]}`, "'const' failed"},
		{`{"const":null}`, `0`, "value must be null"},
		{`{"enum":["a",2,[3]]}`, `2.0`, ""},
		{`{"enum":["a",2,[3]]}`, `[3]`, ""},
		{`{"enum":["a",2]}`, `"b"`, "value must be one of 'a', 2"},
		{`{"enum":[]}`, `"b"`, "value must be one of"},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","format":"ipv4"}`, `"1.2.3"`, "'1.2.3' is not valid ipv4: expected four decimals"},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","format":"regex"}`, `"("`, "not valid regex"},
		{`{"anyOf":[{"type":"string"},{"const":1}]}`, `2`, "got number, want string"},
		{`{"not":{"type":"string"}}`, `"x"`, "'not' failed"},
		{`{"oneOf":[{"type":"integer"},{"minimum":2}]}`, `3`, "'oneOf' failed, subschemas 0, 1 matched"},
		{`{"propertyNames":{"enum":["a"]}}`, `{"b":1}`, "value must be 'a'"},
	}
	for _, c := range cases {
		s, err := schema.Compile([]byte(c.source))
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		var p *schema.Problem
		if err := s.Validate(t.Context(), []byte(c.data)); c.want == "" && err != nil || c.want != "" && (!errors.As(err, &p) || !strings.Contains(p.Message, c.want)) {
			t.Errorf("%s of %s: %v, want %q", c.data, c.source, err, c.want)
		}
	}
}

func TestValidate_Concurrently(t *testing.T) {
	s, err := schema.Compile([]byte(order))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range scaled(200) {
				if err := s.Validate(t.Context(), []byte(`{"id":1,"items":[{"price":1}]}`)); err != nil {
					t.Error(err)
				}
				if err := s.Validate(t.Context(), []byte(`{"id":1,"items":[{"price":-1}]}`)); err == nil {
					t.Error("a bad event passed")
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkValidate(b *testing.B) {
	s, err := schema.Compile([]byte(order))
	if err != nil {
		b.Fatal(err)
	}
	data := []byte(`{"id":1,"items":[{"price":1.5},{"price":2}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Validate(b.Context(), data); err != nil {
			b.Fatal(err)
		}
	}
}
