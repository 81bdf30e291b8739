package jobs

import (
	"cmp"
	"context"
	"log/slog"
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
	// ended, or were retained for their dead letters.
	pruneAgain = time.Hour
	// prunePause is the minimum pause between two steps, which leaves most of the writer's time to
	// others: a step takes 3 to 10 ms of it.
	prunePause = 20 * time.Millisecond
	// compactAfterIdle is the pause in freeing space after nothing could be removed.
	compactAfterIdle = time.Minute
	// The store may keep some free space, which new events use without growing the file.
	slackPart = 10
	minSlack  = 8 << 20
)

// retention removes finished events that are old, or that exceed the space. Its fields belong to
// the one goroutine that runs it.
type retention struct {
	*Pruner
	cursor engine.ID // events up to here were examined in this round
	round  time.Time // when the round began
	idle   time.Time // no further attempt to free space before this: the last removed nothing
}

// RetentionLoop prunes until the router stops.
func (p *Pruner) RetentionLoop() {
	r := retention{Pruner: p}
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
		if err := run(ctx, p.pauseAfter); err != nil && !p.life.IsStopping() {
			p.log.Error("old events not removed", "error", err)
		}
	}
}

// pauseAfter sleeps after a step, at least as long as the step took, since a busy store takes
// longer.
func (p *Pruner) pauseAfter(took time.Duration) bool {
	return p.life.Sleep(max(took, prunePause))
}

// PruneNow removes everything that retention allows, without pauses.
func (p *Pruner) PruneNow(ctx context.Context) error {
	r := retention{Pruner: p}
	return r.run(ctx, func(time.Duration) bool { return true })
}

// run removes everything that retention allows. After each step it calls rest, which reports
// whether to continue.
func (r *retention) run(ctx context.Context, rest func(took time.Duration) bool) error {
	for _, part := range []func(context.Context, func(time.Duration) bool) error{r.removeOld, r.removeAudit, r.removeRequests, r.freeSpace, r.compact} {
		if err := part(ctx, rest); err != nil {
			return err
		}
	}
	return nil
}

// removeOld removes events whose retention is over.
func (r *retention) removeOld(ctx context.Context, rest func(time.Duration) bool) error {
	now := r.cfg.Now()
	least, any := r.catalog.LeastRetention(r.cfg.Retention)
	if !any {
		return nil
	}
	if now.Sub(r.round) >= pruneAgain || now.Before(r.round) {
		r.cursor, r.round = 0, now
	}
	q := engine.PruneQuery{After: r.cursor, Before: snowflake.FirstAt(now.Add(-least)), Remove: func(account string, dead bool, last time.Time) bool {
		keep := r.retentionOf(account, dead)
		return keep > 0 && now.Sub(last) >= keep
	}}
	cursor, _, err := r.prune(ctx, q, rest, nil)
	r.cursor = cursor
	return err
}

// removeAudit removes audit entries whose retention is over. Nothing else removes any, not even a
// full store: an attacker who can fill it could hide his changes.
func (r *retention) removeAudit(ctx context.Context, rest func(time.Duration) bool) error {
	keep := r.cfg.KeepAudit
	if keep <= 0 {
		return nil
	}
	before := snowflake.FirstAt(r.cfg.Now().Add(-keep))
	return repeat(rest, func() (bool, error) { return r.store.PruneAudit(ctx, before) })
}

// repeat runs step until nothing is left or rest says that it is enough.
func repeat(rest func(took time.Duration) bool, step func() (more bool, err error)) error {
	for {
		began := time.Now()
		if more, err := step(); err != nil || !more || !rest(time.Since(began)) {
			return err
		}
	}
}

// removeRequests removes stored responses whose time is over.
func (r *retention) removeRequests(ctx context.Context, rest func(time.Duration) bool) error {
	before := snowflake.FirstAt(r.cfg.Now().Add(-engine.IdempotencyWindow))
	return repeat(rest, func() (bool, error) { return r.store.PruneRequests(ctx, before) })
}

// freeSpace removes finished events of any age, oldest first, when the store is nearly full.
func (r *retention) freeSpace(ctx context.Context, rest func(time.Duration) bool) error {
	limit, now := r.cfg.KeepBytes, r.cfg.Now()
	if limit == 0 || now.Before(r.idle) && r.idle.Sub(now) <= compactAfterIdle { // or the clock was set back
		return nil
	}
	above := func(part int64) (bool, error) {
		u, err := r.store.Room(ctx)
		return u.Bytes > limit/100*part, err
	}
	full, err := above(ingest.PruneThreshold)
	if err != nil || !full {
		return err
	}
	q := engine.PruneQuery{Before: snowflake.FirstAt(now), Remove: func(string, bool, time.Time) bool { return true }}
	_, removed, err := r.prune(ctx, q, rest, func() (bool, error) { return above(ingest.PruneTarget) })
	if removed == 0 {
		r.idle = now.Add(compactAfterIdle)
	} else {
		r.log.Warn("finished events removed before their time: the database has reached 90 % of its limit", "events", removed, "limit_bytes", limit)
	}
	return err
}

// prune runs steps until no events are left to examine, or more says that it is enough.
func (r *retention) prune(ctx context.Context, q engine.PruneQuery, rest func(time.Duration) bool, more func() (bool, error)) (cursor engine.ID, removed int, err error) {
	for {
		began := time.Now()
		p, err := r.store.Prune(ctx, q)
		if err != nil {
			return q.After, removed, err
		}
		removed += p.Events
		r.metrics.Removed.Add(float64(p.Events))
		r.metrics.RemovedBytes.Add(float64(p.Bytes))
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

// compact shrinks the file: some space stays for new events, none if the disk is short of it.
func (r *retention) compact(ctx context.Context, rest func(time.Duration) bool) error {
	u, err := r.store.Room(ctx)
	if err != nil {
		return err
	}
	keep := max(u.Bytes/slackPart, minSlack)
	if u.DiskFree < r.cfg.MinFreeDisk {
		keep = 0
	}
	return repeat(rest, func() (bool, error) { return r.store.Compact(ctx, keep) })
}

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
