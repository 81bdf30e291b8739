package weburl

import (
	"strings"
	"unicode/utf8"
)

// DecodeUTF8 replaces each maximal part of b that starts no character by U+FFFD, as
// https://encoding.spec.whatwg.org requires; Go's range replaces each byte.
func DecodeUTF8(b []byte) string {
	var s strings.Builder
	s.Grow(len(b))
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c == utf8.RuneError && n == 1 {
			n = truncated(b)
		}
		s.WriteRune(c)
		b = b[n:]
	}
	return s.String()
}

// truncated returns the number of bytes at the start of b, which is not a whole character,
// that could start one; at least 1.
func truncated(b []byte) int {
	if b[0] < 0xc2 || b[0] > 0xf4 {
		return 1
	}
	need, low, high := 1, byte(0x80), byte(0xbf)
	switch {
	case b[0] >= 0xf0:
		need = 3
	case b[0] >= 0xe0:
		need = 2
	}
	switch b[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	n := 1
	for n < len(b) && n <= need && b[n] >= low && b[n] <= high {
		n, low, high = n+1, 0x80, 0xbf
	}
	return n
}
