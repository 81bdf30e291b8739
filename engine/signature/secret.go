package signature

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SecretType is the kind of key in a signing secret.
type SecretType string

// The types of secrets.
const (
	HMAC    SecretType = "hmac"    // "whsec_…": router and receiver share it
	Ed25519 SecretType = "ed25519" // "whsk_…": the receiver needs the public key only, "whpk_…"
)

const (
	hmacPrefix      = "whsec_"
	ed25519Prefix   = "whsk_"
	publicKeyPrefix = "whpk_"

	newSecretBytes = 32
	minSecretBytes = 24 // of an HMAC key; Standard Webhooks 1.0.0, "Signature scheme"
	maxSecretBytes = 64

	minTextBytes = 8 // of a text that is a key as it stands
	maxTextBytes = 256
)

// NewSecret makes a signing secret as Standard Webhooks 1.0.0 serialises it; the empty
// type is HMAC. The error is that there is no such type.
func NewSecret(kind SecretType) (string, error) {
	switch kind {
	case HMAC, "":
		key := make([]byte, newSecretBytes)
		rand.Read(key)
		return hmacPrefix + base64.StdEncoding.EncodeToString(key), nil
	case Ed25519:
		_, key, err := ed25519.GenerateKey(nil)
		return ed25519Prefix + base64.StdEncoding.EncodeToString(key), err // seed and public key
	}
	return "", fmt.Errorf(`%.40q is not known: use "hmac" or "ed25519"`, string(kind))
}

// CheckSecret tells what is wrong with a signing secret for schemes, as it would follow its
// name: "must begin with …". No schemes are Standard alone, which needs a serialised key.
// The others also sign with any text that the receiver chose: its bytes are the key.
func CheckSecret(secret string, schemes []Scheme) error {
	if !signsStandard(schemes) && !strings.HasPrefix(secret, ed25519Prefix) {
		switch {
		case len(secret) < minTextBytes || len(secret) > maxTextBytes:
			return fmt.Errorf("is %d bytes, must be %d to %d", len(secret), minTextBytes, maxTextBytes)
		case !utf8.ValidString(secret) || strings.ContainsFunc(secret, unicode.IsControl):
			return errors.New("holds a control character")
		}
		return nil
	}
	_, err := parse(secret)
	return err
}

// Describe gives the type of a secret that was checked and, for ed25519, the public key
// with which receivers verify: "whpk_…".
func Describe(secret string) (kind SecretType, publicKey string) {
	encoded, ok := strings.CutPrefix(secret, ed25519Prefix)
	if !ok {
		return HMAC, ""
	}
	if key, err := decode(encoded, ed25519Prefix); err == nil && len(key) == ed25519.PrivateKeySize {
		publicKey = publicKeyPrefix + base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:])
	}
	return Ed25519, publicKey
}

// parse reads a serialised secret.
func parse(secret string) (*key, error) {
	if encoded, ok := strings.CutPrefix(secret, hmacPrefix); ok {
		raw, err := decode(encoded, hmacPrefix)
		if err == nil && (len(raw) < minSecretBytes || len(raw) > maxSecretBytes) {
			err = fmt.Errorf("holds %d bytes, must hold %d to %d", len(raw), minSecretBytes, maxSecretBytes)
		}
		return &key{hmac: raw}, err
	}
	encoded, ok := strings.CutPrefix(secret, ed25519Prefix)
	if !ok {
		return nil, errors.New(`must begin with "whsec_" (HMAC) or "whsk_" (ed25519), followed by the key in base64; ` +
			`a secret of another form can't make the signature "standard": set signatures to what the receiver checks, such as ["x-hook-signature"] or ["X-Signature: {hmac-sha256-hex}"]`)
	}
	raw, err := decode(encoded, ed25519Prefix)
	switch {
	case err != nil:
		return nil, err
	case len(raw) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf(`holds %d bytes after "whsk_", must hold %d: the seed of an ed25519 key and its public key`, len(raw), ed25519.PrivateKeySize)
	case !bytes.Equal(ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]), raw):
		// What is signed with such a pair gives the seed away, and nobody could verify it.
		return nil, errors.New("holds a public key that does not belong to its seed")
	}
	return &key{ed25519: raw}, nil
}

func decode(encoded, prefix string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, fmt.Errorf("is not base64 after %q", prefix)
	}
	return raw, nil
}
