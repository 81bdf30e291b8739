package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"switchhook/scripts/filter"
)

// Replay is a job that sends past events again, or for the first time, to a subscription.
// It goes over them oldest first, at a bounded pace, however many there are; what it has
// done outlives a restart.
type Replay struct {
	ID            ID
	Account       string
	Subscriptions []ID         // whose deliveries are gone over
	To            ID           // the subscription to which they are sent instead; 0: to their own
	Since, Until  time.Time    // of events; Since may be zero
	EventTypes    []string     // or patterns; none: all
	States        []State      // of deliveries that are sent again
	Missing       bool         // as are events that match the subscription and have no delivery to it: from before it was made, or changed
	Filter        string       // expr over the event, besides the subscription's own
	Rate          int          // deliveries a second at most
	Status        ReplayStatus // where the job stands
	Error         string       // why it stands still or failed; empty where a user paused it
	Done          int          // subscriptions that are through
	After         ID           // of the one it is at: events up to here are through
	First         ID           // and where it began
	Looked        int64        // deliveries and events that were looked at
	Queued        int64        // deliveries that were made to wait for an attempt
	CreatedAt     time.Time
	UpdatedAt     time.Time
	FinishedAt    time.Time // zero as long as it is not finished
	Unreadable    []string  // columns that the store could not decode: it does not run
}

// ReplayStatus is where a replay stands.
type ReplayStatus string

// The statuses of a replay.
const (
	ReplayRunning   ReplayStatus = "running"
	ReplayPaused    ReplayStatus = "paused"
	ReplayCompleted ReplayStatus = "completed"
	ReplayCancelled ReplayStatus = "cancelled"
)

// Finished tells whether nothing will follow.
func (s ReplayStatus) Finished() bool { return s == ReplayCompleted || s == ReplayCancelled }

// Progress is how far the replay is, 0 to 1, by the time that its events span.
func (r *Replay) Progress() float64 {
	if r.Status == ReplayCompleted || len(r.Subscriptions) == 0 {
		return 1
	}
	part := 0.0
	if span := r.Until.Sub(r.First.Time()); r.First != 0 && r.After > r.First && span > 0 {
		part = min(1, float64(r.After.Time().Sub(r.First.Time()))/float64(span))
	}
	return (float64(r.Done) + part) / float64(len(r.Subscriptions))
}

const (
	replayRate       = 100    // deliveries a second where none is asked for
	maxReplayRate    = 10_000 // and at most
	replayTargets    = 1000   // subscriptions of one replay
	replayUnfinished = 20     // of one account
	replayTypes      = 100
)

// StartReplay makes a replay and begins it. Errors: CodeInvalid with the field,
// CodeNotFound, CodeBusy where the account has too many that are not finished.
func (e *Engine) StartReplay(ctx context.Context, r Replay) (*Replay, error) {
	r.ID, r.Status, r.CreatedAt = e.ids.Next(), ReplayRunning, e.now()
	r.UpdatedAt = r.CreatedAt
	if err := e.checkReplay(&r); err != nil {
		return nil, err
	}
	e.replays.changes.Lock()
	defer e.replays.changes.Unlock()
	if e.replays.unfinished(r.Account) >= replayUnfinished {
		return nil, &Error{Code: CodeBusy, Message: fmt.Sprintf("this account has %d replays that are not finished; wait for one, or cancel it", replayUnfinished)}
	}
	if err := e.store.PutReplay(ctx, &r); err != nil {
		return nil, err
	}
	e.replays.set(&r)
	e.startReplayTask(r.ID)
	return &r, nil
}

// checkReplay validates r and fills in what it leaves to the router.
func (e *Engine) checkReplay(r *Replay) error {
	if len(r.Subscriptions) == 0 || len(r.Subscriptions) > replayTargets {
		return Invalid("subscriptions", "names %d subscriptions, must name 1 to %d", len(r.Subscriptions), replayTargets)
	}
	for i, id := range r.Subscriptions {
		s := e.registry.subscription(r.Account, id)
		if s == nil {
			return Invalid(fmt.Sprintf("subscriptions[%d]", i), "there is no subscription %q", id.Format(SubscriptionPrefix))
		}
		if r.Account == "" { // an admin's: the job belongs to whom the first belongs to
			r.Account = s.Account
		}
		if slices.Contains(r.Subscriptions[:i], id) {
			return Invalid(fmt.Sprintf("subscriptions[%d]", i), "is named twice")
		}
	}
	if r.To != 0 && e.registry.subscription(r.Account, r.To) == nil {
		return Invalid("to", "there is no subscription %q", r.To.Format(SubscriptionPrefix))
	}
	if r.Until.IsZero() || r.Until.After(r.CreatedAt) {
		r.Until = r.CreatedAt
	}
	if !r.Since.Before(r.Until) {
		return Invalid("since", "must be before until, and in the past")
	}
	if len(r.States) == 0 && !r.Missing {
		r.States = []State{StateDead}
	}
	for i, s := range r.States {
		if s == StatePending || slices.Contains(r.States[:i], s) {
			return Invalid(fmt.Sprintf("delivery_status[%d]", i), `%q can't be replayed: name each of "failed", "succeeded", "dead", "dropped" and "missing" once at most; what is pending waits for its attempt already`, s)
		}
	}
	if len(r.EventTypes) > replayTypes {
		return Invalid("event_types", "names %d event types, %d are allowed", len(r.EventTypes), replayTypes)
	}
	for i, p := range r.EventTypes {
		if !validPattern(p) {
			return Invalid(fmt.Sprintf("event_types[%d]", i), `%.140q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, p)
		}
	}
	if r.Filter = strings.TrimSpace(r.Filter); r.Filter != "" {
		if _, err := filter.Compile(r.Filter); err != nil {
			return scriptError("filter", err)
		}
	}
	switch {
	case r.Rate == 0:
		r.Rate = replayRate
	case r.Rate < 0 || r.Rate > maxReplayRate:
		return Invalid("rate", "is %d deliveries a second, must be 1 to %d", r.Rate, maxReplayRate)
	}
	return nil
}

// Replay finds a replay of an account, or of any where account is empty. It must not be
// changed.
func (e *Engine) Replay(ctx context.Context, account string, id ID) (*Replay, error) {
	r := e.replays.get(id)
	if r == nil {
		var err error
		if r, err = e.store.Replay(ctx, id); err != nil {
			return nil, err
		}
	}
	if account != "" && r.Account != account {
		return nil, NotFound("replay", id.Format(ReplayPrefix))
	}
	return r, nil
}

// Replays lists replays, newest first.
func (e *Engine) Replays(ctx context.Context, q ReplayQuery) ([]*Replay, error) {
	list, err := e.store.Replays(ctx, q)
	for i, r := range list {
		if running := e.replays.get(r.ID); running != nil {
			list[i] = running
		}
	}
	return list, err
}

// PauseReplay stops a replay until ResumeReplay. Errors: CodeNotFound, CodeConflict where
// it is finished.
func (e *Engine) PauseReplay(ctx context.Context, account string, id ID) (*Replay, error) {
	return e.setReplayStatus(ctx, account, id, ReplayPaused)
}

// ResumeReplay lets a replay that was paused go on where it was. Errors as PauseReplay.
func (e *Engine) ResumeReplay(ctx context.Context, account string, id ID) (*Replay, error) {
	return e.setReplayStatus(ctx, account, id, ReplayRunning)
}

// CancelReplay ends a replay; what it has queued is delivered. Errors as PauseReplay.
func (e *Engine) CancelReplay(ctx context.Context, account string, id ID) (*Replay, error) {
	return e.setReplayStatus(ctx, account, id, ReplayCancelled)
}

func (e *Engine) setReplayStatus(ctx context.Context, account string, id ID, to ReplayStatus) (*Replay, error) {
	if _, err := e.Replay(ctx, account, id); err != nil {
		return nil, err
	}
	e.replays.changes.Lock()
	defer e.replays.changes.Unlock()
	current, err := e.Replay(ctx, account, id)
	switch {
	case err != nil:
		return nil, err
	case current.Status.Finished():
		return nil, &Error{Code: CodeConflict, Message: fmt.Sprintf("the replay is %s", current.Status)}
	case current.Status == to:
		return current, nil
	}
	changed := *current
	changed.Status, changed.Error, changed.UpdatedAt = to, "", e.now()
	if to.Finished() {
		changed.FinishedAt = changed.UpdatedAt
	}
	if err := e.store.PutReplay(ctx, &changed); err != nil {
		return nil, err
	}
	e.replays.set(&changed)
	if to == ReplayRunning {
		e.startReplayTask(id)
	}
	return &changed, nil
}
