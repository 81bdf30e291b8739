package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/lifecycle"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
)

// LoadShedder rejects events while they could not be stored or delivered: the store or the disk is
// full, or an account's backlog is too large.
type LoadShedder struct {
	cfg       settings.Config
	store     engine.Store
	log       *slog.Logger
	life      *lifecycle.Lifecycle
	catalog   *catalog.Catalog
	resources *resources.Tracker

	refusal     atomic.Pointer[engine.Error]        // of all events; nil: accepted
	room        atomic.Pointer[roomState]           // of the last measurement
	admitted    atomic.Int64                        // bytes of events that it may not contain
	settled     atomic.Int64                        // those of them that were stored or refused by now
	wake        chan struct{}                       // contains a value if the space is to be measured at once
	overBacklog atomic.Pointer[map[string]bool]     // accounts whose backlog is too large
	usage       atomic.Pointer[engine.Room]         // of the last measurement
	waiting     atomic.Pointer[engine.BacklogCount] // of all subscriptions, at the last count
	nearlyFull  chan struct{}                       // contains a value while the store is nearly full
	nextCount   time.Time                           // of the backlog; owned by loadLoop

	measuring  sync.Mutex // held while the space is measured
	nextShares time.Time  // when accounts' shares may be computed again

	mu     sync.Mutex
	recent map[string]int64 // bytes admitted since the last measurement, by account, while space runs short
}

// NewLoadShedder returns a LoadShedder that admits everything until its first measurement.
func NewLoadShedder(cfg settings.Config, catalog *catalog.Catalog, resources *resources.Tracker, life *lifecycle.Lifecycle) *LoadShedder {
	return &LoadShedder{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, catalog: catalog, resources: resources, life: life,
		nearlyFull: make(chan struct{}, 1), wake: make(chan struct{}, 1), recent: map[string]int64{},
	}
}

const (
	// loadInterval is how often the disk is measured, or this soon after much was published.
	loadInterval, leastLoadInterval = time.Second, 20 * time.Millisecond
	// backlogInterval is how often waiting deliveries are counted, or less often if that is slow: a
	// million took 0.3 s, and counting should take at most 2 % of the time.
	backlogInterval   = 5 * time.Second
	backlogCostFactor = 50
	// rowBytes is about what an event with one delivery takes beside its data.
	rowBytes = 600
	// The Wait of a rejected publisher. The condition ends by itself, or by an operator's action.
	retryAfterFull = 30 * time.Second
)

// LoadLoop measures until the router stops.
func (l *LoadShedder) LoadLoop() {
	ctx := l.life.StopContext()
	tick := time.NewTicker(loadInterval)
	defer tick.Stop()
	for l.life.Sleep(leastLoadInterval) {
		select {
		case <-l.life.Stopping():
			return
		case <-tick.C:
		case <-l.wake:
		}
		l.RefreshLoad(ctx)
		l.resources.CurrentShortages()
	}
}

// RefreshLoad measures the store and the disk, and admits or rejects events.
func (l *LoadShedder) RefreshLoad(ctx context.Context) {
	refusal := l.checkStore(ctx)
	if l.life.IsStopping() { // its context has ended, so the result is invalid
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
		l.CountBacklog(ctx)
		l.nextCount = time.Now().Add(max(backlogInterval, backlogCostFactor*time.Since(now)))
	}
}

func (l *LoadShedder) checkStore(ctx context.Context) *engine.Error {
	if err := l.refreshRoom(ctx); err != nil {
		return &engine.Error{Code: engine.CodeUnavailable, Message: err.Error(), Wait: retryAfterFull}
	}
	var full *engine.Error
	errors.As(l.room.Load().check("", 0, 0), &full)
	return full
}

// CountBacklog counts waiting deliveries. Above the limit, accounts with more than their share are
// rejected: an account whose targets are down must not stop the others.
func (l *LoadShedder) CountBacklog(ctx context.Context) {
	open, err := l.store.OpenDeliveries(ctx)
	if err != nil {
		if !l.life.IsStopping() {
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
		if s := l.catalog.Lookup(id); s != nil {
			accounts[s.Account] += n
		}
	}
	l.waiting.Store(&all)
	total := all.Pending + all.Failed
	crowded := map[string]bool{}
	if limit := l.cfg.MaxBacklog; limit > 0 && total > limit {
		share := FairShare(slices.Collect(maps.Values(accounts)), limit)
		for account, n := range accounts {
			if n > share {
				crowded[account] = true
			}
		}
	}
	if before := l.overBacklog.Swap(&crowded); len(crowded) > 0 && (before == nil || len(*before) == 0) {
		l.log.Error("events of some accounts are refused: too many deliveries wait", "waiting", total, "limit", l.cfg.MaxBacklog, "accounts", len(crowded))
	}
}

// Admit rejects an account's event of some bytes if it could not be stored or delivered. Otherwise
// Settle must be called with what it returns, once the event is stored or will not be.
func (l *LoadShedder) Admit(account string, bytes int) (admitted int64, err error) {
	if refusal := l.refusal.Load(); refusal != nil {
		return 0, refusal
	}
	if crowded := l.overBacklog.Load(); crowded != nil && (*crowded)[account] {
		return 0, &engine.Error{Code: engine.CodeBusy, Wait: backlogInterval, Message: fmt.Sprintf(
			"too many deliveries of account %q wait; nothing was stored, send the event again later, and see which targets don't answer", account)}
	}
	admitted = int64(bytes) + rowBytes
	all, room := l.admitted.Add(admitted), l.room.Load()
	if room != nil && all > room.ample {
		if err := l.admitShort(room, account, admitted, all); err != nil {
			l.admitted.Add(-admitted)
			return 0, err
		}
	}
	return admitted, nil
}

// Settle ends what Admit began: the next measurement of the store contains the event.
func (l *LoadShedder) Settle(admitted int64) { l.settled.Add(admitted) }

// AccountsRefused returns how many accounts are refused because they use more than their share.
func (l *LoadShedder) AccountsRefused() int {
	refused := map[string]bool{}
	if room := l.room.Load(); room != nil && l.admitted.Load() > room.left.bytes {
		maps.Copy(refused, room.over)
	}
	if crowded := l.overBacklog.Load(); crowded != nil {
		maps.Copy(refused, *crowded)
	}
	return len(refused)
}

// StoreNearlyFull receives a value while finished events are to be removed to make room.
func (l *LoadShedder) StoreNearlyFull() <-chan struct{} { return l.nearlyFull }

// CurrentRefusal returns why all events are refused; nil if they are accepted.
func (l *LoadShedder) CurrentRefusal() *engine.Error { return l.refusal.Load() }

// LastUsage returns the space of the store at the last measurement; nil before that.
func (l *LoadShedder) LastUsage() *engine.Room { return l.usage.Load() }

// RefreshStore measures the store and the disk.
func (l *LoadShedder) RefreshStore(ctx context.Context) { l.refusal.Store(l.checkStore(ctx)) }
