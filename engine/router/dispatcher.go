package router

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"switchhook/engine"
	"switchhook/engine/watermark"
	"sync/atomic"
	"time"
)

// Dispatcher owns the queues of subscriptions: it attempts deliveries, records outcomes,
// retries, and takes up what an earlier run left.
type Dispatcher struct {
	cfg       Config
	store     engine.Store
	log       *slog.Logger
	metrics   *Metrics
	traces    *tracing
	life      *Lifecycle
	catalog   *Catalog
	outbox    *Outbox
	monitor   *Monitor
	sender    *Sender
	resources *ResourceMonitor

	scheduler  *scheduler
	tracker    *watermark.Tracker
	eventCache eventCache
	writes     taskGroup // outcomes on their way to disk; never closed
	retryWake  chan time.Time
	workers    int       // guarded by scheduler.mu
	watermark  engine.ID // the last one set; owned by the sweep loop

	unrecordedLogged atomic.Int64 // when logUnrecorded last logged
}

func newDispatcher(cfg Config, sender *Sender, outbox *Outbox, resources *ResourceMonitor, metrics *Metrics, traces *tracing, life *Lifecycle, tracker *watermark.Tracker) *Dispatcher {
	d := &Dispatcher{
		cfg: cfg, store: sender.store, log: cfg.Logger, metrics: metrics, traces: traces, life: life,
		catalog: sender.catalog, outbox: outbox, monitor: sender.monitor, sender: sender, resources: resources,
		scheduler: newScheduler(cfg.Now, max(1, cfg.InFlight*3/4)),
		tracker:   tracker,
		retryWake: make(chan time.Time, 64),
	}
	d.scheduler.deactivateAfter = cfg.DeactivateAfter
	d.scheduler.fetch = d.fetchBacklog
	d.scheduler.fetchOrdered = d.fetchOrdered
	d.scheduler.allQueuedThroughEvent = tracker.QueuedUpTo
	d.scheduler.spawn = d.spawnWorker
	return d
}

// load makes a queue for each subscription and reads what an earlier run knew of targets.
func (d *Dispatcher) load(ctx context.Context) error {
	for _, c := range d.catalog.allCompiled() {
		d.scheduler.setSubscription(c.sub.ID, c)
	}
	health, err := d.store.Health(ctx)
	for _, h := range health {
		d.scheduler.setHealth(h)
	}
	return err
}

// setSubscription makes or changes the queue of a subscription.
func (d *Dispatcher) setSubscription(c *compiledSubscription) {
	_, displaced := d.scheduler.setSubscription(c.sub.ID, c)
	d.settleDisplaced(d.scheduler.queue(c.sub.ID), displaced)
}

// removeSubscription closes the queue of a subscription. Its deliveries become dead letters.
func (d *Dispatcher) removeSubscription(id engine.ID, reason string) {
	orphans, _ := d.scheduler.setSubscription(id, nil)
	for _, en := range orphans {
		d.markDead(id, en, reason)
	}
}

// InFlight returns what Close waits for: attempts in flight, and outcomes that are not on
// disk yet.
func (d *Dispatcher) InFlight() (attempts, outcomes int) {
	return d.scheduler.inFlight(), d.writes.Count()
}

// spawnWorker starts a worker if there may be one more; scheduler.mu is held.
func (d *Dispatcher) spawnWorker() {
	if d.workers == d.cfg.InFlight || d.life.isStopping() {
		return
	}
	d.workers++
	d.life.tasks.Go(func() {
		for {
			q, r, p, ok := d.scheduler.next()
			if !ok {
				return
			}
			d.deliver(q, r, p)
		}
	})
}

func jitter() float64 { return rand.Float64() }

// backlogInMemory is how many deliveries stand somewhere, and the oldest one's event.
type stateCount struct {
	count  int
	oldest engine.ID // 0 where there is none
}

func (o *stateCount) add(n int, event engine.ID) {
	o.count += n
	if o.oldest == 0 || event < o.oldest {
		o.oldest = event
	}
}

// backlogInMemory counts the deliveries in memory: those that wait for a free place, and those of
// subscriptions that are paused or quarantined.
func (s *scheduler) backlogInMemory() (queued, held stateCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		n, oldest := q.waiting.Open()
		if n == 0 {
			continue
		}
		at := &queued
		if q.compiled == nil || !q.compiled.sub.Active || q.compiled.quarantined.Load() {
			at = &held
		}
		at.add(n, oldest)
	}
	return queued, held
}
