package cmd

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"switchhook/engine/signature"
	"switchhook/server"
)

// receiver is a webhook receiver for demonstrations: it verifies the signature of each
// delivery as any receiver can, with the Standard Webhooks library or the public key alone.
type receiver struct {
	listener net.Listener
	server   http.Server

	mu     sync.Mutex
	secret string            // of the subscription; empty: signatures are not verified
	public ed25519.PublicKey // if the secret is an ed25519 key
}

// received is a received delivery. signed is nil if the signature is valid.
type received struct {
	path   string
	header http.Header
	body   []byte
	signed error
}

const largestDelivery = 16 << 20

// startReceiver listens on addr, the value of --addr; answer returns the response status of
// each delivery.
func startReceiver(addr string, answer func(received) int) (*receiver, error) {
	l, err := listen("--addr", addr, "another receiver")
	if err != nil {
		return nil, err
	}
	r := &receiver{listener: l}
	r.server.ReadHeaderTimeout, r.server.IdleTimeout = 30*time.Second, 2*time.Minute
	r.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, largestDelivery))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(answer(received{req.URL.RequestURI(), req.Header, body, r.verify(body, req.Header)}))
	})
	go r.server.Serve(server.RetryAccept(l, slog.Default()))
	return r, nil
}

func (r *receiver) url() string { return "http://" + localURLHost(r.listener) }

func (r *receiver) setSecret(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret, r.public = secret, publicKey(secret)
}

func (r *receiver) verify(body []byte, header http.Header) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == "" {
		return nil
	}
	if r.public != nil {
		return verifyEd25519(r.public, body, header)
	}
	wh, err := standardwebhooks.NewWebhook(r.secret)
	if err != nil {
		return err
	}
	return wh.Verify(body, header)
}

// clockTolerance is the accepted deviation of a delivery's time, as in the Standard
// Webhooks libraries.
const clockTolerance = 5 * time.Minute

// verifyEd25519 verifies a v1a signature, which the library does not support.
func verifyEd25519(public ed25519.PublicKey, body []byte, header http.Header) error {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errors.New("webhook-timestamp is missing, or no number")
	}
	if off := time.Since(time.Unix(seconds, 0)); off.Abs() > clockTolerance {
		return fmt.Errorf("webhook-timestamp is off by %s", off.Round(time.Second))
	}
	signed := append([]byte(id+"."+timestamp+"."), body...)
	for one := range strings.FieldsSeq(header.Get("webhook-signature")) {
		encoded, ok := strings.CutPrefix(one, "v1a,")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if ok && err == nil && ed25519.Verify(public, signed, signature) {
			return nil
		}
	}
	return errors.New("no v1a signature fits the public key")
}

// publicKey returns the ed25519 key that verifies deliveries, derived from a subscription's
// secret "whsk_…" or public key "whpk_…"; nil for an HMAC secret, or if it is neither.
func publicKey(secret string) ed25519.PublicKey {
	if kind, public := signature.Describe(secret); kind == signature.Ed25519 {
		secret = public
	}
	encoded, ok := strings.CutPrefix(secret, "whpk_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil
	}
	return key
}

func (r *receiver) close() { r.server.Close() }
