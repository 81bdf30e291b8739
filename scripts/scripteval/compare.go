package scripteval

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"switchhook/scripts"
)

// Change is the difference between a candidate version's outcome for an event and the live one's.
type Change string

// The changes between two versions of a script.
const (
	ChangeNone      Change = "same"
	ChangeBody      Change = "differs"           // another body, or another change of the request
	ChangeMatches   Change = "newly_matched"     // sent by the candidate only
	ChangeUnmatches Change = "no_longer_matched" // sent by the live version only: filtered by the candidate
	ChangeDrops     Change = "dropped"           // sent by the live version, dropped by the candidate
	ChangeFails     Change = "error"             // fails in the candidate
)

// Compare returns how candidate differs from live; live is nil if there is no live version.
func Compare(live, candidate *Outcome) Change {
	if live == nil {
		live = &Outcome{}
	}
	failed, _ := candidate.Error()
	a, b := &live.Result, &candidate.Result
	switch {
	case failed != nil: // even if the live version fails as well
		return ChangeFails
	case candidate.Sent() && !live.Sent():
		return ChangeMatches
	case !candidate.Sent() && live.Sent() && b.Dropped:
		return ChangeDrops
	case !candidate.Sent() && live.Sent():
		return ChangeUnmatches
	case bytes.Equal(b.Body, a.Body) && b.Dropped == a.Dropped && b.DropReason == a.DropReason && sameRequest(b.Request, a.Request):
		return ChangeNone
	}
	return ChangeBody
}

func sameRequest(a, b *scripts.Request) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// ChangeCounts counts changes over events.
type ChangeCounts struct {
	Events    int64
	Same      int64
	Differs   int64
	Matches   int64 // newly matched
	Unmatches int64 // no longer matched
	Drops     int64
	Errors    int64
}

// Add counts a change.
func (c *ChangeCounts) Add(change Change) {
	c.Events++
	switch change {
	case ChangeNone:
		c.Same++
	case ChangeBody:
		c.Differs++
	case ChangeMatches:
		c.Matches++
	case ChangeUnmatches:
		c.Unmatches++
	case ChangeDrops:
		c.Drops++
	case ChangeFails:
		c.Errors++
	}
}

// DurationSample records the durations of runs: of every run at first, of every second, fourth … if
// there are many, so that its size is bounded for a comparison over a million events.
type DurationSample struct {
	values       []time.Duration
	seen, stride int
}

const maxDurationSamples = 20_000

// Add counts a run.
func (t *DurationSample) Add(took time.Duration) {
	t.stride = max(1, t.stride)
	if t.seen++; t.seen%t.stride != 0 {
		return
	}
	if t.values = append(t.values, took); len(t.values) < maxDurationSamples {
		return
	}
	slices.Sort(t.values)
	for i := range maxDurationSamples / 2 {
		t.values[i] = t.values[2*i+1]
	}
	t.values, t.stride = t.values[:maxDurationSamples/2], 2*t.stride
}

// Percentiles returns the median and the 99th percentile; zero of an empty sample.
func (t *DurationSample) Percentiles() (p50, p99 time.Duration) {
	n := len(t.values)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(t.values)
	return t.values[n/2], t.values[min(n-1, n*99/100)]
}
