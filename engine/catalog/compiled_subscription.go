package catalog

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/signature"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// CompiledSubscription is a subscription with its URL parsed, its scripts compiled and its policy
// resolved. It is immutable: a changed subscription gets a new one.
type CompiledSubscription struct {
	Sub       *engine.Subscription
	TargetURL *url.URL
	Signer    *signature.Signer
	Headers   http.Header // the subscription's own
	Redact    *engine.Redactor
	Policy    EffectivePolicy
	ConfigErr error // why nothing can be sent, if the stored row can't be used

	Grouping grouping

	Filter    CompiledFilter
	Transform CompiledTransform
	Preparing *Streak // attempts that fail before the request
}

// CompiledFilter is the filter of a compiled subscription.
type CompiledFilter struct {
	Source string // empty: every event
	Ref    engine.ScriptRef
	Err    error // set by once, or at once if the source is missing

	once      sync.Once
	compiled  *filter.Filter // nil: every event; set by once
	version   *heldVersion   // referenced so that it stays in memory
	failures  atomic.Int64
	lastError atomic.Pointer[string]
	Streak    *Streak // of failed runs
}

// CompiledTransform is the transform of a compiled subscription.
type CompiledTransform struct {
	Source      string // empty: the payload format
	Ref         engine.ScriptRef
	Program     atomic.Pointer[scripts.Program] // nil until it is compiled
	Quarantined atomic.Bool                     // no delivery is attempted
	Worked      atomic.Bool                     // it has succeeded at least once

	version *heldVersion // referenced so that it stays in memory
}

// versions returns the versions of scripts that the subscription uses; r may be nil.
func (r *CompiledSubscription) versions() map[engine.ScriptKind]*engine.ScriptVersion {
	used := map[engine.ScriptKind]*engine.ScriptVersion{}
	if r == nil {
		return used
	}
	for kind, v := range map[engine.ScriptKind]*heldVersion{engine.KindFilter: r.Filter.version, engine.KindTransform: r.Transform.version} {
		if v != nil && v.Script != 0 {
			used[kind] = &v.ScriptVersion
		}
	}
	return used
}

// quarantineKey returns the transform's key in the quarantine; zero if there is no transform or it
// is not compiled yet.
func (r *CompiledSubscription) quarantineKey() quarantineKey {
	program := r.Transform.Program.Load()
	if program == nil {
		return quarantineKey{}
	}
	return quarantineKey{r.Sub.Account, program.Hash}
}

// CompileSubscription parses, resolves and compiles a subscription for deliveries. Errors are
// stored in ConfigErr.
func (reg *SubscriptionRegistry) CompileSubscription(s *engine.Subscription) *CompiledSubscription {
	r := &CompiledSubscription{
		Sub: s, Policy: reg.resolvePolicy(s), Headers: make(http.Header, len(s.Headers)), Redact: engine.NewRedactor(s),
		Filter: CompiledFilter{Streak: &Streak{}}, Preparing: &Streak{},
	}
	r.Grouping.Set(GroupingSpecOf(s))
	var err *engine.Error
	if r.Signer, err = SignerOf(s); err != nil {
		r.ConfigErr = err
	}
	if u, err := reg.cfg.Guard.ParseURL(s.TargetURL); err != nil {
		r.ConfigErr = err
	} else {
		r.TargetURL = u
	}
	ctx := context.Background()
	if v, err := reg.scripts.resolve(ctx, s.Filter, s.FilterScript); err != nil {
		r.Filter.Source, r.Filter.Ref, r.Filter.Err = "false", s.FilterScript, err // an event must not pass because its filter is missing
	} else {
		r.Filter.Source, r.Filter.Ref, r.Filter.version = v.Source, v.Ref(), v
	}
	if v, err := reg.scripts.resolve(ctx, s.Transform, s.TransformScript); err != nil {
		r.Transform.Ref, r.ConfigErr = s.TransformScript, err
	} else {
		r.Transform.Source, r.Transform.Ref, r.Transform.version = v.Source, v.Ref(), v
	}
	if s.Unreadable != nil {
		r.ConfigErr = Unreadable(s)
		r.Transform.Quarantined.Store(true)
	}
	for name, value := range s.Headers {
		if !scripts.ReservedHeader(name) { // a stored one may have become reserved since
			r.Headers[name] = []string{value}
		}
	}
	return r
}

// Unreadable returns the error for a subscription whose stored row can't be used.
func Unreadable(s *engine.Subscription) *engine.Error {
	return &engine.Error{Code: engine.CodeUnreadable, Message: fmt.Sprintf("what is stored of %s can't be read (%s), so its deliveries wait", s.ID.Format(engine.SubscriptionPrefix), strings.Join(s.Unreadable, ", "))}
}

// CompiledFilter compiles a filter on first use: with 10,000 subscriptions a start would wait for
// filters that no event may need.
func (reg *SubscriptionRegistry) CompiledFilter(r *CompiledSubscription) (*filter.Filter, error) {
	r.Filter.once.Do(func() {
		if r.Filter.Source != "" && r.Filter.Err == nil {
			r.Filter.compiled, r.Filter.Err = reg.scripts.filters.Compile(r.Filter.Source)
		}
	})
	return r.Filter.compiled, r.Filter.Err
}

// compileTime limits a compilation that deliveries wait for. Each of them waits no longer than its
// own attempt may take.
const compileTime = 30 * time.Second

// CompiledTransform compiles a transform on first use. It holds no lock, and deliveries with the
// same source share one compilation. A stop aborts it: the deliveries return to their queues.
func (reg *SubscriptionRegistry) CompiledTransform(ctx context.Context, r *CompiledSubscription) (*scripts.Program, error) {
	if program := r.Transform.Program.Load(); program != nil {
		return program, nil
	}
	held := r.Transform.version
	compiled := reg.compilations.DoChan(r.Transform.Source, func() (any, error) {
		if program := held.program.Load(); program != nil {
			return program, nil
		}
		ctx, cancel := context.WithTimeout(reg.life.StopContext(), compileTime)
		defer cancel()
		return reg.cfg.Transformer.Compile(scripts.ForAccount(ctx, r.Sub.Account), r.Transform.Source)
	})
	select {
	case <-ctx.Done():
		return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: "not compiled in time: " + ctx.Err().Error()}
	case result := <-compiled:
		if result.Err != nil {
			return nil, result.Err
		}
		program := held.share(result.Val.(*scripts.Program))
		r.Transform.Program.Store(program)
		// From here on quarantineScript finds the subscription; an earlier quarantine is applied
		// here.
		if reason := reg.quarantine.contains(r.quarantineKey()); reason != "" {
			reg.quarantineSubscription(r, reason, false)
			return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: "quarantined: " + reason}
		}
		return program, nil
	}
}

// RecordFilterError stores a filter's error for its owner. The event counts as no match.
func (reg *SubscriptionRegistry) RecordFilterError(r *CompiledSubscription, err error) {
	reg.metrics.FilterErrors.Inc()
	text := retry.Truncate(err.Error())
	if r.Filter.lastError.Swap(&text) == nil { // the text may quote an event
		reg.log.Warn("filter failed, which counts as no match; the subscription's filter_errors say why", "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "account", r.Sub.Account)
	}
	r.Filter.failures.Add(1)
}

const (
	maxHeaderValueBytes = 4096
)

// GiveUpAt returns when a delivery becomes dead, whatever its schedule says. resumed is when the
// subscription was last reactivated.
func (r *CompiledSubscription) GiveUpAt(en *dispatchqueue.Entry, resumed time.Time) time.Time {
	from := en.Event.Time()
	if en.RequestedAt.After(from) {
		from = en.RequestedAt
	}
	// Deliveries that waited while the subscription was inactive must not be dead when it resumes.
	if !r.Policy.ExplicitGiveUpAfter && resumed.After(from) {
		from = resumed
	}
	return from.Add(r.Policy.GiveUpAfter)
}
