package catalog

import (
	"context"

	"switchhook/engine"
)

// Limits returns the effective quota of an account: its own or the router's default; 0 is no limit.
func (c *Catalog) Limits(account string) engine.Quota {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	if a := c.registry.accounts[account]; a != nil {
		return a.Quota.WithDefaults(c.cfg.Quota)
	}
	return engine.Quota{}.WithDefaults(c.cfg.Quota)
}

// Usage returns an account's usage.
func (c *Catalog) Usage(ctx context.Context, account string) (u engine.Usage, err error) {
	c.registry.mu.RLock()
	u.Subscriptions = c.registry.owned[account]
	c.registry.mu.RUnlock()
	u.StoredBytes, err = c.store.StoredBytes(ctx, account)
	return u, err
}

// checkSubscriptionQuota rejects a subscription beyond the account's quota; the caller holds
// registry.changes.
func (c *Catalog) checkSubscriptionQuota(account string) error {
	most := c.Limits(account).Subscriptions
	c.registry.mu.RLock()
	have := c.registry.owned[account]
	c.registry.mu.RUnlock()
	if most == 0 || have < most {
		return nil
	}
	return engine.QuotaExceeded("the account %s has %d subscriptions, and its quota is %d; delete one that is not needed, or have the quota raised", account, have, most)
}

// NoQuotas reports whether no account has a quota.
func (c *Catalog) NoQuotas() bool {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	return c.cfg.Quota == engine.Quota{} && !c.registry.quotas
}
