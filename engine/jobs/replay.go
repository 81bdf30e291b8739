// Package jobs runs background jobs over many stored events: replays and retention.
package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/lifecycle"
	"switchhook/engine/settings"
	"switchhook/scripts/filter"
)

// Replayer runs replays.
type Replayer struct {
	store      engine.Store
	log        *slog.Logger
	life       *lifecycle.Lifecycle
	catalog    *catalog.Catalog
	dispatcher *dispatch.Dispatcher

	replays replays
}

// NewReplayer returns a Replayer without replays; LoadReplays reads them.
func NewReplayer(cfg settings.Config, store engine.Store, catalog *catalog.Catalog, dispatcher *dispatch.Dispatcher, life *lifecycle.Lifecycle) *Replayer {
	return &Replayer{
		store: store, log: cfg.Logger, life: life, catalog: catalog, dispatcher: dispatcher,
		replays: replays{byID: map[engine.ID]*engine.Replay{}, running: map[engine.ID]bool{}, slots: make(chan struct{}, maxConcurrentReplays)},
	}
}

const (
	replayRate       = 100    // default deliveries a second
	maxReplayRate    = 10_000 // maximum deliveries a second
	replayTargets    = 1000   // subscriptions of one replay
	replayUnfinished = 20     // unfinished replays of one account
	replayTypes      = 100
)

// StartReplay creates and starts a replay. Errors: CodeInvalid with the field, CodeNotFound,
// CodeBusy if the account has too many unfinished replays.
func (replayer *Replayer) StartReplay(ctx context.Context, r engine.Replay) (*engine.Replay, error) {
	r.ID, r.Status, r.CreatedAt = replayer.catalog.NewID(), engine.ReplayRunning, replayer.life.Now()
	r.UpdatedAt = r.CreatedAt
	replayer.normalizeReplay(&r)
	if err := replayer.validateReplay(&r); err != nil {
		return nil, err
	}
	replayer.replays.changes.Lock()
	defer replayer.replays.changes.Unlock()
	if replayer.replays.unfinished(r.Account) >= replayUnfinished {
		return nil, &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("this account has %d replays that are not finished; wait for one, or cancel it", replayUnfinished)}
	}
	if err := replayer.store.PutReplay(ctx, &r); err != nil {
		return nil, err
	}
	replayer.replays.set(&r)
	replayer.startReplayTask(r.ID)
	return &r, nil
}

// normalizeReplay fills in the defaults of r.
func (replayer *Replayer) normalizeReplay(r *engine.Replay) {
	if r.Account == "" && len(r.Subscriptions) > 0 { // an admin's: the job belongs to the account of the first subscription
		if s := replayer.catalog.Lookup(r.Subscriptions[0]); s != nil {
			r.Account = s.Account
		}
	}
	if r.Until.IsZero() || r.Until.After(r.CreatedAt) {
		r.Until = r.CreatedAt
	}
	if len(r.States) == 0 && !r.Missing {
		r.States = []engine.State{engine.StateDead}
	}
	if r.Rate == 0 {
		r.Rate = replayRate
	}
	r.Filter = strings.TrimSpace(r.Filter)
}

// validateReplay validates r. Error: CodeInvalid with every field that is wrong.
func (replayer *Replayer) validateReplay(r *engine.Replay) error {
	errs := replayer.validateReplayTargets(r)
	if !r.Since.Before(r.Until) {
		errs.Add("since", engine.FieldOutOfRange, "must be before until, and in the past")
	}
	for i, s := range r.States {
		if s == engine.StatePending || slices.Contains(r.States[:i], s) {
			errs.Add(fmt.Sprintf("delivery_status[%d]", i), engine.FieldInvalid, `%q can't be replayed: name each of "retrying", "succeeded", "dead", "dropped" and "missing" once at most; what is pending waits for its attempt already`, s)
		}
	}
	if len(r.EventTypes) > replayTypes {
		errs.Add("event_types", engine.FieldTooMany, "names %d event types, %d are allowed", len(r.EventTypes), replayTypes)
	}
	for i, p := range r.EventTypes {
		if !engine.ValidPattern(p) {
			errs.Add(fmt.Sprintf("event_types[%d]", i), engine.FieldInvalid, `%.140q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, p)
		}
	}
	if r.Rate < 0 || r.Rate > maxReplayRate {
		errs.Add("rate", engine.FieldOutOfRange, "is %d deliveries a second, must be 1 to %d", r.Rate, maxReplayRate)
	}
	if r.Filter != "" {
		if _, err := filter.Compile(r.Filter); err != nil {
			if err = errs.Take(catalog.ScriptError("filter", err)); err != nil {
				return err
			}
		}
	}
	return errs.Err()
}

func (replayer *Replayer) validateReplayTargets(r *engine.Replay) (errs engine.FieldErrors) {
	if n := len(r.Subscriptions); n == 0 {
		errs.Add("subscriptions", engine.FieldRequired, "names %d subscriptions, must name 1 to %d", n, replayTargets)
	} else if n > replayTargets {
		errs.Add("subscriptions", engine.FieldTooMany, "names %d subscriptions, must name 1 to %d", n, replayTargets)
		return errs
	}
	for i, id := range r.Subscriptions {
		if replayer.catalog.LookupOf(r.Account, id) == nil {
			errs.Add(fmt.Sprintf("subscriptions[%d]", i), engine.FieldUnknown, "there is no subscription %q", id.Format(engine.SubscriptionPrefix))
		} else if slices.Contains(r.Subscriptions[:i], id) {
			errs.Add(fmt.Sprintf("subscriptions[%d]", i), engine.FieldDuplicate, "is named twice")
		}
	}
	if r.To != 0 && replayer.catalog.LookupOf(r.Account, r.To) == nil {
		errs.Add("to", engine.FieldUnknown, "there is no subscription %q", r.To.Format(engine.SubscriptionPrefix))
	}
	return errs
}

// Replay returns a replay of an account, or of any if account is empty. It must not be changed.
func (replayer *Replayer) Replay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	r := replayer.replays.get(id)
	if r == nil {
		var err error
		if r, err = replayer.store.Replay(ctx, id); err != nil {
			return nil, err
		}
	}
	if account != "" && r.Account != account {
		return nil, engine.NotFound("replay", id.Format(engine.ReplayPrefix))
	}
	return r, nil
}

// Replays lists replays, newest first.
func (replayer *Replayer) Replays(ctx context.Context, q engine.ReplayQuery) ([]*engine.Replay, error) {
	list, err := replayer.store.Replays(ctx, q)
	for i, r := range list {
		if running := replayer.replays.get(r.ID); running != nil {
			list[i] = running
		}
	}
	return list, err
}

// PauseReplay stops a replay until ResumeReplay. Errors: CodeNotFound, CodeConflict if it is
// finished.
func (r *Replayer) PauseReplay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	return r.setReplayStatus(ctx, account, id, engine.ReplayPaused)
}

// ResumeReplay continues a paused replay from its last position. Errors as PauseReplay.
func (r *Replayer) ResumeReplay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	return r.setReplayStatus(ctx, account, id, engine.ReplayRunning)
}

// CancelReplay ends a replay; deliveries that it has enqueued are made. Errors as PauseReplay.
func (r *Replayer) CancelReplay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	return r.setReplayStatus(ctx, account, id, engine.ReplayCancelled)
}

func (r *Replayer) setReplayStatus(ctx context.Context, account string, id engine.ID, to engine.ReplayStatus) (*engine.Replay, error) {
	if _, err := r.Replay(ctx, account, id); err != nil {
		return nil, err
	}
	r.replays.changes.Lock()
	defer r.replays.changes.Unlock()
	current, err := r.Replay(ctx, account, id)
	switch {
	case err != nil:
		return nil, err
	case current.Status.Finished():
		return nil, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("the replay is %s", current.Status)}
	case current.Status == to:
		return current, nil
	}
	changed := *current
	changed.Status, changed.Error, changed.UpdatedAt = to, "", r.life.Now()
	if to.Finished() {
		changed.FinishedAt = changed.UpdatedAt
	}
	if err := r.store.PutReplay(ctx, &changed); err != nil {
		return nil, err
	}
	r.replays.set(&changed)
	if to == engine.ReplayRunning {
		r.startReplayTask(id)
	}
	return &changed, nil
}
