package monitor

import (
	"errors"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/testkit"

	"github.com/prometheus/client_golang/prometheus"
)

// The series of all other scripts must not shrink when one of them is deleted.
func TestScriptCounts_DeletedScriptsKeepTheSum(t *testing.T) {
	var c scriptCounts
	for id := range engine.ID(300) {
		c.add(id, time.Millisecond, false, nil)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&c)
	runs := func() (all, other float64, series int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "switchhook_script_runs_total" {
				continue
			}
			for _, m := range f.Metric {
				series++
				all += m.Counter.GetValue()
				if m.Label[0].GetValue() == "other" {
					other = m.Counter.GetValue()
				}
			}
		}
		return all, other, series
	}
	all, before, series := runs()
	if all != 300 || before == 0 {
		t.Fatal(all, before)
	}
	for id := range engine.ID(300) {
		if id > 0 {
			c.forget(id)
		}
	}
	if _, after, left := runs(); after != before || left != 2 || series < 100 {
		t.Errorf("other: %v, then %v; %d series, then %d", before, after, series, left)
	}
}

// The number of series is bounded however many scripts there are, and no count is lost.
func TestScriptCounts_BoundsItsSeries(t *testing.T) {
	reg, counts := prometheus.NewRegistry(), &scriptCounts{}
	reg.MustRegister(counts)
	failed := errors.New("failed")
	for range 2 {
		counts.add(0, time.Millisecond, false, nil)
		for id := engine.ID(1); id <= 250; id++ {
			counts.add(id, time.Millisecond, id%2 == 0, failed)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if len(f.Metric) != 202 { // 200 scripts, inline, other
			t.Errorf("%s has %d series", f.GetName(), len(f.Metric))
		}
	}
	for name, want := range map[string][3]float64{
		"switchhook_script_runs_total": {2, 2, 100}, "switchhook_script_errors_total": {0, 2, 100}, "switchhook_script_timeouts_total": {0, 0, 0},
		"switchhook_script_dropped_total": {0, 2, 50}, "switchhook_script_seconds": {2, 2, 100},
	} {
		got := [3]float64{testkit.Figure(t, reg, name, "inline"), testkit.Figure(t, reg, name, engine.ID(200).Format(engine.ScriptPrefix)), testkit.Figure(t, reg, name, "other")}
		if got != want {
			t.Errorf("%s of inline, a script and the others: %v, not %v", name, got, want)
		}
	}
}
