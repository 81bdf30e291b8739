package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
)

// noteOwn counts whether an attempt got as far as its target. err is why it did not.
func (d *Dispatcher) noteOwn(r *compiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict, err error) {
	switch {
	case v.Signal != retry.SignalUnknown || v.state == engine.StateDropped:
		r.preparing.succeed()
	case r.configErr != nil:
		r.preparing.fail(d.life.now(), engine.CauseSubscription, retry.Truncate(r.configErr.Error()))
	case a.Phase == phaseTransform:
		text := "the transform " + scriptTrouble(err) + "; the attempts of its deliveries say more"
		if r.preparing.fail(d.life.now(), engine.CauseTransform, text) == failingAfter && !d.isOperationalEvent(r, en) {
			d.outbox.announceFailing(r, r.preparing, r.transformRef)
		}
	}
}

// failingCollector counts the subscriptions that fail.
type failingCollector struct{ dispatcher *Dispatcher }

var failingSubscriptions = prometheus.NewDesc("switchhook_subscriptions_failing",
	"Active subscriptions whose last attempts failed, by what they fail for.", []string{"cause"}, nil)

// Describe implements prometheus.Collector.
func (f failingCollector) Describe(ch chan<- *prometheus.Desc) { ch <- failingSubscriptions }

// Collect implements prometheus.Collector.
func (f failingCollector) Collect(ch chan<- prometheus.Metric) {
	counts := map[engine.HealthCause]int{}
	for _, h := range f.dispatcher.scheduler.healths() {
		counts[h.Cause]++
	}
	for _, cause := range engine.HealthCauses {
		ch <- prometheus.MustNewConstMetric(failingSubscriptions, prometheus.GaugeValue, float64(counts[cause]), string(cause))
	}
}

// healths gives how the active subscriptions fare.
func (s *scheduler) healths() (list []engine.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.compiled.sub.Active {
			if h := q.compiled.health(q.circuit.Health); h.Cause != "" {
				list = append(list, h)
			}
		}
	}
	return list
}
