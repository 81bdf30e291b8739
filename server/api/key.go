package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Key is an API key.
type Key struct {
	Versioned
	ID      string   `json:"id"`
	Name    string   `json:"name"`    // its purpose, for people
	Account string   `json:"account"` // whose key it is
	Admin   bool     `json:"admin"`   // may act for every account
	Scopes  []string `json:"scopes"`  // its permissions; empty for an admin key, which needs none
	Prefix  string   `json:"prefix"`  // its first characters, to tell keys apart

	// Key is the secret text, in the answer to CreateKey and RotateKey only.
	Key string `json:"key,omitempty"`

	CreatedAt   time.Time  `json:"created_at"`
	ExpiresAt   *time.Time `json:"expires_at"`              // null: never
	LastUsedAt  *time.Time `json:"last_used_at"`            // to the minute; null: never
	OldKeyUntil *time.Time `json:"old_key_until,omitempty"` // after a rotation: when the previous text expires
}

// Complete implements Completer.
func (k *Key) Complete() bool { return k.ID != "" }

// CreateKeyRequest is the body of [Client.CreateKey].
type CreateKeyRequest struct {
	Name    string   `json:"name,omitempty"`                           // its purpose, for people; at most 100 characters
	Account string   `json:"account,omitempty" nonzero:"leave it out"` // default: the account of the key that asks
	Admin   bool     `json:"admin,omitempty"`                          // needs an admin key
	Key     string   `json:"key,omitempty" nonzero:"leave it out"`     // an existing text to import, 16 to 256 characters; default: a new one
	Scopes  []string `json:"scopes,omitempty"`                         // default: publish, subscribe, scripts and read

	// ExpiresAt or ExpiresIn limits how long the key works; default: no limit. Both is an error.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	ExpiresIn *Duration  `json:"expires_in,omitempty"`
}

// UpdateKeyRequest is the body of [Client.UpdateKey]. A member that is left out stays; null resets it.
type UpdateKeyRequest struct {
	Name      Optional[string]    `json:"name,omitzero"`
	Scopes    Optional[[]string]  `json:"scopes,omitzero"`     // not for admin keys
	ExpiresAt Optional[time.Time] `json:"expires_at,omitzero"` // null: never
}

// RotateKeyRequest is the body of [Client.RotateKey].
type RotateKeyRequest struct {
	// GracePeriod is how long the previous text still works: 24h by default, 720h at most, 0s ends
	// it at once.
	GracePeriod *Duration `json:"grace_period,omitempty"`
}

// ListKeys lists the keys of all accounts, oldest first. It needs an admin key.
func (c *Client) ListKeys(ctx context.Context, options ...Option) iter.Seq2[Key, error] {
	return List[Key](ctx, c, "/api/v1/keys", nil, options...)
}

// GetKey returns a key, without its text. It needs an admin key.
func (c *Client) GetKey(ctx context.Context, id string, options ...Option) (*Key, error) {
	return get[Key](ctx, c, http.MethodGet, "/api/v1/keys/"+url.PathEscape(id), nil, options...)
}

// CreateKey makes a key; the answer is the only one that shows its text. It needs an admin key.
func (c *Client) CreateKey(ctx context.Context, in CreateKeyRequest, options ...Option) (*Key, error) {
	return get[Key](ctx, c, http.MethodPost, "/api/v1/keys", in, append(options, creates)...)
}

// UpdateKey changes the name, the scopes or the expiry of a key. It needs an admin key.
func (c *Client) UpdateKey(ctx context.Context, id string, in UpdateKeyRequest, options ...Option) (*Key, error) {
	return get[Key](ctx, c, http.MethodPatch, "/api/v1/keys/"+url.PathEscape(id), in, options...)
}

// RotateKey gives a key a new text, which only this answer shows. It needs an admin key.
func (c *Client) RotateKey(ctx context.Context, id string, in RotateKeyRequest, options ...Option) (*Key, error) {
	return get[Key](ctx, c, http.MethodPost, "/api/v1/keys/"+url.PathEscape(id)+"/rotate", in, append(options, creates)...)
}

// DeleteKey deletes a key: requests with it are refused from then on. It needs an admin key.
func (c *Client) DeleteKey(ctx context.Context, id string, options ...Option) error {
	return c.Do(ctx, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(id), nil, nil, options...)
}
