package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/scripts"
)

const (
	maxTargets        = 20     // of one event
	maxNewTargets     = 100    // of one Publish
	maxAccountTargets = 10_000 // stored at the same time
	// maxTargetCode is the total size of their transforms, in bytes. All are compiled in memory, at
	// about four times their size.
	maxTargetCode = 8 << 20
	// targetLife is how long a target that no event names is stored, unless retries last longer.
	targetLife = 14 * 24 * time.Hour
)

// InlineTargets finds and creates the hidden subscriptions of targets that are named with events.
type InlineTargets struct {
	*core
	eventTypes *EventTypeRegistry
	subs       *SubscriptionRegistry
	editor     *SubscriptionEditor
}

// newTarget is a target without a stored subscription.
type newTarget struct {
	sub     *engine.Subscription
	program *scripts.Program
}

// FindTargets returns, for each input, the ids of the hidden subscriptions of its targets, in their
// order; nil if no input has any. It creates the missing ones, all or none. Errors: CodeInvalid
// with Field "targets[i].…", CodeBusy if one was deleted meanwhile, CodeUnavailable.
func (it *InlineTargets) FindTargets(ctx context.Context, inputs []engine.EventInput) ([][]engine.ID, error) {
	if !slices.ContainsFunc(inputs, func(in engine.EventInput) bool { return len(in.Targets) > 0 }) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, MatchTimeout)
	defer cancel()
	found := make([][]engine.ID, len(inputs))
	fresh := map[string]*newTarget{}
	for i := range inputs {
		in := &inputs[i]
		if err := it.checkTargets(in); err != nil {
			return nil, engine.FieldsInBatch(err, i, len(inputs))
		}
		var err error
		if found[i], err = it.targetsOfRepeat(ctx, in); err != nil || found[i] != nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		for n := range in.Targets {
			if err := it.findTarget(ctx, in, n, fresh); err != nil {
				return nil, engine.FieldsInBatch(engine.FieldsBelow(err, fmt.Sprintf("targets[%d]", n)), i, len(inputs))
			}
		}
	}
	if err := it.addTargets(ctx, fresh); err != nil {
		return nil, err
	}
	for i := range inputs {
		if found[i] != nil {
			continue
		}
		for n := range inputs[i].Targets {
			key := inputs[i].Targets[n].Key(inputs[i].Account)
			s := it.subs.table.target(key)
			if s == nil && fresh[key] != nil {
				s = fresh[key].sub
			}
			if s == nil {
				return nil, &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("targets[%d] was deleted while this was published, so nothing was stored; publish it again, and it is made anew", n)}
			}
			found[i] = append(found[i], s.ID)
			it.renewTarget(ctx, s)
		}
	}
	return found, nil
}

// checkTargets validates the targets of an event as a whole.
func (it *InlineTargets) checkTargets(in *engine.EventInput) error {
	if len(in.Targets) > maxTargets {
		return engine.InvalidField("targets", engine.FieldTooMany, "holds %d targets, %d are allowed", len(in.Targets), maxTargets)
	}
	if len(in.Targets) == 0 {
		return nil
	}
	mode := it.accounts.Account(in.Account).Verify
	if t := it.eventTypes.LookupEventType(in.Type); mode == engine.VerifyNone && t != nil {
		mode = t.Verify
	}
	if mode != engine.VerifyNone {
		return engine.InvalidField("targets", engine.FieldNotAllowed, "can't be given here: targets of this account or event type have to confirm first that they want to be sent events; create a subscription")
	}
	return nil
}

// targetsOfRepeat returns the targets of the stored event that in repeats, so that none is created
// for a repeat; nil if in is new.
func (it *InlineTargets) targetsOfRepeat(ctx context.Context, in *engine.EventInput) ([]engine.ID, error) {
	if len(in.Targets) == 0 {
		return nil, nil
	}
	for _, key := range in.Keys() {
		id, err := it.store.EventByKey(ctx, key)
		if engine.ErrorCode(err) == engine.CodeNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		ev, err := it.store.Event(ctx, in.Account, id)
		if engine.ErrorCode(err) == engine.CodeNotFound { // its row is deleted, its key not yet
			continue
		}
		if err != nil {
			return nil, err
		}
		return in.TargetsIn(ev.Targets), nil
	}
	return nil, nil
}

// findTarget validates a target, and adds its subscription to fresh if there is none.
func (it *InlineTargets) findTarget(ctx context.Context, in *engine.EventInput, n int, fresh map[string]*newTarget) error {
	t := &in.Targets[n]
	t.Transform = strings.TrimSpace(t.Transform)
	key := t.Key(in.Account)
	if s := it.subs.table.target(key); s != nil {
		if !s.Active {
			return engine.InvalidField("target_url", engine.FieldNotAllowed, "was deactivated by hand, as subscription %s", s.ID.Format(engine.SubscriptionPrefix))
		}
		return nil
	}
	if fresh[key] != nil {
		return nil
	}
	if len(fresh) == maxNewTargets {
		return engine.InvalidField("target_url", engine.FieldTooMany, "is one of more than %d targets that are new; publish fewer of these events at a time", maxNewTargets)
	}
	s := &engine.Subscription{
		ID: it.ids.Next(), Version: 1, Account: in.Account, Events: []string{}, Inline: true, TargetKey: key, Active: true,
		TargetURL: t.URL, Secret: t.Secret, Headers: maps.Clone(t.Headers), Transform: t.Transform, PayloadFormat: t.PayloadFormat,
		CreatedAt: it.life.Now(),
	}
	s.ExpiresAt = s.CreatedAt.Add(it.targetLife())
	program, err := it.editor.prepareSubscription(ctx, s, nil)
	if err != nil {
		return err
	}
	fresh[key] = &newTarget{s, program}
	return nil
}

// addTargets stores the subscriptions of new targets, unless their account has too many. Those that
// were created in the meantime are left alone.
func (it *InlineTargets) addTargets(ctx context.Context, fresh map[string]*newTarget) error {
	if len(fresh) == 0 {
		return nil
	}
	defer it.changes.lock(ctx)()
	adds, code := map[string]int{}, map[string]int{}
	for key, t := range fresh {
		if it.subs.table.target(key) == nil {
			adds[t.sub.Account]++
			code[t.sub.Account] += len(t.sub.Transform)
		}
	}
	for account, n := range adds {
		count, bytes := it.subs.table.targetsOf(account)
		if code[account] > 0 && bytes+code[account] > maxTargetCode {
			return tooManyTargets("have more than %d bytes of transforms in this account", maxTargetCode, it.targetLife())
		}
		if count+n > maxAccountTargets {
			return tooManyTargets("be more than %d different ones of this account", maxAccountTargets, it.targetLife())
		}
	}
	for key, t := range fresh {
		if it.subs.table.target(key) != nil {
			continue
		}
		if err := it.subs.putSubscription(ctx, t.sub, t.program); err != nil {
			return err
		}
	}
	return nil
}

func tooManyTargets(format string, most int, life time.Duration) error {
	return engine.InvalidField("targets", engine.FieldTooMany, "would "+format+"; those that no event names for %s go by themselves, or delete some (GET /api/v1/subscriptions?inline=true)", most, life)
}

// targetLife returns how long a target is stored: longer than the retries of an event can last.
func (it *InlineTargets) targetLife() time.Duration {
	var retries time.Duration
	for _, d := range it.cfg.Retries {
		retries += d
	}
	return max(targetLife, 3*retries)
}

// renewTarget extends the expiry of a target that is in use. It writes seldom: half of a target's
// life is enough for the retries of an event.
func (it *InlineTargets) renewTarget(ctx context.Context, s *engine.Subscription) {
	outdated := func(s *engine.Subscription) bool { return s.ExpiresAt.Sub(it.cfg.Now()) < it.targetLife()/2 }
	if !outdated(s) {
		return
	}
	_, err := it.subs.modify(ctx, s.ID, func(s *engine.Subscription) bool {
		if !outdated(s) { // another event renewed it
			return false
		}
		s.ExpiresAt = it.life.Now().Add(it.targetLife())
		return true
	})
	if err != nil {
		it.log.Error("target not renewed", "subscription_id", s.ID.Format(engine.SubscriptionPrefix), "error", err)
	}
}

// validateInline rejects changes of a target's subscription that its events determine.
func validateInline(s, old *engine.Subscription) (errs engine.FieldErrors) {
	if old == nil || !old.Inline {
		return nil
	}
	for _, member := range []struct {
		field   string
		changed bool
	}{
		{"events", len(s.Events) > 0}, {"target_url", s.TargetURL != old.TargetURL}, {"headers", !maps.Equal(s.Headers, old.Headers)},
		{"payload_format", s.PayloadFormat != old.PayloadFormat}, {"filter", s.Filter != "" || s.FilterScript != (engine.ScriptRef{})},
		{"transform", s.Transform != old.Transform || s.TransformScript != old.TransformScript},
	} {
		if member.changed {
			errs.Add(member.field, engine.FieldNotAllowed, "can't be changed: this subscription stands for a target that events name; name another target with them, or create a subscription")
		}
	}
	return errs
}
