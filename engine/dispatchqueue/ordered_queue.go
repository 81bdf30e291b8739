package dispatchqueue

import (
	"time"

	"switchhook/engine"
)

// OrderedQueue holds deliveries that depend on one another: keyedFIFO (ordering) or debouncer
// (debounce). Methods that return Displaced give back the deliveries that leave memory. For those
// that must wait in the store the caller calls Queue.SpillStarted, and writes their rows.
type OrderedQueue interface {
	// Len returns the number of deliveries in memory.
	Len() int
	// All returns the deliveries in memory, without those that wait for a retry.
	All() []Entry
	// Open returns the number of deliveries that All returns, and their oldest event.
	Open() (n int, oldest engine.ID)
	// Enqueue adds a new delivery. If kept is false it was not added and must wait in the store, as
	// the displaced ones. crowded means that memory is short over all subscriptions.
	Enqueue(en Entry, crowded bool) (kept bool, list []Displaced)
	// EnqueueDue adds a delivery whose retry is due.
	EnqueueDue(en Entry) []Displaced
	// EnqueueManual adds a delivery that a user retries.
	EnqueueManual(en Entry) []Displaced
	// Ready reports whether Pop may be called now, and otherwise when, if that is known.
	Ready(now time.Time, b BatchLimit) (ready bool, at time.Time)
	// Pop removes and returns the next batch of at most most deliveries. Ready must have
	// reported true.
	Pop(most int) Batch
	// Completed records the disposition of each delivery of a popped batch.
	Completed(p *Batch, became func(i int) Disposition) []Displaced
	// Remove removes and returns the chosen deliveries; those that wait for a retry stay.
	Remove(chosen func(*Entry) bool) []Entry

	// StartFetch returns the position to read the store from; ok is false if no read is needed or
	// none is allowed now. Otherwise FetchCompleted must follow.
	StartFetch() (from engine.Position, ok bool)
	// FetchCompleted queues the rows of a read, in the order of positions. all means that the store
	// holds no more. known are the events whose outcome is not on disk yet.
	FetchCompleted(rows []Entry, all bool, known map[engine.ID]bool) []Displaced

	// MarkInStore records that the store may hold deliveries from a position on.
	MarkInStore(from engine.Position)
	// OutcomeRecorded records that the outcome of a delivery is on disk.
	OutcomeRecorded(event engine.ID)

	// goesSoon is Queue.GoesSoon.
	goesSoon(en *Entry) bool
	// invalidateFrom records that the running read may lack the row at a position.
	invalidateFrom(at engine.Position)
}
