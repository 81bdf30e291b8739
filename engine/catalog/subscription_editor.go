package catalog

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/scripts"
)

// SubscriptionEditor makes the changes of subscriptions that users ask for: it validates them,
// finds duplicates, and asks targets to confirm.
type SubscriptionEditor struct {
	*core
	eventTypes *EventTypeRegistry
	scripts    *ScriptRegistry
	subs       *SubscriptionRegistry
	verifier   *Verifier
}

// AnyVersion, as the expected version of a change, disables the version check.
const AnyVersion = 0

// CreateSubscription stores a new subscription and starts its deliveries. It fills in ID, Secret
// (if empty), Version and times. Errors: CodeInvalid with every field that is wrong, and with Script if a
// filter or transform does not compile; CodeForbidden if the actor may not attach a script; CodeQuotaExceeded;
// CodeUnavailable.
func (ed *SubscriptionEditor) CreateSubscription(ctx context.Context, s *engine.Subscription) (*engine.Subscription, error) {
	s, _, err := ed.createSubscription(ctx, s, nil, false)
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
func (ed *SubscriptionEditor) EnsureSubscription(ctx context.Context, s *engine.Subscription, options EnsureOptions) (_ *engine.Subscription, created bool, err error) {
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
	return ed.createSubscription(ctx, s, serves, options.UniqueEvents)
}

// createSubscription returns a stored duplicate that serves accepts instead of creating one; nil
// serves accepts none. unique is EnsureOptions.UniqueEvents.
func (ed *SubscriptionEditor) createSubscription(ctx context.Context, s *engine.Subscription, serves func(stored *engine.Subscription) bool, unique bool) (_ *engine.Subscription, created bool, err error) {
	s = s.Clone()
	s.ID, s.Version = ed.ids.Next(), 1
	s.CreatedAt = ed.life.Now()
	program, err := ed.prepareSubscription(ctx, s, nil)
	if err != nil {
		return nil, false, err
	}
	ask := ed.verifier.planVerification(s, nil)
	giveBack, err := ed.verifier.reserve(s.Account, ask)
	if err != nil {
		return nil, false, err
	}
	if s, created, err = ed.addSubscription(ctx, s, program, serves, unique); !created {
		giveBack()
	} else if ask {
		s = ed.verifier.awaitVerification(ctx, s)
	}
	return s, created, err
}

// addSubscription stores s if the account's quota allows it and serves accepts no duplicate.
func (ed *SubscriptionEditor) addSubscription(ctx context.Context, s *engine.Subscription, program *scripts.Program, serves func(*engine.Subscription) bool, unique bool) (_ *engine.Subscription, created bool, err error) {
	defer ed.changes.lock(ctx)()
	if serves != nil {
		if existing := ed.subs.table.findDuplicate(s, serves); existing != nil {
			renewed := ed.mergeRenewal(existing, s)
			if renewed == existing {
				return existing, false, nil
			}
			return renewed, false, ed.subs.putSubscription(ctx, renewed, program)
		}
	}
	if unique {
		if other := ed.sameEvents(s); other != nil {
			return nil, false, &engine.Error{Code: engine.CodeConflict, Field: "event", Message: fmt.Sprintf("%q is subscribed to already, by %s: change or delete that subscription", strings.Join(s.Events, ", "), other.ID.Format(engine.SubscriptionPrefix))}
		}
	}
	if err := ed.subs.checkSubscriptionQuota(s.Account); err != nil {
		return nil, false, err
	}
	if err := ed.subs.putSubscription(ctx, s, program); err != nil {
		return nil, false, err
	}
	return s, true, nil
}

// sameEvents returns a subscription of the account and dialect of s to the same event types; nil if
// there is none.
func (ed *SubscriptionEditor) sameEvents(s *engine.Subscription) *engine.Subscription {
	wanted := slices.Sorted(slices.Values(s.Events))
	for _, other := range ed.subs.Subscriptions(SubscriptionQuery{Account: s.Account, Dialect: s.Dialect, Limit: math.MaxInt}) {
		if other.Dialect == s.Dialect && slices.Equal(slices.Sorted(slices.Values(other.Events)), wanted) {
			return other
		}
	}
	return nil
}

// mergeRenewal returns a stored subscription as it is after a client subscribed to the same again,
// or existing itself if nothing changes. A client whose subscription the router deactivated receives
// events again, and no subscription may end before the time that its client requested.
func (ed *SubscriptionEditor) mergeRenewal(existing, asked *engine.Subscription) *engine.Subscription {
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
	s.Version, s.UpdatedAt = existing.Version+1, ed.life.Now()
	return s
}

// UpdateSubscription changes a subscription of an account, or of any if account is empty. change
// receives a copy and may be called more than once; version is the expected one or AnyVersion.
// Errors: those of CreateSubscription, CodeNotFound, and CodeStale if the stored version differs.
func (ed *SubscriptionEditor) UpdateSubscription(ctx context.Context, account string, id engine.ID, version int64, change func(*engine.Subscription) error) (*engine.Subscription, error) {
	for {
		old, err := ed.subs.Subscription(account, id)
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
		ed.pruneOldSecrets(old, s)
		if s.Active {
			s.Reason = ""
		}
		// Validation uses the network and the sandbox, so no lock is held.
		program, err := ed.prepareSubscription(ctx, s, old)
		if err != nil {
			return nil, err
		}
		ask := ed.verifier.planVerification(s, old)
		giveBack, err := ed.verifier.reserve(s.Account, ask)
		if err != nil {
			return nil, err
		}
		switch done, err := ed.subs.swapSubscription(ctx, old, s, program); {
		case err != nil:
			giveBack()
			return nil, err
		case done && ask:
			return ed.verifier.awaitVerification(ctx, s), nil
		case done:
			return s, nil
		}
		giveBack()
	}
}
