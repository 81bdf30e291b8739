package scripttest

import (
	"regexp"
	"strings"

	"switchhook/scripts/jsonindex"
)

// lineWidth is the maximum length of a JSON value on one line when a file is rewritten.
const lineWidth = 100

// layout formats JSON for people: on one line if it fits, otherwise one member or element per
// line. Lines after the first begin with prefix. Members keep their order and numbers their
// digits.
func layout(v jsonindex.Value, prefix string) string {
	var b strings.Builder
	layoutInto(&b, v, prefix)
	return b.String()
}

func layoutInto(b *strings.Builder, v jsonindex.Value, prefix string) {
	if v.Len() == 0 || len(v.Raw())+len(prefix) <= lineWidth {
		flat(b, v)
		return
	}
	inner := prefix + "  "
	separator := "\n"
	if v.Kind() == jsonindex.Array {
		b.WriteByte('[')
		for _, e := range v.Elements() {
			b.WriteString(separator + inner)
			layoutInto(b, e, inner)
			separator = ",\n"
		}
		b.WriteString("\n" + prefix + "]")
		return
	}
	b.WriteByte('{')
	for name, member := range v.Members() {
		b.WriteString(separator + inner + quoted(name) + ": ")
		layoutInto(b, member, inner)
		separator = ",\n"
	}
	b.WriteString("\n" + prefix + "}")
}

// flat formats v on one line.
func flat(b *strings.Builder, v jsonindex.Value) {
	separator := ""
	switch v.Kind() {
	case jsonindex.Array:
		b.WriteByte('[')
		for _, e := range v.Elements() {
			b.WriteString(separator)
			flat(b, e)
			separator = ", "
		}
		b.WriteByte(']')
	case jsonindex.Object:
		b.WriteByte('{')
		for name, member := range v.Members() {
			b.WriteString(separator + quoted(name) + ": ")
			flat(b, member)
			separator = ", "
		}
		b.WriteByte('}')
	default:
		b.Write(v.Raw())
	}
}

func quoted(name string) string {
	text, _ := marshal(name) // a string can always be encoded
	return string(text)
}

// block formats the value of a key of a YAML text in block style: a space and a scalar, or
// lines that begin with prefix. Strings are quoted as in JSON, which is valid YAML, so that
// none is read as another type.
func block(v jsonindex.Value, prefix string) string {
	if v.Len() == 0 {
		return " " + string(v.Raw()) + "\n"
	}
	var b strings.Builder
	b.WriteByte('\n')
	for _, e := range v.Elements() {
		inner := block(e, prefix+"  ")
		b.WriteString(prefix + "- " + strings.TrimLeft(inner, "\n "))
	}
	for name, member := range v.Members() {
		if !plainKey.MatchString(name) || yamlWord.MatchString(name) {
			name = quoted(name)
		}
		b.WriteString(prefix + name + ":" + block(member, prefix+"  "))
	}
	return b.String()
}

var (
	plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	yamlWord = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)
