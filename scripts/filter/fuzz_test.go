package filter

import (
	"testing"
	"time"

	"switchhook/scripts/scriptstest"
)

// FuzzFilter looks for a pair of filter and payload that panics, takes long or has another
// verdict the second time.
func FuzzFilter(f *testing.F) {
	for _, source := range []string{
		`data.amount > 100 && data.customer.country in ["US", "CA"]`,
		`any(data.items, .price > 10 && any(.options, # == "red"))`,
		`data?.a["b c"]?.d[-1] ?? 5 == 5`,
		`sum(map(data.items, .price)) / len(data.items) % 7 >= -1.5e3`,
		`lower(trim(data.currency)) matches "^e.*r$" ? !data.test : not (type in headers)`,
		`data | filter(# != nil) | count(# == data[0]) > 0 or "id" not in data`,
		`min(1, abs(int(string(float("1"))))) == first(last([data.x, [1]]))`,
		`1<2<3`, `a ?: b`, `{`, `"`, `let x = 1; x`,
	} {
		f.Add(source, order)
		f.Add(source, `[{"a":1},[],"x",null,1e400,-0]`)
	}
	schema := []byte(orderSchema)
	f.Fuzz(func(t *testing.T, source, data string) {
		var first, second, third bool
		var err, err1, err2, err3 error
		took := scriptstest.CPU(func() {
			var compiled *Filter
			_, _ = Compile(source, schema)
			if compiled, err = Compile(source); err != nil {
				return
			}
			in := NewInput(event(data))
			first, err1 = compiled.Match(in)
			second, err2 = compiled.Match(in)
			in.Release()
			in = NewInput(event(data))
			third, err3 = compiled.Match(in)
			in.Release()
		})
		if first != second || first != third || text(err1) != text(err2) || text(err1) != text(err3) {
			t.Errorf("%q over %q: %v %v, then %v %v, then %v %v", source, data, first, err1, second, err2, third, err3)
		}
		if first && err1 != nil {
			t.Errorf("%q over %q matched and failed", source, data)
		}
		if took > time.Second {
			t.Errorf("%q over %q took %v", source, data, took)
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
