package router

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/engine/target"
	"switchhook/engine/watermark"
)

// Engine is the router: it puts its parts together. All methods may be called by many
// goroutines.
type Engine struct {
	*Catalog
	*Monitor
	*Sender
	*Dispatcher
	*LoadShedder
	*Publisher
	*Replayer
	*Pruner
	*Evaluator
	*Idempotency
	*ResourceMonitor
	outbox *Outbox

	cfg     Config
	store   engine.Store
	metrics *Metrics
	traces  *tracing
	life    *Lifecycle
}

const (
	// clockSlack is how far the ids of events may be ahead of the clock without a word: ids
	// of a busy second borrow from the next, and clocks are set back a little.
	clockSlack = time.Hour
)

// New reads the catalogue from the store and makes an Engine that accepts events.
// Nothing is delivered before Start.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	cfg.defaults()
	last, err := cfg.Store.LastEventID(ctx)
	if err != nil {
		return nil, err
	}
	if ahead := last.Time().Sub(cfg.Now()); last != 0 && ahead > clockSlack {
		cfg.Logger.Warn("the newest event was received in the future: the clock was wrong then, or is now. New ids go on from there, and events keep that time until it has come: retention and give_up_after count from it",
			"newest_event", last.Time(), "now", cfg.Now())
	}
	ids := snowflake.NewMaker(cfg.Now, cfg.Node, last)
	e := &Engine{
		cfg: cfg, life: newLifecycle(cfg.Now), traces: newTracing(cfg.Tracer),
		metrics: NewMetrics(cfg.Registerer, cfg.MetricsAccounts, cfg.Now),
	}
	client := target.NewClient(cfg.Transport)
	e.ResourceMonitor = newResourceMonitor(cfg, e.metrics)
	e.Catalog = newCatalog(cfg, client, e.life, e.metrics, e.ResourceMonitor, ids)
	e.store = e.Catalog.store
	e.outbox = newOutbox(e.Catalog, e.life, cfg.Logger)
	e.Monitor = newMonitor(cfg, e.Catalog, e.life)
	e.Sender = newSender(cfg, client, e.Catalog, e.Monitor, e.traces)
	e.Dispatcher = newDispatcher(cfg, e.Sender, e.outbox, e.ResourceMonitor, e.metrics, e.traces, e.life, watermark.New(ids, last))
	e.LoadShedder = newLoadShedder(cfg, e.Catalog, e.life)
	e.Publisher = newPublisher(cfg, e.Dispatcher, e.LoadShedder)
	e.Replayer = newReplayer(cfg, e.Dispatcher)
	e.Pruner = newPruner(cfg, e.Catalog, e.LoadShedder, e.metrics, e.life)
	e.Evaluator = newEvaluator(cfg, e.Publisher)
	e.Idempotency = newIdempotency(e.store, ids)
	e.Catalog.listener, e.Catalog.health = listener{e}, e.Dispatcher
	e.outbox.publisher = e.Publisher
	if err := e.Catalog.load(ctx); err != nil {
		return nil, err
	}
	if err := e.Sender.load(ctx); err != nil {
		return nil, err
	}
	if err := e.Dispatcher.load(ctx); err != nil {
		return nil, err
	}
	e.registerGauges(cfg.Registerer)
	return e, nil
}

// listener carries changes of the catalog to the parts that must follow.
type listener struct{ *Engine }

// SubscriptionChanged implements Listener.
func (l listener) SubscriptionChanged(c *compiledSubscription) { l.Dispatcher.setSubscription(c) }

// SubscriptionRemoved implements Listener.
func (l listener) SubscriptionRemoved(id engine.ID, reason string) {
	l.Dispatcher.removeSubscription(id, reason)
}

// SubscriptionDeactivated implements Listener.
func (l listener) SubscriptionDeactivated(s *engine.Subscription) { l.outbox.emitDeactivated(s) }

// TransformQuarantined implements Listener.
func (l listener) TransformQuarantined(c *compiledSubscription, hash, reason string) {
	l.outbox.emitQuarantined(c, hash, reason)
}

// ScriptDeleted implements Listener.
func (l listener) ScriptDeleted(id engine.ID) { l.Monitor.forget(id) }

// Start takes up what an earlier run left unfinished and begins to deliver.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.Dispatcher.recover(ctx); err != nil {
		return err
	}
	if err := e.Replayer.loadReplays(ctx); err != nil {
		return err
	}
	e.LoadShedder.refreshLoad(ctx)
	for _, loop := range []func(){
		e.Dispatcher.retryLoop, e.Dispatcher.sweepLoop, e.Dispatcher.expireDeliveriesLoop, e.Dispatcher.healthLoop,
		e.outbox.operationalLoop, e.Catalog.touchLoop, e.Catalog.expireSubscriptionsLoop, e.Catalog.forgetLoop,
		e.LoadShedder.loadLoop, e.Publisher.forgetLoop, e.Pruner.retentionLoop,
	} {
		e.life.tasks.Go(loop)
	}
	e.Catalog.resumeVerifications()
	return nil
}

// Close lets the attempts that are in flight end, waits until their outcomes are on disk
// or ctx is over, and leaves the rest to the next run. The store stays open.
func (e *Engine) Close(ctx context.Context) error {
	e.life.stopOnce.Do(func() { close(e.life.stop) })
	e.Dispatcher.close()
	e.life.tasks.Close()
	done := make(chan struct{})
	go func() {
		e.life.tasks.Wait()
		e.Dispatcher.waitForWrites()
		close(done)
	}()
	select {
	case <-done:
		e.outbox.emitDeadLetters()
		err := e.outbox.flushAll(ctx)
		e.Dispatcher.saveHealth()
		if err == nil {
			e.Dispatcher.sweep(time.Time{})
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready tells whether events can be accepted: nil, or a CodeUnavailable.
func (e *Engine) Ready(ctx context.Context) error {
	if e.life.isStopping() {
		return errStopping()
	}
	if refusal := e.LoadShedder.currentRefusal(); refusal != nil {
		return refusal
	}
	return e.store.Ping(ctx)
}

// Now returns the router's time: Config.Now in UTC, to the microsecond.
func (e *Engine) Now() time.Time { return e.life.now() }

// registerGauges registers the metrics that are read from the running router.
func (e *Engine) registerGauges(r prometheus.Registerer) {
	gauge := func(name, help string, read func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "switchhook", Name: name, Help: help}, read))
	}
	gauge("subscriptions_probing", "Subscriptions whose target is down, so that only probes go out.", func() float64 { return float64(e.Dispatcher.openCircuits()) })
	gauge("subscriptions", "Subscriptions that exist.", func() float64 { return float64(e.Catalog.count()) })
	room := func(read func(*engine.Room) int64) func() float64 {
		return func() float64 {
			if u := e.LoadShedder.lastUsage(); u != nil {
				return float64(read(u))
			}
			return 0
		}
	}
	gauge("database_bytes", "Bytes of the database that hold something.", room(func(u *engine.Room) int64 { return u.Bytes }))
	gauge("database_free_bytes", "Bytes of the database that nothing uses.", room(func(u *engine.Room) int64 { return u.Free }))
	gauge("disk_free_bytes", "Bytes left on the file system of the database.", room(func(u *engine.Room) int64 { return u.DiskFree }))
	gauge("events_refused", "1 while no event is accepted: the disk is nearly full, the database is at its limit, or its file is gone.", func() float64 {
		if e.LoadShedder.currentRefusal() != nil {
			return 1
		}
		return 0
	})
	gauge("delivery_shortage", "1 while deliveries wait for something that the router lacks.", func() float64 { return float64(min(1, len(e.ResourceMonitor.lookAtShortages()))) })
	r.MustRegister(&backlogCollector{dispatcher: e.Dispatcher, load: e.LoadShedder}, failingCollector{e.Dispatcher}, &e.Monitor.scripts)
}
