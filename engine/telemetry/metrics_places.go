package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine/fairlimit"
)

// placesCollector shows what a fairlimit.Limiter holds.
type placesCollector struct {
	limiter                 *fairlimit.Limiter
	inUse, waiting, refused *prometheus.Desc
}

// NewPlacesCollector returns the metrics of a limiter that accounts share. kind names what it
// limits, such as "previews"; each kind is registered once.
func NewPlacesCollector(kind string, l *fairlimit.Limiter) prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("switchhook_places_"+name, help, nil, prometheus.Labels{"kind": kind})
	}
	return &placesCollector{
		limiter: l,
		inUse:   desc("in_use", "Places that accounts share which are in use, or bytes of them."),
		waiting: desc("waiting", "Operations that wait for a place."),
		refused: desc("refused_total", "Operations that were refused because the places were taken, all or those of the account."),
	}
}

// Describe implements prometheus.Collector.
func (c *placesCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.inUse
	ch <- c.waiting
	ch <- c.refused
}

// Collect implements prometheus.Collector.
func (c *placesCollector) Collect(ch chan<- prometheus.Metric) {
	u := c.limiter.Usage()
	ch <- prometheus.MustNewConstMetric(c.inUse, prometheus.GaugeValue, float64(u.InUse))
	ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(u.Waiting))
	ch <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(u.Refused))
}
