package router

import (
	"context"
	"fmt"
	"log/slog"
	"switchhook/engine"
	"sync/atomic"
	"time"
)

const (
	// loadInterval is how often the disk is measured.
	loadInterval = time.Second
	// backlogInterval is how often waiting deliveries are counted, or less often where that
	// takes long: a million of them took 0.3 s, and counting is to take 2 % of the time.
	backlogInterval   = 5 * time.Second
	backlogCostFactor = 50
	// What a publisher that is refused is told to wait. It passes by itself, or by what
	// an operator does.
	retryAfterFull = 30 * time.Second
)

// loadLoop measures until the router stops.
func (l *LoadShedder) loadLoop() {
	ctx, cancel := l.life.stopContext()
	defer cancel()
	for l.life.sleep(loadInterval) {
		l.refreshLoad(ctx)
		l.resources.lookAtShortages()
	}
}

// refreshLoad looks at the store and the disk, and opens or closes the way for events.
func (l *LoadShedder) refreshLoad(ctx context.Context) {
	refusal := l.checkStore(ctx)
	if l.life.isStopping() { // its context has ended: what it found means nothing
		return
	}
	before := l.refusal.Swap(refusal)
	switch {
	case refusal != nil && (before == nil || before.Message != refusal.Message):
		l.log.Error("events are refused", "reason", refusal.Message)
	case refusal == nil && before != nil:
		l.log.Info("events are accepted again")
	}
	if now := time.Now(); !now.Before(l.nextCount) {
		l.countBacklog(ctx)
		l.nextCount = time.Now().Add(max(backlogInterval, backlogCostFactor*time.Since(now)))
	}
}

func (l *LoadShedder) checkStore(ctx context.Context) *engine.Error {
	u, err := l.store.Room(ctx)
	if err != nil {
		return &engine.Error{Code: engine.CodeUnavailable, Message: err.Error(), Wait: retryAfterFull}
	}
	l.usage.Store(&u)
	if limit := l.cfg.KeepBytes; limit > 0 && u.Bytes > limit/100*pruneThreshold {
		select {
		case l.nearlyFull <- struct{}{}:
		default: // it is being looked at
		}
	}
	switch {
	case u.DiskFree < l.cfg.MinFreeDisk:
		return &engine.Error{Code: engine.CodeUnavailable, Wait: retryAfterFull, Message: fmt.Sprintf(
			"the disk that holds the database has less than %d MB left; nothing was stored, send the event again later", l.cfg.MinFreeDisk>>20)}
	case l.cfg.KeepBytes > 0 && u.Bytes > l.cfg.KeepBytes:
		return &engine.Error{Code: engine.CodeUnavailable, Wait: retryAfterFull, Message: fmt.Sprintf(
			"the database has reached its limit of %d MB, and what is in it is not finished yet, or not removed; nothing was stored, send the event again later", l.cfg.KeepBytes>>20)}
	}
	return nil
}

// countBacklog counts what waits. Above the limit, the accounts that have more than
// their share of it are refused: one whose targets are down does not silence the others.
func (l *LoadShedder) countBacklog(ctx context.Context) {
	open, err := l.store.OpenDeliveries(ctx)
	if err != nil {
		if !l.life.isStopping() {
			l.log.Error("waiting deliveries not counted", "error", err)
		}
		return
	}
	var all engine.BacklogCount
	accounts := map[string]int64{}
	for id, o := range open {
		n := o.Pending + o.Failed
		all.Pending += o.Pending
		all.Failed += o.Failed
		if s := l.catalog.lookup(id); s != nil {
			accounts[s.Account] += n
		}
	}
	l.waiting.Store(&all)
	total := all.Pending + all.Failed
	crowded := map[string]bool{}
	if limit := l.cfg.MaxBacklog; limit > 0 && total > limit {
		for account, n := range accounts {
			if n*int64(len(accounts)) >= limit {
				crowded[account] = true
			}
		}
	}
	if before := l.overBacklog.Swap(&crowded); len(crowded) > 0 && (before == nil || len(*before) == 0) {
		l.log.Error("events of some accounts are refused: too many deliveries wait", "waiting", total, "limit", l.cfg.MaxBacklog, "accounts", len(crowded))
	}
}

// checkAdmission refuses an account's events where they could not be kept.
func (l *LoadShedder) checkAdmission(account string) error {
	if refusal := l.refusal.Load(); refusal != nil {
		return refusal
	}
	if crowded := l.overBacklog.Load(); crowded != nil && (*crowded)[account] {
		return &engine.Error{Code: engine.CodeBusy, Wait: backlogInterval, Message: fmt.Sprintf(
			"too many deliveries of account %q wait; nothing was stored, send the event again later, and see which targets don't answer", account)}
	}
	return nil
}

// LoadShedder refuses events while they could not be kept: the store or the disk is full, or
// too many deliveries of an account wait.
type LoadShedder struct {
	cfg       Config
	store     engine.Store
	log       *slog.Logger
	life      *Lifecycle
	catalog   *Catalog
	resources *ResourceMonitor

	refusal     atomic.Pointer[engine.Error]        // of all events; nil: none
	overBacklog atomic.Pointer[map[string]bool]     // accounts that have too much waiting
	usage       atomic.Pointer[engine.Room]         // as measured last
	waiting     atomic.Pointer[engine.BacklogCount] // of all subscriptions, as counted last
	nearlyFull  chan struct{}                       // holds one while the store is nearly full
	nextCount   time.Time                           // of the backlog; owned by loadLoop
}

func newLoadShedder(cfg Config, catalog *Catalog, life *Lifecycle) *LoadShedder {
	return &LoadShedder{resources: catalog.resources, cfg: cfg, store: catalog.store, log: cfg.Logger, life: life, catalog: catalog, nearlyFull: make(chan struct{}, 1)}
}

// storeNearlyFull receives a value while the store is nearly full.
func (l *LoadShedder) storeNearlyFull() <-chan struct{} { return l.nearlyFull }

// currentRefusal returns why all events are refused; nil if they are accepted.
func (l *LoadShedder) currentRefusal() *engine.Error { return l.refusal.Load() }

// lastUsage returns the space of the store as it was measured last; nil before that.
func (l *LoadShedder) lastUsage() *engine.Room { return l.usage.Load() }

// pruneThreshold and pruneTarget are parts of the limit, in percent: from the one on room is
// made, until it is at the other. At the limit itself events are refused.
const pruneThreshold, pruneTarget = 90, 85
