// Package dispatch owns the queues of subscriptions: it picks the next delivery, makes the
// attempts, records outcomes, retries, and recovers the deliveries that an earlier run left.
//
// The steps of an attempt are listed in Dispatcher.deliver. Lock order: scheduler.mu, then the
// locks of the watermark tracker and of the task group. The store calls back from its writer
// goroutine when an outcome is on disk: such a callback must not block and must not call the store.
package dispatch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
	"switchhook/engine/monitor"
	"switchhook/engine/outbound"
	"switchhook/engine/outbox"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
	"switchhook/engine/telemetry"
	"switchhook/engine/watermark"
	"sync/atomic"
	"time"
)

// Dispatcher owns the queues of subscriptions: it attempts deliveries, records outcomes, retries,
// and recovers the deliveries that an earlier run left.
type Dispatcher struct {
	cfg       settings.Config
	store     engine.Store
	log       *slog.Logger
	metrics   *telemetry.Metrics
	traces    *telemetry.Tracing
	life      *lifecycle.Lifecycle
	catalog   *catalog.Catalog
	outbox    *outbox.Outbox
	monitor   *monitor.Monitor
	sender    *outbound.Sender
	resources *resources.Tracker

	scheduler  *scheduler
	tracker    *watermark.Tracker
	eventCache *EventCache
	writes     lifecycle.TaskGroup // outcomes that are not on disk yet; never closed
	requests   *fairlimit.Limiter  // bytes of requests in flight
	retryWake  chan time.Time
	watermark  engine.ID // the last one set; owned by the sweep loop

	unrecordedLogged atomic.Int64 // when logUnrecorded last logged
}

// Parts are the parts of the router that a Dispatcher uses.
type Parts struct {
	Metrics   *telemetry.Metrics
	Traces    *telemetry.Tracing
	Lifecycle *lifecycle.Lifecycle
	Catalog   *catalog.Catalog
	Outbox    *outbox.Outbox
	Monitor   *monitor.Monitor
	Sender    *outbound.Sender
	Resources *resources.Tracker
	Tracker   *watermark.Tracker
}

// New returns a Dispatcher without queues; Load makes them.
func New(cfg settings.Config, p Parts) *Dispatcher {
	d := &Dispatcher{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, metrics: p.Metrics, traces: p.Traces, life: p.Lifecycle,
		catalog: p.Catalog, outbox: p.Outbox, monitor: p.Monitor, sender: p.Sender, resources: p.Resources,
		tracker:    p.Tracker,
		eventCache: NewEventCache(cfg.QueueBytes),
		requests:   newRequestMemory(cfg.RequestBytes, cfg.Registerer),
		retryWake:  make(chan time.Time, 64),
	}
	d.scheduler = newScheduler(d, limits{
		workers: cfg.InFlight, groupCapacity: dispatchqueue.GroupCapacity, deactivateAfter: cfg.DeactivateAfter,
		entries: int64(cfg.QueueEntries), soon: soon,
		hostInFlight: cfg.HostInFlight, hostInterval: engine.Rate{Count: cfg.HostRate, Per: time.Second}.Interval(),
	})
	return d
}

// Load makes a queue for each subscription and reads the stored health of the targets.
func (d *Dispatcher) Load(ctx context.Context) error {
	for _, c := range d.catalog.AllCompiled() {
		d.scheduler.setSubscription(c)
	}
	health, err := d.store.Health(ctx)
	for _, h := range health {
		d.scheduler.setHealth(h)
	}
	return err
}

// SetSubscription makes or changes the queue of a subscription.
func (d *Dispatcher) SetSubscription(c *catalog.CompiledSubscription) {
	d.settleDisplaced(d.scheduler.setSubscription(c))
}

// RemoveSubscription closes the queue of a subscription. Its deliveries become dead letters.
func (d *Dispatcher) RemoveSubscription(id engine.ID, reason string) {
	for _, en := range d.scheduler.removeSubscription(id) {
		d.markDead(id, en, reason)
	}
}

// InFlight returns the numbers that Close waits for: attempts in flight, and outcomes that are not
// on disk yet.
func (d *Dispatcher) InFlight() (attempts, outcomes int) {
	return d.scheduler.inFlight(), d.writes.Count()
}

// InMemory returns the number of deliveries that wait in memory, or are being read, and the bytes of
// their events.
func (d *Dispatcher) InMemory() (entries, bytes int64) {
	d.scheduler.mu.Lock()
	entries = d.scheduler.memory.held
	d.scheduler.mu.Unlock()
	return entries, d.eventCache.inUse()
}

// now implements host.
func (d *Dispatcher) now() time.Time { return d.cfg.Now() }

// allQueuedThrough implements host.
func (d *Dispatcher) allQueuedThrough(account string, event engine.ID) bool {
	return d.tracker.QueuedUpTo(account, event)
}

// startWorker implements host.
func (d *Dispatcher) startWorker() {
	if d.life.IsStopping() {
		return
	}
	d.life.Spawn(func() { d.scheduler.work(d.deliver) })
}

func jitter() float64 { return rand.Float64() }

// StateCount is a number of deliveries and the event of the oldest.
type StateCount struct {
	Count  int
	Oldest engine.ID // 0 if there is none
}

func (o *StateCount) add(n int, event engine.ID) {
	o.Count += n
	if o.Oldest == 0 || event < o.Oldest {
		o.Oldest = event
	}
}

// backlogInMemory counts the deliveries in memory: those that wait for a slot, and those of
// subscriptions that are inactive or quarantined.
func (s *scheduler) backlogInMemory() (queued, held StateCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		n, oldest := q.waiting.Open()
		if n == 0 {
			continue
		}
		at := &queued
		if q.compiled == nil || !q.compiled.Sub.Active || q.compiled.Transform.Quarantined.Load() {
			at = &held
		}
		at.add(n, oldest)
	}
	return queued, held
}
