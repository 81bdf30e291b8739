// Package evaluate answers what would happen to an event: previews, samples, backtests and test
// sends.
package evaluate

import (
	"log/slog"
	"sync"

	"golang.org/x/time/rate"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/ingest"
	"switchhook/engine/lifecycle"
	"switchhook/engine/monitor"
	"switchhook/engine/outbound"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
	"switchhook/engine/telemetry"
)

// Evaluator answers what would happen to an event: previews, samples, backtests, test sends.
type Evaluator struct {
	cfg        settings.Config
	store      engine.Store
	log        *slog.Logger
	traces     *telemetry.Tracing
	life       *lifecycle.Lifecycle
	catalog    *catalog.Catalog
	monitor    *monitor.Monitor
	sender     *outbound.Sender
	dispatcher *dispatch.Dispatcher
	publisher  *ingest.Publisher
	resources  *resources.Tracker
	load       *ingest.LoadShedder

	previewSlots     chan struct{}
	backtestSlots    chan struct{}
	runningBacktests sync.Map // accounts with a running backtest
	testSends        testSendLimiter
}

// New returns an Evaluator.
func New(cfg settings.Config, store engine.Store, catalog *catalog.Catalog, monitor *monitor.Monitor, sender *outbound.Sender, dispatcher *dispatch.Dispatcher, publisher *ingest.Publisher, load *ingest.LoadShedder, resources *resources.Tracker, traces *telemetry.Tracing, life *lifecycle.Lifecycle) *Evaluator {
	return &Evaluator{
		cfg: cfg, store: store, log: cfg.Logger, traces: traces, life: life, catalog: catalog, monitor: monitor,
		sender: sender, dispatcher: dispatcher, publisher: publisher, load: load, resources: resources,
		previewSlots:  make(chan struct{}, maxPreviews),
		backtestSlots: make(chan struct{}, maxBacktests),
		testSends:     testSendLimiter{inFlight: map[string]int{}, limiters: map[string]*rate.Limiter{}},
	}
}
