// Package dispatchqueue holds the deliveries of one subscription that wait in memory, and decides
// which may be attempted next and how they are batched.
//
// A Queue works in one of three ways:
//
//	plain FIFO  no ordering    any number in flight; Queue itself
//	keyedFIFO   ordering       event order within each group, one attempt of a group at a time
//	debouncer   debounce       only the newest event of each group, after its window closed
//
// Deliveries that exceed the memory limits wait in the store. The package knows which event ids
// were left there and from which id to read again (storeTail), but does no I/O.
//
// Nothing here locks: the owner of a Queue guards it (scheduler.mu).
package dispatchqueue

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/fifo"
)

const (
	// Capacity is the number of deliveries of one subscription that wait in memory however old the
	// first of them is; more do only while Queue.GoesSoon.
	Capacity = 1000
	// LowWater is the number of waiting deliveries below which more are fetched from the store.
	LowWater = 100
	// growAfter is the number of accepted batches in a row after which a larger one is tried.
	growAfter = 8
)

// Queue holds the deliveries of one subscription that wait in memory. The zero Queue is a plain
// FIFO without batches.
type Queue struct {
	Ordered OrderedQueue // holds the deliveries instead of fifo if they are ordered or debounced
	Limit   BatchLimit
	Soon    time.Duration // see GoesSoon

	spills        spills
	fifo          fifo.Queue[Entry]
	withRow       map[engine.ID]struct{} // the deliveries in fifo that have a row
	maxBatch      int                    // less than Limit.Size after the target answered 413; 0: no such limit
	acceptedInRow int                    // batches accepted in a row since maxBatch last changed
}

// BatchLimit says when a batch is sent: as soon as Size deliveries wait, or the oldest has waited
// for Wait. The zero BatchLimit sends each delivery alone.
type BatchLimit struct {
	Size int
	Wait time.Duration
}

// due reports whether n deliveries, of which oldest is the oldest event, may be sent as a batch
// at now, and otherwise when.
func (b BatchLimit) due(n int, oldest engine.ID, now time.Time) (due bool, at time.Time) {
	if n == 0 {
		return false, at
	}
	came := oldest.Time()
	at = came.Add(b.Wait)
	// After the clock was set back, deliveries must not wait until it catches up.
	return n >= b.Size || !at.After(now) || came.After(now), at
}

// limit returns the batch limit in force, which the target may have lowered by 413.
func (q *Queue) limit() BatchLimit {
	switch {
	case q.Limit.Size == 0:
		return BatchLimit{Size: 1}
	case q.maxBatch > 0:
		return BatchLimit{Size: min(q.maxBatch, q.Limit.Size), Wait: q.Limit.Wait}
	}
	return q.Limit
}

// Len returns the number of deliveries in memory.
func (q *Queue) Len() int {
	if q.Ordered != nil {
		return q.Ordered.Len()
	}
	return q.fifo.Len()
}

// HasRow reports whether a delivery that has a row waits in memory. It is for plain FIFOs only.
func (q *Queue) HasRow(event engine.ID) bool {
	_, ok := q.withRow[event]
	return ok
}

// GoesSoon reports whether a new delivery will probably be attempted within seconds: what would be
// attempted before it came less than Soon earlier.
func (q *Queue) GoesSoon(en *Entry) bool {
	if q.Ordered != nil {
		return q.Ordered.goesSoon(en)
	}
	return q.fifo.Len() == 0 || cameWithin(q.Soon, &q.fifo.All()[0], en)
}

// cameWithin reports whether en came less than d after first.
func cameWithin(d time.Duration, first, en *Entry) bool {
	return en.Event.Time().Sub(first.Event.Time()) < d
}

// Push appends a delivery. It is for plain FIFOs only.
func (q *Queue) Push(en Entry) {
	q.fifo.Push(en)
	if en.Tracked == nil {
		if q.withRow == nil {
			q.withRow = map[engine.ID]struct{}{}
		}
		q.withRow[en.Event] = struct{}{}
	}
}

// pop removes and returns the first delivery of a plain FIFO.
func (q *Queue) pop() Entry {
	en := q.fifo.Pop()
	delete(q.withRow, en.Event)
	return en
}

// Ready reports whether Pop may be called now, and otherwise when, if that is known.
func (q *Queue) Ready(now time.Time) (ready bool, at time.Time) {
	n := q.fifo.Len()
	switch {
	case q.Ordered != nil:
		return q.Ordered.Ready(now, q.limit())
	case n == 0 || q.Limit.Size == 0:
		return n > 0, at
	}
	return q.limit().due(n, q.fifo.All()[0].Event, now)
}

// Pop removes and returns the next batch. Ready must have reported true.
func (q *Queue) Pop() Batch {
	if q.Ordered != nil {
		p := q.Ordered.Pop(q.limit().Size)
		p.Queue = q.Ordered
		return p
	}
	p := Batch{First: q.pop()}
	if q.Limit.Size > 0 {
		n := min(q.limit().Size-1, q.fifo.Len())
		p.Rest = make([]Entry, n)
		for i := range p.Rest {
			p.Rest[i] = q.pop()
		}
	}
	return p
}

// BatchTooLarge halves the batch size after the target refused a body of n deliveries (413).
func (q *Queue) BatchTooLarge(n int) { q.maxBatch, q.acceptedInRow = max(1, n/2), 0 }

// BatchAccepted records that the target accepted a batch. After growAfter of them in a row the
// batch size grows by a quarter.
func (q *Queue) BatchAccepted() {
	if q.maxBatch == 0 {
		return
	}
	if q.acceptedInRow++; q.acceptedInRow >= growAfter {
		q.maxBatch, q.acceptedInRow = q.maxBatch+max(1, q.maxBatch/4), 0
	}
	if q.maxBatch >= q.Limit.Size {
		q.maxBatch = 0
	}
}

// All returns the deliveries in memory, without those that wait for a retry.
func (q *Queue) All() []Entry {
	if q.Ordered != nil {
		return q.Ordered.All()
	}
	return q.fifo.All()
}

// Open returns the number of deliveries that All returns, and their oldest event. For a plain
// FIFO that is the event at its head.
func (q *Queue) Open() (n int, oldest engine.ID) {
	if q.Ordered != nil {
		return q.Ordered.Open()
	}
	if n = q.fifo.Len(); n > 0 {
		oldest = q.fifo.All()[0].Event
	}
	return n, oldest
}

// Remove removes and returns the deliveries for which chosen returns true.
func (q *Queue) Remove(chosen func(*Entry) bool) (out []Entry) {
	if q.Ordered != nil {
		return q.Ordered.Remove(chosen)
	}
	all := q.fifo.All()
	if !slices.ContainsFunc(all, func(en Entry) bool { return chosen(&en) }) {
		return nil
	}
	q.fifo, q.withRow = fifo.Queue[Entry]{}, nil
	for _, en := range all {
		if chosen(&en) {
			out = append(out, en)
		} else {
			q.Push(en)
		}
	}
	return out
}

// SpillStarted records that the row of a delivery was handed to the store's writer.
func (q *Queue) SpillStarted(at engine.Position) {
	q.spills.add(at)
	if q.Ordered != nil {
		q.Ordered.invalidateFrom(at)
	}
}

// SpillRecorded records that such a row is on disk; it is called once for each SpillStarted.
func (q *Queue) SpillRecorded(at engine.Position) { q.spills.remove(at) }

// Spilling returns the number of rows on their way to the disk.
func (q *Queue) Spilling() int { return len(q.spills) }

// Clear drops everything in memory; the queue is a plain FIFO afterwards.
func (q *Queue) Clear() { q.fifo, q.withRow, q.Ordered = fifo.Queue[Entry]{}, nil, nil }
