package engine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

const (
	secretPrefix   = "whsec_"
	secretBytes    = 32
	minSecretBytes = 24 // Standard Webhooks 1.0.0, "Signature scheme"
	maxSecretBytes = 64
)

// newSecret makes a signing secret as Standard Webhooks 1.0.0 serialises it.
func newSecret() string {
	key := make([]byte, secretBytes)
	rand.Read(key)
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// secretKey gives the key in a serialised secret.
func secretKey(secret string) ([]byte, *Error) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return nil, Invalid("secret", `must begin with "whsec_", followed by the key in base64`)
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, Invalid("secret", `is not base64 after "whsec_"`)
	}
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return nil, Invalid("secret", "holds %d bytes, must hold %d to %d", len(key), minSecretBytes, maxSecretBytes)
	}
	return key, nil
}

// sign makes a webhook-signature (Standard Webhooks 1.0.0, v1): HMAC-SHA256 over id,
// timestamp and body joined by full stops.
func sign(key []byte, id string, at time.Time, body []byte) (timestamp, signature string) {
	timestamp = strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id))
	mac.Write([]byte{'.'})
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return timestamp, "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
