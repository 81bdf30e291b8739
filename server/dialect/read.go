package dialect

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
)

// object returns the members of an object and refuses unknown ones.
func (r *reader) object(v jsonindex.Value, at string, known ...string) map[string]jsonindex.Value {
	members := map[string]jsonindex.Value{}
	if !v.Exists() {
		return members
	}
	if v.Kind() != jsonindex.Object {
		r.wrong(v, at, "must be an object, not a %s", v.Kind())
		return members
	}
	for name, member := range v.Members() {
		members[name] = member
		if slices.Contains(known, name) {
			continue
		}
		if meant := suggest.Closest(name, known); meant != "" {
			r.wrong(member, join(at, name), "is not known here; did you mean %q?", meant)
		}
		r.wrong(member, join(at, name), "is not known here; the members are %s", strings.Join(known, ", "))
	}
	return members
}

func join(at, name string) string { return strings.TrimPrefix(at+"."+name, ".") }

// longestText is in characters. It is not part of the regular expressions, because they implement counts
// by repetition: every process, the sandbox's too, used 290 KB more for them.
const longestText = 100

// text parses a string that matches a pattern.
func (r *reader) text(v jsonindex.Value, at string, form *regexp.Regexp, must string) string {
	if v.Kind() != jsonindex.String || utf8.RuneCountInString(v.Text()) > longestText || !form.MatchString(v.Text()) {
		r.wrong(v, at, "%s", must)
	}
	return v.Text()
}

// anyText parses an optional string.
func (r *reader) anyText(v jsonindex.Value, at string) string {
	if v.Exists() && v.Kind() != jsonindex.String {
		r.wrong(v, at, "must be a string, not a %s", v.Kind())
	}
	return v.Text()
}

// overlap reports whether a path matches both patterns.
func overlap(a, b string) bool {
	x, y := strings.Split(strings.Trim(a, "/"), "/"), strings.Split(strings.Trim(b, "/"), "/")
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] != y[i] && x[i] != "{id}" && y[i] != "{id}" {
			return false
		}
	}
	return true
}

// below reports whether a path, or one that it matches, is below another.
func below(path, other string) bool {
	n := strings.Count(strings.Trim(other, "/"), "/") + 1
	parts := strings.Split(strings.Trim(path, "/"), "/")
	return len(parts) > n && overlap(strings.Join(parts[:n], "/"), other)
}
