package dispatch

import (
	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
)

// recordPreparation counts whether an attempt reached its target; err is why it did not.
func (d *Dispatcher) recordPreparation(r *catalog.CompiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict, err error) {
	switch {
	case v.Signal != retry.SignalUnknown || v.State == engine.StateDropped:
		r.Preparing.Succeed()
	case r.ConfigErr != nil:
		r.Preparing.Fail(d.life.Now(), engine.CauseSubscription, retry.Truncate(r.ConfigErr.Error()))
	case a.Phase == engine.PhaseTransform:
		text := "the transform " + catalog.ScriptTrouble(err) + "; the attempts of its deliveries say more"
		if r.Preparing.Fail(d.life.Now(), engine.CauseTransform, text) && !d.isOperationalEvent(r, en) {
			d.outbox.EmitFailing(r, r.Preparing, r.Transform.Ref)
		}
	}
}

// failingCollector is the metric of failing subscriptions.
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

// healths returns the health of the active subscriptions that fail.
func (s *scheduler) healths() (list []engine.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.compiled.Sub.Active {
			if h := q.compiled.Health(q.circuit.Health); h.Cause != "" {
				list = append(list, h)
			}
		}
	}
	return list
}

// NewFailingCollector returns the metric of failing subscriptions.
func NewFailingCollector(dispatcher *Dispatcher) failingCollector {
	return failingCollector{dispatcher}
}
