// Package vault seals the secrets that a store keeps: whoever gets hold of the database or
// of a backup can't read them without the key, which lies elsewhere.
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

// KeyBytes is the length of a Key.
const KeyBytes = 32

// Key seals and opens values.
type Key [KeyBytes]byte

// NewKey makes a random key.
func NewKey() (k Key) {
	rand.Read(k[:]) // never fails
	return k
}

// ID names the key, and tells nothing about it: 16 hexadecimal digits of a hash.
func (k Key) ID() string {
	sum := sha256.Sum256(append([]byte("switchhook key id\x00"), k[:]...))
	return hex.EncodeToString(sum[:8])
}

// encode gives the key as it stands in files and in the environment.
func (k Key) encode() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Place is where a sealed value lies. It opens nowhere else.
type Place struct {
	Table  string
	Row    string // the row's key
	Column string
}

// bytes gives the place so that no two places give the same.
func (p Place) bytes() []byte {
	return fmt.Appendf(nil, "%d:%s%d:%s%d:%s", len(p.Table), p.Table, len(p.Row), p.Row, len(p.Column), p.Column)
}

// String names the place for people.
func (p Place) String() string { return p.Table + "." + p.Column + " of row " + p.Row }

// prefix begins every sealed value: "sealed:1:<key id>:<base64 of nonce, ciphertext, tag>".
const prefix = "sealed:1:"

var encoding = base64.RawURLEncoding.Strict()

// Vault seals with one key, and opens what that key or an older one sealed. All methods
// may be called by many goroutines.
type Vault struct {
	current string
	keys    map[string]cipher.AEAD // by id
}

// New makes a Vault that seals with the first of keys. There must be one.
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
		// Random nonces of 96 bits are good for 2^32 values under one key.
		if v.keys[k.ID()], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
	}
	return v, nil
}

// KeyID names the key that seals.
func (v *Vault) KeyID() string { return v.current }

// Knows tells whether values under a key can be opened.
func (v *Vault) Knows(id string) bool { return v.keys[id] != nil }

// Seal makes plain unreadable, for a place.
func (v *Vault) Seal(at Place, plain string) string {
	return prefix + v.current + ":" + encoding.EncodeToString(v.keys[v.current].Seal(nil, nil, []byte(plain), at.bytes()))
}

// Open gives back what was sealed for a place. It fails where the key is not known, and
// where the value was changed or comes from another place.
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

// SealedWith names the key that a value is sealed with; ok is false where it is not sealed.
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
