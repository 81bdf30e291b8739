// Package jobs runs background jobs over many stored events: replays and retention.
package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
	"switchhook/engine/settings"
	"switchhook/engine/telemetry"
	"switchhook/scripts/filter"
)

// Replayer runs replays.
type Replayer struct {
	store      engine.Store
	log        *slog.Logger
	life       *lifecycle.Lifecycle
	catalog    *catalog.Catalog
	dispatcher *dispatch.Dispatcher
	places     *fairlimit.Limiter // one for each replay that is reading

	mu   sync.Mutex
	jobs map[engine.ID]*replayJob // unfinished replays
}

// NewReplayer returns a Replayer without replays; LoadReplays reads them.
func NewReplayer(cfg settings.Config, catalog *catalog.Catalog, dispatcher *dispatch.Dispatcher, life *lifecycle.Lifecycle) *Replayer {
	places := fairlimit.New(fairlimit.Limits{
		Units: maxConcurrentReplays, PerAccount: maxAccountReplays, Wait: replayPlaceWait,
	})
	cfg.Registerer.MustRegister(telemetry.NewPlacesCollector("replays", places))
	return &Replayer{
		store: cfg.Store, log: cfg.Logger, life: life, catalog: catalog, dispatcher: dispatcher,
		places: places, jobs: map[engine.ID]*replayJob{},
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
// CodeBusy if the account has too many unfinished replays, CodeStorageFull.
func (rep *Replayer) StartReplay(ctx context.Context, r engine.Replay) (*engine.Replay, error) {
	r.ID, r.Status, r.CreatedAt = rep.catalog.NewID(), engine.ReplayRunning, rep.life.Now()
	r.UpdatedAt = r.CreatedAt
	rep.normalizeReplay(&r)
	if err := rep.validateReplay(&r); err != nil {
		return nil, err
	}
	job, err := rep.addJob(&r, replayUnfinished)
	if err != nil {
		return nil, err
	}
	job.commands.Lock()
	defer job.commands.Unlock()
	if err := rep.store.PutReplay(rep.catalog.WithStorageLimit(ctx, r.Account), &r); err != nil {
		rep.removeJob(r.ID)
		return nil, err
	}
	rep.start(job)
	return &r, nil
}

// normalizeReplay fills in the defaults of r.
func (rep *Replayer) normalizeReplay(r *engine.Replay) {
	if r.Account == "" && len(r.Subscriptions) > 0 { // an admin's: the job belongs to the account of the first subscription
		if s := rep.catalog.Lookup(r.Subscriptions[0]); s != nil {
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
func (rep *Replayer) validateReplay(r *engine.Replay) error {
	errs := rep.validateReplayTargets(r)
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

func (rep *Replayer) validateReplayTargets(r *engine.Replay) (errs engine.FieldErrors) {
	if n := len(r.Subscriptions); n == 0 {
		errs.Add("subscription_ids", engine.FieldRequired, "names %d subscriptions, must name 1 to %d", n, replayTargets)
	} else if n > replayTargets {
		errs.Add("subscription_ids", engine.FieldTooMany, "names %d subscriptions, must name 1 to %d", n, replayTargets)
		return errs
	}
	for i, id := range r.Subscriptions {
		if rep.catalog.LookupOf(r.Account, id) == nil {
			errs.Add(fmt.Sprintf("subscription_ids[%d]", i), engine.FieldUnknown, "there is no subscription %q", id.Format(engine.SubscriptionPrefix))
		} else if slices.Contains(r.Subscriptions[:i], id) {
			errs.Add(fmt.Sprintf("subscription_ids[%d]", i), engine.FieldDuplicate, "is named twice")
		}
	}
	if r.To != 0 && rep.catalog.LookupOf(r.Account, r.To) == nil {
		errs.Add("target_subscription_id", engine.FieldUnknown, "there is no subscription %q", r.To.Format(engine.SubscriptionPrefix))
	}
	return errs
}

// Replay returns a replay of an account, or of any if account is empty. It must not be changed.
func (rep *Replayer) Replay(ctx context.Context, account string, id engine.ID) (r *engine.Replay, err error) {
	if job := rep.job(id); job != nil {
		r = job.state.Load()
	} else if r, err = rep.store.Replay(ctx, id); err != nil {
		return nil, err
	}
	if account != "" && r.Account != account {
		return nil, engine.NotFound("replay", id.Format(engine.ReplayPrefix))
	}
	return r, nil
}

// Replays lists replays, newest first. next is the cursor of the rest.
func (rep *Replayer) Replays(ctx context.Context, q engine.ReplayQuery) (list []*engine.Replay, next engine.ID, err error) {
	list, next, err = rep.store.Replays(ctx, q)
	for i, r := range list {
		if job := rep.job(r.ID); job != nil {
			list[i] = job.state.Load()
		}
	}
	return list, next, err
}

// PauseReplay stops a replay until ResumeReplay. Errors: CodeNotFound, CodeConflict if it is
// finished.
func (rep *Replayer) PauseReplay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	return rep.setReplayStatus(ctx, account, id, engine.ReplayPaused)
}

// ResumeReplay continues a paused replay from its last position. Errors as PauseReplay.
func (rep *Replayer) ResumeReplay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	return rep.setReplayStatus(ctx, account, id, engine.ReplayRunning)
}

// CancelReplay ends a replay; deliveries that it has enqueued are made. Errors as PauseReplay.
func (rep *Replayer) CancelReplay(ctx context.Context, account string, id engine.ID) (*engine.Replay, error) {
	return rep.setReplayStatus(ctx, account, id, engine.ReplayCancelled)
}

// setReplayStatus ends the run of a replay, changes its status, and starts it again if that is
// running.
func (rep *Replayer) setReplayStatus(ctx context.Context, account string, id engine.ID, to engine.ReplayStatus) (*engine.Replay, error) {
	current, err := rep.Replay(ctx, account, id)
	if err != nil {
		return nil, err
	}
	job := rep.job(id)
	if job == nil {
		return nil, replayFinished(current)
	}
	job.commands.Lock()
	defer job.commands.Unlock()
	if current = job.state.Load(); current.Status == to {
		return current, nil
	}
	job.halt()
	if current = job.state.Load(); current.Status.Finished() {
		return nil, replayFinished(current)
	}
	changed := *current
	changed.Status, changed.Error, changed.UpdatedAt = to, "", rep.life.Now()
	if to.Finished() {
		changed.FinishedAt = changed.UpdatedAt
	}
	err = rep.save(ctx, job, &changed)
	if job.state.Load().Status == engine.ReplayRunning { // resumed, or the change was not stored
		rep.start(job)
	}
	if err != nil {
		return nil, err
	}
	return &changed, nil
}

func replayFinished(r *engine.Replay) error {
	return &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("the replay is %s", r.Status)}
}
