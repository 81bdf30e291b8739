// Package ingest accepts events: validate, admit (load shedding, quota), match, commit, enqueue.
// The steps are listed in Publisher.publish.
package ingest

import (
	"context"
	"log/slog"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
	"switchhook/engine/monitor"
	"switchhook/engine/outbox"
	"switchhook/engine/settings"
	"switchhook/engine/telemetry"

	"go.opentelemetry.io/otel/propagation"
	"golang.org/x/sync/semaphore"
)

// Publisher accepts events: validate, admit, match, commit, enqueue.
type Publisher struct {
	cfg        settings.Config
	store      engine.Store
	log        *slog.Logger
	metrics    *telemetry.Metrics
	traces     *telemetry.Tracing
	life       *lifecycle.Lifecycle
	catalog    *catalog.Catalog
	monitor    *monitor.Monitor
	dispatcher *dispatch.Dispatcher
	outbox     *outbox.Outbox
	load       *LoadShedder

	slots   *semaphore.Weighted // one for each Publish that waits for its commit
	fanOut  *fairlimit.Limiter  // of requests that lead to many deliveries
	quotas  quotaTracker
	chained *fairlimit.Rates // of events that came through several deliveries; nil: no limit
}

// PublisherParts are the parts of the router that a Publisher uses.
type PublisherParts struct {
	Metrics     *telemetry.Metrics
	Traces      *telemetry.Tracing
	Lifecycle   *lifecycle.Lifecycle
	Catalog     *catalog.Catalog
	Monitor     *monitor.Monitor
	Dispatcher  *dispatch.Dispatcher
	Outbox      *outbox.Outbox
	LoadShedder *LoadShedder
}

// NewPublisher returns a Publisher.
func NewPublisher(cfg settings.Config, p PublisherParts) *Publisher {
	made := &Publisher{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, metrics: p.Metrics, traces: p.Traces, life: p.Lifecycle,
		catalog: p.Catalog, monitor: p.Monitor, dispatcher: p.Dispatcher, outbox: p.Outbox, load: p.LoadShedder,
		slots: semaphore.NewWeighted(maxConcurrentPublishes), fanOut: newFanOut(cfg.Registerer),
	}
	if rate := cfg.ChainedRate; rate > 0 {
		made.chained = fairlimit.NewRates(float64(rate), max(10*rate, MaxBatch))
	}
	return made
}

// PublishInternal publishes operational events, without quotas and load shedding.
func (p *Publisher) PublishInternal(events []engine.EventInput) error {
	_, err := p.publish(context.Background(), events)
	return err
}

// ForgetLoop drops the usage of accounts that publish nothing.
func (p *Publisher) ForgetLoop() {
	p.life.RunEvery(lifecycle.ExpireEvery, func() { p.DropIdle(p.cfg.Now()) })
}

const maxConcurrentPublishes = 4096

// TraceContext returns a context for Publish that continues the trace of a publisher, by its
// traceparent header (W3C Trace Context). If that is invalid, or the router does not trace, the
// context has no trace. The tracestate is ignored: it may describe the publisher's systems and
// would be sent to targets.
func (p *Publisher) TraceContext(traceparent string) context.Context {
	ctx := context.Background()
	if p.traces == nil || traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{telemetry.TraceparentHeader: traceparent})
}
