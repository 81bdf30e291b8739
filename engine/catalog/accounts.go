package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchhook/engine"
)

// Account returns the configuration of an account, or the defaults if it has none. The result must
// not be changed.
func (c *Catalog) Account(name string) *engine.Account {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	if a := c.registry.accounts[name]; a != nil {
		return a
	}
	return &engine.Account{Name: name}
}

// Accounts lists, by name, the accounts that are configured or have a key or a subscription. They
// must not be changed.
func (catalog *Catalog) Accounts() []*engine.Account {
	catalog.registry.mu.RLock()
	found := maps.Clone(catalog.registry.accounts)
	add := func(name string) {
		if found[name] == nil {
			found[name] = &engine.Account{Name: name}
		}
	}
	for _, c := range catalog.registry.keys {
		add(c.key.Account)
	}
	for name := range catalog.registry.owned {
		add(name)
	}
	catalog.registry.mu.RUnlock()
	return slices.SortedFunc(maps.Values(found), func(a, b *engine.Account) int { return strings.Compare(a.Name, b.Name) })
}

// PutAccount stores the configuration of an account; version is the expected one or AnyVersion.
// Errors: CodeInvalid, CodeStale.
func (c *Catalog) PutAccount(ctx context.Context, a *engine.Account, version int64) (*engine.Account, error) {
	errs := engine.ValidateAccount(a.Name)
	errs.Append(ValidateVerificationMode(a.Verify)...)
	errs.Append(a.Quota.Validate()...)
	if a.Retention.Succeeded < 0 || a.Retention.Dead < 0 {
		errs.Add("retention", engine.FieldOutOfRange, "must not be negative")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	old := c.Account(a.Name)
	if version != AnyVersion && version != old.Version {
		return nil, staleVersion("account", old.Version, version)
	}
	if old.Unreadable != nil && a.Retention == (engine.Retention{}) {
		return nil, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("what is stored of this account can't be read (%s), and a change would overwrite it: give all of it anew, retention included", strings.Join(old.Unreadable, ", "))}
	}
	stored := *a
	stored.Unreadable = nil
	stored.Version, stored.CreatedAt, stored.UpdatedAt = old.Version+1, old.CreatedAt, c.life.Now()
	if old.Version == 0 {
		stored.CreatedAt = stored.UpdatedAt
	}
	if err := c.store.PutAccount(ctx, &stored); err != nil {
		return nil, err
	}
	c.registry.mu.Lock()
	c.registry.setAccount(&stored)
	c.registry.mu.Unlock()
	return &stored, nil
}
