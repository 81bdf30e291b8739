package jobs

import (
	"context"
	"fmt"
	"math"
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

// replayJob is an unfinished replay. While it runs, its goroutine alone changes it; a command ends
// that goroutine first, so that two never write.
type replayJob struct {
	commands sync.Mutex                    // held over a command of a user
	state    atomic.Pointer[engine.Replay] // as stored; never changed in place
	stop     context.CancelFunc            // ends the run; nil if there was none
	ended    chan struct{}                 // closed when the run has ended
}

const (
	// Replays that read at the same time, of all accounts and of one; waiting for the rate or the target
	// needs no place.
	maxConcurrentReplays, maxAccountReplays = 4, 2

	replayPlaceWait  = time.Minute // then it tries again
	replayPage       = 100         // deliveries or events of one step
	maxReplayBatch   = 32          // enqueued at the same time
	replayRetryDelay = 100 * time.Millisecond
)

// job returns an unfinished replay; nil if there is none.
func (rep *Replayer) job(id engine.ID) *replayJob {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	return rep.jobs[id]
}

// addJob adds an unfinished replay. Error: CodeBusy if its account has most already.
func (rep *Replayer) addJob(r *engine.Replay, most int) (*replayJob, error) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	for _, other := range rep.jobs {
		if other.state.Load().Account == r.Account {
			most--
		}
	}
	if most <= 0 {
		return nil, &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("this account has %d replays that are not finished; wait for one, or cancel it", replayUnfinished)}
	}
	job := &replayJob{}
	job.state.Store(r)
	rep.jobs[r.ID] = job
	return job, nil
}

func (rep *Replayer) removeJob(id engine.ID) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	delete(rep.jobs, id)
}

// LoadReplays resumes the replays that a previous run left unfinished.
func (rep *Replayer) LoadReplays(ctx context.Context) error {
	list, _, err := rep.store.Replays(ctx, engine.ReplayQuery{Unfinished: true})
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Unreadable != nil { // not even its range is known
			rep.log.Error("replay not taken up: what is stored of it can't be read", "replay_id", r.ID.Format(engine.ReplayPrefix), "account", r.Account)
			continue
		}
		if job, _ := rep.addJob(r, math.MaxInt); r.Status == engine.ReplayRunning {
			rep.start(job)
		}
	}
	return nil
}

// start starts the goroutine of a replay that has none.
func (rep *Replayer) start(job *replayJob) {
	ctx, stop := context.WithCancel(rep.life.StopContext())
	ended := make(chan struct{})
	job.stop, job.ended = stop, ended
	run := func() {
		defer close(ended)
		defer stop()
		rep.run(ctx, job)
	}
	if !rep.life.Spawn(run) {
		stop()
		close(ended)
	}
}

// halt ends the goroutine of a replay, once its current step is stored. The caller holds commands.
func (job *replayJob) halt() {
	if job.stop != nil {
		job.stop()
		<-job.ended
	}
}

// save stores a replay and makes it the job's state.
func (rep *Replayer) save(ctx context.Context, job *replayJob, r *engine.Replay) error {
	if err := rep.store.PutReplay(ctx, r); err != nil {
		return err
	}
	job.state.Store(r)
	if r.Status.Finished() {
		rep.removeJob(r.ID)
	}
	return nil
}

// run advances a replay until ctx ends or it is no longer running.
func (rep *Replayer) run(ctx context.Context, job *replayJob) {
	current := job.state.Load()
	log := rep.log.With("replay_id", current.ID.Format(engine.ReplayPrefix))
	pace := rate.NewLimiter(rate.Limit(current.Rate), max(1, current.Rate/10))
	for current.Status == engine.ReplayRunning && ctx.Err() == nil {
		next := *current
		again, err := rep.replayStep(ctx, &next, pace)
		switch {
		case rep.life.IsStopping():
			return // continues from the last stored step
		case err != nil && engine.ErrorCode(err) == engine.CodeConflict:
			next.Status, next.Error = engine.ReplayPaused, err.Error()
		case err != nil:
			log.Error("replay step failed", "error", err)
			again = lifecycle.RecordRetryDelay
		case next.Done == len(next.Subscriptions):
			next.Status, next.FinishedAt = engine.ReplayCompleted, rep.life.Now()
		}
		if next.Status != current.Status || next.Looked != current.Looked || next.Done != current.Done {
			next.UpdatedAt = rep.life.Now()
			if err := rep.save(rep.life.StopContext(), job, &next); err != nil {
				log.Error("replay not stored", "error", err)
				again = lifecycle.RecordRetryDelay
			} else {
				current = &next
			}
		}
		if again > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
	}
}

// replayStep processes the next deliveries or events; it ends early, and returns what it did, once
// ctx ends. again is the delay before the next step. A CodeConflict says that the replay can't
// continue without a user.
func (rep *Replayer) replayStep(ctx context.Context, r *engine.Replay, pace *rate.Limiter) (again time.Duration, err error) {
	if r.Done == len(r.Subscriptions) {
		return 0, nil
	}
	source := rep.catalog.Lookup(r.Subscriptions[r.Done])
	to := source
	if r.To != 0 {
		to = rep.catalog.Lookup(r.To)
	}
	switch {
	case to == nil && r.To != 0:
		return 0, &engine.Error{Code: engine.CodeConflict, Message: "the subscription " + r.To.Format(engine.SubscriptionPrefix) + ", which the events are sent to, was deleted"}
	case source == nil || to == nil: // deleted meanwhile: nothing to replay
		r.Done, r.After, r.First = r.Done+1, 0, 0
		return 0, nil
	case !to.Active:
		return 0, &engine.Error{Code: engine.CodeConflict, Message: "the subscription " + to.ID.Format(engine.SubscriptionPrefix) + " is not active; activate it and resume the replay"}
	case rep.dispatcher.Waiting(to.ID) >= dispatchqueue.LowWater: // live deliveries go first, the rest waits in the store
		return replayRetryDelay, nil
	}
	release, err := rep.places.Acquire(ctx, r.Account, "", 1)
	if err != nil {
		return replayRetryDelay, nil
	}
	list, chosen, more, err := rep.replayRead(rep.life.StopContext(), r, source)
	release()
	switch {
	case engine.ErrorCode(err) == engine.CodeBusy: // the filters had no turn
		return replayRetryDelay, nil
	case err != nil:
		return 0, err
	}
	var queued atomic.Int64
	group, within := errgroup.WithContext(rep.life.StopContext())
	group.SetLimit(maxReplayBatch) // each waits for its commit
	for _, id := range chosen {
		if pace.Wait(ctx) != nil { // paused or cancelled: stop at once, not after the step
			list, more = slices.DeleteFunc(list, func(d *engine.Delivery) bool { return d.ID.Event >= id }), true
			break
		}
		group.Go(func() error {
			ok, err := rep.requeueForReplay(within, engine.DeliveryID{Event: id, Subscription: to.ID})
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
// something may follow.
func (rep *Replayer) replayRead(ctx context.Context, r *engine.Replay, source *engine.Subscription) (list []*engine.Delivery, chosen []engine.ID, more bool, err error) {
	if list, more, err = rep.replayPage(ctx, r, source); err != nil {
		return nil, nil, false, err
	}
	spent := rep.catalog.BeginMatching(ctx, r.Account)
	defer spent.End()
	for i, d := range list {
		switch ok, err := rep.replaySelects(ctx, r, source, d, &spent); {
		case engine.ErrorCode(err) == engine.CodeBusy && i > 0: // the filters go on in the next step
			return list[:i], chosen, true, nil
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
func (rep *Replayer) replayPage(ctx context.Context, r *engine.Replay, source *engine.Subscription) (list []*engine.Delivery, more bool, err error) {
	since, until := r.After+1, snowflake.FirstAt(r.Until)
	if !r.Since.IsZero() {
		since = max(since, snowflake.FirstAt(r.Since))
	}
	if !r.Missing {
		q := engine.HistoryQuery{Subscription: source.ID, Since: since, Until: until, Limit: replayPage}
		if len(r.States) == 1 {
			q.State = r.States[0]
		}
		list, err = rep.store.History(ctx, q)
		return list, len(list) == replayPage, err
	}
	events, next, err := rep.store.Events(ctx, engine.EventQuery{
		Account: source.Account, Since: since, Before: until, Oldest: true, Limit: replayPage, MaxBytes: engine.PageBytes,
	})
	for _, ev := range events {
		d := &engine.Delivery{ID: engine.DeliveryID{Event: ev.ID, Subscription: source.ID}, EventType: ev.Type}
		known, err := rep.store.Delivery(ctx, "", d.ID)
		switch {
		case err == nil:
			d = known
		case engine.ErrorCode(err) != engine.CodeNotFound:
			return nil, false, err
		}
		list = append(list, d)
	}
	return list, next != 0, err
}

// replaySelects reports whether the replay selects a delivery.
func (rep *Replayer) replaySelects(
	ctx context.Context, r *engine.Replay, source *engine.Subscription, d *engine.Delivery, spent *catalog.MatchTime,
) (bool, error) {
	missing := d.State == 0
	switch {
	case missing && !matchesAny(source.Events, d.EventType), !missing && !slices.Contains(r.States, d.State),
		len(r.EventTypes) > 0 && !matchesAny(r.EventTypes, d.EventType):
		return false, nil
	case missing || r.Filter != "":
		return rep.passesReplayFilter(ctx, r, source, d, spent)
	}
	return true, nil
}

func matchesAny(patterns []string, eventType string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return engine.MatchesPattern(p, eventType) })
}

// passesReplayFilter reports whether an event passes the replay's filter and, if the subscription
// has no delivery for it, the subscription's filter. A filter that fails passes nothing.
func (rep *Replayer) passesReplayFilter(
	ctx context.Context, r *engine.Replay, source *engine.Subscription, d *engine.Delivery, spent *catalog.MatchTime,
) (bool, error) {
	missing := d.State == 0
	spent.End() // a turn must not be held while the store is read
	ev, err := rep.store.Event(ctx, "", d.ID.Event)
	if engine.ErrorCode(err) == engine.CodeNotFound { // removed meanwhile
		return false, nil
	}
	if err != nil {
		return false, err
	}
	in := filter.NewInput(catalog.ScriptEvent(ev, jsonindex.Value{}))
	defer in.Release()
	if err := spent.Check(); err != nil {
		return false, err
	}
	if r.Filter != "" {
		f, err := rep.catalog.CompileFilter(r.Filter)
		if err != nil {
			return false, err
		}
		if ok, err := f.Match(in); !ok || err != nil {
			return false, nil
		}
	}
	route := rep.catalog.Compiled(source.ID)
	if !missing || route == nil || route.Filter.Source == "" {
		return route != nil, nil
	}
	f, err := rep.catalog.CompiledFilter(route)
	if err != nil {
		return false, nil
	}
	ok, err := f.Match(in)
	return ok && err == nil, nil
}

// requeueForReplay makes a delivery pending, whatever its state; queued is false if it waits
// already, or its event is deleted.
func (rep *Replayer) requeueForReplay(ctx context.Context, id engine.DeliveryID) (queued bool, err error) {
	attempts, reason := 0, ""
	d, err := rep.store.Delivery(ctx, "", id)
	for err == nil && rep.dispatcher.RetryWait(d) > 0 {
		select {
		case <-time.After(rep.dispatcher.RetryWait(d)):
		case <-ctx.Done():
			return false, ctx.Err()
		}
		d, err = rep.store.Delivery(ctx, "", id)
	}
	switch {
	case err == nil && d.State == engine.StatePending:
		return false, nil
	case err == nil:
		attempts, reason = d.Attempts, d.Error
	case engine.ErrorCode(err) != engine.CodeNotFound:
		return false, err
	}
	err = rep.dispatcher.WaitForReplay(ctx, id, attempts, reason)
	if engine.ErrorCode(err) == engine.CodeNotFound { // removed since
		return false, nil
	}
	return err == nil, err
}
