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
	"switchhook/scripts"
)

const (
	// strikesAllowed is how many different events in a row may have a transform stopped for
	// what it does to its process before its deliveries wait for a better version.
	strikesAllowed = 3
	// strikesOfWorking is how many there may be of a transform that works on other events:
	// what it can't stand are some inputs, and those become dead letters.
	strikesOfWorking = 20
)

// Quarantine knows the transforms that keep taking their sandbox process down or running
// into its limits. Their deliveries wait, so that they don't cost every other script a
// process each time; a new version has another hash and so starts with a clean record.
//
// A run is pure: the same data has it stopped again and again, which says nothing of other
// data. So only different data counts, and none of it once the transform works between.
type Quarantine struct {
	mu      sync.Mutex
	strikes map[quarantineKey]*strike
}

// quarantineKey is a transform of an account: what one account's events do to a script says
// nothing of another's.
type quarantineKey struct{ account, hash string }

type strike struct {
	inputs map[uint64]struct{} // of the runs that were stopped
	reason string              // of the last
	full   bool                // it is held back
}

// inputSeed makes hashes that nobody can foresee.
var inputSeed = maphash.MakeSeed()

// inputOf tells the data of an event from others.
func inputOf(ev *engine.Event) uint64 {
	var h maphash.Hash
	h.SetSeed(inputSeed)
	h.WriteString(ev.Type)
	h.WriteByte(0)
	h.Write(ev.Data)
	return h.Sum64()
}

// RecordStrike counts how a run ended; full says that the script is now to be held back. works
// reports whether it is known to work on other input; it is asked in doubt only.
func (q *Quarantine) RecordStrike(who quarantineKey, input func() uint64, works func() bool, err error) (full bool) {
	var se *scripts.Error
	bad := false
	if errors.As(err, &se) {
		switch se.Phase {
		case scripts.PhaseTimeout, scripts.PhaseMemory, scripts.PhaseCrash:
			bad = true
		case scripts.PhaseBusy:
			return false // says nothing of the script
		}
	}
	if !bad {
		q.forget(who)
		return false
	}
	count := q.strike(who, input(), se.Message)
	if count < strikesAllowed || count < strikesOfWorking && works() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.strikes[who]
	if s != nil { // it has not worked in the meantime
		s.full = true
	}
	return s != nil
}

// strike counts an input, and gives how many there are.
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

// suspects lists those that have strikes.
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

// ForgetUnused drops the strikes of transforms that no subscription uses any more.
func (c *Catalog) ForgetUnused() {
	struck := c.quarantine.suspects()
	if len(struck) == 0 {
		return
	}
	used := map[quarantineKey]bool{}
	c.registry.mu.RLock()
	for _, r := range c.registry.compiled {
		used[r.QuarantineKey()] = true
	}
	c.registry.mu.RUnlock()
	for _, who := range struck {
		if !used[who] {
			c.quarantine.forget(who)
		}
	}
}

// contains tells why a transform is held back; "" if it is not.
func (q *Quarantine) contains(who quarantineKey) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.strikes[who]; s != nil && s.full {
		return fmt.Sprintf("stopped %d times in a row: %s", len(s.inputs), s.reason)
	}
	return ""
}

const (
	// worksLooked is how many of the latest deliveries that succeeded are looked at.
	worksLooked = 5
	worksTime   = 2 * time.Second
)

// works reports whether a subscription's transform has made requests that its target took.
func (c *Catalog) works(r *CompiledSubscription, hash string) bool {
	if r.Worked.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), worksTime)
	defer cancel()
	list, err := c.store.Deliveries(ctx, engine.DeliveryQuery{Subscription: r.Sub.ID, State: engine.StateSucceeded, Limit: worksLooked})
	for _, d := range list {
		attempts, failed := c.store.Attempts(ctx, d.ID)
		if failed != nil {
			err = failed
			break
		}
		if slices.ContainsFunc(attempts, func(a *engine.Attempt) bool { return a.Script.Hash == hash && a.Error == "" }) {
			r.Worked.Store(true)
			return true
		}
	}
	if err != nil {
		c.log.Error("not looked up whether a transform works", "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "error", err)
	}
	return false
}

// quarantineScript lets the deliveries of all subscriptions of an account that use a transform
// wait. quiet keeps the operational events back.
func (c *Catalog) quarantineScript(who quarantineKey, quiet bool) {
	var found []*CompiledSubscription
	c.registry.mu.RLock()
	for _, r := range c.registry.compiled {
		if r.QuarantineKey() == who {
			found = append(found, r)
		}
	}
	c.registry.mu.RUnlock()
	for _, r := range found {
		c.holdRoute(r, c.quarantine.contains(who), quiet)
	}
}

// holdRoute lets the deliveries of one subscription wait for a new version of its transform.
func (c *Catalog) holdRoute(r *CompiledSubscription, reason string, quiet bool) {
	if r.Quarantined.Swap(true) {
		return
	}
	hash := r.QuarantineKey().hash
	c.metrics.Quarantined.Inc()
	c.log.Warn("transform quarantined: deliveries wait for a new version of it", "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "account", r.Sub.Account,
		"script_hash", hash, "reason", reason)
	if !quiet {
		c.listener.TransformQuarantined(r, hash, reason)
	}
}

// Quarantined tells why the deliveries of a subscription wait for a new version of its
// transform; "" if they don't.
func (c *Catalog) Quarantined(id engine.ID) string {
	r := c.registry.compiledSubscription(id)
	if r == nil || !r.Quarantined.Load() {
		return ""
	}
	return c.quarantine.contains(r.QuarantineKey())
}

// RecordRun counts how a transform's run on ev ended, and quarantines the transform after too
// many strikes.
func (c *Catalog) RecordRun(r *CompiledSubscription, hash string, ev *engine.Event, err error) {
	who := quarantineKey{r.Sub.Account, hash}
	if who.hash != "" && c.quarantine.RecordStrike(who, func() uint64 { return inputOf(ev) }, func() bool { return c.works(r, who.hash) }, err) {
		c.quarantineScript(who, engine.Operational(ev.Type))
	}
}
