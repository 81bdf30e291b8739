package dispatch

import (
	"switchhook/engine"
	"testing"
)

func TestSequences(t *testing.T) {
	for want, numbers := range map[string][]int64{
		"": {0, 0}, "1": {1}, "1-3": {1, 2, 3}, "4-6,9": {4, 5, 6, 9}, "2,1,3": {2, 1, 3}, "0,0,1-2": {0, 0, 1, 2}, "7,7": {7, 7},
	} {
		var sent []*engine.Event
		for _, n := range numbers {
			sent = append(sent, &engine.Event{Targets: []engine.ID{3, 5}, Sequences: []int64{9, n}})
		}
		if got := sequences(5, sent); got != want {
			t.Errorf("%v: got %q, want %q", numbers, got, want)
		}
	}
}
