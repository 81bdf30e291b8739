package jobs

import (
	"math/rand/v2"
	"testing"
	"time"

	"switchhook/engine"
)

// TestKeptSpans_BoundedAndNeverLate adds more spans than are remembered: each event stays in a span,
// in order, and no span is due later than the one that was added for it.
func TestKeptSpans_BoundedAndNeverLate(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	start := time.UnixMilli(1e12)
	var kept keptSpans
	var added []keptSpan
	last := engine.ID(0)
	for range 5 * maxKeptSpans {
		after := last + engine.ID(r.IntN(3))
		last = after + 1 + engine.ID(r.IntN(5))
		s := keptSpan{after, last, start.Add(time.Duration(r.IntN(1e6)) * time.Second)}
		added = append(added, s)
		if kept.add(s); len(kept) > maxKeptSpans {
			t.Fatalf("%d spans", len(kept))
		}
	}
	if len(kept) < maxKeptSpans/2 {
		t.Errorf("only %d spans are left", len(kept))
	}
	i := 0
	for n, k := range kept {
		if k.after >= k.last || n > 0 && k.after < kept[n-1].last {
			t.Fatalf("span %d is %+v after %+v", n, k, kept[n-1])
		}
		for ; i < len(added) && added[i].last <= k.last; i++ {
			if added[i].after < k.after || added[i].due.Before(k.due) {
				t.Fatalf("%+v became part of %+v", added[i], k)
			}
		}
	}
	if i != len(added) {
		t.Errorf("%d of %d spans are covered", i, len(added))
	}
}
