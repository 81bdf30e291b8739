package scripts

import "strings"

// reservedHeaders, and what begins with one of reservedPrefixes, steer the connection, say
// how the body is to be read or tell who sent the request: the router sets them. They are
// in the form that FoldHeader gives.
var (
	reservedHeaders = map[string]bool{
		"host": true, "content-length": true, "transfer-encoding": true, "content-encoding": true,
		"connection": true, "keep-alive": true, "te": true, "trailer": true, "upgrade": true, "expect": true,
		"forwarded": true, "via": true, "x-hook-signature": true, "x-hook-secret": true,
	}
	reservedPrefixes = []string{"webhook-", "proxy-", "x-forwarded-"}
)

// FoldHeader gives what header names have in common that a receiver may take for one: CGI,
// and WSGI, Rack and PHP after it, know them in upper case with _ for everything but letters
// and digits.
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

// ReservedHeader reports whether a header is the router's to set, so that neither a
// subscription nor a transform may, in whatever spelling.
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
