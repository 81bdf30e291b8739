package router

import (
	"context"
	"log/slog"
	"switchhook/engine"

	"go.opentelemetry.io/otel/propagation"
)

// Publisher accepts events: validate, admit, match, commit, enqueue.
type Publisher struct {
	cfg        Config
	store      engine.Store
	log        *slog.Logger
	metrics    *Metrics
	traces     *tracing
	life       *Lifecycle
	catalog    *Catalog
	monitor    *Monitor
	dispatcher *Dispatcher
	outbox     *Outbox
	load       *LoadShedder

	publishSlots chan struct{} // one for each Publish that waits for its commit
	quotas       quotaTracker
}

func newPublisher(cfg Config, d *Dispatcher, load *LoadShedder) *Publisher {
	return &Publisher{
		cfg: cfg, store: d.store, log: d.log, metrics: d.metrics, traces: d.traces, life: d.life,
		catalog: d.catalog, monitor: d.monitor, dispatcher: d, outbox: d.outbox, load: load,
		publishSlots: make(chan struct{}, maxConcurrentPublishes),
	}
}

// PublishInternal accepts events of the router itself, past quotas and load shedding.
func (p *Publisher) PublishInternal(events []engine.EventInput) error {
	_, err := p.publish(context.Background(), events)
	return err
}

// forgetLoop drops the usage of accounts that publish nothing.
func (p *Publisher) forgetLoop() {
	p.life.runEvery(expireEvery, func() { p.quotas.dropIdle(p.cfg.Now()) })
}

// countStored adds an event that was stored past publish to its account's usage.
func (p *Publisher) countStored(ev *engine.Event) { p.quotas.stored(ev) }

const maxConcurrentPublishes = 4096

// TraceContext gives a context for Publish that continues the trace of a publisher, by its
// traceparent header (W3C Trace Context). What can't be read, and everything where the
// router does not trace, gives a context without a trace. The tracestate, which may say
// anything of the publisher's systems, is not taken: it would go to targets.
func (p *Publisher) TraceContext(traceparent string) context.Context {
	ctx := context.Background()
	if p.traces == nil || traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparentHeader: traceparent})
}

// logEvent writes an event that was published, a short line for the person who develops.
func (p *Publisher) logEvent(id string, kind string, matched int) {
	p.log.Info("event", "id", id, "type", kind, "matched", matched)
}
