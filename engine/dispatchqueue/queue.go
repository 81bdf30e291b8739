// Package order holds the deliveries of a subscription that wait in memory, and says which
// may go next and in what company: one after the other (Line), in order within groups
// (NewKeyedFIFO), the newest of each group alone (NewDebouncer), by themselves or in batches. What
// has no room in memory waits in the store; the package knows what was left there, and from
// where it is to be read again, but not how. Nothing in it locks: the owner of a Line guards
// it.
package dispatchqueue

import (
	"slices"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

const (
	// Capacity is how many deliveries of one subscription wait in memory; the rest waits in the
	// store and is fetched when the line runs low.
	Capacity = 1000
	// LowWater is how many there are when it does.
	LowWater = 100
	// growAfter batches in a row that a target took, a larger one is tried again.
	growAfter = 8
)

// Queue holds the deliveries of one subscription that wait in memory. The zero Line does not
// sort, and lets each delivery go by itself.
type Queue struct {
	Ordered OrderedQueue // holds them instead where it matters how they stand to one another
	Limit   BatchLimit

	fifo          fifo.Queue[Entry]
	maxBatch      int // less than Batch.Size where the target refused a larger body; 0: it has not
	acceptedInRow int // batches in a row that it took since
}

// BatchLimit lets several deliveries go together: as soon as there are Size of them, or the
// first has waited for Wait. The zero Batch is one delivery at a time.
type BatchLimit struct {
	Size int
	Wait time.Duration
}

// due tells whether n deliveries make a batch at a time, the oldest as given, and else
// when they will.
func (b BatchLimit) due(n int, oldest snowflake.ID, now time.Time) (due bool, at time.Time) {
	if n == 0 {
		return false, at
	}
	came := oldest.Time()
	at = came.Add(b.Wait)
	// A clock that was set back must not make them wait for it.
	return n >= b.Size || !at.After(now) || came.After(now), at
}

// limit is the batch that the line makes now.
func (l *Queue) limit() BatchLimit {
	switch {
	case l.Limit.Size == 0:
		return BatchLimit{Size: 1}
	case l.maxBatch > 0:
		return BatchLimit{Size: min(l.maxBatch, l.Limit.Size), Wait: l.Limit.Wait}
	}
	return l.Limit
}

// Len is how many deliveries wait in memory.
func (l *Queue) Len() int {
	if l.Ordered != nil {
		return l.Ordered.Len()
	}
	return l.fifo.Len()
}

// Contains tells whether a delivery waits in memory; not for a sorted line.
func (l *Queue) Contains(event snowflake.ID) bool {
	return slices.ContainsFunc(l.fifo.All(), func(en Entry) bool { return en.Event == event })
}

// Push adds a delivery behind those that wait; not for a sorted line.
func (l *Queue) Push(en Entry) { l.fifo.Push(en) }

// IsReady tells whether something may go now.
func (l *Queue) IsReady(now time.Time) bool {
	if l.Ordered == nil && l.Limit.Size == 0 {
		return l.fifo.Len() > 0
	}
	ready, _ := l.Ready(now)
	return ready
}

// Ready tells whether something may go now, and else when, if that is known.
func (l *Queue) Ready(now time.Time) (ready bool, at time.Time) {
	b := l.limit()
	if l.Ordered != nil {
		return l.Ordered.Ready(now, b)
	}
	if l.fifo.Len() == 0 {
		return false, at
	}
	return b.due(l.fifo.Len(), l.fifo.All()[0].Event, now)
}

// Pop gives what goes next; Ready must have said that there is something.
func (l *Queue) Pop() Batch {
	if l.Ordered != nil {
		p := l.Ordered.Pop(l.limit().Size)
		p.Queue = l.Ordered
		return p
	}
	p := Batch{First: l.fifo.Pop()}
	if l.Limit.Size > 0 {
		n := min(l.limit().Size-1, l.fifo.Len())
		p.Rest = make([]Entry, n)
		for i := range p.Rest {
			p.Rest[i] = l.fifo.Pop()
		}
	}
	return p
}

// BatchTooLarge has later batches hold half of n at most: the target refused the body.
func (l *Queue) BatchTooLarge(n int) { l.maxBatch, l.acceptedInRow = max(1, n/2), 0 }

// BatchAccepted notes that the target took a batch. After some, larger ones are tried again.
func (l *Queue) BatchAccepted() {
	if l.maxBatch == 0 {
		return
	}
	if l.acceptedInRow++; l.acceptedInRow >= growAfter {
		l.maxBatch, l.acceptedInRow = l.maxBatch+max(1, l.maxBatch/4), 0
	}
	if l.maxBatch >= l.Limit.Size {
		l.maxBatch = 0
	}
}

// All lists what waits in memory and has no row that says that it failed.
func (l *Queue) All() []Entry {
	if l.Ordered != nil {
		return l.Ordered.All()
	}
	return l.fifo.All()
}

// Open counts what All lists, and tells its oldest event; of a line that does not sort, the
// one whose turn it is.
func (l *Queue) Open() (n int, oldest snowflake.ID) {
	if l.Ordered != nil {
		return l.Ordered.Open()
	}
	if n = l.fifo.Len(); n > 0 {
		oldest = l.fifo.All()[0].Event
	}
	return n, oldest
}

// Remove takes out, from anywhere, what is chosen.
func (l *Queue) Remove(chosen func(*Entry) bool) (out []Entry) {
	if l.Ordered != nil {
		return l.Ordered.Remove(chosen)
	}
	var rest fifo.Queue[Entry]
	for _, en := range l.fifo.All() {
		if chosen(&en) {
			out = append(out, en)
		} else {
			rest.Push(en)
		}
	}
	if len(out) > 0 {
		l.fifo = rest
	}
	return out
}

// Clear forgets what waits in memory.
func (l *Queue) Clear() { l.fifo, l.Ordered = fifo.Queue[Entry]{}, nil }
