package weburl

import (
	"maps"
	"slices"
	"strings"
)

// QueryValues decodes a query as URLSearchParams does: each name with its values in order.
// No query is an error: a % that starts no escape is a literal %.
func QueryValues(query string) map[string][]string {
	values := map[string][]string{}
	for part := range strings.SplitSeq(query, "&") {
		if part != "" {
			name, value := decodePair(part)
			values[name] = append(values[name], value)
		}
	}
	return values
}

// ChangeQuery returns query with the given values. Unchanged parts keep their bytes and
// positions; new names follow at the end in alphabetical order.
func ChangeQuery(query string, values map[string][]string) string {
	was := QueryValues(query)
	if maps.EqualFunc(was, values, slices.Equal) {
		return query
	}
	seen := make(map[string]int, len(was)) // number of parts of a name
	var parts []string
	if query != "" {
		for part := range strings.SplitSeq(query, "&") {
			if part == "" {
				parts = append(parts, part)
				continue
			}
			name, value := decodePair(part)
			now, n := values[name], seen[name]
			seen[name]++
			switch {
			case n < len(now) && now[n] == value:
				parts = append(parts, part)
			case n < len(now):
				written, _, _ := strings.Cut(part, "=")
				parts = append(parts, written+"="+EncodeForm(now[n]))
			}
			if n+1 == len(was[name]) { // the last of them: more values follow it
				for _, more := range now[min(n+1, len(now)):] {
					parts = append(parts, EncodeForm(name)+"="+EncodeForm(more))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if _, had := was[name]; !had {
			for _, value := range values[name] {
				parts = append(parts, EncodeForm(name)+"="+EncodeForm(value))
			}
		}
	}
	return strings.Join(parts, "&")
}

func decodePair(part string) (name, value string) {
	name, value, _ = strings.Cut(part, "=")
	return DecodeForm(name), DecodeForm(value)
}
