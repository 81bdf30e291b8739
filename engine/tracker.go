package engine

import (
	"sync"
	"sync/atomic"
	"time"
)

// tracker knows which accepted events have targets without a row in the store, and so
// how far back a crash recovery has to look: the watermark. Events enter it in the order
// of their ids, because it hands the ids out itself.
type tracker struct {
	mu     sync.Mutex
	ids    *idMaker
	open   fifo[*fresh] // in id order; the first is the oldest that is not through
	coming fifo[*fresh] // in id order; the first is the oldest that was not queued
	last   ID           // the highest id that was handed out
}

// fresh is an accepted event until each of its targets has a row.
type fresh struct {
	id       ID
	targets  []ID
	recorded []bool // the target has a row
	left     int    // targets without one; 1 as long as the event is not stored
	at       time.Time
	spilled  bool        // rows were ordered for those that take long
	queued   atomic.Bool // its deliveries stand in their queues
}

func newTracker(now func() time.Time, node int, after ID) *tracker {
	return &tracker{ids: newIDMaker(now, node, after), last: after}
}

// begin gives an event its id, before it is stored.
func (t *tracker) begin(at time.Time) *fresh {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &fresh{id: t.ids.next(), left: 1, at: at}
	t.last = f.id
	t.open.push(f)
	t.coming.push(f)
	return f
}

// stored watches over the targets of an event that is on disk now.
func (t *tracker) stored(f *fresh, targets []ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.targets, f.recorded, f.left = targets, make([]bool, len(targets)), len(targets)
}

// abandon forgets an event that was not stored.
func (t *tracker) abandon(f *fresh) {
	t.mu.Lock()
	f.left = 0
	t.mu.Unlock()
	f.queued.Store(true)
}

// queued tells whether all events up to one have been queued, or abandoned.
func (t *tracker) queued(event ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.notQueued()
	return first == nil || first.id > event
}

// notQueued gives the oldest event that was not queued, or nil; t.mu is held.
func (t *tracker) notQueued() *fresh {
	for t.coming.len() > 0 {
		if first := t.coming.all()[0]; !first.queued.Load() {
			return first
		}
		t.coming.pop()
	}
	return nil
}

// record notes that a target has its row.
func (t *tracker) record(f *fresh, slot int) {
	t.mu.Lock()
	if f.left > 0 && !f.recorded[slot] {
		f.recorded[slot] = true
		f.left--
	}
	t.mu.Unlock()
}

// sweep gives the watermark, and the events older than a time whose open targets now
// need rows of their own so that the watermark can move on; each is given once.
func (t *tracker) sweep(olderThan time.Time) (watermark ID, late []*fresh) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notQueued() // so that coming does not grow where nobody asks
	for t.open.len() > 0 && t.open.all()[0].left == 0 {
		t.open.pop()
	}
	if t.open.len() == 0 {
		return t.last, nil
	}
	for _, f := range t.open.all() {
		if f.at.After(olderThan) {
			break
		}
		if f.recorded != nil && f.left > 0 && !f.spilled {
			f.spilled = true
			late = append(late, f)
		}
	}
	return t.open.all()[0].id - 1, late
}

// missing gives the targets of f that have no row.
func (t *tracker) missing(f *fresh) (slots []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.left == 0 {
		return nil
	}
	for i, done := range f.recorded {
		if !done {
			slots = append(slots, i)
		}
	}
	return slots
}
