package jobs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"switchhook/engine/snowflake"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// replays holds the unfinished replays. A running one has a goroutine, which alone advances it;
// users only change its status.
type replays struct {
	changes sync.Mutex // held over a change in the store and here
	mu      sync.RWMutex
	byID    map[engine.ID]*engine.Replay // never changed in place
	running map[engine.ID]bool           // ids with a goroutine
	slots   chan struct{}                // one for each replay that is reading
}

const (
	maxConcurrentReplays = 4   // that read at the same time; waiting for the rate or the target needs no slot
	replayPage           = 100 // deliveries or events of one step
	maxReplayBatch       = 32  // enqueued at the same time
	replayRetryDelay     = 100 * time.Millisecond
)

func (p *replays) get(id engine.ID) *engine.Replay {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.byID[id]
}

func (p *replays) set(r *engine.Replay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Status.Finished() {
		delete(p.byID, r.ID)
	} else {
		p.byID[r.ID] = r
	}
}

func (p *replays) unfinished(account string) (n int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, r := range p.byID {
		if r.Account == account {
			n++
		}
	}
	return n
}

// LoadReplays resumes the replays that a previous run left unfinished.
func (replayer *Replayer) LoadReplays(ctx context.Context) error {
	list, err := replayer.store.Replays(ctx, engine.ReplayQuery{Unfinished: true})
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Unreadable != nil { // not even its range is known
			replayer.log.Error("replay not taken up: what is stored of it can't be read", "replay_id", r.ID.Format(engine.ReplayPrefix), "account", r.Account)
			continue
		}
		replayer.replays.set(r)
		if r.Status == engine.ReplayRunning {
			replayer.startReplayTask(r.ID)
		}
	}
	return nil
}

// startReplayTask starts the goroutine of a running replay, unless the earlier one has not ended yet.
func (r *Replayer) startReplayTask(id engine.ID) {
	r.replays.mu.Lock()
	defer r.replays.mu.Unlock()
	if r.replays.running[id] {
		return
	}
	r.replays.running[id] = r.life.Spawn(func() { r.runReplay(id) })
}

// runReplay advances a replay until it is finished or no longer running.
func (replayer *Replayer) runReplay(id engine.ID) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-replayer.life.Stopping():
			cancel()
		case <-ctx.Done():
		}
	}()
	var pace *rate.Limiter
	for {
		r := replayer.running(id)
		if r == nil {
			return
		}
		if pace == nil {
			pace = rate.NewLimiter(rate.Limit(r.Rate), max(1, r.Rate/10))
		}
		next := *r
		again, err := replayer.replayStep(ctx, &next, pace)
		switch {
		case ctx.Err() != nil:
			return // continues from the last stored step
		case err != nil && engine.ErrorCode(err) == engine.CodeConflict:
			next.Status, next.Error = engine.ReplayPaused, err.Error()
		case err != nil:
			replayer.log.Error("replay step failed", "replay_id", id.Format(engine.ReplayPrefix), "error", err)
			again = lifecycle.RecordRetryDelay
		case next.Done == len(next.Subscriptions):
			next.Status, next.FinishedAt = engine.ReplayCompleted, replayer.life.Now()
		}
		if err := replayer.advanceReplay(ctx, r, &next); err != nil {
			replayer.log.Error("replay not stored", "replay_id", id.Format(engine.ReplayPrefix), "error", err)
			again = lifecycle.RecordRetryDelay
		}
		if again > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
	}
}

// running returns a replay with status running. If it has another status, its goroutine is marked
// as ended.
func (replayer *Replayer) running(id engine.ID) *engine.Replay {
	replayer.replays.mu.Lock()
	defer replayer.replays.mu.Unlock()
	r := replayer.replays.byID[id]
	if r == nil || r.Status != engine.ReplayRunning || replayer.life.IsStopping() {
		delete(replayer.replays.running, id)
		return nil
	}
	return r
}

// advanceReplay stores the progress of a replay. If a user changed its status meanwhile, that
// status wins.
func (r *Replayer) advanceReplay(ctx context.Context, old, next *engine.Replay) error {
	if next.Status == old.Status && next.Looked == old.Looked && next.Done == old.Done {
		return nil
	}
	r.replays.changes.Lock()
	defer r.replays.changes.Unlock()
	current, err := r.Replay(ctx, "", old.ID) // from the store if it was cancelled
	if err != nil {
		return err
	}
	if current.Status != old.Status {
		next.Status, next.Error, next.FinishedAt = current.Status, current.Error, current.FinishedAt
	}
	next.UpdatedAt = r.life.Now()
	if err := r.store.PutReplay(ctx, next); err != nil {
		return err
	}
	r.replays.set(next)
	return nil
}

// replayStep processes the next deliveries or events. again is the delay before the next step. A
// CodeConflict says that the replay can't continue without a user.
func (replayer *Replayer) replayStep(ctx context.Context, r *engine.Replay, pace *rate.Limiter) (again time.Duration, err error) {
	if r.Done == len(r.Subscriptions) {
		return 0, nil
	}
	source := replayer.catalog.Lookup(r.Subscriptions[r.Done])
	to := source
	if r.To != 0 {
		to = replayer.catalog.Lookup(r.To)
	}
	switch {
	case to == nil && r.To != 0:
		return 0, &engine.Error{Code: engine.CodeConflict, Message: "the subscription " + r.To.Format(engine.SubscriptionPrefix) + ", to which events are to be sent, was deleted"}
	case source == nil || to == nil: // deleted meanwhile: nothing to replay
		r.Done, r.After, r.First = r.Done+1, 0, 0
		return 0, nil
	case !to.Active:
		return 0, &engine.Error{Code: engine.CodeConflict, Message: "the subscription " + to.ID.Format(engine.SubscriptionPrefix) + " is not active; activate it and resume the replay"}
	case replayer.dispatcher.Waiting(to.ID) >= dispatchqueue.LowWater: // live deliveries go first, the rest waits in the store
		return replayRetryDelay, nil
	}
	list, chosen, more, err := replayer.replayRead(ctx, r, source)
	if err != nil {
		return 0, err
	}
	var queued atomic.Int64
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(maxReplayBatch) // each waits for its commit
	for _, id := range chosen {
		if now := replayer.replays.get(r.ID); now == nil || now.Status != engine.ReplayRunning { // paused or cancelled: stop at once, not after the step
			list, more = slices.DeleteFunc(list, func(d *engine.Delivery) bool { return d.ID.Event >= id }), true
			break
		}
		if err := pace.Wait(ctx); err != nil {
			return 0, errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			ok, err := replayer.requeueForReplay(within, engine.DeliveryID{Event: id, Subscription: to.ID})
			if ok {
				queued.Add(1)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	r.Queued += queued.Load()
	if r.Looked += int64(len(list)); len(list) > 0 {
		r.After = list[len(list)-1].ID.Event
		if r.First == 0 {
			r.First = list[0].ID.Event
		}
	}
	if !more {
		r.Done, r.After, r.First = r.Done+1, 0, 0
	}
	return 0, nil
}

// replayRead reads the next page of a subscription and chooses the events that the replay selects,
// at most one second's worth of its rate: progress is stored after each step. more reports whether
// something may follow. It waits for a slot among all replays.
func (replayer *Replayer) replayRead(ctx context.Context, r *engine.Replay, source *engine.Subscription) (list []*engine.Delivery, chosen []engine.ID, more bool, err error) {
	select {
	case replayer.replays.slots <- struct{}{}:
		defer func() { <-replayer.replays.slots }()
	case <-ctx.Done():
		return nil, nil, false, ctx.Err()
	}
	if list, err = replayer.replayPage(ctx, r, source); err != nil {
		return nil, nil, false, err
	}
	more = len(list) == replayPage
	for i, d := range list {
		switch ok, err := replayer.replaySelects(ctx, r, source, d); {
		case err != nil:
			return nil, nil, false, err
		case !ok:
		case len(chosen) == r.Rate:
			return list[:i], chosen, true, nil
		default:
			chosen = append(chosen, d.ID.Event)
		}
	}
	return list, chosen, more, nil
}

// replayPage reads the next deliveries of a subscription or, for missing deliveries, its account's
// events as deliveries of state 0.
func (replayer *Replayer) replayPage(ctx context.Context, r *engine.Replay, source *engine.Subscription) (list []*engine.Delivery, err error) {
	since, until := r.After+1, snowflake.FirstAt(r.Until)
	if !r.Since.IsZero() {
		since = max(since, snowflake.FirstAt(r.Since))
	}
	if !r.Missing {
		q := engine.HistoryQuery{Subscription: source.ID, Since: since, Until: until, Limit: replayPage}
		if len(r.States) == 1 {
			q.State = r.States[0]
		}
		return replayer.store.History(ctx, q)
	}
	events, err := replayer.store.Events(ctx, engine.EventQuery{Account: source.Account, Since: since, Before: until, Oldest: true, Limit: replayPage})
	for _, ev := range events {
		d := &engine.Delivery{ID: engine.DeliveryID{Event: ev.ID, Subscription: source.ID}, EventType: ev.Type}
		known, err := replayer.store.Delivery(ctx, "", d.ID)
		switch {
		case err == nil:
			d = known
		case engine.ErrorCode(err) != engine.CodeNotFound:
			return nil, err
		}
		list = append(list, d)
	}
	return list, err
}

// replaySelects reports whether the replay selects a delivery.
func (replayer *Replayer) replaySelects(ctx context.Context, r *engine.Replay, source *engine.Subscription, d *engine.Delivery) (bool, error) {
	missing := d.State == 0
	switch {
	case missing && !matchesAny(source.Events, d.EventType), !missing && !slices.Contains(r.States, d.State),
		len(r.EventTypes) > 0 && !matchesAny(r.EventTypes, d.EventType):
		return false, nil
	case missing || r.Filter != "":
		return replayer.passesReplayFilter(ctx, r, source, d.ID.Event, missing)
	}
	return true, nil
}

func matchesAny(patterns []string, eventType string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return engine.MatchesPattern(p, eventType) })
}

// passesReplayFilter reports whether an event passes the replay's filter and, if the subscription
// has no delivery for it, the subscription's filter. A filter that fails passes nothing.
func (replayer *Replayer) passesReplayFilter(ctx context.Context, r *engine.Replay, source *engine.Subscription, id engine.ID, missing bool) (bool, error) {
	ev, err := replayer.store.Event(ctx, "", id)
	if engine.ErrorCode(err) == engine.CodeNotFound { // removed meanwhile
		return false, nil
	}
	if err != nil {
		return false, err
	}
	in := filter.NewInput(catalog.ScriptEvent(ev, jsonindex.Value{}))
	defer in.Release()
	if r.Filter != "" {
		f, err := replayer.catalog.CompileFilter(r.Filter)
		if err != nil {
			return false, err
		}
		if ok, err := f.Match(in); !ok || err != nil {
			return false, nil
		}
	}
	route := replayer.catalog.Compiled(source.ID)
	if !missing || route == nil || route.FilterSource == "" {
		return route != nil, nil
	}
	f, err := replayer.catalog.CompiledFilter(route)
	if err != nil {
		return false, nil
	}
	ok, err := f.Match(in)
	return ok && err == nil, nil
}

// requeueForReplay makes a delivery pending, whatever its state; queued is false if it waits
// already, or its event is deleted.
func (r *Replayer) requeueForReplay(ctx context.Context, id engine.DeliveryID) (queued bool, err error) {
	attempts, reason := 0, ""
	d, err := r.store.Delivery(ctx, "", id)
	switch {
	case err == nil && d.State == engine.StatePending:
		return false, nil
	case err == nil:
		attempts, reason = d.Attempts, d.Error
	case engine.ErrorCode(err) != engine.CodeNotFound:
		return false, err
	}
	err = r.dispatcher.WaitForReplay(ctx, id, attempts, reason)
	if engine.ErrorCode(err) == engine.CodeNotFound { // removed since
		return false, nil
	}
	return err == nil, err
}
