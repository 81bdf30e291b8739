package jsonindex

import (
	"encoding/json"
	"slices"
	"strings"
)

// AppendString appends s to b as a JSON string. A string without escapes, as most names and
// ids, allocates no memory besides b.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			quoted, _ := json.Marshal(s)
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// AppendCanonical appends v in a form that is the same for equivalent texts: without white
// space, members sorted by name, strings escaped in one way. Numbers stay as written.
func AppendCanonical(b []byte, v Value) []byte {
	switch v.Kind() {
	case String:
		return AppendString(b, v.Text())
	case Array:
		b = append(b, '[')
		for i, element := range v.Elements() {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendCanonical(b, element)
		}
		return append(b, ']')
	case Object:
		type member struct {
			name  string
			value Value
		}
		members := make([]member, 0, v.Len())
		for name, value := range v.Members() {
			members = append(members, member{name, value})
		}
		slices.SortStableFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
		b = append(b, '{')
		for i, m := range members {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendCanonical(append(AppendString(b, m.name), ':'), m.value)
		}
		return append(b, '}')
	}
	return append(b, v.Raw()...)
}
