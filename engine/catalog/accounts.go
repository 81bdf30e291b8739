package catalog

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"switchhook/engine"
)

// AccountRegistry holds the configuration of accounts.
type AccountRegistry struct {
	*core
	table[string, *engine.Account]
	quotas     atomic.Bool  // at least one account has a quota of its own
	retentions atomic.Int64 // changes of an account's retention
}

// load reads the accounts from the store.
func (reg *AccountRegistry) load(ctx context.Context) error {
	accounts, err := reg.store.Accounts(ctx)
	for _, a := range accounts {
		reg.set(a)
	}
	return err
}

func (reg *AccountRegistry) set(a *engine.Account) {
	if a.Quota != (engine.Quota{}) {
		reg.quotas.Store(true)
	}
	if old := reg.Account(a.Name); a.Retention != old.Retention || (a.Unreadable == nil) != (old.Unreadable == nil) {
		reg.retentions.Add(1)
	}
	reg.put(a.Name, a)
}

// Account returns the configuration of an account, or the defaults if it has none. The result must
// not be changed.
func (reg *AccountRegistry) Account(name string) *engine.Account {
	if a := reg.get(name); a != nil {
		return a
	}
	return &engine.Account{Name: name}
}

// PutAccount stores the configuration of an account; version is the expected one or AnyVersion.
// Errors: CodeInvalid, CodeStale.
func (reg *AccountRegistry) PutAccount(ctx context.Context, a *engine.Account, version int64) (*engine.Account, error) {
	errs := engine.ValidateAccount(a.Name)
	errs.Append(ValidateVerificationMode(a.Verify)...)
	errs.Append(a.Quota.Validate()...)
	if a.Retention.Succeeded < 0 || a.Retention.Dead < 0 {
		errs.Add("retention", engine.FieldOutOfRange, "must not be negative")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	defer reg.changes.lock(ctx)()
	old := reg.Account(a.Name)
	if version != AnyVersion && version != old.Version {
		return nil, staleVersion("account", old.Version, version)
	}
	if old.Unreadable != nil && a.Retention == (engine.Retention{}) {
		return nil, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("what is stored of this account can't be read (%s), and a change would overwrite it: give all of it anew, retention included", strings.Join(old.Unreadable, ", "))}
	}
	stored := *a
	stored.Unreadable = nil
	stored.Version, stored.CreatedAt, stored.UpdatedAt = old.Version+1, old.CreatedAt, reg.life.Now()
	if old.Version == 0 {
		stored.CreatedAt = stored.UpdatedAt
	}
	var before any
	if old.Version > 0 {
		before = old
	}
	if err := reg.store.PutAccount(reg.audited(ctx, engine.KindAccount, a.Name, a.Name, before, &stored), &stored); err != nil {
		return nil, err
	}
	reg.set(&stored)
	return &stored, nil
}

// Limits returns the effective quota of an account: its own or the router's default; 0 is no limit.
func (reg *AccountRegistry) Limits(account string) engine.Quota {
	if a := reg.get(account); a != nil {
		return a.Quota.WithDefaults(reg.cfg.Quota)
	}
	return engine.Quota{}.WithDefaults(reg.cfg.Quota)
}

// StorageLimit returns how much an account may store.
func (reg *AccountRegistry) StorageLimit(account string) engine.StorageLimit {
	limit := engine.StorageLimit{Account: account}
	if !reg.NoQuotas() {
		limit.Bytes = reg.Limits(account).StoredBytes
	}
	return limit
}

// WithStorageLimit returns a context under which the store refuses what would take the account beyond its
// quota.
func (reg *AccountRegistry) WithStorageLimit(ctx context.Context, account string) context.Context {
	if limit := reg.StorageLimit(account); limit.Bytes > 0 && account != "" {
		return engine.WithStorageLimit(ctx, limit)
	}
	return ctx
}

// NoQuotas reports whether no account has a quota.
func (reg *AccountRegistry) NoQuotas() bool {
	return reg.cfg.Quota == engine.Quota{} && !reg.quotas.Load()
}

// RetentionChanges counts the changes of accounts' retention.
func (reg *AccountRegistry) RetentionChanges() int64 { return reg.retentions.Load() }

// LeastRetention returns the shortest retention of any account and of standard; ok is false if
// everything is stored forever.
func (reg *AccountRegistry) LeastRetention(standard engine.Retention) (least time.Duration, ok bool) {
	consider := func(r engine.Retention) {
		for _, d := range []time.Duration{r.Succeeded, r.Dead} {
			if d > 0 && (!ok || d < least) {
				least, ok = d, true
			}
		}
	}
	consider(standard)
	reg.find(func(a *engine.Account) bool { consider(a.Retention); return false })
	return least, ok
}
