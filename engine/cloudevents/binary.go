package cloudevents

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Field is a header field of a request.
type Field struct{ Name, Value string }

// ReadBinary reads an event in binary mode: the fields of a request, its Content-Type and
// its body, which must not change afterwards. Fields without "ce-" are left alone. Errors:
// *Error, and *jsondoc.SyntaxError where the body is to be JSON.
func ReadBinary(fields []Field, contentType string, body []byte) (*Event, error) {
	a := newAttributes(func(name string) string { return prefix + name })
	for _, f := range fields {
		name, ok := strings.CutPrefix(strings.ToLower(f.Name), prefix)
		if !ok {
			continue
		}
		if name == "datacontenttype" {
			return nil, newError("ce-datacontenttype", "must not be there: the Content-Type header says what the data is")
		}
		if err := a.set(name, decodeField(f.Value)); err != nil {
			return nil, err
		}
	}
	if contentType != "" {
		a.named = func(name string) string {
			if name == "datacontenttype" {
				return "Content-Type"
			}
			return prefix + name
		}
		if err := a.set("datacontenttype", contentType); err != nil {
			return nil, err
		}
	}
	return a.finish(payload{given: len(body) > 0, bytes: body})
}

func fromLatin1(value string) string {
	runes := make([]rune, len(value))
	for i := range len(value) {
		runes[i] = rune(value[i])
	}
	return string(runes)
}

// decodeField undoes the encoding of a header's value (HTTP binding 1.0.2, 3.1.3.2):
// quotes first, then one round of percent-decoding. A percent sign without two
// hexadecimal digits stands for itself, for senders exist that encode nothing. Bytes beyond
// ASCII that were not encoded are UTF-8, as some SDKs send them, or else ISO 8859-1, as
// Node's HTTP client does.
func decodeField(value string) string {
	if !utf8.ValidString(value) {
		value = fromLatin1(value)
	}
	if strings.IndexByte(value, '"') >= 0 {
		value = unquote(value)
	}
	if strings.IndexByte(value, '%') < 0 {
		return value
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) {
			if raw, err := hex.DecodeString(value[i+1 : i+3]); err == nil {
				b = append(b, raw[0])
				i += 2
				continue
			}
		}
		b = append(b, value[i])
	}
	return string(b)
}

// unquote takes the quotes and backslashes of quoted strings (RFC 7230, 3.2.6) away. A
// quote that nothing closes stands for itself.
func unquote(value string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(value, `"`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		inner := strings.Builder{}
		i := 0
		for ; i < len(rest) && rest[i] != '"'; i++ {
			if rest[i] == '\\' && i+1 < len(rest) {
				i++
			}
			inner.WriteByte(rest[i])
		}
		if i == len(rest) {
			b.WriteString(`"` + rest)
			return b.String()
		}
		b.WriteString(inner.String())
		value = rest[i+1:]
	}
}
