package evaluate

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/scripteval"
)

// Comparison compares a candidate version of a script with the live one over stored events. Nothing
// is sent.
type Comparison struct {
	Account      string
	Caller       string       // identifies the client: a newer request of the same caller replaces one that waits
	Script       string       // its id or name
	Candidate    ScriptSource // a version (Ref.Version), or a source that is not stored yet
	Subscription engine.ID    // whose events, filter and request are used; 0: all that use the script
	Since, Until time.Time    // of events; zero: no bound
	Last         int          // maximum number of events, the newest; 0: comparisonEvents
	MaskURL      bool         // the subscription's URL is hidden from the script
}

// ComparedEvent is an event whose outcome the candidate would change.
type ComparedEvent struct {
	Event           *engine.Event
	Change          scripteval.Change
	Live, Candidate *scripteval.Outcome
}

// ComparisonTotals are the counts of a Comparison, final or so far.
type ComparisonTotals struct {
	scripteval.ChangeCounts
	LiveVersion int           // 0 if there is none: everything is compared with nothing sent
	P50, P99    time.Duration // of the candidate's runs
}

const (
	comparisonEvents    = 10_000
	maxComparisonEvents = 1_000_000
	comparisonPage      = 16 // events: progress is reported after each page
	comparisonTimeout   = 5 * time.Minute
)

// ComparisonRun is a prepared Comparison. Run must be called once.
type ComparisonRun struct {
	e               *Evaluator
	comparison      Comparison
	account         string
	patterns        []string // of event types; empty: all
	liveVersion     int
	live, candidate scripteval.Scripts // live is empty if there is no live version
	before          scripteval.Scripts // the subscription's filter, if the script is its transform; may be empty
	release         func()
}

// StartComparison prepares a Comparison. Errors: CodeInvalid, CodeNotFound, CodeBusy,
// CodeSuperseded.
func (e *Evaluator) StartComparison(ctx context.Context, b Comparison) (*ComparisonRun, error) {
	if b.Last == 0 {
		b.Last = comparisonEvents
	}
	if b.Last < 1 || b.Last > maxComparisonEvents {
		return nil, engine.Invalid("last", "must be 1 to %d", maxComparisonEvents)
	}
	run, err := e.prepareComparison(ctx, &b)
	if err != nil {
		return nil, err
	}
	run.e, run.comparison = e, b
	run.release, err = acquire(ctx, e.comparisons, "comparisons", run.account, b.Caller)
	return run, err
}

// Run processes the events, newest first. It calls each for every change and progress after every
// page of events; their error ends the run.
func (run *ComparisonRun) Run(
	ctx context.Context, each func(ComparedEvent) error, progress func(ComparisonTotals) error,
) (totals ComparisonTotals, err error) {
	defer run.release()
	ctx, cancel := context.WithTimeoutCause(ctx, comparisonTimeout, errComparisonTooLong)
	defer cancel()
	totals.LiveVersion = run.liveVersion
	q := run.query()
	var times scripteval.DurationSample
	stopped := 0 // runs of the candidate in a row
	for int(totals.Events) < run.comparison.Last {
		if ctx.Err() != nil {
			return totals, context.Cause(ctx)
		}
		if run.e.life.IsStopping() {
			return totals, &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
		}
		changes, err := run.page(ctx, &q)
		if err != nil {
			return totals, err
		}
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			if c.Event == nil || int(totals.Events) == run.comparison.Last {
				continue
			}
			if failed := c.Candidate.TransformError; !wasStopped(failed) {
				stopped = 0
			} else if stopped++; stopped == maxStoppedEvents {
				return totals, stoppedTooOften(failed)
			}
			totals.Add(c.Change)
			times.Add(c.Candidate.CPU())
			if c.Change == scripteval.ChangeNone {
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

var errComparisonTooLong = &engine.Error{
	Code: engine.CodeUnavailable, Message: "the comparison took more than 5 minutes and was ended; take fewer events",
}

// maxStoppedEvents is how many runs of the candidate in a row the sandbox may stop: each costs its
// time limit and a process.
const maxStoppedEvents = 20

func stoppedTooOften(failed *scripts.Error) error {
	return &engine.Error{
		Code: engine.CodeInvalid, Script: failed,
		Message: fmt.Sprintf("the comparison was ended: the sandbox stopped the candidate for %d events in a row: %s", maxStoppedEvents, failed.Message),
	}
}

// query returns the query of the first page.
func (run *ComparisonRun) query() engine.EventQuery {
	q := engine.EventQuery{Account: run.account, Limit: comparisonPage, MaxBytes: engine.PageBytes}
	if !run.comparison.Since.IsZero() {
		q.Since = snowflake.FirstAt(run.comparison.Since)
	}
	if !run.comparison.Until.IsZero() {
		q.Before = snowflake.FirstAt(run.comparison.Until)
	}
	return q
}

func (e *Evaluator) prepareComparison(ctx context.Context, b *Comparison) (run *ComparisonRun, err error) {
	s, err := e.catalog.Script(b.Account, b.Script)
	if err != nil {
		return nil, err
	}
	run = &ComparisonRun{account: s.Account, liveVersion: s.Live}
	request := scripts.Request{Method: http.MethodPost, Path: "/", Query: map[string][]string{}, Headers: map[string]string{}}
	if b.Subscription != 0 {
		sub, err := e.catalog.Subscription(s.Account, b.Subscription)
		if err != nil {
			return nil, err
		}
		if sub.FilterScript.Script != s.ID && sub.TransformScript.Script != s.ID {
			return nil, engine.Invalid("subscription_id", "%s does not use this script", sub.ID.Format(engine.SubscriptionPrefix))
		}
		run.patterns = sub.Events
		if r := e.catalog.Compiled(sub.ID); r != nil && r.TargetURL != nil {
			request = requestSeen(r, b.MaskURL)
			if s.Kind == engine.KindTransform && r.Filter.Source != "" {
				if run.before.Filter, err = e.catalog.CompileFilter(r.Filter.Source); err != nil {
					return nil, catalog.ScriptError("filter", err)
				}
			}
		}
	} else {
		for _, sub := range e.catalog.ScriptUsers(s.ID) {
			run.patterns = append(run.patterns, sub.Events...)
		}
	}
	source := b.Candidate.Source
	if source == "" {
		v, err := e.catalog.ScriptVersion(ctx, s.Account, s.ID.Format(engine.ScriptPrefix), b.Candidate.Ref.Version)
		if err != nil {
			return nil, err
		}
		source = v.Source
	}
	if run.candidate, err = e.catalog.CompileScript(ctx, s, source); err != nil {
		return nil, err
	}
	run.candidate.Request = request
	if s.Live == 0 {
		return run, nil
	}
	v, err := e.catalog.Version(ctx, engine.ScriptRef{Script: s.ID, Version: s.Live})
	if err != nil {
		return nil, err
	}
	run.live, err = e.catalog.CompileScript(ctx, s, v.Source)
	run.live.Request = request
	return run, err
}

// page compares the next page of events, once the account has its turn, as many concurrently as keep
// the sandbox busy. Changes without an Event are of events that do not count. q becomes the query of
// the page after it.
func (run *ComparisonRun) page(ctx context.Context, q *engine.EventQuery) ([]ComparedEvent, error) {
	release, err := run.e.comparisonPages.Acquire(ctx, run.account, "", 1)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), error(errComparisonTooLong))
	}
	defer release()
	events, _, err := run.e.store.Events(ctx, *q)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	q.Before = events[len(events)-1].ID
	changes := make([]ComparedEvent, len(events))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, ev := range events {
		if !run.isRelevant(ev) {
			continue
		}
		group.Go(func() (err error) {
			if changes[i], err = run.compareEvent(ctx, ev); err != nil {
				return fmt.Errorf("event %s: %w", ev.PublicID(), err)
			}
			return nil
		})
	}
	return changes, group.Wait()
}

func (run *ComparisonRun) isRelevant(ev *engine.Event) bool {
	return len(run.patterns) == 0 || slices.ContainsFunc(run.patterns, func(p string) bool { return engine.MatchesPattern(p, ev.Type) })
}

// evaluate runs scripts on an event; a filter waits for its turn, as transforms do in the sandbox.
func (run *ComparisonRun) evaluate(
	ctx context.Context, s *scripteval.Scripts, ev *scripts.Event,
) (*scripteval.Outcome, error) {
	if s.Filter != nil {
		release, err := run.e.catalog.AcquireMatching(ctx, run.account)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	return scripteval.Evaluate(ctx, s, ev, false)
}

func (run *ComparisonRun) compareEvent(ctx context.Context, stored *engine.Event) (c ComparedEvent, err error) {
	ev := catalog.ScriptEvent(stored, jsonindex.Value{})
	if run.before.Filter != nil {
		if passes, err := run.evaluate(ctx, &run.before, ev); err != nil || !passes.Sent() {
			return c, err
		}
	}
	c.Event, c.Live = stored, &scripteval.Outcome{}
	if run.liveVersion > 0 {
		if c.Live, err = run.evaluate(ctx, &run.live, ev); err != nil {
			return c, err
		}
	}
	if c.Candidate, err = run.evaluate(ctx, &run.candidate, ev); err != nil {
		return c, err
	}
	if c.Change = scripteval.Compare(c.Live, c.Candidate); c.Change == scripteval.ChangeNone {
		c.Live, c.Candidate.Result.Body = nil, nil // a page of bodies can be large
	}
	return c, nil
}
