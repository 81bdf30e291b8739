// Package weburl reads and writes parts of URLs as browsers do: paths and queries of any bytes,
// and names of hosts. Go's net/url refuses or rewrites some of them.
package weburl

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/encoding/unicode"
)

// The characters that are percent-encoded in a part of a URL, besides controls and non-ASCII ones.
const (
	querySet    = " \"#<>\x7f'"
	fragmentSet = " \"<>`\x7f"
	pathSet     = " \"#<>\x7f?^`{}" + `\|` // \ and | because strict servers refuse them
)

// EncodePath percent-encodes the characters that are not allowed in a path, and keeps existing
// escapes.
func EncodePath(path string) string { return encode(path, pathSet) }

// EncodeQuery percent-encodes the characters that are not allowed in the query of an http
// URL, and keeps existing escapes.
func EncodeQuery(query string) string { return encode(query, querySet) }

// EncodeFragment percent-encodes the characters that are not allowed in a fragment, and keeps
// existing escapes.
func EncodeFragment(fragment string) string { return encode(fragment, fragmentSet) }

func encode(s, set string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || strings.IndexByte(set, c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// EncodeForm encodes a name or value of a query as application/x-www-form-urlencoded.
func EncodeForm(s string) string { return browserForm.Replace(url.QueryEscape(s)) }

// browserForm turns the form of net/url into that of browsers.
var browserForm = strings.NewReplacer("~", "%7E", "%2A", "*")

// DecodeForm decodes a name or value of a query from application/x-www-form-urlencoded. A % that
// begins no escape stays, and bytes that are no UTF-8 become U+FFFD.
func DecodeForm(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	b, _ = unicode.UTF8.NewDecoder().Bytes(b)
	return string(b)
}

// maxUnicodeHost bounds hosts that need Punycode, whose cost is quadratic. A DNS name has at
// most 253 characters.
const maxUnicodeHost = 1 << 10

// profile is UTS 46 with the flags of the WHATWG URL standard (CheckHyphens, UseSTD3ASCIIRules
// and VerifyDnsLength off).
var profile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.CheckJoiners(true), idna.CheckHyphens(false), idna.StrictDomainName(false), idna.VerifyDNSLength(false))

// DomainToASCII maps a host name as browsers do before resolving it: by UTS 46, in lower
// case, non-ASCII labels as Punycode. ok is false for an invalid name. An IP address is
// returned as a name.
func DomainToASCII(name string) (ascii string, ok bool) {
	ascii = strings.ToLower(name)
	if strings.ContainsFunc(name, func(c rune) bool { return c >= utf8.RuneSelf }) || strings.HasPrefix(ascii, "xn--") || strings.Contains(ascii, ".xn--") {
		var err error
		if len(name) > maxUnicodeHost {
			return "", false
		}
		if ascii, err = profile.ToASCII(name); err != nil {
			return "", false
		}
	}
	return ascii, ascii != "" && !strings.ContainsFunc(ascii, func(c rune) bool { return c <= ' ' || strings.ContainsRune("#/:<>?@[\\]^|%\x7f", c) })
}
