package engine

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The headers of Standard Webhooks 1.0.0, in the lower case that it writes them in, and
// those beside them.
const (
	idHeader        = "webhook-id"
	timestampHeader = "webhook-timestamp"
	signatureHeader = "webhook-signature"
	sequenceHeader  = "webhook-sequence" // ours: the delivery's number, where the subscription is numbered
	hookHeader      = "X-Hook-Signature"
)

// signer signs the deliveries of a subscription. Its keys were read once, when its route
// was made.
type signer struct {
	keys []*signingKey // the current one first; none where webhook-signature is not asked for
	hook *signingKey   // of X-Hook-Signature; nil where that is not asked for
}

// signingKey is a secret made ready for use. One of hmac and ed25519 is set.
type signingKey struct {
	hmac    []byte
	ed25519 ed25519.PrivateKey
	until   time.Time // it signs before that; zero: for good

	// hashes are HMACs that have been used: they keep what was computed of the key, which
	// saves a tenth of the time and most of the memory.
	hashes sync.Pool
}

// newSigner reads a subscription's secrets; the error is about the current one.
func newSigner(s *Subscription) (*signer, *Error) {
	key, err := parseSecret(s.Secret)
	if err != nil {
		return nil, err
	}
	g := &signer{}
	if s.signsWith(SignatureHook) && key.hmac != nil {
		// The secret's text is the key, and not what is encoded in it: that is what receivers
		// do with a secret that they were given. It also keeps the two signatures apart: no
		// body that is signed here is worth anything as a signed Standard Webhook.
		g.hook = &signingKey{hmac: []byte(s.Secret)}
	}
	if !s.signsWith(SignatureStandard) {
		return g, nil
	}
	g.keys = append(g.keys, key)
	for _, old := range s.OldSecrets {
		// One that can't be read is none that a receiver could check.
		if key, err := parseSecret(old.Secret); err == nil {
			key.until = old.Until
			g.keys = append(g.keys, key)
		}
	}
	return g, nil
}

// signsWith tells whether the deliveries of s carry a signature of a kind.
func (s *Subscription) signsWith(kind Signature) bool {
	if len(s.Signatures) == 0 {
		return kind == SignatureStandard
	}
	return slices.Contains(s.Signatures, kind)
}

// seal sets the headers that tell who sent a delivery, and when: webhook-id, -timestamp
// and the signatures. The keys that sign are those of the time at.
func (g *signer) seal(h http.Header, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	h[idHeader] = []string{id}
	h[timestampHeader] = []string{timestamp}
	if g.hook != nil {
		var sum [sha256.Size]byte
		h[hookHeader] = []string{hex.EncodeToString(g.hook.mac(sum[:0], "", body))}
	}
	if len(g.keys) == 0 {
		return
	}
	prefix := id + "." + timestamp + "."
	var room [256]byte
	list := room[:0]
	for _, k := range g.keys {
		if !k.until.IsZero() && !at.Before(k.until) {
			continue
		}
		if len(list) > 0 {
			list = append(list, ' ')
		}
		list = k.sign(list, prefix, body)
	}
	h[signatureHeader] = []string{string(list)}
}

// sign appends a signature over prefix and body as Standard Webhooks 1.0.0 writes it: v1
// is HMAC-SHA256, v1a ed25519.
func (k *signingKey) sign(b []byte, prefix string, body []byte) []byte {
	if k.ed25519 != nil {
		message := append(append(make([]byte, 0, len(prefix)+len(body)), prefix...), body...)
		return base64.StdEncoding.AppendEncode(append(b, "v1a,"...), ed25519.Sign(k.ed25519, message))
	}
	var sum [sha256.Size]byte
	return base64.StdEncoding.AppendEncode(append(b, "v1,"...), k.mac(sum[:0], prefix, body))
}

// mac appends the HMAC-SHA256 over prefix and body.
func (k *signingKey) mac(b []byte, prefix string, body []byte) []byte {
	mac, _ := k.hashes.Get().(hash.Hash)
	if mac == nil {
		mac = hmac.New(sha256.New, k.hmac)
	} else {
		mac.Reset()
	}
	defer k.hashes.Put(mac)
	mac.Write([]byte(prefix))
	mac.Write(body)
	return mac.Sum(b)
}
