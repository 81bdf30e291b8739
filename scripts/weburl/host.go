package weburl

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const upperHex = "0123456789ABCDEF"

// maxUnicodeHost bounds hosts that need Punycode, whose cost is quadratic. A DNS name has at
// most 253 characters.
const maxUnicodeHost = 1 << 10

// The percent-encode sets, given as their ASCII characters above space.
const (
	controlSet      = "\x7f"
	fragmentSet     = " \"<>`\x7f"
	querySet        = " \"#<>\x7f"
	specialQuerySet = querySet + "'"
	pathSet         = querySet + "?^`{}"
	userinfoSet     = pathSet + "/:;=@[\\]|"
)

// encode percent-encodes the bytes of s that are in set, controls or not ASCII.
func encode(s, set string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || strings.IndexByte(set, c) >= 0 {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func decode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	if s = b.String(); utf8.ValidString(s) {
		return s
	}
	return DecodeUTF8([]byte(s))
}

const (
	forbiddenHost   = "\x00\t\n\r #/:<>?@[\\]^|"
	forbiddenDomain = forbiddenHost + "%\x7f"
)

func forbidden(s, set string, controls bool) bool {
	return strings.ContainsAny(s, set) || controls && strings.ContainsFunc(s, func(c rune) bool { return c < ' ' })
}

// parseHost returns the serialized form of a URL's host.
func parseHost(text string, opaque bool) (string, bool) {
	if strings.HasPrefix(text, "[") {
		if !strings.HasSuffix(text, "]") {
			return "", false
		}
		pieces, ok := parseIPv6(text[1 : len(text)-1])
		return "[" + serializeIPv6(pieces) + "]", ok
	}
	if opaque {
		return encode(text, controlSet), !forbidden(text, forbiddenHost, false)
	}
	domain, ok := DomainToASCII(decode(text))
	if !ok {
		return "", false
	}
	if endsInNumber(domain) {
		n, ok := parseIPv4(domain)
		return fmt.Sprintf("%d.%d.%d.%d", n>>24, n>>16&255, n>>8&255, n&255), ok
	}
	return domain, true
}

// DomainToASCII maps a host name as browsers do before resolving it: by UTS 46, in lower
// case, non-ASCII labels as Punycode. ok is false for an invalid name. An IP address is
// returned as a name.
func DomainToASCII(name string) (ascii string, ok bool) {
	ascii, ok = toASCII(name)
	return ascii, ok && ascii != "" && !forbidden(ascii, forbiddenDomain, true)
}

// profile is UTS 46 with the standard's flags (CheckHyphens, UseSTD3ASCIIRules and
// VerifyDnsLength off).
var profile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.CheckJoiners(true), idna.CheckHyphens(false), idna.StrictDomainName(false), idna.VerifyDNSLength(false))

func toASCII(domain string) (string, bool) {
	plain := true
	for i := range len(domain) {
		plain = plain && domain[i] < utf8.RuneSelf
	}
	lower := strings.ToLower(domain)
	if plain && !strings.HasPrefix(lower, "xn--") && !strings.Contains(lower, ".xn--") {
		return lower, true
	}
	if len(domain) > maxUnicodeHost {
		return "", false
	}
	ascii, err := profile.ToASCII(domain)
	return ascii, err == nil
}

func endsInNumber(domain string) bool {
	parts := strings.Split(domain, ".")
	last := parts[len(parts)-1]
	if last == "" {
		if len(parts) == 1 {
			return false
		}
		last = parts[len(parts)-2]
	}
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return true
	}
	_, ok := parseIPv4Number(last)
	return ok
}

// parseIPv4Number parses decimal, 0x hexadecimal and 0 octal. A number that does not fit in 64
// bits becomes the largest one, which is invalid in every part.
func parseIPv4Number(s string) (uint64, bool) {
	if s == "" {
		return 0, false
	}
	base, digits := 10, "0123456789"
	switch {
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		s, base, digits = s[2:], 16, "0123456789abcdefABCDEF"
	case len(s) >= 2 && s[0] == '0':
		s, base, digits = s[1:], 8, "01234567"
	}
	if s == "" {
		return 0, true
	}
	if strings.Trim(s, digits) != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		n = math.MaxUint64
	}
	return n, true
}

func parseIPv4(domain string) (uint32, bool) {
	parts := strings.Split(strings.TrimSuffix(domain, "."), ".")
	if len(parts) > 4 {
		return 0, false
	}
	var ip uint64
	for i, part := range parts {
		n, ok := parseIPv4Number(part)
		last := i == len(parts)-1
		if !ok || !last && n > 255 || last && n >= 1<<(8*(5-len(parts))) {
			return 0, false
		}
		if last {
			ip += n
		} else {
			ip += n << (8 * (3 - i))
		}
	}
	return uint32(ip), true
}

func parseIPv6(s string) (pieces [8]uint16, ok bool) {
	piece, compress, at := 0, -1, 0
	peek := func(i int) byte {
		if at+i < len(s) {
			return s[at+i]
		}
		return 0
	}
	if peek(0) == ':' {
		if peek(1) != ':' {
			return pieces, false
		}
		at, piece, compress = 2, 1, 1
	}
	for at < len(s) {
		if piece == 8 {
			return pieces, false
		}
		if s[at] == ':' {
			if compress >= 0 {
				return pieces, false
			}
			at++
			piece++
			compress = piece
			continue
		}
		value, n := uint16(0), 0
		for ; n < 4 && at < len(s) && strings.IndexByte("0123456789abcdefABCDEF", s[at]) >= 0; n++ {
			d, _ := strconv.ParseUint(s[at:at+1], 16, 8)
			value = value<<4 | uint16(d)
			at++
		}
		switch {
		case peek(0) == '.':
			if n == 0 || piece > 6 {
				return pieces, false
			}
			at -= n
			numbers := strings.Split(s[at:], ".")
			if len(numbers) != 4 {
				return pieces, false
			}
			for i, text := range numbers {
				d, err := strconv.ParseUint(text, 10, 8)
				if err != nil || len(text) > 1 && text[0] == '0' || strings.Trim(text, "0123456789") != "" {
					return pieces, false
				}
				pieces[piece] = pieces[piece]<<8 | uint16(d)
				piece += i & 1
			}
			at = len(s)
			continue
		case peek(0) == ':':
			if at++; at == len(s) {
				return pieces, false
			}
		case at < len(s):
			return pieces, false
		}
		pieces[piece] = value
		piece++
	}
	if compress >= 0 {
		swaps := piece - compress
		for piece = 7; piece != 0 && swaps > 0; piece-- {
			pieces[piece], pieces[compress+swaps-1] = pieces[compress+swaps-1], pieces[piece]
			swaps--
		}
		return pieces, true
	}
	return pieces, piece == 8
}

func serializeIPv6(pieces [8]uint16) string {
	best, most := -1, 1
	for i := 0; i < 8; i++ {
		n := 0
		for i+n < 8 && pieces[i+n] == 0 {
			n++
		}
		if n > most {
			best, most = i, n
		}
		i += n
	}
	var b strings.Builder
	for i := 0; i < 8; i++ {
		if i == best {
			b.WriteString("::"[min(i, 1):])
			i += most - 1
			continue
		}
		b.WriteString(strconv.FormatUint(uint64(pieces[i]), 16))
		if i < 7 {
			b.WriteByte(':')
		}
	}
	return b.String()
}
