package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/scripts"
)

// SubscriptionRegistry holds the subscriptions, compiled and indexed by account and event type. Its
// changes are stored first; it validates nothing.
type SubscriptionRegistry struct {
	*core
	eventTypes *EventTypeRegistry
	scripts    *ScriptRegistry
	listener   Listener
	health     HealthSource

	table         *subscriptionTable
	index         *subscriptionIndex
	expiries      expiryQueue
	quarantine    Quarantine
	verifications runningVerifications
	compilations  singleflight.Group // of transforms that deliveries wait for, by source
	matchTurns    *fairlimit.Limiter
}

// load reads the subscriptions from the store.
func (reg *SubscriptionRegistry) load(ctx context.Context) error {
	subscriptions, err := reg.store.Subscriptions(ctx)
	for _, s := range subscriptions {
		for i := range s.Policy.Retries {
			if i > 0 { // an older version may have stored less
				s.Policy.Retries[i] = max(s.Policy.Retries[i], reg.cfg.MinRetryWait)
			}
		}
		r := reg.CompileSubscription(s)
		reg.scripts.useVersions(nil, r)
		reg.index.replace(nil, r)
		reg.table.put(r)
		reg.memory.add(s.Account, sizeOfSubscription(s))
		reg.expiries.add(s)
	}
	return err
}

// Lookup returns the subscription with an id, of any account; nil if there is none.
func (reg *SubscriptionRegistry) Lookup(id engine.ID) *engine.Subscription {
	return reg.LookupOf("", id)
}

// LookupOf returns a subscription of an account, or of any if account is empty; nil if there is
// none.
func (reg *SubscriptionRegistry) LookupOf(account string, id engine.ID) *engine.Subscription {
	if r := reg.table.get(id); r != nil && (account == "" || r.Sub.Account == account) {
		return r.Sub
	}
	return nil
}

// Subscription is LookupOf with the error CodeNotFound. The result must not be changed.
func (reg *SubscriptionRegistry) Subscription(account string, id engine.ID) (*engine.Subscription, error) {
	if s := reg.LookupOf(account, id); s != nil {
		return s, nil
	}
	return nil, engine.NotFound("subscription", id.Format(engine.SubscriptionPrefix))
}

// Compiled returns a compiled subscription; nil if there is none.
func (reg *SubscriptionRegistry) Compiled(id engine.ID) *CompiledSubscription {
	return reg.table.get(id)
}

// AllCompiled returns all compiled subscriptions.
func (reg *SubscriptionRegistry) AllCompiled() []*CompiledSubscription {
	return reg.table.find(func(*CompiledSubscription) bool { return true })
}

// Candidates returns the active subscriptions of an account whose event types include eventType,
// each once, in any order.
func (reg *SubscriptionRegistry) Candidates(account, eventType string) []*CompiledSubscription {
	return reg.index.candidates(account, eventType)
}

// Count returns the number of subscriptions.
func (reg *SubscriptionRegistry) Count() int {
	reg.table.mu.RLock()
	defer reg.table.mu.RUnlock()
	return len(reg.table.byID)
}

// SubscriptionQuery selects subscriptions. Zero fields don't restrict.
type SubscriptionQuery struct {
	Account   string
	Event     string // subscriptions that this event type matches, or that name this pattern
	Active    *bool
	TargetURL string
	Dialect   string // the dialect that created them
	Inline    bool   // hidden subscriptions of targets instead of created ones
	Health    engine.HealthState
	After     engine.ID // above this id; the cursor of the next page
	Limit     int
}

func (q *SubscriptionQuery) matches(s *engine.Subscription) bool {
	return s.ID > q.After && s.Inline == q.Inline && (q.Account == "" || s.Account == q.Account) &&
		(q.Active == nil || s.Active == *q.Active) && (q.TargetURL == "" || s.TargetURL == q.TargetURL) && (q.Dialect == "" || s.Dialect == q.Dialect) &&
		(q.Event == "" || slices.ContainsFunc(s.Events, func(p string) bool { return p == q.Event || engine.MatchesPattern(p, q.Event) }))
}

// Subscriptions lists subscriptions, oldest first. They must not be changed.
func (reg *SubscriptionRegistry) Subscriptions(q SubscriptionQuery) []*engine.Subscription {
	found := reg.sorted(func(r *CompiledSubscription) bool { return q.matches(r.Sub) })
	if q.Health != "" {
		found = slices.DeleteFunc(found, func(s *engine.Subscription) bool { return reg.health.Health(s.ID).State() != q.Health })
	}
	return found[:min(len(found), q.Limit)]
}

// ScriptUsers lists the subscriptions that use a script, oldest first.
func (reg *SubscriptionRegistry) ScriptUsers(id engine.ID) []*engine.Subscription {
	return reg.sorted(func(r *CompiledSubscription) bool {
		return r.Sub.FilterScript.Script == id || r.Sub.TransformScript.Script == id
	})
}

// sorted returns the subscriptions that match, oldest first.
func (reg *SubscriptionRegistry) sorted(match func(*CompiledSubscription) bool) []*engine.Subscription {
	compiled := reg.table.find(match)
	found := make([]*engine.Subscription, len(compiled))
	for i, r := range compiled {
		found[i] = r.Sub
	}
	slices.SortFunc(found, func(a, b *engine.Subscription) int { return cmp.Compare(a.ID, b.ID) })
	return found
}

// FilterErrors returns how often a subscription's filter failed since it was last changed or the
// router started, and the last error.
func (reg *SubscriptionRegistry) FilterErrors(id engine.ID) (count int64, last string) {
	r := reg.table.get(id)
	if r == nil {
		return 0, ""
	}
	if text := r.Filter.lastError.Load(); text != nil {
		last = *text
	}
	return r.Filter.failures.Load(), last
}

// Usage returns an account's usage.
func (reg *SubscriptionRegistry) Usage(ctx context.Context, account string) (u engine.Usage, err error) {
	u.Subscriptions = reg.table.ownedBy(account)
	u.Stored, err = reg.store.StoredBytes(ctx, account)
	return u, err
}

// checkSubscriptionQuota rejects a subscription beyond the account's quota; the caller holds
// changes.
func (reg *SubscriptionRegistry) checkSubscriptionQuota(account string) error {
	have, most := reg.table.ownedBy(account), reg.accounts.Limits(account).Subscriptions
	if most == 0 || have < most {
		return nil
	}
	return engine.QuotaExceeded("the account %s has %d subscriptions, and its quota is %d; delete one that is not needed, or have the quota raised", account, have, most)
}

// modify stores a subscription as change makes it, with the next version. change receives a copy;
// if it returns false, or there is no such subscription, nothing is stored and the result is nil.
func (reg *SubscriptionRegistry) modify(ctx context.Context, id engine.ID, change func(*engine.Subscription) bool) (*engine.Subscription, error) {
	ctx = withoutLimit(ctx)
	defer reg.changes.lock(ctx)()
	old := reg.Lookup(id)
	if old == nil {
		return nil, nil
	}
	s := old.Clone()
	s.Version++
	if !change(s) {
		return nil, nil
	}
	return s, reg.putSubscription(ctx, s, reg.compiledProgram(id))
}

// swapSubscription replaces old by s; done is false if old was changed in the meantime.
func (reg *SubscriptionRegistry) swapSubscription(ctx context.Context, old, s *engine.Subscription, program *scripts.Program) (done bool, err error) {
	defer reg.changes.lock(ctx)()
	if reg.Lookup(old.ID) != old {
		return false, nil
	}
	return true, reg.putSubscription(ctx, s, program)
}

// putSubscription stores s, compiles and indexes it; the caller holds changes.
func (reg *SubscriptionRegistry) putSubscription(ctx context.Context, s *engine.Subscription, program *scripts.Program) error {
	if err := reg.scripts.scriptsExist(s); err != nil {
		return err
	}
	if err := checkUnreadable(s); err != nil {
		return err
	}
	old := reg.Lookup(s.ID)
	r := reg.CompileSubscription(s)
	added := sizeOfSubscription(s) - sizeOfSubscription(old)
	unused := int64(0)
	for kind, v := range r.versions() {
		unused += reg.scripts.sizeIfUnused(kind, v)
	}
	if err := reg.checkMemory(ctx, s.Account, added+unused); err != nil {
		return err
	}
	// Set before it is active: otherwise, after a crash, deliveries that waited could be too old.
	if old != nil && !old.Active && s.Active {
		if err := reg.store.PutHealth(ctx, []engine.Health{{Subscription: s.ID, ResumedAt: reg.life.Now()}}); err != nil {
			return err
		}
	}
	ctx = reg.audited(ctx, engine.KindSubscription, s.ID.Format(engine.SubscriptionPrefix), s.Account, nilIfZero(old), s)
	if err := reg.store.PutSubscription(ctx, s); err != nil {
		return err
	}
	reg.memory.add(s.Account, added)
	reg.replaceCompiled(r, program)
	reg.expiries.add(s)
	return nil
}

// replaceCompiled indexes the current state of a subscription; the caller holds changes.
func (reg *SubscriptionRegistry) replaceCompiled(r *CompiledSubscription, program *scripts.Program) {
	s := r.Sub
	old := reg.table.get(s.ID)
	if program != nil && program.Source == r.Transform.Source { // a version may have gone live since it was compiled
		r.Transform.Program.Store(r.Transform.version.share(program))
		r.Transform.Quarantined.Store(reg.quarantine.contains(quarantineKey{s.Account, program.Hash}) != "")
	}
	r.inheritStreaks(old)
	reg.scripts.useVersions(old, r)
	reg.index.replace(old, r)
	reg.table.put(r)
	reg.verifications.end(s.ID, s.Verification.Secret)
	reg.listener.SubscriptionChanged(r)
}

// compiledProgram returns the transform of a stored subscription, if it has run before.
func (reg *SubscriptionRegistry) compiledProgram(id engine.ID) *scripts.Program {
	r := reg.table.get(id)
	if r == nil {
		return nil
	}
	return r.Transform.Program.Load()
}

// DeleteSubscription removes a subscription; its waiting deliveries become dead. Errors:
// CodeNotFound, CodeStale, CodeUnavailable.
func (reg *SubscriptionRegistry) DeleteSubscription(ctx context.Context, account string, id engine.ID, version int64) error {
	_, err := reg.removeSubscription(ctx, func() (*engine.Subscription, string, error) {
		s, err := reg.Subscription(account, id)
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
// become dead, without the lock: a million of them must not block other changes. find runs
// with changes held.
func (reg *SubscriptionRegistry) removeSubscription(ctx context.Context, find func() (s *engine.Subscription, reason string, err error)) (removed bool, err error) {
	unlock := reg.changes.lock(ctx)
	s, reason, err := find()
	if err == nil && s != nil {
		err = reg.dropSubscription(ctx, s, reason)
	}
	unlock()
	if err != nil || s == nil {
		return false, err
	}
	return true, reg.store.MarkOutstandingDead(ctx, s.ID, reason)
}

// dropSubscription removes s from the store and from memory; the caller holds changes.
func (reg *SubscriptionRegistry) dropSubscription(ctx context.Context, s *engine.Subscription, reason string) error {
	ctx = reg.audited(ctx, engine.KindSubscription, s.ID.Format(engine.SubscriptionPrefix), s.Account, s, nil)
	if err := reg.store.DeleteSubscription(ctx, s.ID); err != nil {
		return err
	}
	reg.scripts.useVersions(reg.table.get(s.ID), nil)
	reg.index.replace(reg.table.get(s.ID), nil)
	reg.table.remove(s.ID)
	reg.memory.add(s.Account, -sizeOfSubscription(s))
	reg.verifications.end(s.ID, "")
	reg.expiries.set(s.ID, time.Time{})
	reg.listener.SubscriptionRemoved(s.ID, reason)
	return nil
}

// Deactivate deactivates the subscription of r because of its target's responses. quiet suppresses
// the operational event.
func (reg *SubscriptionRegistry) Deactivate(r *CompiledSubscription, reason string, quiet bool) {
	log := reg.log.With("subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "reason", reason)
	s, err := reg.modify(context.Background(), r.Sub.ID, func(s *engine.Subscription) bool {
		if !s.Active || s.Inline || s.TargetURL != r.Sub.TargetURL { // events name an Inline one again
			return false
		}
		s.Active, s.Reason, s.UpdatedAt = false, reason, reg.life.Now()
		return true
	})
	if err != nil {
		log.Error("subscription not deactivated", "error", err)
		return
	}
	if s == nil {
		return
	}
	reg.metrics.Deactivated.Inc()
	log.Warn("subscription deactivated", "account", s.Account)
	if !quiet {
		reg.listener.SubscriptionDeactivated(s)
	}
}

// checkUnreadable rejects storing a subscription that was read in part, unless all unreadable
// members have been set again: they would be lost.
func checkUnreadable(s *engine.Subscription) error {
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
