package catalog

import (
	"hash/maphash"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/scripts/filter"
)

// GroupingSpec is how a subscription's deliveries stand to one another, as far as a line has to
// be made anew when it changes.
type GroupingSpec struct {
	Ordering engine.Ordering
	Within   time.Duration // of debounce; 0: none
	Key      string        // expr; empty: one group
}

// GroupingSpecOf returns the ordering and debounce settings of a subscription.
func GroupingSpecOf(s *engine.Subscription) GroupingSpec {
	if s.Debounce.Within > 0 {
		return GroupingSpec{Within: s.Debounce.Within, Key: s.Debounce.Key}
	}
	switch s.Policy.Ordering {
	case engine.OrderingFIFO:
		return GroupingSpec{Ordering: engine.OrderingFIFO}
	case engine.OrderingKeyed:
		return GroupingSpec{Ordering: engine.OrderingKeyed, Key: s.Policy.OrderingKey}
	}
	return GroupingSpec{}
}

// isUnordered tells whether no delivery waits for another.
func (m GroupingSpec) isUnordered() bool { return m == GroupingSpec{} }

// grouping is a route's manner made ready for use.
type grouping struct {
	GroupingSpec
	SpecHash uint64 // of the manner; 0: plain

	Once sync.Once
	Expr *filter.Key // nil: all events are one group; set by once
	Err  error       // set by once
}

// GroupSeed is the seed of the hashes that name groups.
var GroupSeed = maphash.MakeSeed()

// set gives g its manner, once.
func (g *grouping) Set(m GroupingSpec) {
	if g.GroupingSpec = m; !m.isUnordered() {
		g.SpecHash = max(1, maphash.Comparable(GroupSeed, m))
	}
}

// fallbackGroup gives the group of an event that has no key. Those that are to keep order are one
// group. But of those that debounce each is one: nothing says that a newer event stands for
// the older one, which must not be dropped for it.
func (g *grouping) FallbackGroup(event engine.ID) uint64 {
	if g.Within > 0 {
		return maphash.Comparable(GroupSeed, event)
	}
	return maphash.String(GroupSeed, "\x00")
}
