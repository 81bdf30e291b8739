package catalog

import (
	"net/http"
	"strings"

	"switchhook/engine/signature"
	"switchhook/scripts"
)

// Headers of outgoing requests keep the spelling that their owner gave them, so that they are
// found by comparing names without case. No two of a request differ only in case.

// DeleteHeader removes the header of this name, in any case.
func DeleteHeader(h http.Header, name string) {
	for other := range h {
		if len(other) == len(name) && strings.EqualFold(other, name) {
			delete(h, other)
		}
	}
}

// setHeader sets a header under this spelling, in the place of the one in another case.
func setHeader(h http.Header, name, value string) {
	DeleteHeader(h, name)
	h[name] = []string{value}
}

// HasPrefixFold reports whether s begins with prefix, in any case.
func HasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// SignatureHeader reports whether a receiver may read a header as the signature that one of
// schemes makes.
func SignatureHeader(name string, schemes []signature.Scheme) bool {
	for _, scheme := range schemes {
		if scripts.FoldHeader(name) == scripts.FoldHeader(scheme.HeaderName()) {
			return true
		}
	}
	return false
}
