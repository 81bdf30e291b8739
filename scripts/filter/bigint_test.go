package filter_test

import (
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/filter"
)

func TestFilter_ComparesBigIntegersExactly(t *testing.T) {
	data := `{"u":18446744073709551615,"v":18446744073709551614,"n":-18446744073709551615,"max":9223372036854775807,"over":9223372036854775808,"min":-9223372036854775808,"under":-9223372036854775809,
		"huge":100000000000000000000000000000000000000001,"f":1e41,"g":18446744073709551616.0,"t":"18446744073709551615","list":[1,18446744073709551614],"inf":1e999}`
	cases := []struct {
		source string
		want   bool
	}{
		{`data.u == 18446744073709551615`, true},
		{`data.u == 18446744073709551614`, false},
		{`data.v == 18446744073709551615`, false},
		{`18446744073709551615 == data.u`, true},
		{`data.u == data.v`, false},
		{`data.u > data.v`, true},
		{`data.v >= 18446744073709551615`, false},
		{`data.n == -18446744073709551615`, true},
		{`data.n < -18446744073709551614`, true},
		{`data.n < data.min`, true},
		{`data.max < data.over`, true},
		{`data.max == 9223372036854775808`, false},
		{`data.over == 9223372036854775808`, true},
		{`data.min == -9223372036854775808`, true},
		{`data.under < -9223372036854775808`, true},
		{`data.under == data.min`, false},
		{`data.huge == 100000000000000000000000000000000000000001`, true},
		{`data.huge == 100000000000000000000000000000000000000002`, false},
		{`data.huge < data.f`, true}, // 1e41 is the double 100000000000000000620008645040778319495168
		{`data.u < data.g && data.g > data.v`, true},
		{`data.g == 18446744073709551616`, true},
		{`data.u in [1, 18446744073709551615]`, true},
		{`data.u in [1, 18446744073709551614]`, false},
		{`data.u not in [18446744073709551615, "x"]`, false},
		{`18446744073709551614 in data.list`, true},
		{`18446744073709551615 in data.list`, false},
		{`any(data.list, # == 18446744073709551614)`, true},
		{`string(data.u) == data.t`, true},
		{`abs(data.n) == data.u`, true},
		{`-data.n == data.u`, true},
		{`max(data.u, data.v) == data.u`, true},
		{`min(data.n, 1) == data.n`, true},
		{`int(data.u) == data.u && floor(data.u) == data.u`, true},
		{`data.u + 1 > 1e19`, true},
		{`data.inf > data.huge && -data.inf < data.n`, true},
		{`data.u != nil && data.u != "18446744073709551615"`, true},
		{`data.u == 0000018446744073709551615`, true},
		{`data.u != 1 ? data.v == 18446744073709551614 : false`, true},
		{`data.missing == 18446744073709551615 || "é" == "é" && data.u == 18446744073709551615`, true},
	}
	for _, c := range cases {
		f, err := filter.Compile(c.source)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		in := filter.NewInput(&scripts.Event{Data: []byte(data)})
		if got, err := f.Match(in); err != nil || got != c.want {
			t.Errorf("%s is %v, %v", c.source, got, err)
		}
		if ex := f.Explain(in); ex.Error != nil || ex.Matched != c.want {
			t.Errorf("%s is explained as %v, %v", c.source, ex.Matched, ex.Error)
		}
		in.Release()
	}
}

func TestFilter_HeaderNamesIgnoreCase(t *testing.T) {
	cases := []struct {
		source string
		want   bool
	}{
		{`"x-shop" in headers`, true}, {`"X-SHOP" in headers`, true}, {`"X-Shop" in headers`, true}, {`"x-shops" in headers`, false}, {`"x-shop" not in headers`, false},
		{`headers["x-shop"] == "north"`, true}, {`headers[data.name] == "north"`, true}, {`headers[data.none] == nil`, true},
	}
	for _, c := range cases {
		f, err := filter.Compile(c.source)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		in := filter.NewInput(&scripts.Event{Data: []byte(`{"name":"x-SHOP"}`), Headers: map[string]string{"X-Shop": "north"}})
		if got, err := f.Match(in); err != nil || got != c.want {
			t.Errorf("%s is %v, %v", c.source, got, err)
		}
		in.Release()
	}
}
