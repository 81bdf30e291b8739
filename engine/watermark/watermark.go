// Package watermark tracks which accepted events have deliveries without a row in the store, and
// so how far back crash recovery must look.
package watermark

import (
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

// Tracker tracks which accepted events have targets without a row in the store. The watermark is
// the id below which every delivery has a row. Events enter in the order of their ids, because
// Begin assigns the ids.
type Tracker struct {
	mu     sync.Mutex
	maker  *snowflake.Maker
	open   fifo.Queue[*Event]             // in id order; the first is the oldest with a target without a row
	coming map[string]*fifo.Queue[*Event] // by account, in id order; the first is the oldest that was not queued
	last   snowflake.ID                   // the highest id that was assigned
}

// Event is an accepted event until each of its targets has a row. Tracker.mu guards the
// unexported fields.
type Event struct {
	ID      snowflake.ID
	At      time.Time      // when it was accepted
	Targets []snowflake.ID // known once it is stored

	recorded []bool      // the target has a row
	left     int         // targets without one; 1 as long as the event is not stored
	spilled  bool        // Sweep has returned it, so that its missing rows are written
	queued   atomic.Bool // its deliveries are in their queues
}

// New returns a Tracker for events with ids above after.
func New(maker *snowflake.Maker, after snowflake.ID) *Tracker {
	return &Tracker{maker: maker, last: after, coming: map[string]*fifo.Queue[*Event]{}}
}

// Queued records that the deliveries of ev are in their queues, or that it has none.
func (ev *Event) Queued() { ev.queued.Store(true) }

// Begin assigns an event of an account its id, before it is stored.
func (t *Tracker) Begin(account string, at time.Time) *Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	ev := &Event{ID: t.maker.Next(), left: 1, At: at}
	t.last = ev.ID
	t.open.Push(ev)
	coming := t.coming[account]
	if coming == nil {
		coming = &fifo.Queue[*Event]{}
		t.coming[account] = coming
	}
	coming.Push(ev)
	return ev
}

// Stored records that an event with targets is on disk.
func (t *Tracker) Stored(ev *Event, targets []snowflake.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ev.Targets, ev.recorded, ev.left = targets, make([]bool, len(targets)), len(targets)
}

// Abandon removes an event that was not stored.
func (t *Tracker) Abandon(ev *Event) {
	t.mu.Lock()
	ev.left = 0
	t.mu.Unlock()
	ev.Queued()
}

// QueuedUpTo reports whether all events of an account up to one have been queued, or abandoned. (An
// account whose events take long to match delays its own ordered deliveries only.)
func (t *Tracker) QueuedUpTo(account string, event snowflake.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	coming := t.coming[account]
	if coming == nil {
		return true
	}
	first := firstNotQueued(coming)
	return first == nil || first.ID > event
}

// firstNotQueued returns the oldest event that was not queued, or nil. Tracker.mu is held.
func firstNotQueued(coming *fifo.Queue[*Event]) *Event {
	for coming.Len() > 0 {
		if first := coming.All()[0]; !first.queued.Load() {
			return first
		}
		coming.Pop()
	}
	return nil
}

// Record records that a target has a row.
func (t *Tracker) Record(ev *Event, slot int) {
	t.mu.Lock()
	if ev.left > 0 && !ev.recorded[slot] {
		ev.recorded[slot] = true
		ev.left--
	}
	t.mu.Unlock()
}

// Sweep returns the watermark, and the events older than a time that have targets without a row:
// the caller writes these rows, so that the watermark can rise. Each event is returned once.
func (t *Tracker) Sweep(olderThan time.Time) (watermark snowflake.ID, late []*Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for account, coming := range t.coming { // so that it does not grow if QueuedUpTo is never called
		if firstNotQueued(coming) == nil {
			delete(t.coming, account)
		}
	}
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

// Missing returns the indices in ev.Targets of the targets without a row.
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
