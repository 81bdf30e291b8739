package catalog

import (
	"slices"
	"strings"
	"sync"

	"switchhook/engine"
)

// subscriptionIndex finds the candidates for an event: by account, then by the event types and
// patterns that they name. Lists are copied on change, so readers iterate without a lock.
type subscriptionIndex struct {
	mu       sync.RWMutex
	accounts map[string]*accountIndex
}

type accountIndex struct {
	byType   map[string][]*CompiledSubscription // "order.created"
	byPrefix map[string][]*CompiledSubscription // "order.", from "order.*"
	all      []*CompiledSubscription            // "*", which leaves out operational events
}

func newSubscriptionIndex() *subscriptionIndex {
	return &subscriptionIndex{accounts: map[string]*accountIndex{}}
}

// candidates returns the subscriptions of account that name eventType, each once, in any order.
func (x *subscriptionIndex) candidates(account, eventType string) []*CompiledSubscription {
	x.mu.RLock()
	defer x.mu.RUnlock()
	a := x.accounts[account]
	if a == nil {
		return nil
	}
	found := a.byType[eventType]
	lists := 0
	if len(found) > 0 {
		lists++
	}
	join := func(more []*CompiledSubscription) {
		if len(more) == 0 {
			return
		}
		if lists++; lists == 1 {
			found = more
		} else {
			found = append(slices.Clip(found), more...)
		}
	}
	if len(a.byPrefix) > 0 {
		for i := strings.IndexByte(eventType, '.'); i >= 0; {
			join(a.byPrefix[eventType[:i+1]])
			rest := strings.IndexByte(eventType[i+1:], '.')
			if rest < 0 {
				break
			}
			i += 1 + rest
		}
	}
	if !engine.Operational(eventType) {
		join(a.all)
	}
	if lists > 1 { // only then can a subscription be in two lists
		slices.SortFunc(found, func(a, b *CompiledSubscription) int { return int(a.Sub.ID - b.Sub.ID) })
		found = slices.CompactFunc(found, func(a, b *CompiledSubscription) bool { return a == b })
	}
	return found
}

// replace removes old from its lists and adds new; either may be nil.
func (x *subscriptionIndex) replace(old, new *CompiledSubscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil {
		if a := x.accounts[old.Sub.Account]; a != nil {
			a.updateLists(old, func(list []*CompiledSubscription) []*CompiledSubscription {
				return slices.DeleteFunc(slices.Clone(list), func(r *CompiledSubscription) bool { return r == old })
			})
			if len(a.byType)+len(a.byPrefix)+len(a.all) == 0 {
				delete(x.accounts, old.Sub.Account)
			}
		}
	}
	if new != nil && new.Sub.Active {
		a := x.accounts[new.Sub.Account]
		if a == nil {
			a = &accountIndex{byType: map[string][]*CompiledSubscription{}, byPrefix: map[string][]*CompiledSubscription{}}
			x.accounts[new.Sub.Account] = a
		}
		a.updateLists(new, func(list []*CompiledSubscription) []*CompiledSubscription { return append(slices.Clip(list), new) })
	}
}

// updateLists applies change to every list that r belongs to.
func (a *accountIndex) updateLists(r *CompiledSubscription, change func([]*CompiledSubscription) []*CompiledSubscription) {
	in := func(m map[string][]*CompiledSubscription, key string) {
		if list := change(m[key]); len(list) > 0 {
			m[key] = list
		} else {
			delete(m, key)
		}
	}
	for _, pattern := range r.Sub.Events {
		switch {
		case pattern == "*":
			a.all = change(a.all)
		case strings.HasSuffix(pattern, "*"):
			in(a.byPrefix, strings.TrimSuffix(pattern, "*"))
		default:
			in(a.byType, pattern)
		}
	}
}
