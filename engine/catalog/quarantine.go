package catalog

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/lifecycle"
	"switchhook/scripts"
)

const (
	// strikesAllowed is how many different events in a row may end a transform's sandbox process
	// before the transform is quarantined.
	strikesAllowed = 3
	// strikesIfWorking is the limit for a transform that works on other events: it fails on some
	// inputs only, and those become dead letters.
	strikesIfWorking = 20
)

// Quarantine records the transforms that keep ending their sandbox process or exceeding its limits.
// Their deliveries wait, so that each attempt does not cost the other scripts a process; a new
// version has another hash and starts without strikes.
//
// A run is pure: the same data fails again and again, which proves nothing for other data. So only
// different data counts, and a success clears the count.
type Quarantine struct {
	mu      sync.Mutex
	strikes map[quarantineKey]*strike
}

// quarantineKey identifies a transform of an account: strikes from one account's events do not
// count for another's.
type quarantineKey struct{ account, hash string }

type strike struct {
	inputs map[uint64]struct{} // hashes of the data of failed runs
	reason string              // of the last failed run
	full   bool                // the transform is quarantined
}

// inputSeed makes the hashes unpredictable.
var inputSeed = maphash.MakeSeed()

// inputOf returns a hash of an event's data.
func inputOf(ev *engine.Event) uint64 {
	var h maphash.Hash
	h.SetSeed(inputSeed)
	h.WriteString(ev.Type)
	h.WriteByte(0)
	h.Write(ev.Data)
	return h.Sum64()
}

// recordStrike counts the result of a run; full reports that the transform must now be quarantined.
// works reports whether it works on other input; it is called only if that matters.
func (q *Quarantine) recordStrike(who quarantineKey, input func() uint64, works func() bool, err error) (full bool) {
	var se *scripts.Error
	bad := false
	if errors.As(err, &se) {
		switch se.Phase {
		case scripts.PhaseTimeout, scripts.PhaseMemory, scripts.PhaseCrash:
			bad = true
		case scripts.PhaseBusy:
			return false // not caused by the script
		}
	}
	if !bad {
		q.forget(who)
		return false
	}
	count := q.strike(who, input(), se.Message)
	if count < strikesAllowed || count < strikesIfWorking && works() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.strikes[who]
	if s != nil { // no success in the meantime
		s.full = true
	}
	return s != nil
}

// strike counts an input and returns the number of inputs.
func (q *Quarantine) strike(who quarantineKey, input uint64, reason string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.strikes == nil {
		q.strikes = map[quarantineKey]*strike{}
	}
	s := q.strikes[who]
	if s == nil {
		s = &strike{inputs: map[uint64]struct{}{}}
		q.strikes[who] = s
	}
	s.inputs[input], s.reason = struct{}{}, reason
	return len(s.inputs)
}

// suspects lists the transforms that have strikes.
func (q *Quarantine) suspects() []quarantineKey {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Keys(q.strikes))
}

func (q *Quarantine) forget(who quarantineKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.strikes) > 0 {
		delete(q.strikes, who)
	}
}

// ForgetLoop drops the strikes of transforms that no subscription uses any longer.
func (reg *SubscriptionRegistry) ForgetLoop() {
	reg.life.RunEvery(lifecycle.ExpireEvery, reg.ForgetUnused)
}

// ForgetUnused drops the strikes of transforms that no subscription uses any longer.
func (reg *SubscriptionRegistry) ForgetUnused() {
	struck := reg.quarantine.suspects()
	if len(struck) == 0 {
		return
	}
	used := map[quarantineKey]bool{}
	for _, r := range reg.AllCompiled() {
		used[r.quarantineKey()] = true
	}
	for _, who := range struck {
		if !used[who] {
			reg.quarantine.forget(who)
		}
	}
}

// contains returns why a transform is quarantined; "" if it is not.
func (q *Quarantine) contains(who quarantineKey) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.strikes[who]; s != nil && s.full {
		return fmt.Sprintf("stopped %d times in a row: %s", len(s.inputs), s.reason)
	}
	return ""
}

const (
	// worksLooked is how many of the latest succeeded deliveries, and attempts of each, are examined.
	worksLooked = 5
	worksTime   = 2 * time.Second
)

// works reports whether deliveries with a subscription's transform have succeeded.
func (reg *SubscriptionRegistry) works(r *CompiledSubscription, hash string) bool {
	if r.Transform.Worked.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), worksTime)
	defer cancel()
	list, _, err := reg.store.Deliveries(ctx, engine.DeliveryQuery{Subscription: r.Sub.ID, State: engine.StateSucceeded, Limit: worksLooked})
	for _, d := range list {
		attempts, _, failed := reg.store.Attempts(ctx, engine.AttemptQuery{Delivery: d.ID, Limit: worksLooked})
		if failed != nil {
			err = failed
			break
		}
		if slices.ContainsFunc(attempts, func(a *engine.Attempt) bool { return a.Script.Hash == hash && a.Error == "" }) {
			r.Transform.Worked.Store(true)
			return true
		}
	}
	if err != nil {
		reg.log.Error("not looked up whether a transform works", "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "error", err)
	}
	return false
}

// quarantineScript quarantines all subscriptions of an account that use a transform. quiet
// suppresses the operational events.
func (reg *SubscriptionRegistry) quarantineScript(who quarantineKey, quiet bool) {
	for _, r := range reg.table.find(func(r *CompiledSubscription) bool { return r.quarantineKey() == who }) {
		reg.quarantineSubscription(r, reg.quarantine.contains(who), quiet)
	}
}

// quarantineSubscription quarantines one subscription until its transform has a new version.
func (reg *SubscriptionRegistry) quarantineSubscription(r *CompiledSubscription, reason string, quiet bool) {
	if r.Transform.Quarantined.Swap(true) {
		return
	}
	hash := r.quarantineKey().hash
	reg.metrics.Quarantined.Inc()
	reg.log.Warn("transform quarantined: deliveries wait for a new version of it", "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "account", r.Sub.Account,
		"script_hash", hash, "reason", reason)
	if !quiet {
		reg.listener.TransformQuarantined(r, hash, reason)
	}
}

// Quarantined returns why a subscription's transform is quarantined; "" if it is not.
func (reg *SubscriptionRegistry) Quarantined(id engine.ID) string {
	r := reg.table.get(id)
	if r == nil || !r.Transform.Quarantined.Load() {
		return ""
	}
	return reg.quarantine.contains(r.quarantineKey())
}

// RecordRun counts the result of a transform's run on ev, and quarantines the transform after too
// many strikes.
func (reg *SubscriptionRegistry) RecordRun(r *CompiledSubscription, hash string, ev *engine.Event, err error) {
	who := quarantineKey{r.Sub.Account, hash}
	if who.hash != "" && reg.quarantine.recordStrike(who, func() uint64 { return inputOf(ev) }, func() bool { return reg.works(r, who.hash) }, err) {
		reg.quarantineScript(who, engine.Operational(ev.Type))
	}
}
