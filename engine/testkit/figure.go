package testkit

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Figure returns the value of one series, -1 if there is none; of a histogram the number of samples:
// Figure(t, reg, "switchhook_deliveries", "dead"). Labels are given in the order of their names.
func Figure(t testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			var got []string
			for _, l := range m.Label {
				got = append(got, l.GetValue())
			}
			if slices.Equal(got, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}
