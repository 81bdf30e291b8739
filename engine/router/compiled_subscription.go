package router

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/signature"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"sync"
	"sync/atomic"
	"time"
)

// compiledSubscription is a subscription made ready for use. It is never changed: a changed
// subscription gets a new route.
type compiledSubscription struct {
	sub       *engine.Subscription
	targetURL       *url.URL
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

func (c *Catalog) compileSubscription(s *engine.Subscription) *compiledSubscription {
	r := &compiledSubscription{sub: s, policy: c.resolvePolicy(s), headers: make(http.Header, len(s.Headers)), redact: engine.NewRedactor(s), filtering: &streak{}, preparing: &streak{}}
	r.grouping.set(groupingSpecOf(s))
	var err *engine.Error
	if r.signer, err = signerOf(s); err != nil {
		r.configErr = err
	}
	if u, err := c.cfg.Guard.ParseURL(s.TargetURL); err != nil {
		r.configErr = err
	} else {
		r.targetURL = u
	}
	ctx := context.Background()
	if v, err := c.resolve(ctx, s.Filter, s.FilterScript); err != nil {
		r.filterSource, r.filterRef, r.filterErr = "false", s.FilterScript, err // an event must not pass because its filter is gone
	} else {
		r.filterSource, r.filterRef, r.versions[0] = v.Source, v.Ref(), v
	}
	if v, err := c.resolve(ctx, s.Transform, s.TransformScript); err != nil {
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
func (c *Catalog) compiledFilter(r *compiledSubscription) (*filter.Filter, error) {
	r.filterOnce.Do(func() {
		if r.filterSource != "" && r.filterErr == nil {
			r.filter, r.filterErr = c.filters.Compile(r.filterSource)
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
func (c *Catalog) compiledTransform(ctx context.Context, r *compiledSubscription) (*scripts.Program, error) {
	if program := r.program.Load(); program != nil {
		return program, nil
	}
	compiled := c.compilations.DoChan(r.transformSource, func() (any, error) {
		ctx, cancel := c.life.stopContext()
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, compileTime)
		defer cancel()
		return c.cfg.Transformer.Compile(ctx, r.transformSource)
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
		if reason := c.quarantine.contains(r.quarantineKey()); reason != "" {
			c.holdRoute(r, reason, false)
			return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: "quarantined: " + reason}
		}
		return program, nil
	}
}

// recordFilterError keeps a filter's failure for its owner to see. It counts as no match.
func (c *Catalog) recordFilterError(r *compiledSubscription, err error) {
	c.metrics.filterErrors.Inc()
	text := retry.Truncate(err.Error())
	if r.lastError.Swap(&text) == nil { // the text may quote an event
		c.log.Warn("filter failed, which counts as no match; the subscription's filter_errors say why", "subscription_id", r.sub.ID.Format(engine.SubscriptionPrefix), "account", r.sub.Account)
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

// giveUpAt is when a delivery is dead, whatever its schedule says. resumed is when the
// subscription was last switched on again.
func (r *compiledSubscription) giveUpAt(en *dispatchqueue.Entry, resumed time.Time) time.Time {
	from := en.Event.Time()
	if en.RequestedAt.After(from) {
		from = en.RequestedAt
	}
	// What waited while the subscription was off must not be dead when it is on again.
	if !r.policy.explicitGiveUpAfter && resumed.After(from) {
		from = resumed
	}
	return from.Add(r.policy.giveUpAfter)
}

var errFiltersTooSlow = &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("the filters of this account took more than %s for these events, so none was stored; publish fewer at a time, or simplify the filters", matchTimeout)}

// matchTimeout is how long the filters over all events of one Publish may take. One filter
// takes 5 ms at most, but an account may have many.
const matchTimeout = 5 * time.Second
