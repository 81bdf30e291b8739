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

// subscriptionCollector is the metrics of subscriptions that fail, and of those that wait.
type subscriptionCollector struct{ dispatcher *Dispatcher }

var (
	failingSubscriptions = prometheus.NewDesc("switchhook_subscriptions_failing",
		"Active subscriptions whose last attempts failed, by what they fail for.", []string{"cause"}, nil)
	waitingSubscriptions = prometheus.NewDesc("switchhook_subscriptions_waiting",
		"Subscriptions whose deliveries wait for a limit that the subscriptions of an account share: its attempts in flight, or those to the target's host.",
		[]string{"limit"}, nil)
)

// Describe implements prometheus.Collector.
func (c subscriptionCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- failingSubscriptions
	ch <- waitingSubscriptions
}

// Collect implements prometheus.Collector.
func (c subscriptionCollector) Collect(ch chan<- prometheus.Metric) {
	failing, waiting := c.dispatcher.scheduler.countSubscriptions()
	for _, cause := range engine.HealthCauses {
		ch <- prometheus.MustNewConstMetric(failingSubscriptions, prometheus.GaugeValue, float64(failing[cause]), string(cause))
	}
	for _, limit := range engine.SharedLimits {
		ch <- prometheus.MustNewConstMetric(waitingSubscriptions, prometheus.GaugeValue, float64(waiting[limit]), string(limit))
	}
}

// countSubscriptions counts the active subscriptions that fail, and those that wait for a shared
// limit.
func (s *scheduler) countSubscriptions() (failing map[engine.HealthCause]int, waiting map[engine.SharedLimit]int) {
	failing, waiting = map[engine.HealthCause]int{}, map[engine.SharedLimit]int{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.compiled.Sub.Active {
			failing[q.compiled.Health(q.circuit.Health).Cause]++
			waiting[s.waitsFor(q)]++
		}
	}
	return failing, waiting
}

// NewSubscriptionCollector returns the metrics of failing and of waiting subscriptions.
func NewSubscriptionCollector(dispatcher *Dispatcher) prometheus.Collector {
	return subscriptionCollector{dispatcher}
}
