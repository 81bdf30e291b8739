package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
)

const (
	keyTextPrefix = "swk_"
	keyRandom     = 20 // bytes: 160 bits
	keyShown      = len(keyTextPrefix) + 6
	maxKeyName    = 100
)

// NewKeyText makes a new API key. 160 random bits need no slow hash.
func NewKeyText() string {
	raw := make([]byte, keyRandom)
	rand.Read(raw)
	return keyTextPrefix + idEncoding.EncodeToString(raw)
}

// CreateKey stores a new API key and gives its text, which is not kept. An empty text
// makes one. Errors: CodeInvalid, CodeConflict where the text is in use.
func (e *Engine) CreateKey(ctx context.Context, k Key, text string) (*Key, string, error) {
	if err := checkAccount(k.Account); err != nil {
		return nil, "", err
	}
	if len(k.Name) > maxKeyName {
		return nil, "", Invalid("name", "is %d bytes, %d are allowed", len(k.Name), maxKeyName)
	}
	if text == "" {
		text = NewKeyText()
	}
	if len(text) < 16 {
		return nil, "", Invalid("key", "is shorter than 16 characters")
	}
	switch {
	case k.Admin:
		k.Scopes = nil
	case k.Scopes == nil:
		k.Scopes = slices.Clone(DefaultScopes)
	}
	k.ID, k.CreatedAt = e.tracker.ids.next(), e.now()
	k.Hash, k.Prefix = sha256.Sum256([]byte(text)), text[:keyShown]
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	if e.Authenticate(text) != nil {
		return nil, "", &Error{Code: CodeConflict, Field: "key", Message: "this key exists already"}
	}
	if err := e.store.PutKey(ctx, &k); err != nil {
		return nil, "", err
	}
	e.registry.mu.Lock()
	e.registry.keys[k.Hash] = &k
	e.registry.mu.Unlock()
	return &k, text, nil
}

// Authenticate finds the key with this text; nil where there is none. What is compared is
// a hash, so the time it takes tells nothing of the key.
func (e *Engine) Authenticate(text string) *Key {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	return e.registry.keys[sha256.Sum256([]byte(text))]
}

// Keys lists the API keys, oldest first. They must not be changed.
func (e *Engine) Keys() []*Key {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	list := make([]*Key, 0, len(e.registry.keys))
	for _, k := range e.registry.keys {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b *Key) int { return strings.Compare(a.ID.Format(""), b.ID.Format("")) })
	return list
}

// DeleteKey removes an API key; it is refused from then on. Errors: CodeNotFound.
func (e *Engine) DeleteKey(ctx context.Context, id ID) error {
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	for _, k := range e.Keys() {
		if k.ID != id {
			continue
		}
		if err := e.store.DeleteKey(ctx, id); err != nil {
			return err
		}
		e.registry.mu.Lock()
		delete(e.registry.keys, k.Hash)
		e.registry.mu.Unlock()
		return nil
	}
	return NotFound("key", id.Format(KeyPrefix))
}
