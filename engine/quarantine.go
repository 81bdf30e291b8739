package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"switchhook/scripts"
)

// strikesAllowed is how often in a row a transform may be stopped for what it does to its
// process before its deliveries wait for a better version.
const strikesAllowed = 3

// quarantine knows the transforms that keep taking their sandbox process down or running
// into its limits. Their deliveries wait, so that they don't cost every other script a
// process each time; a new version has another hash and so starts with a clean record.
type quarantine struct {
	mu      sync.Mutex
	strikes map[suspect]strike
}

// suspect is a transform of an account: what one account's events do to a script says
// nothing of another's.
type suspect struct{ account, hash string }

type strike struct {
	count  int
	reason string
}

// note counts how a run ended; full says that the script is now to be held back.
func (q *quarantine) note(who suspect, err error) (full bool) {
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
	q.mu.Lock()
	defer q.mu.Unlock()
	if !bad {
		if len(q.strikes) > 0 {
			delete(q.strikes, who)
		}
		return false
	}
	if q.strikes == nil {
		q.strikes = map[suspect]strike{}
	}
	s := strike{q.strikes[who].count + 1, se.Message}
	q.strikes[who] = s
	return s.count >= strikesAllowed
}

// suspects lists those that have strikes.
func (q *quarantine) suspects() []suspect {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Keys(q.strikes))
}

func (q *quarantine) forget(who suspect) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.strikes, who)
}

// forgetUnused drops the strikes of transforms that no subscription uses any more.
func (e *Engine) forgetUnused() {
	struck := e.quarantine.suspects()
	if len(struck) == 0 {
		return
	}
	used := map[suspect]bool{}
	e.registry.mu.RLock()
	for _, r := range e.registry.routes {
		used[r.suspect()] = true
	}
	e.registry.mu.RUnlock()
	for _, who := range struck {
		if !used[who] {
			e.quarantine.forget(who)
		}
	}
}

// holds tells why a transform is held back; "" if it is not.
func (q *quarantine) holds(who suspect) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.strikes[who]; s.count >= strikesAllowed {
		return fmt.Sprintf("stopped %d times in a row: %s", s.count, s.reason)
	}
	return ""
}

// holdBack lets the deliveries of all subscriptions of an account that use a transform
// wait. quiet keeps the operational events back.
func (e *Engine) holdBack(who suspect, quiet bool) {
	var found []*route
	e.registry.mu.RLock()
	for _, r := range e.registry.routes {
		if r.suspect() == who {
			found = append(found, r)
		}
	}
	e.registry.mu.RUnlock()
	for _, r := range found {
		e.holdRoute(r, e.quarantine.holds(who), quiet)
	}
}

// holdRoute lets the deliveries of one subscription wait for a new version of its transform.
func (e *Engine) holdRoute(r *route, reason string, quiet bool) {
	if r.held.Swap(true) {
		return
	}
	hash := r.suspect().hash
	e.metrics.quarantined.Inc()
	e.log.Warn("transform quarantined: deliveries wait for a new version of it", "subscription_id", r.sub.ID.Format(SubscriptionPrefix), "account", r.sub.Account,
		"script_hash", hash, "reason", reason)
	if !quiet {
		e.announceQuarantined(r, hash, reason)
	}
}

// Quarantined tells why the deliveries of a subscription wait for a new version of its
// transform; "" if they don't.
func (e *Engine) Quarantined(id ID) string {
	r := e.registry.route(id)
	if r == nil || !r.held.Load() {
		return ""
	}
	return e.quarantine.holds(r.suspect())
}
