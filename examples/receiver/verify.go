package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// check verifies that a request was sent by a holder of the secret; nil: it was.
type check func(r *http.Request, body []byte) error

var errSignature = errors.New("the signature is wrong")

// checkBy returns the check for a method: "standard" (v1, or v1a if secret is a public
// key), "hook" or "url".
func checkBy(method, secret string) (check, error) {
	switch {
	case secret == "":
		return nil, errors.New("a secret is needed: give -secret whsec_… or -subscribe")
	case method == "hook":
		return hookSignature(secret), nil
	case method == "url":
		return urlToken(secret), nil
	case method != "standard":
		return nil, fmt.Errorf("-verify %q is not known: use standard, hook or url", method)
	case strings.HasPrefix(secret, "whpk_"):
		return standardEd25519(secret)
	}
	return standard(secret)
}

// standard verifies v1 of Standard Webhooks, HMAC-SHA256, with its own library.
func standard(secret string) (check, error) {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("the secret: %w", err)
	}
	return func(r *http.Request, body []byte) error { return verifier.Verify(body, r.Header) }, nil
}

const tolerance = 5 * time.Minute

// standardEd25519 verifies v1a of Standard Webhooks: the receiver holds no secret.
func standardEd25519(publicKey string) (check, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(publicKey, "whpk_"))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("the public key: want whpk_ and 32 bytes in base64")
	}
	return func(r *http.Request, body []byte) error {
		timestamp := r.Header.Get("webhook-timestamp")
		// An old timestamp may be a replay by an eavesdropper.
		if seconds, err := strconv.ParseInt(timestamp, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > tolerance {
			return errors.New("the timestamp is too old, or in the future")
		}
		content := fmt.Appendf(nil, "%s.%s.%s", r.Header.Get("webhook-id"), timestamp, body)
		// During a rotation of the secret there are several signatures.
		for one := range strings.FieldsSeq(r.Header.Get("webhook-signature")) {
			encoded, ok := strings.CutPrefix(one, "v1a,")
			signature, err := base64.StdEncoding.DecodeString(encoded)
			if ok && err == nil && ed25519.Verify(key, content, signature) {
				return nil
			}
		}
		return errSignature
	}, nil
}

// hookSignature verifies X-Hook-Signature, as many REST Hooks receivers do.
func hookSignature(secret string) check {
	return func(r *http.Request, body []byte) error {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		given, err := hex.DecodeString(r.Header.Get("X-Hook-Signature"))
		if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
			return errSignature
		}
		return nil
	}
}

// urlToken verifies a secret in the target URL, the simplest method: everyone who sees the
// URL can send, and the body is not protected.
func urlToken(token string) check {
	return func(r *http.Request, _ []byte) error {
		if subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("token")), []byte(token)) != 1 {
			return errors.New("the token in the URL is wrong")
		}
		return nil
	}
}

// consent answers an intent verification request, which asks before the first delivery
// whether the target agrees; asked reports whether r was one.
func consent(w http.ResponseWriter, r *http.Request) (asked bool) {
	origin, secret := r.Header.Get("WebHook-Request-Origin"), r.Header.Get("X-Hook-Secret")
	switch {
	case r.Method == http.MethodOptions && origin != "": // CloudEvents' HTTP web hooks
		fmt.Println("allowed", origin)
		w.Header().Set("WebHook-Allowed-Origin", origin)
		w.Header().Set("WebHook-Allowed-Rate", "600") // per minute
		w.WriteHeader(http.StatusNoContent)
	case secret != "": // REST Hooks: the echo confirms
		fmt.Println("confirmed")
		w.Header().Set("X-Hook-Secret", secret)
		w.WriteHeader(http.StatusOK)
	default:
		return false
	}
	return true
}
