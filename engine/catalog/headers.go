package catalog

import (
	"net/http"
	"strings"
	"switchhook/engine/signature"
	"switchhook/scripts"

	"golang.org/x/net/http/httpguts"
)

// Headers of outgoing requests keep their owner's spelling, so lookups compare names without case.
// No two headers of a request differ only in case.

// DeleteHeader removes the header with this name, in any case.
func DeleteHeader(h http.Header, name string) {
	for other := range h {
		if len(other) == len(name) && strings.EqualFold(other, name) {
			delete(h, other)
		}
	}
}

// setHeader sets a header in this spelling and replaces one in another case.
func setHeader(h http.Header, name, value string) {
	DeleteHeader(h, name)
	h[name] = []string{value}
}

// HasPrefixFold reports whether s begins with prefix, in any case.
func HasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// SignatureHeader reports whether a receiver may take a header for the signature of one of schemes.
func SignatureHeader(name string, schemes []signature.Scheme) bool {
	for _, scheme := range schemes {
		if scripts.FoldHeader(name) == scripts.FoldHeader(scheme.HeaderName()) {
			return true
		}
	}
	return false
}

// CheckHeader returns why a header may not be sent; "" if it may.
func CheckHeader(name, value string) string {
	switch {
	case len(name) > 128 || !httpguts.ValidHeaderFieldName(name):
		return "is not a header name"
	case scripts.ReservedHeader(name):
		return "is set by the router and can't be given"
	case len(value) > maxHeaderValueBytes:
		return "has a value that is too long"
	case !httpguts.ValidHeaderFieldValue(value):
		return "has a value with a line break or another control character"
	}
	return ""
}

// MaxHeaders is the maximum number of headers that a subscription or a transform may set.
const MaxHeaders = 32
