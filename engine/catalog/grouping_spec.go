package catalog

import (
	"hash/maphash"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/scripts/filter"
)

// GroupingSpec holds the ordering and debounce settings of a subscription; when it changes, the
// queue must be rebuilt.
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

// isUnordered reports whether no delivery waits for another.
func (m GroupingSpec) isUnordered() bool { return m == GroupingSpec{} }

// grouping is a compiled GroupingSpec.
type grouping struct {
	GroupingSpec
	SpecHash uint64 // of the spec; 0: unordered

	Once sync.Once
	Expr *filter.Key // nil: all events are one group; set by once
	Err  error       // set by once
}

// GroupSeed is the seed of the hashes that identify groups.
var GroupSeed = maphash.MakeSeed()

// Set compiles m into g, once.
func (g *grouping) Set(m GroupingSpec) {
	if g.GroupingSpec = m; !m.isUnordered() {
		g.SpecHash = max(1, maphash.Comparable(GroupSeed, m))
	}
}

// FallbackGroup returns the group of an event without a key. With ordering all such events form one
// group. With debounce each forms its own: no newer event is known to supersede it, so it must not
// be dropped.
func (g *grouping) FallbackGroup(event engine.ID) uint64 {
	if g.Within > 0 {
		return maphash.Comparable(GroupSeed, event)
	}
	return maphash.String(GroupSeed, "\x00")
}
