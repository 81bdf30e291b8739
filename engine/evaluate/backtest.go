package evaluate

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/monitor"
	"switchhook/engine/outbound"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
)

// Backtest compares a candidate version of a script with the live one over stored events. Nothing
// is sent.
type Backtest struct {
	Account      string
	Script       string       // its id or name
	Candidate    ScriptSource // a version (Ref.Version), or a source that is not stored yet
	Subscription engine.ID    // whose events, filter and request are used; 0: all that use the script
	Since, Until time.Time    // of events; zero: no bound
	Last         int          // maximum number of events, the newest; 0: backtestEvents
	MaskURL      bool         // the subscription's URL is hidden from the script
}

// BacktestChange is an event whose outcome the candidate would change.
type BacktestChange struct {
	Event           *engine.Event
	Change          monitor.Change
	Live, Candidate *monitor.ScriptOutcome
}

// BacktestTotals are the counts of a Backtest, final or so far.
type BacktestTotals struct {
	monitor.ChangeCounts
	LiveVersion int           // 0 if there is none: everything is compared with nothing sent
	P50, P99    time.Duration // of the candidate's runs
}

const (
	backtestEvents    = 10_000
	maxBacktestEvents = 1_000_000
	backtestFirst     = 16      // events of the first page
	backtestPage      = 64      // maximum: progress is reported after each page
	backtestBytes     = 8 << 20 // of a page, roughly: events can be large
	maxBacktests      = 4       // at the same time, one for each account
	backtestTimeout   = 5 * time.Minute
)

// BacktestRun is a prepared Backtest. Run must be called once.
type BacktestRun struct {
	w               *Evaluator
	b               Backtest
	account         string
	patterns        []string // of event types; empty: all
	liveVersion     int
	live, candidate *monitor.ScriptRunner // live is nil if there is no live version
	before          *monitor.ScriptRunner // the subscription's filter, if the script is its transform; may be nil
}

// StartBacktest prepares a Backtest. Errors: CodeInvalid, CodeNotFound, CodeBusy.
func (w *Evaluator) StartBacktest(ctx context.Context, b Backtest) (*BacktestRun, error) {
	if b.Last == 0 {
		b.Last = backtestEvents
	}
	if b.Last < 1 || b.Last > maxBacktestEvents {
		return nil, engine.Invalid("last", "must be 1 to %d", maxBacktestEvents)
	}
	run, err := w.prepareBacktest(ctx, &b)
	if err != nil {
		return nil, err
	}
	run.w, run.b = w, b
	if _, on := w.runningBacktests.LoadOrStore(run.account, true); on {
		return nil, &engine.Error{Code: engine.CodeBusy, Message: "a backtest of this account is on; try again when it has ended"}
	}
	select {
	case w.backtestSlots <- struct{}{}:
		return run, nil
	default:
		w.runningBacktests.Delete(run.account)
		return nil, &engine.Error{Code: engine.CodeBusy, Message: "too many backtests are on; try again when one has ended"}
	}
}

// Run processes the events, newest first. It calls each for every change and progress after every
// page of events; their error ends the run.
func (run *BacktestRun) Run(ctx context.Context, each func(BacktestChange) error, progress func(BacktestTotals) error) (totals BacktestTotals, err error) {
	defer func() {
		<-run.w.backtestSlots
		run.w.runningBacktests.Delete(run.account)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, backtestTimeout, &engine.Error{Code: engine.CodeUnavailable, Message: "the backtest took more than 5 minutes and was ended; take fewer events"})
	defer cancel()
	totals.LiveVersion = run.liveVersion
	q := engine.EventQuery{Account: run.account, Limit: backtestFirst}
	if !run.b.Since.IsZero() {
		q.Since = snowflake.FirstAt(run.b.Since)
	}
	if !run.b.Until.IsZero() {
		q.Before = snowflake.FirstAt(run.b.Until)
	}
	var times monitor.DurationSample
	for int(totals.Events) < run.b.Last {
		if ctx.Err() != nil {
			return totals, context.Cause(ctx)
		}
		if run.w.life.IsStopping() {
			return totals, &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
		}
		events, err := run.w.store.Events(ctx, q)
		if err != nil {
			return totals, err
		}
		if len(events) == 0 {
			break
		}
		q.Before, q.Limit = events[len(events)-1].ID, pageAfter(events)
		changes, err := run.page(ctx, events)
		if err != nil {
			return totals, err
		}
		for _, c := range changes {
			if c.Event == nil || int(totals.Events) == run.b.Last {
				continue
			}
			totals.Add(c.Change)
			times.Add(c.Candidate.CPU)
			if c.Change == monitor.ChangeNone {
				continue
			}
			if err := each(c); err != nil {
				return totals, err
			}
		}
		totals.P50, totals.P99 = times.Percentiles()
		if err := progress(totals); err != nil {
			return totals, err
		}
	}
	return totals, nil
}

// pageAfter returns the size of the next page, by the size of these events.
func pageAfter(events []*engine.Event) int {
	size := 0
	for _, ev := range events {
		size += len(ev.Data)
	}
	return min(backtestPage, max(1, backtestBytes*len(events)/max(1, size)))
}

func (w *Evaluator) prepareBacktest(ctx context.Context, b *Backtest) (*BacktestRun, error) {
	s, err := w.catalog.Script(b.Account, b.Script)
	if err != nil {
		return nil, err
	}
	run := &BacktestRun{account: s.Account, liveVersion: s.Live}
	request := scripts.Request{Method: "POST", Path: "/", Query: map[string][]string{}, Headers: map[string]string{}}
	if b.Subscription != 0 {
		sub, err := w.catalog.Subscription(s.Account, b.Subscription)
		if err != nil {
			return nil, err
		}
		if sub.FilterScript.Script != s.ID && sub.TransformScript.Script != s.ID {
			return nil, engine.Invalid("subscription", "%s does not use this script", sub.ID.Format(engine.SubscriptionPrefix))
		}
		run.patterns = sub.Events
		if r := w.catalog.Compiled(sub.ID); r != nil && r.TargetURL != nil {
			request = outbound.PreviewRequest(r, b.MaskURL)
			if s.Kind == engine.KindTransform && r.FilterSource != "" {
				if run.before, err = w.monitor.NewRunner(ctx, engine.KindFilter, r.FilterSource, request); err != nil {
					return nil, err
				}
			}
		}
	} else {
		for _, sub := range w.catalog.ScriptUsers(s.ID) {
			run.patterns = append(run.patterns, sub.Events...)
		}
	}
	source := b.Candidate.Source
	if source == "" {
		v, err := w.catalog.ScriptVersion(ctx, s.Account, s.ID.Format(engine.ScriptPrefix), b.Candidate.Ref.Version)
		if err != nil {
			return nil, err
		}
		source = v.Source
	}
	if run.candidate, err = w.monitor.NewRunner(ctx, s.Kind, source, request); err != nil {
		return nil, err
	}
	if s.Live == 0 {
		return run, nil
	}
	v, err := w.catalog.Version(ctx, engine.ScriptRef{Script: s.ID, Version: s.Live})
	if err != nil {
		return nil, err
	}
	run.live, err = w.monitor.NewRunner(ctx, s.Kind, v.Source, request)
	return run, err
}

// page compares a page of events, as many concurrently as there are CPUs. Changes without an Event
// are of events that do not count.
func (run *BacktestRun) page(ctx context.Context, events []*engine.Event) ([]BacktestChange, error) {
	changes := make([]BacktestChange, len(events))
	var wg sync.WaitGroup
	errs := make([]error, len(events))
	places := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for i, ev := range events {
		if !run.isRelevant(ev) {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			changes[i], errs[i] = run.compareEvent(ctx, ev)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", events[i].PublicID(), err)
		}
	}
	return changes, nil
}

func (run *BacktestRun) isRelevant(ev *engine.Event) bool {
	if len(run.patterns) == 0 {
		return true
	}
	for _, p := range run.patterns {
		if engine.MatchesPattern(p, ev.Type) {
			return true
		}
	}
	return false
}

func (run *BacktestRun) compareEvent(ctx context.Context, ev *engine.Event) (c BacktestChange, err error) {
	if run.before != nil {
		if let, err := run.before.Outcome(ctx, ev); err != nil || !let.Sent {
			return c, err
		}
	}
	c.Event, c.Live = ev, &monitor.ScriptOutcome{}
	if run.live != nil {
		if c.Live, err = run.live.Outcome(ctx, ev); err != nil {
			return c, err
		}
	}
	if c.Candidate, err = run.candidate.Outcome(ctx, ev); err != nil {
		return c, err
	}
	c.Change = monitor.Compare(c.Live, c.Candidate)
	return c, nil
}
