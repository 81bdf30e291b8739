package weburl

import "strings"

// EncodeForm encodes a name or value of a query as application/x-www-form-urlencoded.
func EncodeForm(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ':
			b.WriteByte('+')
		case letter(rune(c)) || digit(rune(c)) || strings.IndexByte("*-._", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// DecodeForm decodes a name or value of a query from application/x-www-form-urlencoded.
func DecodeForm(s string) string { return decode(strings.ReplaceAll(s, "+", " ")) }
