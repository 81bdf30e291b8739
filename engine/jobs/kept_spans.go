package jobs

import (
	"slices"
	"time"

	"switchhook/engine"
)

// keptSpan is a range of events that were examined, and of which some stay until due at least.
type keptSpan struct {
	after, last engine.ID // events above after, up to last
	due         time.Time // when they are to be examined again
}

// keptSpans remembers when events that were examined and kept are to be examined again, so that a
// million of them is not read every time. The spans are in the order of events and don't overlap.
type keptSpans []keptSpan

// maxKeptSpans bounds the memory: 40 bytes a span. One step of the store makes one at most.
const maxKeptSpans = 10_000

// add adds a span above all others.
func (k *keptSpans) add(s keptSpan) {
	if *k = append(*k, s); len(*k) > maxKeptSpans {
		k.merge()
	}
}

// merge merges spans in pairs. Those that are due last are merged: they are examined once more when
// the first of them is due, and are small again from then on.
func (k *keptSpans) merge() {
	due := make([]time.Time, len(*k))
	for i, s := range *k {
		due[i] = s.due
	}
	slices.SortFunc(due, time.Time.Compare)
	late, single := due[len(due)/4], false // single: the last of merged may take another
	merged := (*k)[:0]
	for _, s := range *k {
		if single && !s.due.Before(late) {
			pair := &merged[len(merged)-1]
			pair.last = s.last
			if s.due.Before(pair.due) {
				pair.due = s.due
			}
			single = false
			continue
		}
		merged, single = append(merged, s), !s.due.Before(late)
	}
	*k = merged
}
