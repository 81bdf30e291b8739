package scripts

import "strings"

// reservedHeaders, and names that begin with one of reservedPrefixes, control the connection,
// describe the body or identify the sender: only the router sets them. They are in the form
// that FoldHeader returns.
var (
	reservedHeaders = map[string]bool{
		"host": true, "content-length": true, "transfer-encoding": true, "content-encoding": true,
		"connection": true, "keep-alive": true, "te": true, "trailer": true, "upgrade": true, "expect": true,
		"forwarded": true, "via": true, "x-hook-signature": true, "x-hook-secret": true,
		"switchhook-hops": true,
	}
	reservedPrefixes = []string{"webhook-", "proxy-", "x-forwarded-"}
)

// FoldHeader returns a form that is equal for all header names that a receiver may confuse:
// CGI, and after it WSGI, Rack and PHP, convert names to upper case, with _ for everything
// but letters and digits.
func FoldHeader(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			return c
		}
		return '-'
	}, name)
}

// ReservedHeader reports whether only the router may set a header, so that neither a
// subscription nor a transform may set it, in any spelling.
func ReservedHeader(name string) bool {
	folded := FoldHeader(name)
	if reservedHeaders[folded] {
		return true
	}
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(folded, prefix) {
			return true
		}
	}
	return false
}
