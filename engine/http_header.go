package engine

import (
	"net/http"
	"strings"
)

// HasHeader reports whether h has a header of this name, in any case.
func HasHeader(h http.Header, name string) bool {
	if _, ok := h[name]; ok {
		return true
	}
	for other := range h {
		if len(other) == len(name) && strings.EqualFold(other, name) {
			return true
		}
	}
	return false
}
