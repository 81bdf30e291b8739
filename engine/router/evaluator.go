package router

import (
	"log/slog"
	"sync"

	"golang.org/x/time/rate"

	"switchhook/engine"
)

// Evaluator answers what would happen to an event: previews, samples, backtests, test sends.
type Evaluator struct {
	cfg        Config
	store      engine.Store
	log        *slog.Logger
	traces     *tracing
	life       *Lifecycle
	catalog    *Catalog
	monitor    *Monitor
	sender     *Sender
	dispatcher *Dispatcher
	publisher  *Publisher
	resources  *ResourceMonitor
	load       *LoadShedder

	previewSlots     chan struct{}
	backtestSlots    chan struct{}
	runningBacktests sync.Map // accounts with a backtest that runs
	testSends        testSendLimiter
}

func newEvaluator(cfg Config, p *Publisher) *Evaluator {
	return &Evaluator{
		cfg: cfg, store: p.store, log: cfg.Logger, traces: p.traces, life: p.life, catalog: p.catalog, monitor: p.monitor,
		sender: p.dispatcher.sender, dispatcher: p.dispatcher, publisher: p, load: p.load, resources: p.catalog.resources,
		previewSlots:  make(chan struct{}, maxPreviews),
		backtestSlots: make(chan struct{}, maxBacktests),
		testSends:     testSendLimiter{inFlight: map[string]int{}, limiters: map[string]*rate.Limiter{}},
	}
}
