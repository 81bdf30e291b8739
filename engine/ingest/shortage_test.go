package ingest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestFairShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		used  []int64
		limit int64
		want  int64
	}{
		{"nobody", nil, 10, math.MaxInt64},
		{"one within", []int64{10}, 10, math.MaxInt64},
		{"one above", []int64{11}, 10, 10},
		{"equal", []int64{5, 5, 5, 5}, 10, 2},
		{"small ones keep theirs", []int64{1, 90, 2, 3}, 20, 14},
		{"two large divide the rest", []int64{50, 1, 90, 2}, 33, 15},
		{"one just below the share", []int64{10, 30, 30}, 40, 15},
		{"all fit", []int64{10, 20, 30}, 60, math.MaxInt64},
		{"no room", []int64{10, 20}, 0, 0},
		{"less than none", []int64{10, 20}, -5, 0},
	} {
		if got := FairShare(c.used, c.limit); got != c.want {
			t.Errorf("%s: share is %d, want %d", c.name, got, c.want)
		}
	}
}

// TestFairShare_Fills checks that random shares use the limit, no more, and all of it but for rounding.
func TestFairShare_Fills(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		used, total := make([]int64, 1+r.IntN(20)), int64(0)
		for i := range used {
			used[i] = r.Int64N(1000)
			total += used[i]
		}
		limit := r.Int64N(total + 1)
		share, sum := FairShare(used, limit), int64(0)
		for _, n := range used {
			sum += min(n, share)
		}
		if sum > limit || limit-sum >= int64(len(used)) {
			t.Fatalf("%v share %d: %d are used of %d", used, share, sum, limit)
		}
	}
}

// TestAdmit_BetweenMeasurements publishes while space runs short and nothing is measured.
func TestAdmit_BetweenMeasurements(t *testing.T) {
	t.Parallel()
	l := &LoadShedder{wake: make(chan struct{}, 1), recent: map[string]int64{}}
	const event = 1000
	l.room.Store(&roomState{
		Shortage: Shortage{ample: 10 * event, left: bound{20 * event, "full"}, reserve: bound{100 * event, "full"}},
		over:     map[string]bool{"large": true},
	})
	publish := func(account string) (n int) {
		for {
			if _, err := l.Admit(account, event-rowBytes); err != nil {
				return n
			}
			n++
		}
	}
	if _, err := l.Admit("first", event-rowBytes); err != nil || len(l.wake) != 0 {
		t.Errorf("while there is space: %v", err)
	}
	for _, c := range []struct {
		account string
		want    int
	}{
		{"large", 19}, // until none is left, together with the event before
		{"large", 0},
		{"burst", 10}, // an eighth of the reserve
		{"burst", 0},
		{"small", 10},
		{"third", 10},
	} {
		if n := publish(c.account); n != c.want {
			t.Errorf("%s published %d events, want %d", c.account, n, c.want)
		}
	}
	if len(l.wake) != 1 {
		t.Error("the space is not measured at once")
	}
	for i := range 5 {
		publish(fmt.Sprint(i))
	}
	if _, err := l.Admit("another", event-rowBytes); err == nil || l.admitted.Load() != 100*event {
		t.Errorf("after %d bytes: %v", l.admitted.Load(), err)
	}
}
