package engine

import (
	"slices"
	"strings"
	"sync"
)

// index finds the subscriptions that may want an event: by account, then by the event
// types and patterns that they name. Lists are copied on change, so that a reader goes
// over one without holding a lock.
type index struct {
	mu       sync.RWMutex
	accounts map[string]*accountIndex
}

type accountIndex struct {
	byType   map[string][]*route // "order.created"
	byPrefix map[string][]*route // "order.", from "order.*"
	all      []*route            // "*", which leaves out operational events
}

func newIndex() *index { return &index{accounts: map[string]*accountIndex{}} }

// candidates gives the routes of account that name eventType, each once, in no order.
func (x *index) candidates(account, eventType string) []*route {
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
	join := func(more []*route) {
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
	if !Operational(eventType) {
		join(a.all)
	}
	if lists > 1 { // only then can a subscription stand in two lists
		slices.SortFunc(found, func(a, b *route) int { return int(a.sub.ID - b.sub.ID) })
		found = slices.CompactFunc(found, func(a, b *route) bool { return a == b })
	}
	return found
}

// replace takes old's places away and gives new its own; either may be nil.
func (x *index) replace(old, new *route) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil {
		if a := x.accounts[old.sub.Account]; a != nil {
			a.each(old, func(list []*route) []*route {
				return slices.DeleteFunc(slices.Clone(list), func(r *route) bool { return r == old })
			})
			if len(a.byType)+len(a.byPrefix)+len(a.all) == 0 {
				delete(x.accounts, old.sub.Account)
			}
		}
	}
	if new != nil && new.sub.Active {
		a := x.accounts[new.sub.Account]
		if a == nil {
			a = &accountIndex{byType: map[string][]*route{}, byPrefix: map[string][]*route{}}
			x.accounts[new.sub.Account] = a
		}
		a.each(new, func(list []*route) []*route { return append(slices.Clip(list), new) })
	}
}

// each changes every list in which r stands, or is to stand.
func (a *accountIndex) each(r *route, change func([]*route) []*route) {
	in := func(m map[string][]*route, key string) {
		if list := change(m[key]); len(list) > 0 {
			m[key] = list
		} else {
			delete(m, key)
		}
	}
	for _, pattern := range r.sub.Events {
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
