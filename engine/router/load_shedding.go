package router

import (
	"context"
	"fmt"
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

// loadShedder knows why events can't be accepted at the moment, so that they are refused
// before the disk is full, and not when it is too late to write down what was done.
type loadShedder struct {
	refusal     atomic.Pointer[engine.Error]        // of all events; nil: none
	overBacklog atomic.Pointer[map[string]bool]     // accounts that have too much waiting
	usage       atomic.Pointer[engine.Room]         // as measured last
	waiting     atomic.Pointer[engine.BacklogCount] // of all subscriptions, as counted last
	nearlyFull  chan struct{}                       // holds one where the store is nearly full
	nextCount   time.Time                           // at the backlog; the loop's own
}

// loadLoop measures until the router stops.
func (e *Engine) loadLoop() {
	ctx, cancel := e.stopContext()
	defer cancel()
	for e.sleep(loadInterval) {
		e.refreshLoad(ctx)
		e.lookAtShortages()
	}
}

// refreshLoad looks at the store and the disk, and opens or closes the way for events.
func (e *Engine) refreshLoad(ctx context.Context) {
	refusal := e.checkStore(ctx)
	if e.isStopping() { // its context has ended: what it found means nothing
		return
	}
	before := e.load.refusal.Swap(refusal)
	switch {
	case refusal != nil && (before == nil || before.Message != refusal.Message):
		e.log.Error("events are refused", "reason", refusal.Message)
	case refusal == nil && before != nil:
		e.log.Info("events are accepted again")
	}
	if now := time.Now(); !now.Before(e.load.nextCount) {
		e.countBacklog(ctx)
		e.load.nextCount = time.Now().Add(max(backlogInterval, backlogCostFactor*time.Since(now)))
	}
}

func (e *Engine) checkStore(ctx context.Context) *engine.Error {
	u, err := e.store.Room(ctx)
	if err != nil {
		return &engine.Error{Code: engine.CodeUnavailable, Message: err.Error(), Wait: retryAfterFull}
	}
	e.load.usage.Store(&u)
	if limit := e.cfg.KeepBytes; limit > 0 && u.Bytes > limit/100*pruneThreshold {
		select {
		case e.load.nearlyFull <- struct{}{}:
		default: // it is being looked at
		}
	}
	switch {
	case u.DiskFree < e.cfg.MinFreeDisk:
		return &engine.Error{Code: engine.CodeUnavailable, Wait: retryAfterFull, Message: fmt.Sprintf(
			"the disk that holds the database has less than %d MB left; nothing was stored, send the event again later", e.cfg.MinFreeDisk>>20)}
	case e.cfg.KeepBytes > 0 && u.Bytes > e.cfg.KeepBytes:
		return &engine.Error{Code: engine.CodeUnavailable, Wait: retryAfterFull, Message: fmt.Sprintf(
			"the database has reached its limit of %d MB, and what is in it is not finished yet, or not removed; nothing was stored, send the event again later", e.cfg.KeepBytes>>20)}
	}
	return nil
}

// countBacklog counts what waits. Above the limit, the accounts that have more than
// their share of it are refused: one whose targets are down does not silence the others.
func (e *Engine) countBacklog(ctx context.Context) {
	open, err := e.store.OpenDeliveries(ctx)
	if err != nil {
		if !e.isStopping() {
			e.log.Error("waiting deliveries not counted", "error", err)
		}
		return
	}
	var all engine.BacklogCount
	accounts := map[string]int64{}
	for id, o := range open {
		n := o.Pending + o.Failed
		all.Pending += o.Pending
		all.Failed += o.Failed
		if s := e.registry.subscription("", id); s != nil {
			accounts[s.Account] += n
		}
	}
	e.load.waiting.Store(&all)
	total := all.Pending + all.Failed
	crowded := map[string]bool{}
	if limit := e.cfg.MaxBacklog; limit > 0 && total > limit {
		for account, n := range accounts {
			if n*int64(len(accounts)) >= limit {
				crowded[account] = true
			}
		}
	}
	if before := e.load.overBacklog.Swap(&crowded); len(crowded) > 0 && (before == nil || len(*before) == 0) {
		e.log.Error("events of some accounts are refused: too many deliveries wait", "waiting", total, "limit", e.cfg.MaxBacklog, "accounts", len(crowded))
	}
}

// checkAdmission refuses an account's events where they could not be kept.
func (e *Engine) checkAdmission(account string) error {
	if refusal := e.load.refusal.Load(); refusal != nil {
		return refusal
	}
	if crowded := e.load.overBacklog.Load(); crowded != nil && (*crowded)[account] {
		return &engine.Error{Code: engine.CodeBusy, Wait: backlogInterval, Message: fmt.Sprintf(
			"too many deliveries of account %q wait; nothing was stored, send the event again later, and see which targets don't answer", account)}
	}
	return nil
}
