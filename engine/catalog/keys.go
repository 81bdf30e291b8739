package catalog

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

const (
	// KeyTextPrefix begins every generated key; an imported key may begin otherwise.
	KeyTextPrefix = "swk_"

	keyRandomBytes  = 20 // bytes: 160 bits
	keyPrefixLength = len(KeyTextPrefix) + 6
	maxKeyName      = 100
	maxKeyGrace     = 30 * 24 * time.Hour
	touchEvery      = time.Minute
)

// NewKeyText generates a new API key. 160 random bits need no slow hash.
func NewKeyText() string {
	raw := make([]byte, keyRandomBytes)
	rand.Read(raw)
	return KeyTextPrefix + snowflake.Encoding.EncodeToString(raw)
}

// KeyRegistry holds the API keys.
type KeyRegistry struct {
	*core
	mu     sync.RWMutex
	byText map[[32]byte]*credential // by the hash of their text
	byID   map[engine.ID]*credential
}

// load reads the keys from the store.
func (reg *KeyRegistry) load(ctx context.Context) error {
	keys, err := reg.store.Keys(ctx)
	for _, k := range keys {
		reg.setKey(k)
	}
	return err
}

// owners returns the accounts that have keys.
func (reg *KeyRegistry) owners() (accounts []string) {
	reg.mu.RLock()
	defer reg.mu.RUnlock()
	for _, c := range reg.byID {
		accounts = append(accounts, c.key.Account)
	}
	return accounts
}

// credential is one text of a key, known by its hash.
type credential struct {
	key *engine.Key // never changed in place
	use *keyUse
	old bool // the text was replaced by a rotation
}

// keyUse is when a key was last used, in minutes since 1970, and the value that is stored. All
// texts of a key share it.
type keyUse struct{ minute, stored atomic.Int64 }

// setKey adds or replaces k; the caller holds mu, or reg is not shared yet.
func (reg *KeyRegistry) setKey(k *engine.Key) {
	use := &keyUse{}
	if before := reg.dropKey(k.ID); before != nil {
		use = before.use
	}
	if minute := k.LastUsedAt.Unix() / 60; !k.LastUsedAt.IsZero() && minute > use.minute.Load() {
		use.minute.Store(minute)
		use.stored.Store(minute)
	}
	if !k.OldUntil.IsZero() {
		reg.byText[k.OldHash] = &credential{k, use, true}
	}
	reg.byID[k.ID] = &credential{k, use, false}
	reg.byText[k.Hash] = reg.byID[k.ID]
}

// dropKey removes a key with all its texts and returns it; nil if there is none. The caller holds
// mu, or g is not shared yet.
func (reg *KeyRegistry) dropKey(id engine.ID) *credential {
	c := reg.byID[id]
	if c == nil {
		return nil
	}
	for _, hash := range [][32]byte{c.key.Hash, c.key.OldHash} {
		if text := reg.byText[hash]; text != nil && text.key.ID == id {
			delete(reg.byText, hash)
		}
	}
	delete(reg.byID, id)
	return c
}

// CreateKey stores a new API key and returns its text, which is not stored. An empty text generates
// one; otherwise text is a key that clients already have. Nil Scopes mean DefaultScopes. Errors:
// CodeInvalid, CodeConflict if the text is in use.
func (reg *KeyRegistry) CreateKey(ctx context.Context, k engine.Key, text string) (*engine.Key, string, error) {
	if text == "" {
		text = NewKeyText()
	}
	k.ID, k.CreatedAt, k.ExpiresAt = reg.ids.Next(), reg.life.Now(), k.ExpiresAt.UTC().Truncate(time.Microsecond)
	if err := validateKey(&k, text).Err(); err != nil {
		return nil, "", err
	}
	k.Hash, k.Prefix = sha256.Sum256([]byte(text)), keyPrefix(text)
	defer reg.changes.lock(ctx)()
	if reg.keyTaken(k.Hash) {
		return nil, "", &engine.Error{Code: engine.CodeConflict, Field: "key", Message: "exists already, in this account or another: every key needs a text of its own"}
	}
	if err := reg.store.PutKey(reg.audited(ctx, engine.KindKey, k.ID.Format(engine.KeyPrefix), k.Account, nil, &k), &k); err != nil {
		return nil, "", err
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.setKey(&k)
	return &k, text, nil
}

// The limits of an imported key's text. It is hashed without salt or slow hash, so it must be long
// and varied.
const (
	minKeyText         = 16
	maxKeyText         = 256
	minKeyTextDistinct = 6 // different characters
)

// validateKey validates a new key with its text, and fills in its scopes.
func validateKey(k *engine.Key, text string) (errs engine.FieldErrors) {
	errs.Append(engine.ValidateAccount(k.Account)...)
	errs.Append(validateKeyName(k.Name)...)
	errs.Append(validateKeyText(text)...)
	errs.Append(validateKeyExpiry(k.ExpiresAt, k.CreatedAt)...)
	errs.Append(k.ValidateScopes()...)
	return errs
}

func validateKeyName(name string) (errs engine.FieldErrors) {
	if len(name) > maxKeyName {
		errs.Add("name", engine.FieldTooLong, "is %d bytes, %d are allowed", len(name), maxKeyName)
	}
	return errs
}

func validateKeyExpiry(at, now time.Time) (errs engine.FieldErrors) {
	if !at.IsZero() && !at.After(now) {
		errs.Add("expires_at", engine.FieldOutOfRange, "is %s, which has passed", at.Format(time.RFC3339))
	}
	return errs
}

// validateKeyText validates the text of an imported key.
func validateKeyText(text string) (errs engine.FieldErrors) {
	if len(text) < minKeyText || len(text) > maxKeyText {
		errs.Add("key", engine.FieldOutOfRange, "has %d characters, must have %d to %d", len(text), minKeyText, maxKeyText)
		return errs
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		errs.Add("key", engine.FieldInvalid, "must be visible ASCII characters without spaces, or no header could carry it")
		return errs
	}
	distinct := map[rune]bool{}
	for _, c := range text {
		distinct[c] = true
	}
	if len(distinct) < minKeyTextDistinct {
		errs.Add("key", engine.FieldInvalid, "has %d different characters, must have %d at least: it is easy to guess", len(distinct), minKeyTextDistinct)
	}
	return errs
}

// keyPrefix returns the part of a key that is shown: less of an imported key, whose length and form
// are not known.
func keyPrefix(text string) string {
	if strings.HasPrefix(text, KeyTextPrefix) && len(text) >= len(KeyTextPrefix)+2*keyRandomBytes/3 {
		return text[:keyPrefixLength]
	}
	return text[:4]
}

func (reg *KeyRegistry) keyTaken(hash [32]byte) bool {
	reg.mu.RLock()
	defer reg.mu.RUnlock()
	return reg.byText[hash] != nil
}

// KeyVersion returns a number that differs between two states of a key that an operator changed. The
// last use is no part of it.
func KeyVersion(k *engine.Key) int64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %d %x %d", k.Name, k.Scopes, k.ExpiresAt.UnixMicro(), k.Hash, k.OldUntil.UnixMicro())
	return int64(h.Sum64()>>1) | 1
}

// changing returns the key that is about to be changed; version is the expected one or AnyVersion.
// The caller holds changes. Errors: CodeNotFound, CodeStale.
func (reg *KeyRegistry) changing(id engine.ID, version int64) (*engine.Key, error) {
	k, err := reg.Key(id)
	if err != nil {
		return nil, err
	}
	if current := KeyVersion(k); version != AnyVersion && version != current {
		return nil, staleVersion("key", current, version)
	}
	return k, nil
}

// UpdateKey changes the name, the scopes and the expiry of a key, as change says; version is the
// expected one or AnyVersion. Errors: CodeInvalid, CodeNotFound, CodeStale.
func (reg *KeyRegistry) UpdateKey(ctx context.Context, id engine.ID, version int64, change func(*engine.Key)) (*engine.Key, error) {
	defer reg.changes.lock(ctx)()
	old, err := reg.changing(id, version)
	if err != nil {
		return nil, err
	}
	k := *old
	change(&k)
	k.ExpiresAt = k.ExpiresAt.UTC().Truncate(time.Microsecond)
	errs := validateKeyName(k.Name)
	if !k.ExpiresAt.Equal(old.ExpiresAt) {
		errs.Append(validateKeyExpiry(k.ExpiresAt, reg.life.Now())...)
	}
	errs.Append(k.ValidateScopes()...)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if err := reg.store.ReplaceKey(reg.audited(ctx, engine.KindKey, id.Format(engine.KeyPrefix), k.Account, old, &k), &k); err != nil {
		return nil, err
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.setKey(&k)
	return reg.byID[id].withUse(), nil
}

// RotateKey replaces the text of a key; the new text is returned and not stored. The replaced text
// stays valid for grace; a text from an earlier rotation becomes invalid. version is the expected one
// or AnyVersion. Errors: CodeInvalid, CodeNotFound, CodeStale, CodeConflict if the key has expired.
func (reg *KeyRegistry) RotateKey(ctx context.Context, id engine.ID, version int64, grace time.Duration) (*engine.Key, string, error) {
	if grace < 0 || grace > maxKeyGrace {
		return nil, "", engine.InvalidField("grace_period", engine.FieldOutOfRange, "must be from 0s to %s", maxKeyGrace)
	}
	defer reg.changes.lock(ctx)()
	old, err := reg.changing(id, version)
	if err != nil {
		return nil, "", err
	}
	now := reg.life.Now()
	if old.Expired(now) {
		return nil, "", &engine.Error{Code: engine.CodeConflict, Message: "this key expired at " + old.ExpiresAt.Format(time.RFC3339) + "; make a new one"}
	}
	text, k := NewKeyText(), *old
	k.Hash, k.Prefix = sha256.Sum256([]byte(text)), keyPrefix(text)
	if k.OldHash, k.OldUntil = old.Hash, now.Add(grace); grace == 0 {
		k.OldHash, k.OldUntil = [32]byte{}, time.Time{}
	}
	ctx = reg.audited(withoutLimit(ctx), engine.KindKey, id.Format(engine.KeyPrefix), k.Account, old, &k)
	engine.EntryOf(ctx).Action = engine.ActionRotate
	if err := reg.store.ReplaceKey(ctx, &k); err != nil {
		return nil, "", err
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.setKey(&k)
	return &k, text, nil
}

// Authenticate returns the key with this text and records its use. It compares hashes, so its
// timing reveals nothing about keys. Errors: CodeUnknownKey, CodeExpiredKey.
func (reg *KeyRegistry) Authenticate(text string) (*engine.Key, error) {
	reg.mu.RLock()
	c := reg.byText[sha256.Sum256([]byte(text))]
	reg.mu.RUnlock()
	if c == nil {
		return nil, errUnknownKey
	}
	now := reg.cfg.Now()
	switch {
	case c.key.Expired(now):
		return nil, &engine.Error{Code: engine.CodeExpiredKey, Message: "this API key expired at " + c.key.ExpiresAt.Format(time.RFC3339) + "; ask for a new one"}
	case c.old && !now.Before(c.key.OldUntil):
		return nil, &engine.Error{Code: engine.CodeExpiredKey, Message: "this API key was replaced, and stopped working at " + c.key.OldUntil.Format(time.RFC3339) + "; use the new one"}
	}
	if minute := now.Unix() / 60; minute > c.use.minute.Load() {
		c.use.minute.Store(minute)
	}
	return c.key, nil
}

var errUnknownKey = &engine.Error{Code: engine.CodeUnknownKey, Message: "this API key is not known; it may have been deleted"}

// Keys lists the API keys, oldest first.
func (reg *KeyRegistry) Keys() []*engine.Key {
	reg.mu.RLock()
	defer reg.mu.RUnlock()
	list := make([]*engine.Key, 0, len(reg.byID))
	for _, c := range reg.byID {
		list = append(list, c.withUse())
	}
	slices.SortFunc(list, func(a, b *engine.Key) int { return int(a.ID - b.ID) })
	return list
}

// withUse returns a copy of the key with its last use.
func (c *credential) withUse() *engine.Key {
	k := *c.key
	if minute := c.use.minute.Load(); minute > 0 {
		k.LastUsedAt = time.Unix(minute*60, 0).UTC()
	}
	return &k
}

// Key returns an API key. Error: CodeNotFound.
func (reg *KeyRegistry) Key(id engine.ID) (*engine.Key, error) {
	reg.mu.RLock()
	defer reg.mu.RUnlock()
	if c := reg.byID[id]; c != nil {
		return c.withUse(), nil
	}
	return nil, engine.NotFound("key", id.Format(engine.KeyPrefix))
}

// DeleteKey removes an API key; it is rejected from then on. version is the expected one or
// AnyVersion. Errors: CodeNotFound, CodeStale.
func (reg *KeyRegistry) DeleteKey(ctx context.Context, id engine.ID, version int64) error {
	defer reg.changes.lock(ctx)()
	old, err := reg.changing(id, version)
	if err != nil {
		return err
	}
	ctx = reg.audited(ctx, engine.KindKey, id.Format(engine.KeyPrefix), old.Account, old, nil)
	if err := reg.store.DeleteKey(ctx, id); err != nil {
		return err
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.dropKey(id)
	return nil
}

// TouchLoop stores when keys were last used: one write a minute for all of them, so that no request
// waits for it.
func (reg *KeyRegistry) TouchLoop() {
	reg.life.RunEvery(touchEvery, reg.touchKeys)
	reg.touchKeys()
}

func (reg *KeyRegistry) touchKeys() {
	used, uses := map[engine.ID]time.Time{}, map[*keyUse]int64{}
	reg.mu.RLock()
	for _, c := range reg.byText {
		if minute := c.use.minute.Load(); minute > c.use.stored.Load() {
			used[c.key.ID], uses[c.use] = time.Unix(minute*60, 0).UTC(), minute
		}
	}
	reg.mu.RUnlock()
	if len(used) == 0 {
		return
	}
	if err := reg.store.TouchKeys(context.Background(), used); err != nil {
		reg.log.Error("last use of keys not stored", "error", err)
		return
	}
	for use, minute := range uses {
		use.stored.Store(minute)
	}
}
