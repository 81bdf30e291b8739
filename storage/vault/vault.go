// Package vault encrypts the secrets in a store: a stolen database or backup cannot be read
// without the key, which is kept elsewhere.
//
// Values are sealed with AES-256-GCM under a random nonce. A sealed value is text, names
// its key, and opens only in the place that it was sealed for, so that no value can be
// moved to another row or column. The package knows no database.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// keyBytes is the length of a Key.
const keyBytes = 32

// Key seals and opens values.
type Key [keyBytes]byte

// NewKey returns a random key.
func NewKey() (k Key) {
	rand.Read(k[:]) // never fails
	return k
}

// ID identifies the key without revealing it: 16 hexadecimal digits of a hash.
func (k Key) ID() string {
	sum := sha256.Sum256(append([]byte("switchhook key id\x00"), k[:]...))
	return hex.EncodeToString(sum[:8])
}

// encode returns the key as it is written in files and in the environment.
func (k Key) encode() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Place is the table, row and column of a sealed value, which opens nowhere else.
type Place struct {
	Table  string
	Row    string // the row's key
	Column string
}

// bytes encodes the place without ambiguity, as additional authenticated data.
func (p Place) bytes() []byte {
	return fmt.Appendf(nil, "%d:%s%d:%s%d:%s", len(p.Table), p.Table, len(p.Row), p.Row, len(p.Column), p.Column)
}

// String names the place for messages.
func (p Place) String() string { return p.Table + "." + p.Column + " of row " + p.Row }

// prefix starts every sealed value: "sealed:1:<key id>:<base64 of nonce, ciphertext, tag>".
const prefix = "sealed:1:"

var encoding = base64.RawURLEncoding.Strict()

// Vault seals with one key, and opens values that this key or an older one sealed. It is
// safe for concurrent use.
type Vault struct {
	current string
	keys    map[string]cipher.AEAD // by id
}

// New returns a Vault that seals with the first of keys. At least one is required.
func New(keys ...Key) (*Vault, error) {
	if len(keys) == 0 {
		return nil, errors.New("vault: no key given")
	}
	v := &Vault{current: keys[0].ID(), keys: map[string]cipher.AEAD{}}
	for _, k := range keys {
		block, err := aes.NewCipher(k[:])
		if err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
		// Random nonces of 96 bits are safe for 2^32 values under one key.
		if v.keys[k.ID()], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
	}
	return v, nil
}

// KeyID returns the id of the key that seals.
func (v *Vault) KeyID() string { return v.current }

// Knows reports whether values sealed with the key id can be opened.
func (v *Vault) Knows(id string) bool { return v.keys[id] != nil }

// Seal encrypts plain for a place.
func (v *Vault) Seal(at Place, plain string) string {
	return prefix + v.current + ":" + encoding.EncodeToString(v.keys[v.current].Seal(nil, nil, []byte(plain), at.bytes()))
}

// Open decrypts a value that was sealed for a place. It fails if the key is unknown, or if
// the value was changed or comes from another place.
func (v *Vault) Open(at Place, sealed string) (string, error) {
	id, text, ok := split(sealed)
	if !ok {
		return "", fmt.Errorf("%s is not sealed", at)
	}
	key := v.keys[id]
	if key == nil {
		return "", fmt.Errorf("%s is sealed with the encryption key %s, which was not given", at, id)
	}
	raw, err := encoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("%s is damaged", at)
	}
	plain, err := key.Open(nil, nil, raw, at.bytes())
	if err != nil {
		return "", fmt.Errorf("%s can't be opened with the encryption key %s: it was changed, or moved there from another place", at, id)
	}
	return string(plain), nil
}

// SealedWith returns the id of the key that a value is sealed with; ok is false if it is
// not sealed.
func SealedWith(value string) (id string, ok bool) {
	id, _, ok = split(value)
	return id, ok
}

func split(value string) (id, text string, ok bool) {
	rest, ok := strings.CutPrefix(value, prefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}
