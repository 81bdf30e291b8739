package router

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
	"switchhook/engine/signature"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// compiledSubscription is a subscription made ready for use. It is never changed: a changed
// subscription gets a new route.
type compiledSubscription struct {
	sub       *engine.Subscription
	url       *url.URL
	signer    *signature.Signer
	headers   http.Header // the subscription's own
	redact    *engine.Redactor
	policy    effectivePolicy
	configErr error // why nothing can be sent, where what is stored can't be read

	grouping grouping

	filterSource    string // empty: every event
	filterRef       engine.ScriptRef
	transformSource string // empty: the payload format
	transformRef    engine.ScriptRef
	versions        [2]*engine.ScriptVersion // of filter and transform, so that they stay in memory

	filterOnce sync.Once
	filter     *filter.Filter // nil: every event; set by filterOnce
	filterErr  error          // set by filterOnce, or from the start where there is no source

	filterErrors atomic.Int64
	lastError    atomic.Pointer[string] // of the filter
	filtering    *streak                // runs of the filter
	preparing    *streak                // attempts, before the target is asked

	program     atomic.Pointer[scripts.Program] // of the transform; nil until it is compiled
	quarantined atomic.Bool                     // quarantined: nothing is sent
	worked      atomic.Bool                     // a run of the transform was good

	dryRun bool // a dry run's: nothing is compared or counted
	masked bool // with dry: the script does not see the target's URL
}

// quarantineKey names the transform for the quarantine, once it was compiled; the zero suspect
// before, and where there is none.
func (r *compiledSubscription) quarantineKey() quarantineKey {
	program := r.program.Load()
	if program == nil {
		return quarantineKey{}
	}
	return quarantineKey{r.sub.Account, program.Hash}
}

func (e *Engine) compileSubscription(s *engine.Subscription) *compiledSubscription {
	r := &compiledSubscription{sub: s, policy: e.resolvePolicy(s), headers: make(http.Header, len(s.Headers)), redact: engine.NewRedactor(s), filtering: &streak{}, preparing: &streak{}}
	r.grouping.set(groupingSpecOf(s))
	var err *engine.Error
	if r.signer, err = signerOf(s); err != nil {
		r.configErr = err
	}
	if u, err := e.cfg.Guard.ParseURL(s.TargetURL); err != nil {
		r.configErr = err
	} else {
		r.url = u
	}
	ctx := context.Background()
	if v, err := e.resolve(ctx, s.Filter, s.FilterScript); err != nil {
		r.filterSource, r.filterRef, r.filterErr = "false", s.FilterScript, err // an event must not pass because its filter is gone
	} else {
		r.filterSource, r.filterRef, r.versions[0] = v.Source, v.Ref(), v
	}
	if v, err := e.resolve(ctx, s.Transform, s.TransformScript); err != nil {
		r.transformRef, r.configErr = s.TransformScript, err
	} else {
		r.transformSource, r.transformRef, r.versions[1] = v.Source, v.Ref(), v
	}
	if s.Unreadable != nil {
		r.configErr = unreadable(s)
		r.quarantined.Store(true)
	}
	for name, value := range s.Headers {
		r.headers[name] = []string{value}
	}
	return r
}

// unreadable says that a subscription can't be used as it is stored.
func unreadable(s *engine.Subscription) *engine.Error {
	return &engine.Error{Code: engine.CodeUnreadable, Message: fmt.Sprintf("what is stored of %s can't be read (%s), so its deliveries wait", s.ID.Format(engine.SubscriptionPrefix), strings.Join(s.Unreadable, ", "))}
}

// compiledFilter compiles on first use: with 10,000 subscriptions a start would wait for
// filters that no event may ask for.
func (e *Engine) compiledFilter(r *compiledSubscription) (*filter.Filter, error) {
	r.filterOnce.Do(func() {
		if r.filterSource != "" && r.filterErr == nil {
			r.filter, r.filterErr = e.filters.Compile(r.filterSource)
		}
	})
	return r.filter, r.filterErr
}

// compileTime bounds a compilation that deliveries wait for. Each of them waits no longer
// than its own attempt may take.
const compileTime = 30 * time.Second

// compiledTransform compiles a transform on first use. No lock is held meanwhile, and
// deliveries that need the same source share one compilation. A stop ends it: the
// deliveries go back to their queues.
func (e *Engine) compiledTransform(ctx context.Context, r *compiledSubscription) (*scripts.Program, error) {
	if program := r.program.Load(); program != nil {
		return program, nil
	}
	compiled := e.compilations.DoChan(r.transformSource, func() (any, error) {
		ctx, cancel := e.stopContext()
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, compileTime)
		defer cancel()
		return e.cfg.Transformer.Compile(ctx, r.transformSource)
	})
	select {
	case <-ctx.Done():
		return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: "not compiled in time: " + ctx.Err().Error()}
	case result := <-compiled:
		if result.Err != nil {
			return nil, result.Err
		}
		program := result.Val.(*scripts.Program)
		r.program.Store(program)
		// From here on quarantineScript finds the route; what it did before is made up for.
		if reason := e.quarantine.contains(r.quarantineKey()); reason != "" {
			e.holdRoute(r, reason, false)
			return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: "quarantined: " + reason}
		}
		return program, nil
	}
}

// match gives the routes whose subscriptions want ev. Each distinct filter runs once, and
// once for each script that it is a version of. The error is a CodeBusy: the filters were
// not through by the deadline.
func (e *Engine) match(candidates []*compiledSubscription, ev *scripts.Event, deadline time.Time) ([]*compiledSubscription, error) {
	if !slices.ContainsFunc(candidates, func(r *compiledSubscription) bool { return r.filterSource != "" }) {
		return candidates, nil
	}
	in := filter.NewInput(ev)
	defer in.Release()
	type result struct {
		ok  bool
		err error
	}
	type use struct { // a script's runs are counted and shadowed as its own, whoever has the same text
		filter *filter.Filter
		ref    engine.ScriptRef
	}
	known := make(map[use]result, len(candidates))
	matched := make([]*compiledSubscription, 0, len(candidates))
	for _, r := range candidates {
		if r.filterSource == "" {
			matched = append(matched, r)
			continue
		}
		f, err := e.compiledFilter(r)
		res, seen := known[use{f, r.filterRef}]
		if !seen {
			// A stop waits for no user's filters; what the router itself has to tell is
			// published last, and is lost if it is not.
			if time.Now().After(deadline) || e.isStopping() && !engine.Operational(ev.Type) {
				return nil, errFiltersTooSlow
			}
			if res.err = err; err == nil {
				res.ok, res.err = e.runFilter(r, f, in)
			}
			if f != nil {
				known[use{f, r.filterRef}] = res
			}
		}
		if res.err != nil {
			e.recordFilterError(r, res.err)
			e.noteFilterStreak(r, engine.Operational(ev.Type))
			continue
		}
		r.filtering.succeed()
		if res.ok {
			matched = append(matched, r)
		} else {
			e.metrics.filtered.Inc()
		}
	}
	return matched, nil
}

var errFiltersTooSlow = &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("the filters of this account took more than %s for these events, so none was stored; publish fewer at a time, or simplify the filters", matchTimeout)}

// runFilter evaluates a filter. Those of named scripts are counted, and run beside their
// shadow if there is one.
func (e *Engine) runFilter(r *compiledSubscription, f *filter.Filter, in *filter.Input) (bool, error) {
	if r.filterRef.Script == 0 {
		return f.Match(in)
	}
	began := time.Now()
	ok, err := f.Match(in)
	e.scripts.add(r.filterRef.Script, time.Since(began), !ok && err == nil, err)
	if sh := e.shadows.running(r.filterRef, e.cfg.Now()); sh != nil {
		sh.compareFilter(in, ok, err)
	}
	return ok, err
}

// recordFilterError keeps a filter's failure for its owner to see. It counts as no match.
func (e *Engine) recordFilterError(r *compiledSubscription, err error) {
	e.metrics.filterErrors.Inc()
	text := retry.Truncate(err.Error())
	if r.lastError.Swap(&text) == nil { // the text may quote an event
		e.log.Warn("filter failed, which counts as no match; the subscription's filter_errors say why", "subscription_id", r.sub.ID.Format(engine.SubscriptionPrefix), "account", r.sub.Account)
	}
	r.filterErrors.Add(1)
}

const (
	maxHeaders          = 32
	maxHeaderValueBytes = 4096
)

// checkHeader tells what is wrong with a header that a user wants sent; "" if nothing is.
func checkHeader(name, value string) string {
	switch {
	case name == "" || len(name) > 128 || strings.IndexFunc(name, func(c rune) bool { return !isTokenChar(c) }) >= 0:
		return "is no header name"
	case scripts.ReservedHeader(name):
		return "is set by the router and can't be given"
	case len(value) > maxHeaderValueBytes:
		return "has a value that is too long"
	case strings.IndexFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) >= 0:
		return "has a value with a line break or another control character"
	}
	return ""
}

// isTokenChar follows RFC 9110, 5.6.2.
func isTokenChar(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}
