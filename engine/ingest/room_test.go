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
			t.Fatal(fmt.Sprintf("%v share %d: %d are used of %d", used, share, sum, limit))
		}
	}
}
