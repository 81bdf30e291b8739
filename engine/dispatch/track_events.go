package dispatch

import (
	"time"

	"switchhook/engine"
	"switchhook/engine/watermark"
)

// BeginEvent gives an event of an account its id and tracks it until all its deliveries have a row.
func (d *Dispatcher) BeginEvent(account string, now time.Time) *watermark.Event {
	return d.tracker.Begin(account, now)
}

// AbandonEvent ends the tracking of an event that was not stored.
func (d *Dispatcher) AbandonEvent(ev *watermark.Event) { d.tracker.Abandon(ev) }

// EventStored records that an event is on disk with its targets.
func (d *Dispatcher) EventStored(ev *watermark.Event, targets []engine.ID) {
	d.tracker.Stored(ev, targets)
}

// DeliveryRecorded records that a delivery of an event has a row.
func (d *Dispatcher) DeliveryRecorded(ev *watermark.Event, slot int) { d.tracker.Record(ev, slot) }

// ReleaseWaiting makes runnable the queues that waited for earlier events.
func (d *Dispatcher) ReleaseWaiting() { d.scheduler.releaseWaiting() }

// Waiting returns the number of deliveries of a subscription that wait in memory.
func (d *Dispatcher) Waiting(id engine.ID) int { return d.scheduler.waiting(id) }

// BacklogInMemory counts the deliveries in memory: those that wait for a slot, and those of
// subscriptions that are inactive or quarantined.
func (d *Dispatcher) BacklogInMemory() (queued, held StateCount) {
	return d.scheduler.backlogInMemory()
}

// OpenCircuits returns the number of subscriptions whose circuit is open.
func (d *Dispatcher) OpenCircuits() int { return d.scheduler.openCircuits() }

// Close prevents further attempts.
func (d *Dispatcher) Close() { d.scheduler.close() }

// WaitForWrites waits until all outcomes are on disk.
func (d *Dispatcher) WaitForWrites() { d.writes.Wait() }
