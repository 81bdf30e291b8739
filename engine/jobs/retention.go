package jobs

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/ingest"
	"switchhook/engine/lifecycle"
	"switchhook/engine/settings"
	"switchhook/engine/snowflake"
	"switchhook/engine/telemetry"
)

// Pruner removes events and audit entries whose retention is over.
type Pruner struct {
	cfg     settings.Config
	store   engine.Store
	log     *slog.Logger
	metrics *telemetry.Metrics
	life    *lifecycle.Lifecycle
	catalog *catalog.Catalog
	load    *ingest.LoadShedder
	lag     atomic.Int64 // how long the events that were removed last had waited for it
	running sync.Mutex   // held over a run: two at once would remove what is too much twice
}

// PrunerParts are the parts of the router that a Pruner uses.
type PrunerParts struct {
	Metrics     *telemetry.Metrics
	Lifecycle   *lifecycle.Lifecycle
	Catalog     *catalog.Catalog
	LoadShedder *ingest.LoadShedder
}

// NewPruner returns a Pruner.
func NewPruner(cfg settings.Config, p PrunerParts) *Pruner {
	return &Pruner{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, metrics: p.Metrics, life: p.Lifecycle, catalog: p.Catalog, load: p.LoadShedder,
	}
}

const (
	// pruneAgain is how often events are examined again that were unfinished when their retention
	// ended; it is shorter if they are retained for less than two hours.
	pruneAgain = time.Hour
	// pruneAtLatest is when all events that stay are examined again, since a retry by hand may have
	// changed their retention.
	pruneAtLatest = 24 * time.Hour
	// restFactor is how many times as long as a step the router rests after it, unless it is behind.
	restFactor = 9
	// exhaustedFactor is how many times as long as it took to find no more finished events of an
	// account, they are not looked for again.
	exhaustedFactor = 50
	// The store may keep some free space, which new events use without growing the file.
	slackPart = 10
	minSlack  = 8 << 20
)

// retention removes finished events that are old, or that exceed the space. Its fields belong to
// the one goroutine that runs it.
type retention struct {
	*Pruner
	rest    func(time.Duration) bool // sleeps; reports whether to continue
	most    time.Duration            // of one part of a run, so that the others have their turn; 0: no limit
	cursor  engine.ID                // events up to here were examined
	kept    keptSpans                // those of them that stayed
	changes int64                    // of the accounts' retention, when cursor was 0
	round   time.Time                // when cursor was 0

	// Accounts of which no more could be removed to make room, until they are examined again; those
	// that store the most, 1,000 at a time.
	exhausted map[string]time.Time
}

// RetentionLoop prunes until the router stops.
func (p *Pruner) RetentionLoop() {
	r := retention{Pruner: p, rest: p.life.Sleep, most: p.cfg.PruneEvery, exhausted: map[string]time.Time{}}
	ctx := p.life.StopContext()
	ticker := time.NewTicker(p.cfg.PruneEvery)
	defer ticker.Stop()
	for {
		run := r.run
		select {
		case <-p.life.Stopping():
			return
		case <-ticker.C:
		case <-p.load.StoreNearlyFull(): // a busy publisher may fill the rest before the next run
			run = r.freeSpace
		}
		if err := p.alone(ctx, run); err != nil && !p.life.IsStopping() {
			p.log.Error("old events not removed", "error", err)
		}
	}
}

// alone calls run while no other run is in progress.
func (p *Pruner) alone(ctx context.Context, run func(context.Context) error) error {
	p.running.Lock()
	defer p.running.Unlock()
	return run(ctx)
}

// PruneNow removes everything that retention allows, without pauses.
func (p *Pruner) PruneNow(ctx context.Context) error {
	r := retention{Pruner: p, rest: func(time.Duration) bool { return true }, exhausted: map[string]time.Time{}}
	return p.alone(ctx, r.run)
}

// run removes everything that retention allows, but gives no part of that more than its time: the
// next run continues.
func (r *retention) run(ctx context.Context) error {
	for _, part := range []func(context.Context) error{r.removeOld, r.removeAudit, r.removeRequests, r.freeSpace, r.compact} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// repeat runs step until it says that nothing is left, or the time of this part of a run is over.
// Step returns how long to rest after it. done is false if there may be more.
func (r *retention) repeat(step func() (rest time.Duration, more bool, err error)) (done bool, err error) {
	began := time.Now()
	for {
		rest, more, err := step()
		if err != nil || !more {
			return err == nil, err
		}
		if !r.rest(rest) || r.timeIsOver(began) {
			return false, nil
		}
	}
}

// timeIsOver reports whether a part of a run that began at a time must leave the rest to the next run.
func (r *retention) timeIsOver(began time.Time) bool { return r.most > 0 && time.Since(began) > r.most }

// small makes a step for repeat of one that takes about a millisecond of the writer's time.
func small(step func() (more bool, err error)) func() (time.Duration, bool, error) {
	return func() (time.Duration, bool, error) {
		began := time.Now()
		more, err := step()
		return restFactor / 3 * time.Since(began), more, err // it includes waiting for the writer
	}
}

// removeOld removes events whose retention is over.
func (r *retention) removeOld(ctx context.Context) error {
	now := r.cfg.Now()
	least, any := r.catalog.LeastRetention(r.cfg.Retention)
	if !any {
		return nil
	}
	changes := r.catalog.RetentionChanges()
	if age := now.Sub(r.round); age < 0 || changes != r.changes && age >= pruneAgain {
		r.cursor, r.kept, r.round, r.changes = 0, nil, now, changes
	}
	again := min(pruneAgain, max(least/2, r.cfg.PruneEvery))
	spans := r.kept
	r.kept = nil
	for i, s := range spans {
		if s.due.After(now) {
			r.kept.add(s)
			continue
		}
		last, done, err := r.examine(ctx, s, now, again)
		if !done {
			r.kept.add(keptSpan{last, s.last, s.due})
			for _, s := range spans[i+1:] {
				r.kept.add(s)
			}
			return err
		}
	}
	last, done, err := r.examine(ctx, keptSpan{after: r.cursor, last: snowflake.FirstAt(now.Add(-least)) - 1}, now, again)
	if r.cursor = last; done {
		r.lag.Store(0)
	}
	return err
}

// examine removes the events of a span whose retention is over, and remembers those that stay. It
// returns the last event that it examined.
func (r *retention) examine(ctx context.Context, s keptSpan, now time.Time, again time.Duration) (last engine.ID, done bool, err error) {
	var due, oldest time.Time // of those that stay, and of those that are removed
	sooner := func(t *time.Time, other time.Time) {
		if t.IsZero() || other.Before(*t) {
			*t = other
		}
	}
	q := engine.PruneQuery{After: s.after, Before: s.last + 1, Remove: func(account string, dead bool, last time.Time) bool {
		keep := r.retentionOf(account, dead)
		if keep > 0 && now.Sub(last) >= keep {
			sooner(&oldest, last.Add(keep))
			return true
		}
		if sooner(&due, now.Add(pruneAtLatest)); keep > 0 {
			sooner(&due, last.Add(keep))
		}
		return false
	}}
	done, err = r.repeat(func() (time.Duration, bool, error) {
		due, oldest = time.Time{}, time.Time{}
		p, rest, err := r.prune(ctx, q, r.effortFor(r.RetentionLag()))
		if err != nil {
			return 0, false, err
		}
		if p.Unfinished > 0 {
			sooner(&due, now)
		}
		if !due.IsZero() { // a little later, most of the span is due together
			if due = due.Add(again / 60); due.Before(now.Add(again)) {
				due = now.Add(again)
			}
			r.kept.add(keptSpan{q.After, p.Last, due})
		}
		if oldest.Before(s.due) { // it was not looked for before
			oldest = s.due
		}
		if q.After = p.Last; p.Events > 0 {
			r.lag.Store(int64(now.Sub(oldest)))
		}
		return rest, p.More, nil
	})
	return q.After, done, err
}

// effort is how much of the writer's time removal takes: a step works for about work, then rests for
// rest times as long as it worked.
type effort struct {
	work time.Duration
	rest int
}

var (
	gentle = effort{time.Millisecond, restFactor} // removes some 10,000 events/s, and publishing hardly notices
	brisk  = effort{4 * time.Millisecond, 1}
	full   = effort{4 * time.Millisecond, 0}
)

// effortFor returns the effort for events that could have been removed some time ago.
func (r *retention) effortFor(lag time.Duration) effort {
	switch {
	case lag > 6*r.cfg.PruneEvery:
		return full
	case lag > 2*r.cfg.PruneEvery:
		return brisk
	}
	return gentle
}

// prune runs one step and returns how long to rest after it.
func (r *retention) prune(ctx context.Context, q engine.PruneQuery, e effort) (p engine.Pruned, rest time.Duration, err error) {
	q.Work = e.work
	began := time.Now()
	p, err = r.store.Prune(ctx, q)
	if err != nil {
		return p, 0, err
	}
	r.metrics.Removed.Add(float64(p.Events))
	r.metrics.RemovedBytes.Add(float64(p.Bytes))
	if p.Events == 0 { // it only read
		return p, time.Since(began), nil
	}
	return p, time.Duration(e.rest) * p.Worked, nil
}

// removeAudit removes audit entries whose retention is over. Nothing else removes any, not even a
// full store: an attacker who can fill it could hide his changes.
func (r *retention) removeAudit(ctx context.Context) error {
	keep := r.cfg.KeepAudit
	if keep <= 0 {
		return nil
	}
	before := snowflake.FirstAt(r.cfg.Now().Add(-keep))
	_, err := r.repeat(small(func() (bool, error) { return r.store.PruneAudit(ctx, before) }))
	return err
}

// removeRequests removes stored responses whose time is over.
func (r *retention) removeRequests(ctx context.Context) error {
	before := snowflake.FirstAt(r.cfg.Now().Add(-engine.IdempotencyWindow))
	_, err := r.repeat(small(func() (bool, error) { return r.store.PruneRequests(ctx, before) }))
	return err
}

// freeSpace removes finished events of any age, oldest first, of the accounts that store more than
// their share while space is short. However many these are, it takes the time of one part of a run:
// events whose retention is over go first.
func (r *retention) freeSpace(ctx context.Context) error {
	now, began := r.cfg.Now(), time.Now()
	maps.DeleteFunc(r.exhausted, func(_ string, until time.Time) bool {
		return !now.Before(until) || until.Sub(now) > time.Hour // the clock was set back
	})
	without := map[string]bool(nil)
	for {
		s, err := r.load.MeasureShortage(ctx, without)
		if err != nil || !s.Remove {
			return err
		}
		removed := 0
		for _, over := range s.Over {
			if _, ok := r.exhausted[over.Account]; ok {
				continue
			}
			n, err := r.removeEarly(ctx, over, now)
			if removed += n; err != nil || r.timeIsOver(began) {
				return err
			}
		}
		if !s.Others || removed == 0 && len(without) == len(r.exhausted) || r.life.IsStopping() {
			return nil
		}
		without = make(map[string]bool, len(r.exhausted))
		for account := range r.exhausted {
			without[account] = true
		}
	}
}

// removeEarly removes finished events of an account that stores more than its share.
func (r *retention) removeEarly(ctx context.Context, over ingest.Excess, now time.Time) (removed int, err error) {
	q := engine.PruneQuery{Account: over.Account, Before: snowflake.FirstAt(now), Remove: func(string, bool, time.Time) bool { return true }}
	began, freed := time.Now(), int64(0)
	_, err = r.repeat(func() (time.Duration, bool, error) {
		q.Bytes = over.Bytes - freed
		p, rest, err := r.prune(ctx, q, brisk)
		removed, freed, q.After = removed+p.Events, freed+p.Bytes, p.Last
		if err == nil && !p.More && freed < over.Bytes {
			r.exhausted[over.Account] = now.Add(max(time.Second, exhaustedFactor*time.Since(began)))
		}
		return rest, p.More && freed < over.Bytes, err
	})
	if removed > 0 {
		r.metrics.RemovedEarly.Add(float64(removed))
		r.log.Warn("finished events removed before their time: space is short, and their account stores more than its share",
			"account", over.Account, "events", removed, "bytes", freed)
	}
	return removed, err
}

// compact shrinks the file: some space stays for new events.
func (r *retention) compact(ctx context.Context) error {
	u, err := r.store.Room(ctx)
	if err != nil {
		return err
	}
	keep := max(u.Bytes/slackPart, minSlack)
	if u.DiskFree < r.cfg.MinFreeDisk { // enough for new events, even if others take what the disk gets
		keep = r.cfg.MinFreeDisk
	}
	_, err = r.repeat(small(func() (bool, error) { return r.store.Compact(ctx, keep) }))
	return err
}

// RetentionLag returns how far removal is behind: for how long the events that are removed now could
// have been. 0 means that nothing waits.
func (p *Pruner) RetentionLag() time.Duration { return time.Duration(p.lag.Load()) }

// retentionOf returns the retention of an account's finished events; 0 or less is forever.
func (p *Pruner) retentionOf(account string, dead bool) time.Duration {
	set := p.catalog.Account(account)
	if set.Unreadable != nil { // its retention is unknown
		return 0
	}
	own, standard := set.Retention, p.cfg.Retention
	if dead {
		return cmp.Or(own.Dead, standard.Dead)
	}
	return cmp.Or(own.Succeeded, standard.Succeeded)
}
