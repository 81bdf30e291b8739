package manifest

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/textproto"
	"strings"
)

// fingerprintRounds make guessing a value by its fingerprint slow: some 4 ms for each.
var fingerprintRounds = 20_000 // fewer in tests

// Fingerprint is what is kept of header values that the router never shows, so that the
// next apply sees whether they have changed: a salt, and four bytes of PBKDF2 over names
// and values. Four bytes are too few to tell the right one among many guesses.
func Fingerprint(headers map[string]string, salt string) (string, error) {
	if salt == "" {
		salt = rand.Text()[:12]
	}
	folded := make(map[string]string, len(headers))
	for name, value := range headers {
		folded[textproto.CanonicalMIMEHeaderKey(name)] = value
	}
	text, err := json.Marshal(folded) // in the order of their names
	if err != nil {
		return "", err
	}
	key, err := pbkdf2.Key(sha256.New, string(text), []byte(salt), fingerprintRounds, 4)
	return salt + ":" + hex.EncodeToString(key), err
}

// SameFingerprint tells whether headers have the fingerprint that is kept.
func SameFingerprint(headers map[string]string, kept string) bool {
	salt, _, ok := strings.Cut(kept, ":")
	if !ok || salt == "" {
		return false
	}
	now, err := Fingerprint(headers, salt)
	return err == nil && hmac.Equal([]byte(now), []byte(kept))
}
