package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Account is the settings and the usage of an account.
type Account struct {
	Versioned
	Name      string        `json:"name"`
	Verify    string        `json:"verify"` // asked of all its targets: "hook-secret", "cloudevents"; "": nothing
	Quota     Quota         `json:"quota"`  // as it is set
	Limits    AccountLimits `json:"limits"` // in effect
	Usage     AccountUsage  `json:"usage"`
	Retention Retention     `json:"retention"`
	CreatedAt *time.Time    `json:"created_at"` // of the settings; null if nothing is set
	UpdatedAt *time.Time    `json:"updated_at"`
}

// Complete implements Completer.
func (a *Account) Complete() bool { return a.Name != "" }

// Unlimited, in a [Quota], lifts the router's default.
const Unlimited = -1

// Quota limits what an account may use. A member is null for the router's default, or [Unlimited];
// 0 is refused. Answers have all members.
type Quota struct {
	Subscriptions Optional[int] `json:"subscriptions,omitzero" nonzero:"null for the router's default"`
	// EventsPerSecond is an average; the events of a second may come at once.
	EventsPerSecond Optional[int] `json:"events_per_second,omitzero" nonzero:"null for the router's default"`
	// StoredBytes are those of all that is stored for the account.
	StoredBytes Optional[int64] `json:"stored_bytes,omitzero" nonzero:"null for the router's default"`
}

// AccountLimits is what an account may use; null is no limit.
type AccountLimits struct {
	Subscriptions   *int64 `json:"subscriptions"`
	EventsPerSecond *int64 `json:"events_per_second"`
	StoredBytes     *int64 `json:"stored_bytes"`
}

// AccountUsage is what an account uses.
type AccountUsage struct {
	Subscriptions int   `json:"subscriptions"`
	StoredBytes   int64 `json:"stored_bytes"` // all that is stored for it
	// StoredBytesOf says what fills StoredBytes, which is their sum.
	StoredBytesOf StoredBytes `json:"stored_bytes_of"`
}

// StoredBytes is the size of what is stored for an account, by kind: texts, headers and bodies, and 100
// bytes for each row.
type StoredBytes struct {
	Events        int64 `json:"events"`        // with their idempotency keys, and 100 for each subscription that an event matched
	Deliveries    int64 `json:"deliveries"`    // attempts with requests, responses and console output
	Configuration int64 `json:"configuration"` // subscriptions, scripts with versions and test cases, keys, replays, answers to idempotent requests
	Audit         int64 `json:"audit"`         // entries of the audit log
}

// Retention is how long finished events are kept. A member is null for the router's default; 0 is
// refused. Answers have all members.
type Retention struct {
	// Succeeded is for events whose deliveries succeeded or were dropped, or that matched nothing.
	Succeeded Optional[Duration] `json:"succeeded,omitzero" nonzero:"null for the router's default"`
	// Dead is for events with a dead letter.
	Dead Optional[Duration] `json:"dead,omitzero" nonzero:"null for the router's default"`
}

// UpdateAccountRequest is the body of [Client.ReplaceAccount] and [Client.UpdateAccount]. A member that is
// left out, also in Quota and Retention, is reset by a replacement, and kept by an update.
type UpdateAccountRequest struct {
	Name      string              `json:"name,omitempty"` // as in the path, if given
	Verify    Optional[string]    `json:"verify,omitzero"`
	Quota     Optional[Quota]     `json:"quota,omitzero"`
	Retention Optional[Retention] `json:"retention,omitzero"`
}

// ListAccounts lists, by name, the accounts that have settings, a key or a subscription. It needs an
// admin key.
func (c *Client) ListAccounts(ctx context.Context, options ...Option) iter.Seq2[Account, error] {
	return List[Account](ctx, c, "/api/v1/accounts", nil, options...)
}

// GetAccount returns the settings and usage of an account: the key's own, or any for an admin key.
func (c *Client) GetAccount(ctx context.Context, name string, options ...Option) (*Account, error) {
	return get[Account](ctx, c, http.MethodGet, accountPath(name), nil, options...)
}

// ReplaceAccount sets all settings of an account. It needs an admin key.
func (c *Client) ReplaceAccount(ctx context.Context, name string, in UpdateAccountRequest, options ...Option) (*Account, error) {
	return get[Account](ctx, c, http.MethodPut, accountPath(name), in, options...)
}

// UpdateAccount changes the given settings of an account. It needs an admin key.
func (c *Client) UpdateAccount(ctx context.Context, name string, in UpdateAccountRequest, options ...Option) (*Account, error) {
	return get[Account](ctx, c, http.MethodPatch, accountPath(name), in, options...)
}

// DeleteAccount resets the settings of an account to the router's defaults. It needs an admin key.
func (c *Client) DeleteAccount(ctx context.Context, name string, options ...Option) error {
	return c.Do(ctx, http.MethodDelete, accountPath(name), nil, nil, options...)
}

func accountPath(name string) string { return "/api/v1/accounts/" + url.PathEscape(name) }
