package dispatch

import (
	"fmt"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	down = retry.Decision{Signal: retry.SignalUnavailable, Reason: "down"}
	bad  = retry.Decision{Signal: retry.SignalRejecting, Reason: "bad"}
	good = retry.Decision{Signal: retry.SignalHealthy}
)

func TestCircuitBreaker_OpensAfterConsecutiveFailures(t *testing.T) {
	for name, c := range map[string]struct {
		verdicts []retry.Decision
		state    engine.HealthState
		failures int
	}{
		"nothing yet":                 {nil, engine.HealthHealthy, 0},
		"a success":                   {[]retry.Decision{good}, engine.HealthHealthy, 0},
		"four failures":               {[]retry.Decision{down, down, down, down}, engine.HealthFailing, 4},
		"five":                        {[]retry.Decision{down, down, down, down, down}, engine.HealthProbing, 5},
		"a success between":           {[]retry.Decision{down, down, down, down, good, down}, engine.HealthFailing, 1},
		"a refusal between":           {[]retry.Decision{down, down, down, down, bad, down}, engine.HealthFailing, 6},
		"a failing transform between": {[]retry.Decision{down, down, down, down, {Reason: "threw"}, down}, engine.HealthProbing, 5},
		"refusals":                    {[]retry.Decision{bad, bad, bad, bad, bad, bad}, engine.HealthFailing, 6},
		"failing transforms":          {[]retry.Decision{{Reason: "a"}, {Reason: "b"}, {Reason: "c"}, {Reason: "d"}, {Reason: "e"}}, engine.HealthHealthy, 0},
		"one success closes it":       {[]retry.Decision{down, down, down, down, down, good}, engine.HealthHealthy, 0},
		"a refusal closes it":         {[]retry.Decision{down, down, down, down, down, bad}, engine.HealthFailing, 6},
	} {
		var h circuitBreaker
		for i, v := range c.verdicts {
			h.observe(v, engine.ID(i+1), false, noon.Add(time.Duration(i)*time.Second))
		}
		if h.State() != c.state || h.Failures != c.failures || (c.failures > 0) == h.FailingSince.IsZero() {
			t.Errorf("%s: %s, %+v", name, h.State(), h)
		}
	}
}

// One event that the target can't process must not open the circuit for the others.
func TestCircuitBreaker_OneEventDoesNotOpen(t *testing.T) {
	silent := retry.Decision{Signal: retry.SignalUnavailable, Overloaded: true, Reason: "no answer"}
	for name, c := range map[string]struct {
		v      retry.Decision
		events []engine.ID
		open   bool
	}{
		"500 for one event":        {down, []engine.ID{1, 1, 1, 1, 1, 1, 1}, false},
		"500 for four, in turns":   {down, []engine.ID{1, 2, 3, 4, 4, 3, 2, 1}, false},
		"500 for five":             {down, []engine.ID{1, 1, 2, 3, 4, 5}, true},
		"no answer, for one event": {silent, []engine.ID{1, 1, 1, 1, 1}, true},
	} {
		var h circuitBreaker
		for _, event := range c.events {
			h.observe(c.v, event, false, noon)
		}
		if h.open() != c.open {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestCircuitBreaker_ProbeBackoff(t *testing.T) {
	var c circuitBreaker
	now := noon
	for i := range engine.ID(openAfter) {
		c.observe(down, i, false, now)
	}
	var gaps []string
	for i := range engine.ID(11) {
		if c.NextProbeAt.Before(now) || !c.allows() {
			t.Fatalf("probe %d: %+v", i, c)
		}
		gaps = append(gaps, c.NextProbeAt.Sub(now).String())
		now = c.NextProbeAt
		c.attemptStarted(i + 1)
		if c.allows() {
			t.Fatal("two concurrent probes")
		}
		if c.attemptFinished(99) || c.allows() { // an attempt that started before the circuit opened
			t.Fatal("another attempt ended the probe")
		}
		c.observe(down, 98, false, now)
		if !c.NextProbeAt.Equal(now) {
			t.Fatal("an attempt that was not a probe delayed the next probe")
		}
		c.observe(down, i+1, c.attemptFinished(i+1), now)
	}
	if want := "[1s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 5m0s 5m0s]"; fmt.Sprint(gaps) != want {
		t.Errorf("%v", gaps)
	}
	if n := c.observe(good, 1, false, now); !n.recovered || !n.closed || n.health.FailingSince != noon || c.open() {
		t.Errorf("%+v %+v", n, c)
	}
}

func TestCircuitBreaker_ShortFailureIsNotReported(t *testing.T) {
	var c circuitBreaker
	for i := range engine.ID(openAfter) {
		c.observe(down, i, false, noon)
	}
	if n := c.observe(good, 1, false, noon.Add(recoveredAfter-1)); n.recovered || !n.closed {
		t.Errorf("%+v", n)
	}
	c.observe(bad, 1, false, noon)
	if n := c.observe(good, 1, false, noon.Add(time.Hour)); n.recovered || n.closed {
		t.Errorf("a circuit that was not open: %+v", n)
	}
}

func TestHealth_FailingTooLong(t *testing.T) {
	const days = 5 * 24 * time.Hour
	for name, c := range map[string]struct {
		h    engine.Health
		long time.Duration
		want bool
	}{
		"five days and enough attempts": {engine.Health{FailingSince: noon.Add(-days), Failures: engine.MinFailuresToDeactivate}, days, true},
		"not quite five days":           {engine.Health{FailingSince: noon.Add(1 - days), Failures: 1000}, days, false},
		"too few attempts":              {engine.Health{FailingSince: noon.Add(-10 * days), Failures: engine.MinFailuresToDeactivate - 1}, days, false},
		"never":                         {engine.Health{FailingSince: noon.Add(-10 * days), Failures: 1000}, 0, false},
		"healthy":                       {engine.Health{}, days, false},
	} {
		if got := c.h.FailingTooLong(c.long, noon); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCircuitBreaker_ClockSetBackDoesNotDelayProbe(t *testing.T) {
	var h circuitBreaker
	for i := range engine.ID(openAfter) {
		h.observe(down, i+1, false, noon)
	}
	for at, want := range map[time.Duration]bool{0: false, firstProbe - 1: false, firstProbe: true, -time.Millisecond: true, -365 * 24 * time.Hour: true} {
		if now := noon.Add(at); h.probeAt(now).After(now) == want {
			t.Errorf("%s after the failure: may probe %t", at, !want)
		}
	}
}
