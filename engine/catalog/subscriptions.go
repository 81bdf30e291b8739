package catalog

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/scripts"
)

// AnyVersion, as the expected version of a change, disables the version check.
const AnyVersion = 0

// CreateSubscription stores a new subscription and starts its deliveries. It fills in ID, Secret
// (if empty), Version and times. Errors: CodeInvalid with every field that is wrong, and with Script if a
// filter or transform does not compile; CodeForbidden if the actor may not attach a script; CodeQuotaExceeded;
// CodeUnavailable.
func (c *Catalog) CreateSubscription(ctx context.Context, s *engine.Subscription) (*engine.Subscription, error) {
	s, _, err := c.createSubscription(ctx, s, nil, false)
	return s, err
}

// EnsureOptions controls when EnsureSubscription creates a subscription.
type EnsureOptions struct {
	// NewSecret is set if the secret was generated for the subscription: a stored one with another
	// secret of the same type is then a duplicate.
	NewSecret bool
	// UniqueEvents rejects (CodeConflict) a subscription if the account has one to the same event
	// types in the same dialect.
	UniqueEvents bool
}

// EnsureSubscription is CreateSubscription, unless the account already has a subscription that
// sends the same events to the same target in the same way: then created is false and the stored
// one is returned. Its expiry becomes the later of both, and it becomes active if s is active and
// the router had deactivated it; if a user deactivated it, it stays inactive. Of concurrent calls
// for the same subscription one creates it. A secret in s must be the stored one.
func (c *Catalog) EnsureSubscription(ctx context.Context, s *engine.Subscription, options EnsureOptions) (_ *engine.Subscription, created bool, err error) {
	asked, kind := s.Secret, signature.SecretType("")
	if asked != "" {
		kind, _ = signature.Describe(asked)
	}
	serves := func(stored *engine.Subscription) bool {
		if asked == "" {
			return true
		}
		has, _ := signature.Describe(stored.Secret)
		return stored.Secret == asked || options.NewSecret && has == kind
	}
	return c.createSubscription(ctx, s, serves, options.UniqueEvents)
}

// createSubscription returns a stored duplicate that serves accepts instead of creating one; nil
// serves accepts none. unique is EnsureOptions.UniqueEvents.
func (c *Catalog) createSubscription(ctx context.Context, s *engine.Subscription, serves func(stored *engine.Subscription) bool, unique bool) (_ *engine.Subscription, created bool, err error) {
	s = s.Clone()
	s.ID, s.Version = c.ids.Next(), 1
	s.CreatedAt = c.life.Now()
	program, err := c.prepareSubscription(ctx, s, nil)
	if err != nil {
		return nil, false, err
	}
	ask := c.planVerification(s, nil)
	if s, created, err = c.addSubscription(ctx, s, program, serves, unique); created && ask {
		s = c.awaitVerification(ctx, s)
	}
	return s, created, err
}

// addSubscription stores s if the account's quota allows it and serves accepts no duplicate.
func (c *Catalog) addSubscription(ctx context.Context, s *engine.Subscription, program *scripts.Program, serves func(*engine.Subscription) bool, unique bool) (_ *engine.Subscription, created bool, err error) {
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	if serves != nil {
		if existing := c.registry.findDuplicate(s, serves); existing != nil {
			renewed := c.mergeRenewal(existing, s)
			if renewed == existing {
				return existing, false, nil
			}
			return renewed, false, c.putSubscription(ctx, renewed, program)
		}
	}
	if unique {
		if other := c.sameEvents(s); other != nil {
			return nil, false, &engine.Error{Code: engine.CodeConflict, Field: "event", Message: fmt.Sprintf("%q is subscribed to already, by %s: change or delete that subscription", strings.Join(s.Events, ", "), other.ID.Format(engine.SubscriptionPrefix))}
		}
	}
	if err := c.checkSubscriptionQuota(s.Account); err != nil {
		return nil, false, err
	}
	if err := c.putSubscription(ctx, s, program); err != nil {
		return nil, false, err
	}
	return s, true, nil
}

// sameEvents returns a subscription of the account and dialect of s to the same event types; nil if
// there is none.
func (c *Catalog) sameEvents(s *engine.Subscription) *engine.Subscription {
	wanted := slices.Sorted(slices.Values(s.Events))
	for _, other := range c.Subscriptions(SubscriptionQuery{Account: s.Account, Dialect: s.Dialect, Limit: math.MaxInt}) {
		if other.Dialect == s.Dialect && slices.Equal(slices.Sorted(slices.Values(other.Events)), wanted) {
			return other
		}
	}
	return nil
}

// mergeRenewal returns a stored subscription as it is after a client subscribed to the same again,
// or existing itself if nothing changes. A client whose subscription the router deactivated receives
// events again, and no subscription may end before the time that its client requested.
func (c *Catalog) mergeRenewal(existing, asked *engine.Subscription) *engine.Subscription {
	s := existing.Clone()
	restoreDesiredActive(asked)
	if asked.Active && !s.Active && s.Reason != "" && !s.Verification.Pending() {
		s.Active, s.Reason = true, ""
	}
	if !s.ExpiresAt.IsZero() && (asked.ExpiresAt.IsZero() || asked.ExpiresAt.After(s.ExpiresAt)) {
		s.ExpiresAt = asked.ExpiresAt
	}
	if s.Active == existing.Active && s.ExpiresAt.Equal(existing.ExpiresAt) {
		return existing
	}
	s.Version, s.UpdatedAt = existing.Version+1, c.life.Now()
	return s
}

// UpdateSubscription changes a subscription of an account, or of any if account is empty. change
// receives a copy and may be called more than once; version is the expected one or AnyVersion.
// Errors: those of CreateSubscription, CodeNotFound, and CodeStale if the stored version differs.
func (c *Catalog) UpdateSubscription(ctx context.Context, account string, id engine.ID, version int64, change func(*engine.Subscription) error) (*engine.Subscription, error) {
	for {
		old, err := c.Subscription(account, id)
		if err != nil {
			return nil, err
		}
		if version != AnyVersion && version != old.Version {
			return nil, staleVersion("subscription", old.Version, version)
		}
		s := old.Clone()
		restoreDesiredActive(s)
		if err := change(s); err != nil {
			return nil, err
		}
		if err := checkUnreadable(s); err != nil { // before a secret is generated for one that is missing
			return nil, err
		}
		s.ID, s.Account, s.CreatedAt, s.Version = old.ID, old.Account, old.CreatedAt, old.Version+1
		c.pruneOldSecrets(old, s)
		if s.Active {
			s.Reason = ""
		}
		// Validation uses the network and the sandbox, so no lock is held.
		program, err := c.prepareSubscription(ctx, s, old)
		if err != nil {
			return nil, err
		}
		ask := c.planVerification(s, old)
		if done, err := c.swapSubscription(ctx, old, s, program); err != nil {
			return nil, err
		} else if done && ask {
			return c.awaitVerification(ctx, s), nil
		} else if done {
			return s, nil
		}
	}
}

// swapSubscription replaces old by s; done is false if old was changed in the meantime.
func (c *Catalog) swapSubscription(ctx context.Context, old, s *engine.Subscription, program *scripts.Program) (done bool, err error) {
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	if c.registry.subscription("", old.ID) != old {
		return false, nil
	}
	return true, c.putSubscription(ctx, s, program)
}

// putSubscription stores s and puts it into the registry; the caller holds registry.changes.
func (c *Catalog) putSubscription(ctx context.Context, s *engine.Subscription, program *scripts.Program) error {
	if err := c.scriptsExist(s); err != nil {
		return err
	}
	if err := checkUnreadable(s); err != nil {
		return err
	}
	// Set before it is active: otherwise, after a crash, deliveries that waited could be too old.
	if old := c.registry.subscription("", s.ID); old != nil && !old.Active && s.Active {
		if err := c.store.PutHealth(ctx, []engine.Health{{Subscription: s.ID, ResumedAt: c.life.Now()}}); err != nil {
			return err
		}
	}
	if err := c.store.PutSubscription(ctx, s); err != nil {
		return err
	}
	c.replaceCompiled(s, program)
	c.expiries.add(s)
	return nil
}

// checkUnreadable rejects storing a subscription that was read in part, unless all unreadable members have
// been set again: they would be lost.
func checkUnreadable(s *engine.Subscription) *engine.Error {
	given := map[string]bool{
		"events": len(s.Events) > 0, "headers": s.Headers != nil, "metadata": s.Metadata != nil,
		"secret": s.Secret != "", "old_secrets": s.OldSecrets != nil, "verification_secret": s.Verification.Secret != "",
		"client": s.Client != nil,
	}
	for _, column := range s.Unreadable {
		if !given[column] {
			return &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("what is stored of this subscription can't be read (%s), and a change would overwrite it: give anew what is missing in the same request, or delete the subscription and make it again", strings.Join(s.Unreadable, ", "))}
		}
	}
	s.Unreadable = nil
	return nil
}

func staleVersion(kind string, current, given int64) *engine.Error {
	return &engine.Error{Code: engine.CodeStale, Message: fmt.Sprintf("the %s is at version %d, not %d: it was changed since it was read; read it again", kind, current, given)}
}

// DeleteSubscription removes a subscription; its waiting deliveries become dead. Errors:
// CodeNotFound, CodeStale, CodeUnavailable.
func (c *Catalog) DeleteSubscription(ctx context.Context, account string, id engine.ID, version int64) error {
	_, err := c.removeSubscription(ctx, func() (*engine.Subscription, string, error) {
		s, err := c.Subscription(account, id)
		if err != nil {
			return nil, "", err
		}
		if version != AnyVersion && version != s.Version {
			return nil, "", staleVersion("subscription", s.Version, version)
		}
		return s, engine.SubscriptionDeleted, nil
	})
	return err
}

// removeSubscription removes the subscription that find returns, if any. Its waiting deliveries
// become dead, without the lock: they may be so many that other changes must not wait. find runs
// with registry.changes held.
func (c *Catalog) removeSubscription(ctx context.Context, find func() (s *engine.Subscription, reason string, err error)) (removed bool, err error) {
	c.registry.changes.Lock()
	s, reason, err := find()
	if err == nil && s != nil {
		err = c.dropSubscription(ctx, s, reason)
	}
	c.registry.changes.Unlock()
	if err != nil || s == nil {
		return false, err
	}
	return true, c.store.GiveUp(ctx, s.ID, reason)
}

// dropSubscription removes s from the store and from memory; the caller holds registry.changes.
func (c *Catalog) dropSubscription(ctx context.Context, s *engine.Subscription, reason string) error {
	if err := c.store.DeleteSubscription(ctx, s.ID); err != nil {
		return err
	}
	c.index.replace(c.registry.compiledSubscription(s.ID), nil)
	c.registry.setCompiled(s.ID, nil)
	c.expiries.set(s.ID, time.Time{})
	c.listener.SubscriptionRemoved(s.ID, reason)
	return nil
}

// Deactivate deactivates the subscription of r because of its target's responses. quiet suppresses
// the operational event.
func (c *Catalog) Deactivate(r *CompiledSubscription, reason string, quiet bool) {
	log := c.log.With("subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "reason", reason)
	for {
		old := c.registry.subscription("", r.Sub.ID)
		if old == nil || !old.Active || old.Inline || old.TargetURL != r.Sub.TargetURL { // events name an Inline one again
			return
		}
		s := old.Clone()
		s.Active, s.Reason, s.Version, s.UpdatedAt = false, reason, old.Version+1, c.life.Now()
		done, err := c.swapSubscription(context.Background(), old, s, nil)
		if err != nil {
			log.Error("subscription not deactivated", "error", err)
			return
		}
		if done {
			c.metrics.Deactivated.Inc()
			log.Warn("subscription deactivated", "account", s.Account)
			if !quiet {
				c.listener.SubscriptionDeactivated(s)
			}
			return
		}
	}
}
