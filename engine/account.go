package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Account is what is set for an account. One that nobody set anything for has none.
type Account struct {
	Name      string
	Verify    VerificationMode // asked of the targets of its subscriptions
	Quota     Quota
	Retention Retention
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
	// Unreadable are the columns that the store could not decode. What was set with them is
	// not known: until it is set anew, nothing of the account is removed.
	Unreadable []string
}

// Quota bounds what an account may use. Zero fields take the router's default, NoLimit
// lifts it.
type Quota struct {
	Subscriptions   int   `json:"subscriptions,omitempty"`
	EventsPerSecond int   `json:"events_per_second,omitempty"` // over time; the events of a second may come at once
	StoredBytes     int64 `json:"stored_bytes,omitempty"`      // of events
}

// Retention says how long what is finished is kept. Zero fields take the router's default.
type Retention struct {
	Succeeded time.Duration `json:"succeeded,omitempty"` // events all of whose deliveries succeeded or were dropped, and those that nobody asked for
	Dead      time.Duration `json:"dead,omitempty"`      // events with a dead letter
}

// Account gives what is set for an account: defaults where nothing is. It must not be
// changed.
func (e *Engine) Account(name string) *Account {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	if a := e.registry.accounts[name]; a != nil {
		return a
	}
	return &Account{Name: name}
}

// Accounts lists by name the accounts that something is set for, or that have a key or a
// subscription. They must not be changed.
func (e *Engine) Accounts() []*Account {
	e.registry.mu.RLock()
	found := maps.Clone(e.registry.accounts)
	add := func(name string) {
		if found[name] == nil {
			found[name] = &Account{Name: name}
		}
	}
	for _, c := range e.registry.keys {
		add(c.key.Account)
	}
	for name := range e.registry.owned {
		add(name)
	}
	e.registry.mu.RUnlock()
	return slices.SortedFunc(maps.Values(found), func(a, b *Account) int { return strings.Compare(a.Name, b.Name) })
}

// PutAccount sets what is set for an account; version is the expected one or AnyVersion.
// Errors: CodeInvalid, CodeStale.
func (e *Engine) PutAccount(ctx context.Context, a *Account, version int64) (*Account, error) {
	if err := checkAccount(a.Name); err != nil {
		return nil, err
	}
	if err := CheckVerificationMode(a.Verify); err != nil {
		return nil, err
	}
	if err := a.Quota.validate(); err != nil {
		return nil, err
	}
	if a.Retention.Succeeded < 0 || a.Retention.Dead < 0 {
		return nil, Invalid("retention", "must not be negative")
	}
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	old := e.Account(a.Name)
	if version != AnyVersion && version != old.Version {
		return nil, staleVersion("account", old.Version, version)
	}
	if old.Unreadable != nil && a.Retention == (Retention{}) {
		return nil, &Error{Code: CodeConflict, Message: fmt.Sprintf("what is stored of this account can't be read (%s), and a change would overwrite it: give all of it anew, retention included", strings.Join(old.Unreadable, ", "))}
	}
	stored := *a
	stored.Unreadable = nil
	stored.Version, stored.CreatedAt, stored.UpdatedAt = old.Version+1, old.CreatedAt, e.now()
	if old.Version == 0 {
		stored.CreatedAt = stored.UpdatedAt
	}
	if err := e.store.PutAccount(ctx, &stored); err != nil {
		return nil, err
	}
	e.registry.mu.Lock()
	e.registry.setAccount(&stored)
	e.registry.mu.Unlock()
	return &stored, nil
}
