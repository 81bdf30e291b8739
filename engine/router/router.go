// Package router puts the parts of the engine together: New, Start, Ready, Close.
package router

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/evaluate"
	"switchhook/engine/idempotency"
	"switchhook/engine/ingest"
	"switchhook/engine/jobs"
	"switchhook/engine/lifecycle"
	"switchhook/engine/monitor"
	"switchhook/engine/outbound"
	"switchhook/engine/outbox"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
	"switchhook/engine/snowflake"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
	"switchhook/engine/watermark"
)

// Engine is the router: it puts its parts together. All methods are safe for concurrent use.
type Engine struct {
	*catalog.Catalog
	*monitor.Monitor
	*outbound.Sender
	*dispatch.Dispatcher
	*ingest.LoadShedder
	*ingest.Publisher
	*jobs.Replayer
	*jobs.Pruner
	*evaluate.Evaluator
	*idempotency.Requests
	*resources.Tracker
	outbox *outbox.Outbox

	cfg     settings.Config
	store   engine.Store
	metrics *telemetry.Metrics
	traces  *telemetry.Tracing
	life    *lifecycle.Lifecycle
}

const (
	// clockSlack is how far event ids may be ahead of the clock without a warning: ids of a busy
	// second borrow from the next, and clocks are set back a little.
	clockSlack = time.Hour
)

// New reads the catalog from the store and returns an Engine that accepts events. Nothing is
// delivered before Start.
func New(ctx context.Context, cfg settings.Config) (*Engine, error) {
	cfg.Defaults()
	last, err := cfg.Store.LastEventID(ctx, cfg.Node)
	if err != nil {
		return nil, err
	}
	if ahead := last.Time().Sub(cfg.Now()); last != 0 && ahead > clockSlack {
		cfg.Logger.Warn("the newest event was received in the future: the clock was wrong then, or is now. New ids go on from there, and events keep that time until it has come: retention and give_up_after count from it",
			"newest_event", last.Time(), "now", cfg.Now())
	}
	ids := snowflake.NewMaker(cfg.Now, int(cfg.Node), last)
	e := &Engine{
		cfg: cfg, store: cfg.Store, life: lifecycle.New(cfg.Now), traces: telemetry.NewTracing(cfg.Tracer),
		metrics: telemetry.NewMetrics(cfg.Registerer, cfg.MetricsAccounts, cfg.Now),
	}
	client := target.NewClient(cfg.Transport)
	e.Tracker = resources.New(cfg, e.metrics)
	e.Catalog = catalog.New(cfg, catalog.Parts{Client: client, Lifecycle: e.life, Metrics: e.metrics, Resources: e.Tracker, IDs: ids})
	e.outbox = outbox.New(e.Catalog, e.life, cfg.Logger)
	e.Monitor = monitor.New(cfg, e.Catalog, e.life)
	e.Sender = outbound.New(cfg, outbound.Parts{Traces: e.traces, Client: client, Catalog: e.Catalog, Monitor: e.Monitor})
	e.Dispatcher = dispatch.New(cfg, dispatch.Parts{
		Metrics: e.metrics, Traces: e.traces, Lifecycle: e.life, Catalog: e.Catalog, Outbox: e.outbox,
		Monitor: e.Monitor, Sender: e.Sender, Resources: e.Tracker, Tracker: watermark.New(ids, last),
	})
	e.LoadShedder = ingest.NewLoadShedder(cfg, e.Catalog, e.Tracker, e.life)
	e.Publisher = ingest.NewPublisher(cfg, ingest.PublisherParts{
		Metrics: e.metrics, Traces: e.traces, Lifecycle: e.life, Catalog: e.Catalog, Monitor: e.Monitor,
		Dispatcher: e.Dispatcher, Outbox: e.outbox, LoadShedder: e.LoadShedder,
	})
	e.Replayer = jobs.NewReplayer(cfg, e.Catalog, e.Dispatcher, e.life)
	e.Pruner = jobs.NewPruner(cfg, jobs.PrunerParts{
		Metrics: e.metrics, Lifecycle: e.life, Catalog: e.Catalog, LoadShedder: e.LoadShedder,
	})
	e.Evaluator = evaluate.New(cfg, evaluate.Parts{
		Traces: e.traces, Lifecycle: e.life, Catalog: e.Catalog, Sender: e.Sender,
		Dispatcher: e.Dispatcher, Publisher: e.Publisher, LoadShedder: e.LoadShedder, Resources: e.Tracker,
	})
	e.Requests = idempotency.New(e.store, ids, e.Catalog)
	e.Catalog.Connect(listener{e}, e.Dispatcher)
	e.outbox.Connect(e.Publisher)
	if err := e.Catalog.Load(ctx); err != nil {
		return nil, err
	}
	if err := e.Sender.Load(ctx); err != nil {
		return nil, err
	}
	if err := e.Dispatcher.Load(ctx); err != nil {
		return nil, err
	}
	e.registerGauges(cfg.Registerer)
	return e, nil
}

// listener forwards changes of the catalog to the other parts.
type listener struct{ *Engine }

// SubscriptionChanged implements Listener.
func (l listener) SubscriptionChanged(c *catalog.CompiledSubscription) {
	l.Dispatcher.SetSubscription(c)
}

// SubscriptionRemoved implements Listener.
func (l listener) SubscriptionRemoved(id engine.ID, reason string) {
	l.Dispatcher.RemoveSubscription(id, reason)
}

// SubscriptionDeactivated implements Listener.
func (l listener) SubscriptionDeactivated(s *engine.Subscription) { l.outbox.EmitDeactivated(s) }

// TransformQuarantined implements Listener.
func (l listener) TransformQuarantined(c *catalog.CompiledSubscription, hash, reason string) {
	l.outbox.EmitQuarantined(c, hash, reason)
}

// ScriptDeleted implements Listener.
func (l listener) ScriptDeleted(id engine.ID) { l.Monitor.Forget(id) }

// Start resumes the work that a previous run left unfinished and starts deliveries.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.Dispatcher.Recover(ctx); err != nil {
		return err
	}
	if err := e.Replayer.LoadReplays(ctx); err != nil {
		return err
	}
	e.LoadShedder.RefreshLoad(ctx)
	for _, loop := range []func(){
		e.Dispatcher.RetryLoop, e.Dispatcher.SweepLoop, e.Dispatcher.LagLoop, e.Dispatcher.ExpireDeliveriesLoop, e.Dispatcher.HealthLoop,
		e.outbox.OperationalLoop, e.Catalog.TouchLoop, e.Catalog.ExpireSubscriptionsLoop, e.Catalog.ForgetLoop,
		e.LoadShedder.LoadLoop, e.Publisher.ForgetLoop, e.Pruner.RetentionLoop,
	} {
		e.life.Spawn(loop)
	}
	e.Catalog.ResumeVerifications()
	return nil
}

// Close waits until the attempts in flight have ended and their outcomes are on disk, or ctx ends,
// and leaves the rest to the next run. The store stays open.
func (e *Engine) Close(ctx context.Context) error {
	e.life.StopNow()
	e.Dispatcher.Close()
	e.life.Refuse()
	done := make(chan struct{})
	go func() {
		e.life.Wait()
		e.Dispatcher.WaitForWrites()
		close(done)
	}()
	select {
	case <-done:
		e.outbox.EmitDeadLetters()
		err := e.outbox.FlushAll(ctx)
		e.Dispatcher.SaveHealth()
		if err == nil {
			e.Dispatcher.Sweep(time.Time{})
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready reports whether events can be accepted: nil, or a CodeUnavailable.
func (e *Engine) Ready(ctx context.Context) error {
	if e.life.IsStopping() {
		return lifecycle.ErrStopping()
	}
	if refusal := e.LoadShedder.CurrentRefusal(); refusal != nil {
		return refusal
	}
	return e.store.Ping(ctx)
}

// Now returns the router's time: Config.Now in UTC, to the microsecond.
func (e *Engine) Now() time.Time { return e.life.Now() }

// registerGauges registers the metrics that are read from the running router.
func (e *Engine) registerGauges(r prometheus.Registerer) {
	gauge := func(name, help string, read func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "switchhook", Name: name, Help: help}, read))
	}
	gauge("subscriptions_probing", "Subscriptions whose target is down, so that only probes go out.", func() float64 { return float64(e.Dispatcher.OpenCircuits()) })
	gauge("delivery_attempts_in_flight", "Attempts in flight.", func() float64 { attempts, _ := e.Dispatcher.InFlight(); return float64(attempts) })
	gauge("catalog_bytes", "Estimated memory of subscriptions, scripts and event types.", func() float64 { return float64(e.Catalog.MemoryUse()) })
	gauge("subscriptions", "Subscriptions that exist.", func() float64 { return float64(e.Catalog.Count()) })
	room := func(read func(*engine.Room) int64) func() float64 {
		return func() float64 {
			if u := e.LoadShedder.LastUsage(); u != nil {
				return float64(read(u))
			}
			return 0
		}
	}
	gauge("database_bytes", "Bytes of the database that hold something.", room(func(u *engine.Room) int64 { return u.Bytes }))
	gauge("database_free_bytes", "Bytes of the database that nothing uses.", room(func(u *engine.Room) int64 { return u.Free }))
	gauge("disk_free_bytes", "Bytes left on the file system of the database.", room(func(u *engine.Room) int64 { return u.DiskFree }))
	gauge("events_refused", "1 while no event is accepted: the disk is nearly full, the database is at its limit, or its file is gone.", func() float64 {
		if e.LoadShedder.CurrentRefusal() != nil {
			return 1
		}
		return 0
	})
	gauge("accounts_refused", "Accounts whose events are refused because they use more than their share of the database, the disk or the backlog.", func() float64 { return float64(e.LoadShedder.AccountsRefused()) })
	gauge("retention_lag_seconds", "For how long the events that retention removes now could have been removed; 0 if none waits.", func() float64 { return e.Pruner.RetentionLag().Seconds() })
	gauge("delivery_shortage", "1 while deliveries wait for something that the router lacks.", func() float64 { return float64(min(1, len(e.Tracker.CurrentShortages()))) })
	gauge("queue_entries", "Deliveries that wait in memory.", func() float64 { entries, _ := e.Dispatcher.InMemory(); return float64(entries) })
	gauge("queue_bytes", "Bytes of the events of deliveries that wait in memory.", func() float64 { _, bytes := e.Dispatcher.InMemory(); return float64(bytes) })
	gauge("publishing_paced", "1 while requests that publish wait, because the router delivers as fast as it can and lags behind.", func() float64 {
		if active, _ := e.Dispatcher.Paced(); active {
			return 1
		}
		return 0
	})
	gauge("publishing_waiting", "Requests that wait for that.", func() float64 { _, waiting := e.Dispatcher.Paced(); return float64(waiting) })
	r.MustRegister(ingest.NewBacklogCollector(e.Dispatcher, e.LoadShedder), dispatch.NewSubscriptionCollector(e.Dispatcher), e.Monitor.Collector())
}
