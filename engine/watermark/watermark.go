// Package watermark knows which accepted events a crash would leave unfinished without a
// trace, and so how far back the start after it has to look.
package watermark

import (
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

// Tracker knows which accepted events have targets without a row in the store, and so
// how far back a crash recovery has to look: the watermark. Events enter it in the order
// of their ids, because it hands their ids out itself.
type Tracker struct {
	mu     sync.Mutex
	maker  *snowflake.Maker
	open   fifo.Queue[*Event] // in id order; the first is the oldest that is not through
	coming fifo.Queue[*Event] // in id order; the first is the oldest that was not queued
	last   snowflake.ID       // the highest id that was handed out
}

// Event is an accepted event until each of its targets has a row. Tracker.mu guards what
// is not exported.
type Event struct {
	ID      snowflake.ID
	At      time.Time      // when it was accepted
	Targets []snowflake.ID // known once it is stored

	recorded []bool      // the target has a row
	left     int         // targets without one; 1 as long as the event is not stored
	spilled  bool        // rows were ordered for those that take long
	queued   atomic.Bool // its deliveries stand in their queues
}

// New makes the Tracker of the events that come after an id.
func New(maker *snowflake.Maker, after snowflake.ID) *Tracker {
	return &Tracker{maker: maker, last: after}
}

// Queued notes that the deliveries of ev stand in their queues, or need none.
func (ev *Event) Queued() { ev.queued.Store(true) }

// Begin gives an event its id, before it is stored.
func (t *Tracker) Begin(at time.Time) *Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	ev := &Event{ID: t.maker.Next(), left: 1, At: at}
	t.last = ev.ID
	t.open.Push(ev)
	t.coming.Push(ev)
	return ev
}

// Stored watches over the targets of an event that is on disk now.
func (t *Tracker) Stored(ev *Event, targets []snowflake.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ev.Targets, ev.recorded, ev.left = targets, make([]bool, len(targets)), len(targets)
}

// Abandon forgets an event that was not stored.
func (t *Tracker) Abandon(ev *Event) {
	t.mu.Lock()
	ev.left = 0
	t.mu.Unlock()
	ev.Queued()
}

// QueuedUpTo tells whether all events up to one have been queued, or abandoned.
func (t *Tracker) QueuedUpTo(event snowflake.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.notQueued()
	return first == nil || first.ID > event
}

// notQueued gives the oldest event that was not queued, or nil; t.mu is held.
func (t *Tracker) notQueued() *Event {
	for t.coming.Len() > 0 {
		if first := t.coming.All()[0]; !first.queued.Load() {
			return first
		}
		t.coming.Pop()
	}
	return nil
}

// Record notes that a target has its row.
func (t *Tracker) Record(ev *Event, slot int) {
	t.mu.Lock()
	if ev.left > 0 && !ev.recorded[slot] {
		ev.recorded[slot] = true
		ev.left--
	}
	t.mu.Unlock()
}

// Sweep gives the watermark, and the events older than a time whose open targets now
// need rows of their own so that the watermark can move on; each is given once.
func (t *Tracker) Sweep(olderThan time.Time) (watermark snowflake.ID, late []*Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notQueued() // so that coming does not grow where nobody asks
	for t.open.Len() > 0 && t.open.All()[0].left == 0 {
		t.open.Pop()
	}
	if t.open.Len() == 0 {
		return t.last, nil
	}
	for _, ev := range t.open.All() {
		if ev.At.After(olderThan) {
			break
		}
		if ev.recorded != nil && ev.left > 0 && !ev.spilled {
			ev.spilled = true
			late = append(late, ev)
		}
	}
	return t.open.All()[0].ID - 1, late
}

// Missing gives the places in Targets of those that have no row.
func (t *Tracker) Missing(ev *Event) (slots []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ev.left == 0 {
		return nil
	}
	for i, done := range ev.recorded {
		if !done {
			slots = append(slots, i)
		}
	}
	return slots
}
