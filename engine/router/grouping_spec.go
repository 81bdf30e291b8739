package router

import (
	"hash/maphash"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/scripts/filter"
)

// groupingSpec is how a subscription's deliveries stand to one another, as far as a line has to
// be made anew when it changes.
type groupingSpec struct {
	ordering engine.Ordering
	within   time.Duration // of debounce; 0: none
	key      string        // expr; empty: one group
}

func groupingSpecOf(s *engine.Subscription) groupingSpec {
	if s.Debounce.Within > 0 {
		return groupingSpec{within: s.Debounce.Within, key: s.Debounce.Key}
	}
	switch s.Policy.Ordering {
	case engine.OrderingFIFO:
		return groupingSpec{ordering: engine.OrderingFIFO}
	case engine.OrderingKeyed:
		return groupingSpec{ordering: engine.OrderingKeyed, key: s.Policy.OrderingKey}
	}
	return groupingSpec{}
}

// isUnordered tells whether no delivery waits for another.
func (m groupingSpec) isUnordered() bool { return m == groupingSpec{} }

// grouping is a route's manner made ready for use.
type grouping struct {
	groupingSpec
	specHash uint64 // of the manner; 0: plain

	once sync.Once
	expr *filter.Key // nil: all events are one group; set by once
	err  error       // set by once
}

var groupSeed = maphash.MakeSeed()

// set gives g its manner, once.
func (g *grouping) set(m groupingSpec) {
	if g.groupingSpec = m; !m.isUnordered() {
		g.specHash = max(1, maphash.Comparable(groupSeed, m))
	}
}

// fallbackGroup gives the group of an event that has no key. Those that are to keep order are one
// group. But of those that debounce each is one: nothing says that a newer event stands for
// the older one, which must not be dropped for it.
func (g *grouping) fallbackGroup(event engine.ID) uint64 {
	if g.within > 0 {
		return maphash.Comparable(groupSeed, event)
	}
	return maphash.String(groupSeed, "\x00")
}
