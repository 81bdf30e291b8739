package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// Change is how a candidate version's result for an event differs from the live one's.
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

// ScriptOutcome is the result of a script version for an event.
type ScriptOutcome struct {
	Sent    bool   // matched, and not dropped
	Dropped string // the transform's reason
	Body    []byte
	Request *scripts.Request // set if the transform changed it
	Error   *scripts.Error
	CPU     time.Duration
}

// Compare returns how candidate differs from live.
func Compare(live, candidate *ScriptOutcome) Change {
	switch {
	case candidate.Error != nil: // even if the live version fails as well
		return ChangeFails
	case candidate.Sent && !live.Sent:
		return ChangeMatches
	case !candidate.Sent && live.Sent && candidate.Dropped != "":
		return ChangeDrops
	case !candidate.Sent && live.Sent:
		return ChangeUnmatches
	case !bytes.Equal(candidate.Body, live.Body) || candidate.Dropped != live.Dropped || !sameRequest(candidate.Request, live.Request):
		return ChangeBody
	}
	return ChangeNone
}

func sameRequest(a, b *scripts.Request) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// ScriptRunner runs one version of a script over events.
type ScriptRunner struct {
	filter  *filter.Filter
	program *scripts.Program
	run     settings.Transformer
	request scripts.Request
}

// Outcome runs the script. The error is not the script's.
func (r *ScriptRunner) Outcome(ctx context.Context, ev *engine.Event) (*ScriptOutcome, error) {
	if r.filter == nil {
		return transformOutcome(r.run.Run(ctx, r.program, catalog.ScriptEvent(ev, jsonindex.Value{}), r.request))
	}
	in := filter.NewInput(catalog.ScriptEvent(ev, jsonindex.Value{}))
	defer in.Release()
	began := time.Now()
	matched, err := r.filter.Match(in)
	o, err := filterOutcome(matched, err)
	o.CPU = time.Since(began)
	return o, err
}

func filterOutcome(matched bool, err error) (*ScriptOutcome, error) {
	o := &ScriptOutcome{Sent: matched}
	return o, o.failure(err)
}

func transformOutcome(res scripts.Result, err error) (*ScriptOutcome, error) {
	o := &ScriptOutcome{Sent: err == nil && !res.Dropped, CPU: res.CPU, Request: res.Request}
	if res.Dropped {
		o.Dropped = catalog.DropReason(res)
	} else {
		o.Body = res.Body
	}
	return o, o.failure(err)
}

// failure stores the script's own error, and returns any other.
func (o *ScriptOutcome) failure(err error) error {
	if err == nil || errors.As(err, &o.Error) && o.Error.ScriptFault() {
		return nil
	}
	return err
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
// there are many, so that its size is bounded for a backtest of a million events.
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
