package engine

import (
	"fmt"
	"testing"
	"time"

	"switchhook/engine/judge"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	down = judge.Verdict{Reply: judge.Down, Reason: "down"}
	bad  = judge.Verdict{Reply: judge.Bad, Reason: "bad"}
	good = judge.Verdict{Reply: judge.Good}
)

func TestFailuresInARowOpenTheCircuit(t *testing.T) {
	for name, c := range map[string]struct {
		verdicts []judge.Verdict
		state    HealthState
		failures int
	}{
		"nothing yet":                    {nil, HealthGood, 0},
		"a success":                      {[]judge.Verdict{good}, HealthGood, 0},
		"four failures":                  {[]judge.Verdict{down, down, down, down}, HealthFailing, 4},
		"five":                           {[]judge.Verdict{down, down, down, down, down}, HealthProbing, 5},
		"a success between":              {[]judge.Verdict{down, down, down, down, good, down}, HealthFailing, 1},
		"an answer between":              {[]judge.Verdict{down, down, down, down, bad, down}, HealthFailing, 6},
		"a failing transform between":    {[]judge.Verdict{down, down, down, down, {Reason: "threw"}, down}, HealthProbing, 5},
		"answers that refuse":            {[]judge.Verdict{bad, bad, bad, bad, bad, bad}, HealthFailing, 6},
		"transforms that fail":           {[]judge.Verdict{{Reason: "a"}, {Reason: "b"}, {Reason: "c"}, {Reason: "d"}, {Reason: "e"}}, HealthGood, 0},
		"one success closes it":          {[]judge.Verdict{down, down, down, down, down, good}, HealthGood, 0},
		"an answer that refuses does so": {[]judge.Verdict{down, down, down, down, down, bad}, HealthFailing, 6},
	} {
		var h circuit
		for i, v := range c.verdicts {
			h.heed(v, ID(i+1), false, noon.Add(time.Duration(i)*time.Second))
		}
		if h.State() != c.state || h.Failures != c.failures || (c.failures > 0) == h.FailingSince.IsZero() {
			t.Errorf("%s: %s, %+v", name, h.State(), h)
		}
	}
}

// One event that the target can't take must not break off the others.
func TestOneEventAloneOpensNothing(t *testing.T) {
	silent := judge.Verdict{Reply: judge.Down, Trouble: true, Reason: "no answer"}
	for name, c := range map[string]struct {
		v      judge.Verdict
		events []ID
		open   bool
	}{
		"500 for one event":        {down, []ID{1, 1, 1, 1, 1, 1, 1}, false},
		"500 for four, in turns":   {down, []ID{1, 2, 3, 4, 4, 3, 2, 1}, false},
		"500 for five":             {down, []ID{1, 1, 2, 3, 4, 5}, true},
		"no answer, for one event": {silent, []ID{1, 1, 1, 1, 1}, true},
	} {
		var h circuit
		for _, event := range c.events {
			h.heed(c.v, event, false, noon)
		}
		if h.open() != c.open {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestProbesAreSpacedEverFurther(t *testing.T) {
	var c circuit
	now := noon
	for i := range ID(openAfter) {
		c.heed(down, i, false, now)
	}
	var gaps []string
	for i := range ID(11) {
		if c.NextProbeAt.Before(now) || !c.admits() {
			t.Fatalf("probe %d: %+v", i, c)
		}
		gaps = append(gaps, c.NextProbeAt.Sub(now).String())
		now = c.NextProbeAt
		c.began(i + 1)
		if c.admits() {
			t.Fatal("two probes at one time")
		}
		if c.ended(99) || c.admits() { // one that set out before the circuit opened
			t.Fatal("another attempt ended the probe")
		}
		c.heed(down, 98, false, now)
		if !c.NextProbeAt.Equal(now) {
			t.Fatal("an attempt that was no probe put the next one off")
		}
		c.heed(down, i+1, c.ended(i+1), now)
	}
	if want := "[1s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 5m0s 5m0s]"; fmt.Sprint(gaps) != want {
		t.Errorf("%v", gaps)
	}
	if n := c.heed(good, 1, false, now); !n.recovered || !n.closed || n.health.FailingSince != noon || c.open() {
		t.Errorf("%+v %+v", n, c)
	}
}

func TestAShortFailureIsNoNews(t *testing.T) {
	var c circuit
	for i := range ID(openAfter) {
		c.heed(down, i, false, noon)
	}
	if n := c.heed(good, 1, false, noon.Add(recoveredAfter-1)); n.recovered || !n.closed {
		t.Errorf("%+v", n)
	}
	c.heed(bad, 1, false, noon)
	if n := c.heed(good, 1, false, noon.Add(time.Hour)); n.recovered || n.closed {
		t.Errorf("a circuit that was not open: %+v", n)
	}
}

func TestHopeless(t *testing.T) {
	const days = 5 * 24 * time.Hour
	for name, c := range map[string]struct {
		h    Health
		long time.Duration
		want bool
	}{
		"five days and enough attempts": {Health{FailingSince: noon.Add(-days), Failures: hopelessAttempts}, days, true},
		"not quite five days":           {Health{FailingSince: noon.Add(1 - days), Failures: 1000}, days, false},
		"too few attempts":              {Health{FailingSince: noon.Add(-10 * days), Failures: hopelessAttempts - 1}, days, false},
		"never":                         {Health{FailingSince: noon.Add(-10 * days), Failures: 1000}, 0, false},
		"healthy":                       {Health{}, days, false},
	} {
		if got := c.h.hopeless(c.long, noon); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAClockThatWasSetBackPutsOffNoProbe(t *testing.T) {
	var h circuit
	for i := range ID(openAfter) {
		h.heed(down, i+1, false, noon)
	}
	for at, want := range map[time.Duration]bool{0: false, firstProbe - 1: false, firstProbe: true, -time.Millisecond: true, -365 * 24 * time.Hour: true} {
		if now := noon.Add(at); h.probeAt(now).After(now) == want {
			t.Errorf("%s after the failure: may probe %t", at, !want)
		}
	}
}
