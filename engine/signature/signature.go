// Package signature signs deliveries, so that a receiver can tell who sent them: by
// Standard Webhooks 1.0.0, v1 and v1a, by the X-Hook-Signature of REST Hooks, and by HMACs in
// headers of the receiver's own. It knows
// nothing of subscriptions: it is given their secrets.
package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Header holds the signatures of Standard, in the lower case that Standard Webhooks 1.0.0
// writes its headers in.
const Header = "webhook-signature"

// IDHeader holds the id of a delivery's event, or of its batch.
const IDHeader = "webhook-id"

const (
	timestampHeader = "webhook-timestamp"
	hookHeader      = "X-Hook-Signature"
)

// Signer signs the deliveries of a subscription. Its keys were read once, when it was made.
// It may be used by many goroutines.
type Signer struct {
	keys    []*key         // the current one first; none where webhook-signature is not asked for
	hook    *key           // of X-Hook-Signature; nil where that is not asked for
	headers []headerSigner // of the receiver's own headers
}

// headerSigner makes the signature of a headerScheme. It keeps HMACs that have been used,
// as key does.
type headerSigner struct {
	headerScheme
	hashes *sync.Pool
}

func (g *headerSigner) sign(body []byte) string {
	mac := g.hashes.Get().(hash.Hash)
	defer g.hashes.Put(mac)
	mac.Reset()
	mac.Write(body)
	return g.before + g.encode(mac.Sum(nil)) + g.after
}

// key is a secret made ready for use. One of hmac and ed25519 is set.
type key struct {
	hmac    []byte
	ed25519 ed25519.PrivateKey
	until   time.Time // it signs before that; zero: for good

	// hashes are HMACs that have been used: they keep what was computed of the key, which
	// saves a tenth of the time and most of the memory.
	hashes sync.Pool
}

// Old is a secret that was replaced and signs beside the current one until a time, by
// Standard.
type Old struct {
	Secret string
	Until  time.Time
}

// New reads the secrets that are to sign; no schemes are Standard alone. The error is about
// the current secret, an old one that can't be read is left out.
func New(secret string, schemes []Scheme, replaced []Old) (*Signer, error) {
	if err := CheckSecret(secret, schemes); err != nil {
		return nil, err
	}
	g := &Signer{}
	if kind, _ := Describe(secret); kind == HMAC {
		// The secret's text is the key, and not what is encoded in it: that is what receivers
		// do with a secret that they were given. It also keeps the signatures apart: no body
		// that is signed here is worth anything as a signed Standard Webhook.
		for _, scheme := range schemes {
			if scheme == Hook {
				g.hook = &key{hmac: []byte(secret)}
			} else if scheme != Standard {
				h, err := parseHeaderScheme(scheme)
				if err != nil {
					continue // it was checked when it was stored
				}
				g.headers = append(g.headers, headerSigner{h, &sync.Pool{New: func() any { return hmac.New(h.hash, []byte(secret)) }}})
			}
		}
	}
	if !signsStandard(schemes) {
		return g, nil
	}
	current, err := parse(secret)
	if err != nil {
		return nil, err
	}
	g.keys = append(g.keys, current)
	for _, old := range replaced {
		// One that can't be read is none that a receiver could check.
		if k, err := parse(old.Secret); err == nil {
			k.until = old.Until
			g.keys = append(g.keys, k)
		}
	}
	return g, nil
}

// Sign sets the headers that tell who sent a delivery, and when: webhook-id, -timestamp
// and the signatures. The keys that sign are those of the time at.
func (g *Signer) Sign(h http.Header, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	h[IDHeader] = []string{id}
	h[timestampHeader] = []string{timestamp}
	if g.hook != nil {
		var sum [sha256.Size]byte
		setHeader(h, hookHeader, hex.EncodeToString(g.hook.mac(sum[:0], "", body)))
	}
	for i := range g.headers {
		setHeader(h, g.headers[i].name, g.headers[i].sign(body))
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
	h[Header] = []string{string(list)}
}

// setHeader sets a header, and removes those that some receivers take for the same: names
// that differ in case, or in "-" and "_".
func setHeader(h http.Header, name, value string) {
	folded := foldName(name)
	for other := range h {
		if foldName(other) == folded {
			delete(h, other)
		}
	}
	h[name] = []string{value}
}

func foldName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// sign appends a signature over prefix and body as Standard Webhooks 1.0.0 writes it: v1
// is HMAC-SHA256, v1a ed25519.
func (k *key) sign(b []byte, prefix string, body []byte) []byte {
	if k.ed25519 != nil {
		message := append(append(make([]byte, 0, len(prefix)+len(body)), prefix...), body...)
		return base64.StdEncoding.AppendEncode(append(b, "v1a,"...), ed25519.Sign(k.ed25519, message))
	}
	var sum [sha256.Size]byte
	return base64.StdEncoding.AppendEncode(append(b, "v1,"...), k.mac(sum[:0], prefix, body))
}

// mac appends the HMAC-SHA256 over prefix and body.
func (k *key) mac(b []byte, prefix string, body []byte) []byte {
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
