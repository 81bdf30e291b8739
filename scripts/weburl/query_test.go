package weburl

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestChangeQuery_ChangesNothingElse(t *testing.T) {
	type change = map[string][]string
	cases := []struct {
		query   string
		changes change // nil removes
		want    string
	}{
		{"b=c;d=e", nil, "b=c;d=e"},
		{"rate=100%&k=v", nil, "rate=100%&k=v"},
		{"flag", nil, "flag"},
		{"b=1&a=2", nil, "b=1&a=2"},
		{"q=a%20b+c&&x=%7e&%zz=%", nil, "q=a%20b+c&&x=%7e&%zz=%"},
		{"", nil, ""},
		{"", change{"a": {"1 é"}, "Z": {"2"}}, "Z=2&a=1+%C3%A9"},
		{"b=c;d=e", change{"x": {"1"}}, "b=c;d=e&x=1"},
		{"rate=100%&k=v", change{"k": {"w&"}}, "rate=100%&k=w%26"},
		{"rate=100%&k=v", change{"rate": {"50%"}}, "rate=50%25&k=v"},
		{"flag&b=%20", change{"flag": nil}, "b=%20"},
		{"flag&b=%20", change{"flag": {"1"}}, "flag=1&b=%20"},
		{"b=1&a=2&b=+3", change{"b": {"1", "4"}}, "b=1&a=2&b=4"},
		{"b=1&a=2&b=%203", change{"b": {"1"}}, "b=1&a=2"},
		{"b=1&a=2&b=%203", change{"b": {" 3"}}, "b=+3&a=2"},
		{"b=1&a=2&b=%203&c", change{"b": {"1", " 3", "5"}}, "b=1&a=2&b=%203&b=5&c"},
		{"b=1&a=2", change{"b": {}}, "a=2"},
		{"%62=1&b=2", change{"b": {"1", "3"}}, "%62=1&b=3"},
		{"=x&&", change{"y": {"1"}}, "=x&&&y=1"},
		{"t=1&sig=a%2Fb%2fc", change{"t": {"2"}}, "t=2&sig=a%2Fb%2fc"},
	}
	for _, c := range cases {
		values := QueryValues(c.query)
		for name, now := range c.changes {
			if now == nil {
				delete(values, name)
			} else {
				values[name] = now
			}
		}
		if got := ChangeQuery(c.query, values); got != c.want {
			t.Errorf("%q with %v is %q, not %q", c.query, c.changes, got, c.want)
		}
	}
}

// FuzzChangeQuery changes one parameter: the others keep their bytes, and the changed one has
// the new value.
func FuzzChangeQuery(f *testing.F) {
	for _, query := range []string{"b=c;d=e", "rate=100%&k=v", "a=1&a=2&&a=%33", "%61&a", "\xff=é"} {
		f.Add(query, "a", "1&2")
	}
	f.Fuzz(func(t *testing.T, query, name, value string) {
		if len(query) > 1000 {
			return
		}
		values := QueryValues(query)
		if got := ChangeQuery(query, maps.Clone(values)); got != query {
			t.Fatalf("%q became %q", query, got)
		}
		name, value = DecodeForm(EncodeForm(name)), DecodeForm(EncodeForm(value)) // UTF-8
		values[name] = []string{value}
		got := ChangeQuery(query, values)
		if now := QueryValues(got); !maps.EqualFunc(now, values, slices.Equal) {
			t.Fatalf("%q with %q=%q is %q: %q", query, name, value, got, now)
		}
		others := func(query string) (parts []string) {
			for part := range strings.SplitSeq(query, "&") {
				if n, _ := decodePair(part); n != name {
					parts = append(parts, part)
				}
			}
			return parts
		}
		if name != "" && query != "" && !slices.Equal(others(query), others(got)) {
			t.Fatalf("%q with %q=%q is %q", query, name, value, got)
		}
	})
}

func TestChangeQuery_EncodedPathsAndQueries(t *testing.T) {
	cases := []struct{ raw, path, query string }{
		{`/a%2Fb%2f%20`, `/a%2Fb%2f%20`, `/a%2Fb%2f%20`},
		{"/é\"<> b", "/%C3%A9%22%3C%3E%20b", "/%C3%A9%22%3C%3E%20b"},
		{"/a'b`{}^|\\", "/a'b%60%7B%7D%5E%7C%5C", "/a%27b`{}^|\\"},
		{"/!$&()*+,;=:@[]~-._", "/!$&()*+,;=:@[]~-._", "/!$&()*+,;=:@[]~-._"},
		{"/日本😀", "/%E6%97%A5%E6%9C%AC%F0%9F%98%80", "/%E6%97%A5%E6%9C%AC%F0%9F%98%80"},
		{"/\xff", "/%FF", "/%FF"},
	}
	for _, c := range cases {
		path, query := EncodePath(c.raw), EncodeQuery(c.raw)
		if path != c.path || query != c.query {
			t.Errorf("%q: path %q, query %q", c.raw, path, query)
		}
		if EncodePath(path) != path || EncodeQuery(query) != query {
			t.Errorf("%q: encoded twice", c.raw)
		}
	}
	for c := range 256 { // net/http sends it as it is
		raw := "/%2F" + string([]byte{byte(c)})
		path := EncodePath(raw)
		plain, err := url.PathUnescape(path)
		if c == '?' || c == '#' || c == '%' {
			continue
		}
		if u := (&url.URL{Path: plain, RawPath: path}); err != nil || u.EscapedPath() != path {
			t.Errorf("%q: %q is sent as %q", raw, path, u.EscapedPath())
		}
	}
}
