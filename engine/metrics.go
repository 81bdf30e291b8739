package engine

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the engine's figures. Labels have few values, none of them chosen by users.
type Metrics struct {
	accepted     prometheus.Counter
	repeated     prometheus.Counter
	matched      prometheus.Counter
	filtered     prometheus.Counter
	filterErrors prometheus.Counter
	attempts     *prometheus.CounterVec // by result
	duration     prometheus.Histogram
	deactivated  prometheus.Counter
	givenUp      prometheus.Counter
	quarantined  prometheus.Counter
	removed      prometheus.Counter
	removedBytes prometheus.Counter
}

// NewMetrics makes the figures and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "switchhook", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &Metrics{
		accepted:     counter("events_accepted_total", "Events that were stored."),
		repeated:     counter("events_repeated_total", "Events that were published again under a known key and not stored twice."),
		matched:      counter("deliveries_created_total", "Deliveries that accepted events gave rise to."),
		filtered:     counter("events_filtered_total", "Times that a filter kept an event from a subscription."),
		filterErrors: counter("filter_errors_total", "Times that a filter failed while it ran, which counts as no match."),
		deactivated:  counter("subscriptions_deactivated_total", "Subscriptions that the router switched off."),
		givenUp:      counter("deliveries_given_up_total", "Deliveries that died without another attempt, because their event was older than give_up_after."),
		quarantined:  counter("subscriptions_quarantined_total", "Subscriptions whose deliveries were held back because their transform was stopped too often."),
		removed:      counter("events_removed_total", "Events that were removed because they had been kept long enough, or to make room."),
		removedBytes: counter("events_removed_bytes_total", "Bytes of data of the events that were removed."),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "switchhook", Name: "delivery_attempts_total", Help: "Attempts by what the delivery became: succeeded, failed (to be retried), dead, dropped.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "switchhook", Name: "delivery_attempt_seconds", Help: "How long attempts took, transform and answer included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}),
	}
	for s := StateFailed; s <= StateDropped; s++ {
		m.attempts.WithLabelValues(s.String())
	}
	r.MustRegister(m.attempts, m.duration)
	return m
}

// watch registers the gauges that read the running engine.
func (m *Metrics) watch(r prometheus.Registerer, e *Engine) {
	gauge := func(name, help string, read func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "switchhook", Name: name, Help: help}, read))
	}
	gauge("deliveries_waiting", "Deliveries that wait in memory for their attempt.", func() float64 { return float64(e.scheduler.depth()) })
	gauge("subscriptions_probing", "Subscriptions whose target is down, so that only probes go out.", func() float64 { return float64(e.scheduler.probing()) })
	gauge("subscriptions", "Subscriptions that exist.", func() float64 { return float64(e.registry.count()) })
	room := func(read func(*Room) int64) func() float64 {
		return func() float64 {
			if u := e.pressure.room.Load(); u != nil {
				return float64(read(u))
			}
			return 0
		}
	}
	gauge("deliveries_open", "Deliveries that are pending or failed and on disk, as counted every few seconds.", func() float64 { return float64(e.pressure.waiting.Load()) })
	gauge("database_bytes", "Bytes of the database that hold something.", room(func(u *Room) int64 { return u.Bytes }))
	gauge("database_free_bytes", "Bytes of the database that nothing uses.", room(func(u *Room) int64 { return u.Free }))
	gauge("disk_free_bytes", "Bytes left on the file system of the database.", room(func(u *Room) int64 { return u.DiskFree }))
	gauge("events_refused", "1 while no event is accepted: the disk is nearly full, the database is at its limit, or its file is gone.", func() float64 {
		if e.pressure.refusal.Load() != nil {
			return 1
		}
		return 0
	})
}
