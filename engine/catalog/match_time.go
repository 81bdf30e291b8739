package catalog

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
	"switchhook/engine/telemetry"
)

// MatchTimeout limits the time of all filters over all events of one Publish, and that of waiting for
// a turn to run them. One filter takes at most 5 ms, but an account may have many.
const MatchTimeout = 5 * time.Second

const (
	// matchFree is how long the filters and keys of one Publish run without a turn: 1,000 filters of
	// an event take less.
	matchFree = 2 * time.Millisecond
	// matchTurn is how long they run in a turn, if others wait for one.
	matchTurn = 10 * time.Millisecond
	// matchWaiting is how many requests of one account may wait for a turn.
	matchWaiting = 256
)

var (
	// ErrFiltersTooSlow rejects events whose filters took longer than MatchTimeout.
	ErrFiltersTooSlow = &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("the filters of this account took more than %s for these events, so none was stored; publish fewer at a time, or simplify the filters", MatchTimeout)}
	// ErrMatchBusy rejects events whose filters did not get the turns to run.
	ErrMatchBusy = &engine.Error{Code: engine.CodeBusy, Message: "the events of this account have costly filters, and too many of them are being matched, so none of these was stored; publish fewer at a time, or simplify the filters"}
)

// newMatchTurns returns the limiter of what costly filters take: the CPUs except one, which is for
// all the rest.
func newMatchTurns(metrics prometheus.Registerer) *fairlimit.Limiter {
	units := int64(max(1, runtime.GOMAXPROCS(0)-1))
	turns := fairlimit.New(fairlimit.Limits{
		Units: units, PerAccount: max(1, units-1), Wait: MatchTimeout, MaxWaiting: matchWaiting,
	})
	metrics.MustRegister(telemetry.NewPlacesCollector("matching", turns))
	return turns
}

// MatchTime is the time that an operation of an account, such as a Publish, spends on filters and
// keys. What takes long waits for a turn, so that it slows its own account and not all others; the
// rest takes no lock.
type MatchTime struct {
	turns   *fairlimit.Limiter
	ctx     context.Context // ends when the router stops, and with it the wait for a turn
	account string
	began   time.Time // of the turn, or of the time before the first one
	until   time.Time // the time is up, without what was spent waiting
	waited  time.Duration
	release func() // nil: it has no turn
}

// BeginMatching begins the time of an operation; End must be called after it.
func (reg *SubscriptionRegistry) BeginMatching(ctx context.Context, account string) MatchTime {
	now := time.Now()
	return MatchTime{turns: reg.matchTurns, ctx: ctx, account: account, began: now, until: now.Add(MatchTimeout)}
}

// AcquireMatching waits for a turn to run a filter in the background, where nothing is free. Errors:
// CodeBusy, and the cause for which ctx ended.
func (reg *SubscriptionRegistry) AcquireMatching(ctx context.Context, account string) (release func(), err error) {
	release, err = reg.matchTurns.Acquire(ctx, account, "", 1)
	switch {
	case err == nil:
		return release, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf(
		"too many costly filters are running, and this one had no turn for %s; try again in a moment", MatchTimeout)}
}

// For sets the account whose events are matched next.
func (m *MatchTime) For(account string) {
	if m.account != account {
		m.End()
		m.account = account
	}
}

// Check must be called before each filter and key. The error is ErrFiltersTooSlow, ErrMatchBusy, or that
// the router stops.
func (m *MatchTime) Check() error {
	now := time.Now()
	ran := now.Sub(m.began)
	switch {
	case now.After(m.until):
		return ErrFiltersTooSlow
	case ran < matchFree || m.release != nil && ran < matchTurn:
		return nil
	}
	m.End()
	release, err := m.turns.Acquire(m.ctx, m.account, "", 1)
	switch {
	case m.ctx.Err() != nil && err != nil:
		return lifecycle.ErrStopping()
	case err != nil:
		return ErrMatchBusy
	}
	m.release, m.began = release, time.Now()
	waited := m.began.Sub(now)
	m.until, m.waited = m.until.Add(waited), m.waited+waited
	if m.waited > MatchTimeout {
		return ErrMatchBusy
	}
	return nil
}

// End ends a turn, if there is one.
func (m *MatchTime) End() {
	if m.release != nil {
		m.release()
		m.release = nil
	}
}
