package router

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// pruneEvery is how often it is looked for what may be removed. (A variable for tests.)
var pruneEvery = 10 * time.Second

const (
	// pruneAgain is how often events are looked at again that were not finished when they
	// became old, or were kept for their dead letters.
	pruneAgain = time.Hour
	// prunePause is the least pause between two steps, which leaves most of the writer's
	// time to others: a step takes 3 to 10 ms of it.
	prunePause = 20 * time.Millisecond
	// pruneThreshold and pruneTarget are parts of the limit, in percent: from the one on room is
	// made, until it is at the other. At the limit itself events are refused.
	pruneThreshold, pruneTarget = 90, 85
	// compactAfterIdle is how long no room is looked for after none was found.
	compactAfterIdle = time.Minute
	// The store may keep some free room, which new events take without growing the file.
	slackPart = 10
	minSlack  = 8 << 20
)

// retention removes what is finished and old, or finished and too much. Its fields belong
// to the one goroutine that runs it.
type retention struct {
	engine *Engine
	cursor engine.ID // events up to here were looked at in this round
	round  time.Time // when the round began
	idle   time.Time // no look for more room before that: the last found nothing
}

// retentionLoop prunes until the router stops.
func (e *Engine) retentionLoop() {
	r := retention{engine: e}
	ctx, cancel := e.stopContext()
	defer cancel()
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		run := r.run
		select {
		case <-e.stop:
			return
		case <-ticker.C:
		case <-e.load.nearlyFull: // a busy publisher fills the rest before the next look
			run = r.freeSpace
		}
		if err := run(ctx, e.sleepUnlessPending); err != nil && !e.isStopping() {
			e.log.Error("old events not removed", "error", err)
		}
	}
}

// stopContext gives a context that ends when the router stops.
func (e *Engine) stopContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-e.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// sleep sleeps; false says that the router stops.
func (e *Engine) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-e.stop:
		return false
	case <-timer.C:
		return true
	}
}

// sleepUnlessPending rests after a step: as long as it took, for a busy store takes longer.
func (e *Engine) sleepUnlessPending(took time.Duration) bool { return e.sleep(max(took, prunePause)) }

// run removes all that may go by now. After each step it asks rest whether to go on.
func (r *retention) run(ctx context.Context, rest func(took time.Duration) bool) error {
	if err := r.removeOld(ctx, rest); err != nil {
		return err
	}
	if err := r.removeAudit(ctx, rest); err != nil {
		return err
	}
	if err := r.removeRequests(ctx, rest); err != nil {
		return err
	}
	if err := r.freeSpace(ctx, rest); err != nil {
		return err
	}
	return r.compact(ctx, rest)
}

// removeOld removes events that were kept long enough.
func (r *retention) removeOld(ctx context.Context, rest func(time.Duration) bool) error {
	now := r.engine.cfg.Now()
	least, any := r.engine.leastRetention()
	if !any {
		return nil
	}
	if now.Sub(r.round) >= pruneAgain || now.Before(r.round) {
		r.cursor, r.round = 0, now
	}
	q := engine.PruneQuery{After: r.cursor, Before: snowflake.FirstAt(now.Add(-least)), Remove: func(account string, dead bool, last time.Time) bool {
		keep := r.engine.retentionOf(account, dead)
		return keep > 0 && now.Sub(last) >= keep
	}}
	cursor, _, err := r.prune(ctx, q, rest, nil)
	r.cursor = cursor
	return err
}

// removeAudit removes entries of the audit log that were kept long enough. Nothing else
// removes any, a full store neither: whoever can fill it could hide what they did.
func (r *retention) removeAudit(ctx context.Context, rest func(time.Duration) bool) error {
	keep := r.engine.cfg.KeepAudit
	if keep <= 0 {
		return nil
	}
	before := snowflake.FirstAt(r.engine.cfg.Now().Add(-keep))
	for {
		began := time.Now()
		more, err := r.engine.store.PruneAudit(ctx, before)
		if err != nil || !more || !rest(time.Since(began)) {
			return err
		}
	}
}

// removeRequests removes answers that were kept long enough.
func (r *retention) removeRequests(ctx context.Context, rest func(time.Duration) bool) error {
	before := snowflake.FirstAt(r.engine.cfg.Now().Add(-engine.IdempotencyWindow))
	for {
		began := time.Now()
		more, err := r.engine.store.PruneRequests(ctx, before)
		if err != nil || !more || !rest(time.Since(began)) {
			return err
		}
	}
}

// freeSpace removes finished events of any age, oldest first, when the store is nearly full.
func (r *retention) freeSpace(ctx context.Context, rest func(time.Duration) bool) error {
	limit, now := r.engine.cfg.KeepBytes, r.engine.cfg.Now()
	if limit == 0 || now.Before(r.idle) && r.idle.Sub(now) <= compactAfterIdle { // or the clock was set back
		return nil
	}
	above := func(part int64) (bool, error) {
		u, err := r.engine.store.Room(ctx)
		return u.Bytes > limit/100*part, err
	}
	full, err := above(pruneThreshold)
	if err != nil || !full {
		return err
	}
	q := engine.PruneQuery{Before: snowflake.FirstAt(now), Remove: func(string, bool, time.Time) bool { return true }}
	_, removed, err := r.prune(ctx, q, rest, func() (bool, error) { return above(pruneTarget) })
	if removed == 0 {
		r.idle = now.Add(compactAfterIdle)
	} else {
		r.engine.log.Warn("finished events removed before their time: the database has reached 90 % of its limit", "events", removed, "limit_bytes", limit)
	}
	return err
}

// prune makes steps until there is nothing left to look at, or more says that it is enough.
func (r *retention) prune(ctx context.Context, q engine.PruneQuery, rest func(time.Duration) bool, more func() (bool, error)) (cursor engine.ID, removed int, err error) {
	for {
		began := time.Now()
		p, err := r.engine.store.Prune(ctx, q)
		if err != nil {
			return q.After, removed, err
		}
		removed += p.Events
		r.engine.metrics.removed.Add(float64(p.Events))
		r.engine.metrics.removedBytes.Add(float64(p.Bytes))
		if q.After = p.Last; !p.More {
			return q.After, removed, nil
		}
		if more != nil {
			if again, err := more(); err != nil || !again {
				return q.After, removed, err
			}
		}
		if !rest(time.Since(began)) {
			return q.After, removed, nil
		}
	}
}

// compact lets the file follow: some room stays for new events, none where the disk is
// short of it.
func (r *retention) compact(ctx context.Context, rest func(time.Duration) bool) error {
	u, err := r.engine.store.Room(ctx)
	if err != nil {
		return err
	}
	keep := max(u.Bytes/slackPart, minSlack)
	if u.DiskFree < r.engine.cfg.MinFreeDisk {
		keep = 0
	}
	for {
		began := time.Now()
		more, err := r.engine.store.Compact(ctx, keep)
		if err != nil || !more || !rest(time.Since(began)) {
			return err
		}
	}
}

// retentionOf tells how long an account's finished events are kept; 0 or less is for ever.
func (e *Engine) retentionOf(account string, dead bool) time.Duration {
	set := e.Account(account)
	if set.Unreadable != nil { // nobody knows how long it is to be kept
		return 0
	}
	own, standard := set.Retention, e.cfg.Retention
	if dead {
		return orDefault(own.Dead, standard.Dead)
	}
	return orDefault(own.Succeeded, standard.Succeeded)
}

func orDefault(own, standard time.Duration) time.Duration {
	if own != 0 {
		return own
	}
	return standard
}

// leastRetention is the shortest time for which anything is kept; any is false where
// everything is kept for ever.
func (e *Engine) leastRetention() (least time.Duration, any bool) {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	consider := func(r engine.Retention) {
		for _, d := range []time.Duration{r.Succeeded, r.Dead} {
			if d > 0 && (!any || d < least) {
				least, any = d, true
			}
		}
	}
	consider(e.cfg.Retention)
	for _, a := range e.registry.accounts {
		consider(a.Retention)
	}
	return least, any
}
