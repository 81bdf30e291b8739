package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// pressureEvery is how often the disk is measured.
	pressureEvery = time.Second
	// backlogEvery is how often waiting deliveries are counted, or less often where that
	// takes long: a million of them took 0.3 s, and counting is to take 2 % of the time.
	backlogEvery = 5 * time.Second
	backlogPart  = 50
	// What a publisher that is refused is told to wait. It passes by itself, or by what
	// an operator does.
	retryWhenFull = 30 * time.Second
)

// pressure knows why events can't be accepted at the moment, so that they are refused
// before the disk is full, and not when it is too late to write down what was done.
type pressure struct {
	refusal  atomic.Pointer[Error]           // of all events; nil: none
	crowded  atomic.Pointer[map[string]bool] // accounts that have too much waiting
	room     atomic.Pointer[Room]            // as measured last
	waiting  atomic.Pointer[OpenCount]       // of all subscriptions, as counted last
	short    chan struct{}                   // holds one where the store is nearly full
	nextLook time.Time                       // at the backlog; the loop's own
}

// pressureLoop measures until the router stops.
func (e *Engine) pressureLoop() {
	ctx, cancel := e.untilStopped()
	defer cancel()
	for e.rest(pressureEvery) {
		e.measure(ctx)
		e.lookAtShortages()
	}
}

// measure looks at the store and the disk, and opens or closes the way for events.
func (e *Engine) measure(ctx context.Context) {
	refusal := e.measureStore(ctx)
	if e.closing() { // its context has ended: what it found means nothing
		return
	}
	before := e.pressure.refusal.Swap(refusal)
	switch {
	case refusal != nil && (before == nil || before.Message != refusal.Message):
		e.log.Error("events are refused", "reason", refusal.Message)
	case refusal == nil && before != nil:
		e.log.Info("events are accepted again")
	}
	if now := time.Now(); !now.Before(e.pressure.nextLook) {
		e.measureBacklog(ctx)
		e.pressure.nextLook = time.Now().Add(max(backlogEvery, backlogPart*time.Since(now)))
	}
}

func (e *Engine) measureStore(ctx context.Context) *Error {
	u, err := e.store.Room(ctx)
	if err != nil {
		return &Error{Code: CodeUnavailable, Message: err.Error(), Wait: retryWhenFull}
	}
	e.pressure.room.Store(&u)
	if limit := e.cfg.KeepBytes; limit > 0 && u.Bytes > limit/100*nearlyFull {
		select {
		case e.pressure.short <- struct{}{}:
		default: // it is being looked at
		}
	}
	switch {
	case u.DiskFree < e.cfg.MinFreeDisk:
		return &Error{Code: CodeUnavailable, Wait: retryWhenFull, Message: fmt.Sprintf(
			"the disk that holds the database has less than %d MB left; nothing was stored, send the event again later", e.cfg.MinFreeDisk>>20)}
	case e.cfg.KeepBytes > 0 && u.Bytes > e.cfg.KeepBytes:
		return &Error{Code: CodeUnavailable, Wait: retryWhenFull, Message: fmt.Sprintf(
			"the database has reached its limit of %d MB, and what is in it is not finished yet, or not removed; nothing was stored, send the event again later", e.cfg.KeepBytes>>20)}
	}
	return nil
}

// measureBacklog counts what waits. Above the limit, the accounts that have more than
// their share of it are refused: one whose targets are down does not silence the others.
func (e *Engine) measureBacklog(ctx context.Context) {
	open, err := e.store.OpenDeliveries(ctx)
	if err != nil {
		if !e.closing() {
			e.log.Error("waiting deliveries not counted", "error", err)
		}
		return
	}
	var all OpenCount
	accounts := map[string]int64{}
	for id, o := range open {
		n := o.Pending + o.Failed
		all.Pending += o.Pending
		all.Failed += o.Failed
		if s := e.registry.subscription("", id); s != nil {
			accounts[s.Account] += n
		}
	}
	e.pressure.waiting.Store(&all)
	total := all.Pending + all.Failed
	crowded := map[string]bool{}
	if limit := e.cfg.MaxBacklog; limit > 0 && total > limit {
		for account, n := range accounts {
			if n*int64(len(accounts)) >= limit {
				crowded[account] = true
			}
		}
	}
	if before := e.pressure.crowded.Swap(&crowded); len(crowded) > 0 && (before == nil || len(*before) == 0) {
		e.log.Error("events of some accounts are refused: too many deliveries wait", "waiting", total, "limit", e.cfg.MaxBacklog, "accounts", len(crowded))
	}
}

// roomFor refuses an account's events where they could not be kept.
func (e *Engine) roomFor(account string) error {
	if refusal := e.pressure.refusal.Load(); refusal != nil {
		return refusal
	}
	if crowded := e.pressure.crowded.Load(); crowded != nil && (*crowded)[account] {
		return &Error{Code: CodeBusy, Wait: backlogEvery, Message: fmt.Sprintf(
			"too many deliveries of account %q wait; nothing was stored, send the event again later, and see which targets don't answer", account)}
	}
	return nil
}
