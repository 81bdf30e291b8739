package router

import (
	"time"

	"switchhook/engine"
	"switchhook/engine/watermark"
)

// beginEvent gives an event its id and tracks it until all its deliveries have a row.
func (d *Dispatcher) beginEvent(now time.Time) *watermark.Event { return d.tracker.Begin(now) }

// abandonEvent ends the tracking of an event that was not stored.
func (d *Dispatcher) abandonEvent(ev *watermark.Event) { d.tracker.Abandon(ev) }

// eventStored says that an event is on disk with its targets.
func (d *Dispatcher) eventStored(ev *watermark.Event, targets []engine.ID) {
	d.tracker.Stored(ev, targets)
}

// deliveryRecorded says that a delivery of an event has a row.
func (d *Dispatcher) deliveryRecorded(ev *watermark.Event, slot int) { d.tracker.Record(ev, slot) }

// releaseWaiting makes runnable the queues that waited for earlier events.
func (d *Dispatcher) releaseWaiting() { d.scheduler.releaseWaiting() }

// waiting returns the number of deliveries of a subscription that wait in memory.
func (d *Dispatcher) waiting(id engine.ID) int { return d.scheduler.waiting(id) }

// backlogInMemory counts the deliveries in memory: those that wait for a slot, and those of
// subscriptions that are inactive or quarantined.
func (d *Dispatcher) backlogInMemory() (queued, held stateCount) {
	return d.scheduler.backlogInMemory()
}

// openCircuits returns the number of subscriptions whose circuit is open.
func (d *Dispatcher) openCircuits() int { return d.scheduler.openCircuits() }

// close lets no further attempt begin.
func (d *Dispatcher) close() { d.scheduler.close() }

// waitForWrites waits until all outcomes are on disk.
func (d *Dispatcher) waitForWrites() { d.writes.Wait() }
