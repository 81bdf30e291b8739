package catalog

import (
	"sync"

	"switchhook/engine"
)

// subscriptionTable holds the subscriptions in memory, with what is counted and looked up in the
// same step as a change.
type subscriptionTable struct {
	mu         sync.RWMutex
	byID       map[engine.ID]*CompiledSubscription
	duplicates map[dedupKey][]*engine.Subscription // subscriptions that may be duplicates
	owned      map[string]int                      // number by account, without inline targets
	inline     inlineIndex
}

func newSubscriptionTable() *subscriptionTable {
	return &subscriptionTable{
		byID: map[engine.ID]*CompiledSubscription{}, duplicates: map[dedupKey][]*engine.Subscription{}, owned: map[string]int{},
		inline: inlineIndex{byKey: map[string]engine.ID{}, counts: map[string]int{}, code: map[string]int{}},
	}
}

func (t *subscriptionTable) get(id engine.ID) *CompiledSubscription {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// put adds or replaces a subscription.
func (t *subscriptionTable) put(r *CompiledSubscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var old *engine.Subscription
	if before := t.byID[r.Sub.ID]; before != nil {
		old = before.Sub
	} else {
		t.count(r.Sub, 1)
	}
	t.indexDuplicate(old, r.Sub)
	t.byID[r.Sub.ID] = r
}

func (t *subscriptionTable) remove(id engine.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.byID[id]; r != nil {
		t.count(r.Sub, -1)
		t.indexDuplicate(r.Sub, nil)
		delete(t.byID, id)
	}
}

// count adds by to the account's number of subscriptions. Those of inline targets are counted
// apart: no user created them one by one. The caller holds mu.
func (t *subscriptionTable) count(s *engine.Subscription, by int) {
	if s.Inline {
		t.inline.count(s, by)
	} else {
		addCount(t.owned, s.Account, by)
	}
}

// addCount adds by to a counter, and drops it at 0.
func addCount(counts map[string]int, key string, by int) {
	if counts[key] += by; counts[key] == 0 {
		delete(counts, key)
	}
}

// find returns the subscriptions that match, in any order.
func (t *subscriptionTable) find(match func(*CompiledSubscription) bool) (found []*CompiledSubscription) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, r := range t.byID {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}

// owners returns the accounts that have subscriptions of their own.
func (t *subscriptionTable) owners() (accounts []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name := range t.owned {
		accounts = append(accounts, name)
	}
	return accounts
}

func (t *subscriptionTable) ownedBy(account string) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.owned[account]
}

// target returns the subscription of an inline target; nil if there is none.
func (t *subscriptionTable) target(key string) *engine.Subscription {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.byID[t.inline.byKey[key]]; r != nil {
		return r.Sub
	}
	return nil
}

// targetsOf returns the number of an account's inline targets and the total size of their
// transforms.
func (t *subscriptionTable) targetsOf(account string) (count, code int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.inline.counts[account], t.inline.code[account]
}

// inlineIndex finds and counts the subscriptions of inline targets; the table's mutex guards it.
type inlineIndex struct {
	byKey  map[string]engine.ID // TargetKey → subscription
	counts map[string]int       // number by account
	code   map[string]int       // total bytes of their transforms, by account
}

func (x *inlineIndex) count(s *engine.Subscription, by int) {
	addCount(x.counts, s.Account, by)
	addCount(x.code, s.Account, by*len(s.Transform))
	if x.byKey[s.TargetKey] = s.ID; by < 0 {
		delete(x.byKey, s.TargetKey)
	}
}
