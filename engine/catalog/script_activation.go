package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/scripts"
)

const (
	// reactivationTimeout is how long activating an earlier version waits for a busy sandbox.
	reactivationTimeout = 5 * time.Second
)

// ScriptActivator makes versions of scripts live, and deletes scripts: it knows the subscriptions
// that use them.
type ScriptActivator struct {
	*core
	scripts    *ScriptRegistry
	subs       *SubscriptionRegistry
	eventTypes *EventTypeRegistry
}

// SetScriptLive activates a version of a script, a new one or an earlier one. Subscriptions that
// pin no version use it from then on; deliveries in flight are neither lost nor sent twice. Unless
// force is set, the version's test cases must pass: otherwise the error is a CodeConflict with
// their Report. A version that was live before has passed them, or was forced: it only has to
// compile, since a rollback must work when all else fails; the Report, which may be nil then, is
// for information. version is the expected one of the script's record or AnyVersion. Other errors:
// CodeNotFound, CodeStale, and CodeInvalid if a version that was never live does not fit a
// subscription's event types.
func (act *ScriptActivator) SetScriptLive(ctx context.Context, account, idOrName string, number int, version int64, force bool) (*engine.Script, *scripts.TestReport, error) {
	s, err := act.scripts.Script(account, idOrName)
	if err != nil {
		return nil, nil, err
	}
	if number < 1 {
		return nil, nil, engine.Invalid("version", "must be the number of a version, 1 or above")
	}
	v, err := act.store.ScriptVersion(ctx, s.ID, number)
	if err != nil {
		return nil, nil, err
	}
	if !v.LiveAt.IsZero() {
		return act.reactivateVersion(ctx, account, s, v, version, force)
	}
	if err := act.validateForSubscribers(s, v.Source); err != nil {
		return nil, nil, err
	}
	report, err := act.scripts.runCases(ctx, s, v.Cases, v.Source)
	if err != nil {
		return nil, nil, err
	}
	if !report.OK() && !force {
		return nil, report, testFailure(fmt.Sprintf("version %d", number), notActivatedHint, report)
	}
	live, err := act.switchLive(ctx, account, v, version)
	return live, report, err
}

// notActivatedHint completes the error for a version whose test cases fail.
const notActivatedHint = `it does not go live; correct it, or send "force": true`

// reactivateVersion activates an earlier version. Its test cases run afterwards: they may take long, and
// the version to be replaced may keep the sandbox busy.
func (act *ScriptActivator) reactivateVersion(ctx context.Context, account string, s *engine.Script, v *engine.ScriptVersion, version int64, force bool) (*engine.Script, *scripts.TestReport, error) {
	compiling, cancel := context.WithTimeout(ctx, reactivationTimeout)
	defer cancel()
	var se *scripts.Error
	if _, err := act.scripts.CompileScript(compiling, s, v.Source); errors.As(err, &se) && se.ScriptFault() && !force {
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Script: se, Message: fmt.Sprintf("version %d does not compile any more, so %s: %s", v.Number, notActivatedHint, se.Message)}
	}
	live, err := act.switchLive(ctx, account, v, version)
	if err != nil {
		return nil, nil, err
	}
	report, err := act.scripts.runCases(ctx, s, v.Cases, v.Source)
	if err != nil {
		act.log.Warn("a version is live again whose cases could not be run", "script_id", s.ID.Format(engine.ScriptPrefix), "version", v.Number, "error", err)
	}
	return live, report, nil
}

// switchLive activates the version v whose test cases ran without the lock; a change in between is an
// error, not overwritten.
func (act *ScriptActivator) switchLive(ctx context.Context, account string, v *engine.ScriptVersion, version int64) (*engine.Script, error) {
	defer act.changes.lock(ctx)()
	now, err := act.scripts.Script(account, v.Script.Format(engine.ScriptPrefix))
	if err != nil {
		return nil, err
	}
	if version != AnyVersion && version != now.Version {
		return nil, staleVersion("script", now.Version, version)
	}
	if now, err = act.scripts.WithCases(ctx, now); err != nil || now.Live == v.Number {
		return now, err
	}
	if len(act.followers(now.ID)) > 0 {
		if err := act.checkMemory(ctx, now.Account, act.scripts.sizeIfUnused(now.Kind, v)); err != nil {
			return nil, err
		}
	}
	return act.activate(ctx, now, v.Number)
}

// activate makes a version live in all subscriptions that use the script and pin no other; the
// caller holds changes. Waiting deliveries stay queued.
func (act *ScriptActivator) activate(ctx context.Context, old *engine.Script, number int) (*engine.Script, error) {
	s, err := act.scripts.setLive(ctx, old, number)
	if err != nil {
		return nil, err
	}
	for _, user := range act.followers(s.ID) {
		act.subs.replaceCompiled(act.subs.CompileSubscription(user), nil)
	}
	return s, nil
}

// followers returns the subscriptions that use a script's live version.
func (act *ScriptActivator) followers(id engine.ID) []*engine.Subscription {
	live := engine.ScriptRef{Script: id}
	return slices.DeleteFunc(act.subs.ScriptUsers(id), func(s *engine.Subscription) bool {
		return s.FilterScript != live && s.TransformScript != live
	})
}

// DeleteScript removes a script that no subscription uses. Errors: CodeNotFound, CodeStale,
// CodeConflict with the subscriptions.
func (act *ScriptActivator) DeleteScript(ctx context.Context, account, idOrName string, version int64) error {
	defer act.changes.lock(ctx)()
	s, err := act.scripts.Script(account, idOrName)
	if err != nil {
		return err
	}
	if version != AnyVersion && version != s.Version {
		return staleVersion("script", s.Version, version)
	}
	if s, err = act.scripts.WithCases(ctx, s); err != nil {
		return err
	}
	if users := act.subs.ScriptUsers(s.ID); len(users) > 0 {
		return &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("%d subscriptions use this script, %s first among them; let them go without it first", len(users), users[0].ID.Format(engine.SubscriptionPrefix))}
	}
	ctx = act.audited(ctx, engine.KindScript, s.ID.Format(engine.ScriptPrefix), s.Account, s, nil)
	if err := act.store.DeleteScript(ctx, s.ID); err != nil {
		return err
	}
	act.scripts.remove(s.ID)
	act.memory.add(s.Account, -sizeOfScript(s))
	act.subs.listener.ScriptDeleted(s.ID)
	return nil
}

// validateForSubscribers checks a filter against the schemas of the event types of each
// subscription that would use it.
func (act *ScriptActivator) validateForSubscribers(s *engine.Script, source string) error {
	if s.Kind != engine.KindFilter {
		return nil
	}
	for _, sub := range act.subs.ScriptUsers(s.ID) {
		if sub.FilterScript.Version != 0 {
			continue
		}
		if _, err := act.scripts.filters.Compile(source, act.eventTypes.Schemas(sub.Events)...); err != nil {
			var se *scripts.Error
			errors.As(err, &se)
			return &engine.Error{
				Code: engine.CodeInvalid, Field: "version", Script: se,
				Message: fmt.Sprintf("does not suit the event types of %s: %v", sub.ID.Format(engine.SubscriptionPrefix), err),
			}
		}
	}
	return nil
}
