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

// fingerprintRounds slow down guessing a value by its fingerprint: about 4 ms a guess.
var fingerprintRounds = 20_000 // fewer in tests

// Fingerprint returns what is stored of header values that the router never shows, so that
// the next apply detects a change: a salt, and four bytes of PBKDF2 over names and values.
// Four bytes are too few to identify the right one among many guesses.
func Fingerprint(headers map[string]string, salt string) (string, error) {
	if salt == "" {
		salt = rand.Text()[:12]
	}
	folded := make(map[string]string, len(headers))
	for name, value := range headers {
		folded[textproto.CanonicalMIMEHeaderKey(name)] = value
	}
	text, err := json.Marshal(folded) // sorted by name
	if err != nil {
		return "", err
	}
	key, err := pbkdf2.Key(sha256.New, string(text), []byte(salt), fingerprintRounds, 4)
	return salt + ":" + hex.EncodeToString(key), err
}

// SameFingerprint reports whether headers have the stored fingerprint.
func SameFingerprint(headers map[string]string, kept string) bool {
	salt, _, ok := strings.Cut(kept, ":")
	if !ok || salt == "" {
		return false
	}
	now, err := Fingerprint(headers, salt)
	return err == nil && hmac.Equal([]byte(now), []byte(kept))
}
