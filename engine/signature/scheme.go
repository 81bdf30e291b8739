package signature

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Scheme is a way to sign a delivery. Which kind of key it takes depends on the secret:
// "whsec_…" for an HMAC, "whsk_…" for ed25519. Besides Standard and Hook it may be a header
// of the receiver's own, with the HMAC of the body in its value:
// "X-Hub-Signature-256: sha256={hmac-sha256-hex}".
type Scheme string

// The schemes that have a name.
const (
	Standard Scheme = "standard"         // webhook-signature, Standard Webhooks 1.0.0
	Hook     Scheme = "x-hook-signature" // hexadecimal HMAC-SHA256 of the body, as REST Hooks receivers expect it
)

const (
	maxSchemes     = 4
	maxSchemeBytes = 200
)

var (
	hashes = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

	encodings = map[string]func(sum []byte) string{
		"hex": hex.EncodeToString, "base64": base64.StdEncoding.EncodeToString,
	}
)

// placeholders lists what may stand in the value of a header scheme.
func placeholders() (list []string) {
	for algorithm := range hashes {
		for encoding := range encodings {
			list = append(list, "{hmac-"+algorithm+"-"+encoding+"}")
		}
	}
	slices.Sort(list)
	return list
}

// headerScheme is a Scheme that is a header, taken apart.
type headerScheme struct {
	name, before, after string
	hash                func() hash.Hash
	encode              func(sum []byte) string
}

// parseHeaderScheme reads "X-Signature: sha256={hmac-sha256-hex}".
func parseHeaderScheme(s Scheme) (headerScheme, error) {
	h := headerScheme{}
	name, value, ok := strings.Cut(string(s), ":")
	if !ok {
		return h, fmt.Errorf(`%.60q is not known: use "standard", "x-hook-signature", or a header such as "X-Signature: sha256={hmac-sha256-hex}"`, string(s))
	}
	h.name, value = name, strings.TrimSpace(value)
	if !httpguts.ValidHeaderFieldName(name) {
		return h, fmt.Errorf("%.60q is not a header name", name)
	}
	if len(s) > maxSchemeBytes || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return h, fmt.Errorf("%.60q: must be %d visible ASCII characters at most", string(s), maxSchemeBytes)
	}
	before, rest, opened := strings.Cut(value, "{")
	inner, after, closed := strings.Cut(rest, "}")
	parts := strings.Split(inner, "-")
	if opened && closed && len(parts) == 3 && parts[0] == "hmac" {
		h.hash, h.encode = hashes[parts[1]], encodings[parts[2]]
	}
	if h.hash == nil || h.encode == nil || strings.ContainsAny(after, "{}") {
		return h, fmt.Errorf("%.60q: the value must hold one of %s", string(s), strings.Join(placeholders(), ", "))
	}
	h.before, h.after = before, after
	return h, nil
}

// HeaderName is the header that holds the signatures of a scheme that was checked.
func (s Scheme) HeaderName() string {
	switch s {
	case Standard:
		return Header
	case Hook:
		return hookHeader
	}
	name, _, _ := strings.Cut(string(s), ":")
	return name
}

// CheckSchemes tells what is wrong with a list of schemes.
func CheckSchemes(list []Scheme) error {
	if len(list) > maxSchemes {
		return fmt.Errorf("names %d, %d are allowed", len(list), maxSchemes)
	}
	for i, scheme := range list {
		if scheme != Standard && scheme != Hook {
			if _, err := parseHeaderScheme(scheme); err != nil {
				return err
			}
		}
		for _, other := range list[:i] {
			if scheme == other {
				return fmt.Errorf("names %q twice", string(scheme))
			}
			if strings.EqualFold(scheme.HeaderName(), other.HeaderName()) {
				return fmt.Errorf("puts two signatures into the header %s", scheme.HeaderName())
			}
		}
	}
	return nil
}

// signsStandard reports whether Standard is among schemes; no schemes are Standard alone.
func signsStandard(schemes []Scheme) bool {
	return len(schemes) == 0 || slices.Contains(schemes, Standard)
}

// NeedsHMAC reports whether one of the schemes is an HMAC under the text of the secret,
// which can't be made with an ed25519 secret.
func NeedsHMAC(schemes []Scheme) bool {
	return slices.ContainsFunc(schemes, func(s Scheme) bool { return s != Standard })
}
