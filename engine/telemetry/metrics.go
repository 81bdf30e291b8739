// Package telemetry provides the metrics and traces of the router.
package telemetry

import (
	"maps"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/target"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the engine's metrics. Labels have few values, and users choose none of them except
// the accounts of accountCollector, which are bounded and off by default.
type Metrics struct {
	Accepted     prometheus.Counter
	Repeated     prometheus.Counter
	Matched      prometheus.Counter
	Filtered     prometheus.Counter
	FilterErrors prometheus.Counter
	Publishing   prometheus.Histogram
	attempts     *prometheus.CounterVec // by result
	Duration     prometheus.Histogram
	firstAttempt prometheus.Histogram
	GivenUp      prometheus.Counter
	Loops        prometheus.Counter
	Chained      prometheus.Counter
	Spilled      prometheus.Counter
	Deactivated  prometheus.Counter
	Quarantined  prometheus.Counter
	Removed      prometheus.Counter
	RemovedBytes prometheus.Counter
	RemovedEarly prometheus.Counter
	Shortages    *prometheus.CounterVec // by resource
	Accounts     *accountCollector
}

// NewMetrics creates and registers the metrics. accounts is how many accounts get their own.
func NewMetrics(r prometheus.Registerer, accounts int, now func() time.Time) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "switchhook", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	seconds := func(name, help string, buckets ...float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "switchhook", Name: name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	m := &Metrics{
		Accepted:     counter("events_accepted_total", "Events that were stored."),
		Repeated:     counter("events_repeated_total", "Events that were published again under a known key and not stored twice."),
		Matched:      counter("deliveries_created_total", "Deliveries that accepted events gave rise to."),
		Filtered:     counter("events_filtered_total", "Times that a filter kept an event from a subscription."),
		FilterErrors: counter("filter_errors_total", "Times that a filter failed while it ran, which counts as no match."),
		GivenUp:      counter("deliveries_given_up_total", "Deliveries that died without another attempt: their event was older than give_up_after, or their subscription was deleted."),
		Loops:        counter("events_loops_refused_total", "Events that were refused because they came through more deliveries than --max-hops."),
		Chained:      counter("events_chained_refused_total", "Events that were refused because too many of their account came through two or more deliveries."),
		Spilled:      counter("deliveries_spilled_total", "Deliveries that left memory to wait in the store."),
		Deactivated:  counter("subscriptions_deactivated_total", "Subscriptions that the router deactivated."),
		Quarantined:  counter("subscriptions_quarantined_total", "Subscriptions whose deliveries were held back because their transform was stopped too often."),
		Removed:      counter("events_removed_total", "Events that were removed because they had been kept long enough, or to make room."),
		RemovedEarly: counter("events_removed_early_total", "Events that were removed before their retention was over, to make room."),
		RemovedBytes: counter("events_removed_bytes_total", "Bytes of data of the events that were removed."),
		Publishing: seconds("publish_seconds", "How long it took to accept a request's events: check, match, commit.",
			.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "switchhook", Name: "delivery_attempts_total", Help: "Attempts by what the delivery became: succeeded, retrying, dead, dropped.",
		}, []string{"result"}),
		// 15 is the default timeout: attempts that ran into it are a bucket of their own.
		Duration: seconds("delivery_attempt_seconds", "How long attempts took, transform and answer included.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 14.9, 30, 60),
		firstAttempt: seconds("delivery_first_attempt_delay_seconds", "From an event's acceptance to the start of a delivery's first attempt.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60, 300, 1800, 7200),
		Accounts: newAccountCollector(accounts, now),
	}
	for s := engine.StateRetrying; s <= engine.StateDropped; s++ {
		m.attempts.WithLabelValues(s.String())
	}
	m.Shortages = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "switchhook", Name: "delivery_shortages_total", Help: "Deliveries that went back to their queue, with no attempt counted, because the router lacked something: " + strings.Join(slices.Sorted(maps.Keys(ResourceTexts)), ", ") + ".",
	}, []string{"resource"})
	for resource := range ResourceTexts {
		m.Shortages.WithLabelValues(resource)
	}
	r.MustRegister(m.attempts, m.Shortages)
	if accounts > 0 {
		r.MustRegister(m.Accounts)
	}
	return m
}

// Attempted counts an attempt of a delivery and its result. The duration is counted once for each
// POST, by the caller.
func (m *Metrics) Attempted(account string, en dispatchqueue.Entry, a *engine.Attempt, result engine.State) {
	m.attempts.WithLabelValues(result.String()).Inc()
	m.Accounts.attempted(account, result)
	if en.Attempts > 0 {
		return
	}
	accepted := en.Event.Time() // to the millisecond
	if en.Tracked != nil {
		accepted = en.Tracked.At
	}
	m.firstAttempt.Observe(max(0, a.At.Sub(accepted).Seconds()))
}

// Resources that an attempt needs besides those of package target.
const (
	ResourceSandbox = "sandbox" // processes that run transforms
	ResourceStore   = "store"   // events are read from it
)

// ResourceTexts describe shortages for operators.
var ResourceTexts = map[string]string{
	string(target.ShortageFiles):  "file descriptors: raise the limit of open files (ulimit -n, LimitNOFILE), or lower --in-flight",
	string(target.ShortageMemory): "memory of the kernel for connections",
	string(target.ShortagePorts):  "local ports for connections to one address: many were closed of late",
	string(target.ShortageDNS):    "name servers that answer: see /etc/resolv.conf",
	string(target.ShortageProxy):  "the proxy for targets: see --target-proxy",
	ResourceSandbox:               "processes that run transforms: none can be started",
	ResourceStore:                 "events: they can't be read from the database",
}
