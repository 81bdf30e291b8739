// Package engine is Switchhook's domain: events come in, are matched to subscriptions,
// stored in one durable commit, transformed, signed and POSTed, retried and recorded.
//
// The way of an event is publish.go → match.go → queue.go → deliver.go (transform, sign,
// send) → judge/ → record. The engine declares what it needs of others (Store,
// Transformer) and knows no HTTP framework, no database and no script engine.
package router

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"switchhook/engine"
	"switchhook/engine/cloudevents"
	"switchhook/engine/snowflake"
	"switchhook/engine/target"
	"switchhook/engine/watermark"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// Transformer compiles and runs transforms. Errors that are the script's own are
// *scripts.Error.
type Transformer interface {
	// Compile checks a source and makes of it what Run takes.
	Compile(ctx context.Context, source string) (*scripts.Program, error)
	// Run gives the request that a program makes of an event; req is what would be sent without it.
	Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error)
}

// Config is what an Engine works with. Zero fields take the default named.
type Config struct {
	Store       engine.Store          // required
	Transformer Transformer           // required
	Guard       *target.Guard         // checks target URLs; target.NewGuard of the zero Policy
	Transport   http.RoundTripper     // sends deliveries; target.Transport over Guard
	Logger      *slog.Logger          // slog.Default()
	Registerer  prometheus.Registerer // takes the metrics; a registry of its own

	Now  func() time.Time // time.Now
	Node int              // 0 to 255, part of every id made here

	Retries              engine.RetrySchedule // DefaultRetrySchedule
	Timeout              time.Duration        // of one attempt: connection, answer and its body; 15 s
	InFlight             int                  // attempts at one time; 512
	SubscriptionInFlight int                  // attempts at one time of one subscription; 16
	DeactivateAfter      time.Duration        // of nothing but failure a subscription is switched off; 0 is never
	LogDeliveries        bool                 // log every event and attempt in a short line, for development
	Retention            engine.Retention     // of accounts that have none of their own; zero: for ever
	KeepAudit            time.Duration        // of entries of the audit log; 0: for ever
	KeepBytes            int64                // most that the store may hold; 0: no limit
	MinFreeDisk          int64                // bytes; with less, events are refused; 0: none
	MaxBacklog           int64                // deliveries that wait; with more, events are refused; 0: no limit
	StrictTypes          bool                 // refuse events whose type is not in the catalogue
	Quota                engine.Quota         // of each account that has none of its own; no limits
	UserAgent            string               // "Switchhook"
	MetricsAccounts      int                  // accounts with metrics of their own, the busiest; none
	Tracer               trace.Tracer         // makes spans, see tracing; none

	PublicURL         string        // under which receivers reach the API, for the URLs in skinny payloads; "http://localhost"
	SkinnyTokenTTL    time.Duration // how long such a URL is good, from the attempt on; 1 h
	CloudEventsSource string        // before "/accounts/…", of events that came in without one; cloudevents.DefaultSource
	Origin            string        // how targets that are asked for their consent know us; "switchhook"
	VerifyWithin      time.Duration // time that a target has to confirm; 1 h
	VerifyWait        time.Duration // how long a change waits for a target to confirm; 3 s
}

func (c *Config) defaults() {
	if c.Guard == nil {
		c.Guard = target.NewGuard(target.Policy{})
	}
	if c.SubscriptionInFlight == 0 {
		c.SubscriptionInFlight = 16
	}
	if c.InFlight == 0 {
		c.InFlight = 512
	}
	if c.Transport == nil {
		c.Transport = target.Transport(c.Guard, c.InFlight)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Retries == nil {
		c.Retries = engine.DefaultRetrySchedule
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.UserAgent == "" {
		c.UserAgent = "Switchhook"
	}
	if c.PublicURL == "" {
		c.PublicURL = "http://localhost"
	}
	if c.SkinnyTokenTTL == 0 {
		c.SkinnyTokenTTL = time.Hour
	}
	if c.CloudEventsSource == "" {
		c.CloudEventsSource = cloudevents.DefaultSource
	}
	c.CloudEventsSource = strings.TrimRight(c.CloudEventsSource, "/")
	if c.Origin == "" {
		c.Origin = "switchhook"
	}
	if c.VerifyWithin == 0 {
		c.VerifyWithin = time.Hour
	}
	if c.VerifyWait == 0 {
		c.VerifyWait = 3 * time.Second
	}
}

// Engine is the router. All methods may be called by many goroutines.
type Engine struct {
	cfg     Config
	client  *target.Client
	store   engine.Store
	log     *slog.Logger
	metrics *Metrics
	traces  *tracing
	filters *filter.Cache

	registry    *registry
	index       *subscriptionIndex
	ids         *snowflake.Maker
	requests    sync.Map // KeyHash of the requests with an idempotency key that are being handled
	tracker     *watermark.Tracker
	scheduler   *scheduler
	eventCache  eventCache
	quarantine  quarantine
	operational *operationalOutbox
	quotas      quotaTracker
	load        loadShedder
	shortages   shortages

	compilations singleflight.Group // of transforms that deliveries wait for, by source

	scripts                  scriptCounts
	sandbox                  *limitedTransformer
	publishSlots             chan struct{} // a place for each Publish that waits for its commit
	previewSlots             chan struct{} // a place for each dry run
	backtestSlots            chan struct{} // and for each backtest
	runningBacktests         sync.Map      // accounts with a backtest that is on
	shadows                  shadows
	replays                  replays
	tokens                   eventTokens
	dialectBodies            atomic.Pointer[map[string]*BodyTemplate] // see SetDialectBodies
	expiries                 expiryQueue
	testSends                testSendLimiter
	verificationSlots        chan struct{}       // a place for each target that is asked for its consent
	accountVerificationSlots accountPlaces       // and for those of each account
	confirmLimiters          [1024]*rate.Limiter // by subscription id
	retryWake                chan time.Time
	workers                  int // guarded by scheduler.mu
	stop                     chan struct{}
	stopOnce                 sync.Once
	tasks                    taskGroup // loops, workers, fetches, and requests that a stop waits for
	writes                   taskGroup // outcomes on their way to disk; never stopped
	watermark                engine.ID // the last one set; the sweep's own

	unrecordedLogged atomic.Int64 // when logUnrecorded last said something
}

const (
	// clockSlack is how far the ids of events may be ahead of the clock without a word: ids
	// of a busy second borrow from the next, and clocks are set back a little.
	clockSlack             = time.Hour
	maxConcurrentPublishes = 4096
	filterCacheSize        = 20_000
	maxVerifications       = 32
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
	maker := snowflake.NewMaker(cfg.Now, cfg.Node, last)
	e := &Engine{
		cfg: cfg, client: target.NewClient(cfg.Transport), log: cfg.Logger,
		metrics:           NewMetrics(cfg.Registerer, cfg.MetricsAccounts, cfg.Now),
		traces:            newTracing(cfg.Tracer),
		filters:           filter.NewCache(filterCacheSize),
		index:             newSubscriptionIndex(),
		ids:               maker,
		tracker:           watermark.New(maker, last),
		scheduler:         newScheduler(cfg.Now, max(1, cfg.InFlight*3/4)),
		publishSlots:      make(chan struct{}, maxConcurrentPublishes),
		sandbox:           newLimitedTransformer(cfg.Transformer),
		previewSlots:      make(chan struct{}, maxPreviews),
		backtestSlots:     make(chan struct{}, maxBacktests),
		shadows:           shadows{byID: map[engine.ID]*shadow{}, slots: make(chan struct{}, maxConcurrentShadows)},
		replays:           replays{byID: map[engine.ID]*engine.Replay{}, running: map[engine.ID]bool{}, slots: make(chan struct{}, maxConcurrentReplays)},
		testSends:         testSendLimiter{inFlight: map[string]int{}, limiters: map[string]*rate.Limiter{}},
		verificationSlots: make(chan struct{}, maxVerifications),
		retryWake:         make(chan time.Time, 64),
		stop:              make(chan struct{}),
	}
	e.load.nearlyFull = make(chan struct{}, 1)
	e.operational = newOperationalOutbox()
	e.scheduler.deactivateAfter = cfg.DeactivateAfter
	e.store = &auditingStore{cfg.Store, e}
	for i := range e.confirmLimiters {
		e.confirmLimiters[i] = rate.NewLimiter(confirmRate, confirmBurst)
	}
	e.scheduler.fetch = e.fetchBacklog
	e.scheduler.fetchOrdered = e.fetchOrdered
	e.scheduler.allQueuedThroughEvent = e.tracker.QueuedUpTo
	e.scheduler.spawn = e.spawnWorker
	if e.registry, err = loadRegistry(ctx, cfg.Store, e.log); err != nil {
		return nil, err
	}
	if e.tokens, err = loadEventTokens(ctx, cfg.Store, e.log); err != nil {
		return nil, err
	}
	for _, s := range e.registry.subscriptions {
		r := e.compileSubscription(s)
		e.index.replace(nil, r)
		e.scheduler.setSubscription(s.ID, r)
		e.registry.compiled[s.ID] = r
		e.expiries.add(s)
	}
	health, err := cfg.Store.Health(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range health {
		e.scheduler.setHealth(h)
	}
	e.metrics.watch(cfg.Registerer, e)
	return e, nil
}

// Start takes up what an earlier run left unfinished and begins to deliver.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.recover(ctx); err != nil {
		return err
	}
	if err := e.loadReplays(ctx); err != nil {
		return err
	}
	e.tasks.Go(e.retryLoop)
	e.tasks.Go(e.sweepLoop)
	e.tasks.Go(e.expireDeliveriesLoop)
	e.tasks.Go(e.healthLoop)
	e.tasks.Go(e.operationalLoop)
	e.tasks.Go(e.touchLoop)
	e.refreshLoad(ctx)
	e.tasks.Go(e.loadLoop)
	e.tasks.Go(e.retentionLoop)
	e.tasks.Go(e.expireSubscriptionsLoop)
	e.resumeVerifications()
	return nil
}

// Close lets the attempts that are in flight end, waits until their outcomes are on disk
// or ctx is over, and leaves the rest to the next run. The store stays open.
func (e *Engine) Close(ctx context.Context) error {
	e.stopOnce.Do(func() { close(e.stop) })
	e.scheduler.close()
	e.tasks.Close()
	done := make(chan struct{})
	go func() {
		e.tasks.Wait()
		e.writes.Wait()
		close(done)
	}()
	select {
	case <-done:
		e.emitDeadLetters()
		err := e.flushAll(ctx)
		e.saveHealth()
		if err == nil {
			e.sweep(time.Time{})
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// InFlight tells what Close waits for: attempts that are on, and outcomes that are not on
// disk yet.
func (e *Engine) InFlight() (attempts, outcomes int) {
	e.scheduler.mu.Lock()
	defer e.scheduler.mu.Unlock()
	for _, n := range e.scheduler.inFlightByAccount {
		attempts += n
	}
	return attempts, e.writes.Count()
}

// Ready tells whether events can be accepted: nil, or a CodeUnavailable.
func (e *Engine) Ready(ctx context.Context) error {
	if e.isStopping() {
		return errStopping()
	}
	if refusal := e.load.refusal.Load(); refusal != nil {
		return refusal
	}
	return e.store.Ping(ctx)
}

func (e *Engine) isStopping() bool {
	select {
	case <-e.stop:
		return true
	default:
		return false
	}
}

func errStopping() *engine.Error {
	return &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
}

// runEvery does something again and again until the router stops.
func (e *Engine) runEvery(d time.Duration, do func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-ticker.C:
			do()
		}
	}
}

// spawnWorker starts a worker if there may be one more; scheduler.mu is held.
func (e *Engine) spawnWorker() {
	if e.workers == e.cfg.InFlight || e.isStopping() {
		return
	}
	e.workers++
	e.tasks.Go(func() {
		for {
			q, r, p, ok := e.scheduler.next()
			if !ok {
				return
			}
			e.deliver(q, r, p)
		}
	})
}

// Now is the router's time: Config.Now, in UTC.
func (e *Engine) Now() time.Time { return e.now() }

// now is the time as it is stored: in UTC, to the microsecond, so that a thing looks the
// same before and after a restart.
func (e *Engine) now() time.Time { return e.cfg.Now().UTC().Truncate(time.Microsecond) }

func jitter() float64 { return rand.Float64() }
