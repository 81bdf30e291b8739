// Package order holds the deliveries of a subscription that wait in memory, and says which
// may go next and in what company: one after the other (Line), in order within groups
// (NewLanes), the newest of each group alone (NewWindows), by themselves or in batches. What
// has no room in memory waits in the store; the package knows what was left there, and from
// where it is to be read again, but not how. Nothing in it locks: the owner of a Line guards
// it.
package order

import (
	"slices"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

const (
	// Room is how many deliveries of one subscription wait in memory; the rest waits in the
	// store and is fetched when the line runs low.
	Room = 1000
	// Low is how many there are when it does.
	Low = 100
	// growAfter batches in a row that a target took, a larger one is tried again.
	growAfter = 8
)

// Line holds the deliveries of one subscription that wait in memory. The zero Line does not
// sort, and lets each delivery go by itself.
type Line struct {
	Sorted Sorter // holds them instead where it matters how they stand to one another
	Batch  Batch

	ring fifo.Queue[Entry]
	most int // less than Batch.Size where the target refused a larger body; 0: it has not
	fits int // batches in a row that it took since
}

// Batch lets several deliveries go together: as soon as there are Size of them, or the
// first has waited for Wait. The zero Batch is one delivery at a time.
type Batch struct {
	Size int
	Wait time.Duration
}

// due tells whether n deliveries make a batch at a time, the oldest as given, and else
// when they will.
func (b Batch) due(n int, oldest snowflake.ID, now time.Time) (due bool, at time.Time) {
	if n == 0 {
		return false, at
	}
	came := oldest.Time()
	at = came.Add(b.Wait)
	// A clock that was set back must not make them wait for it.
	return n >= b.Size || !at.After(now) || came.After(now), at
}

// size is the batch that the line makes now.
func (l *Line) size() Batch {
	switch {
	case l.Batch.Size == 0:
		return Batch{Size: 1}
	case l.most > 0:
		return Batch{Size: min(l.most, l.Batch.Size), Wait: l.Batch.Wait}
	}
	return l.Batch
}

// Len is how many deliveries wait in memory.
func (l *Line) Len() int {
	if l.Sorted != nil {
		return l.Sorted.Len()
	}
	return l.ring.Len()
}

// Holds tells whether a delivery waits in memory; not for a sorted line.
func (l *Line) Holds(event snowflake.ID) bool {
	return slices.ContainsFunc(l.ring.All(), func(en Entry) bool { return en.Event == event })
}

// Push adds a delivery behind those that wait; not for a sorted line.
func (l *Line) Push(en Entry) { l.ring.Push(en) }

// Ready tells whether something may go now.
func (l *Line) Ready(now time.Time) bool {
	if l.Sorted == nil && l.Batch.Size == 0 {
		return l.ring.Len() > 0
	}
	ready, _ := l.Look(now)
	return ready
}

// Look tells whether something may go now, and else when, if that is known.
func (l *Line) Look(now time.Time) (ready bool, at time.Time) {
	b := l.size()
	if l.Sorted != nil {
		return l.Sorted.Look(now, b)
	}
	if l.ring.Len() == 0 {
		return false, at
	}
	return b.due(l.ring.Len(), l.ring.All()[0].Event, now)
}

// Take gives what goes next; Ready must have said that there is something.
func (l *Line) Take() Parcel {
	if l.Sorted != nil {
		p := l.Sorted.Take(l.size().Size)
		p.From = l.Sorted
		return p
	}
	p := Parcel{First: l.ring.Pop()}
	if l.Batch.Size > 0 {
		n := min(l.size().Size-1, l.ring.Len())
		p.Rest = make([]Entry, n)
		for i := range p.Rest {
			p.Rest[i] = l.ring.Pop()
		}
	}
	return p
}

// TooLarge has later batches hold half of n at most: the target refused the body.
func (l *Line) TooLarge(n int) { l.most, l.fits = max(1, n/2), 0 }

// Fit notes that the target took a batch. After some, larger ones are tried again.
func (l *Line) Fit() {
	if l.most == 0 {
		return
	}
	if l.fits++; l.fits >= growAfter {
		l.most, l.fits = l.most+max(1, l.most/4), 0
	}
	if l.most >= l.Batch.Size {
		l.most = 0
	}
}

// All lists what waits in memory and has no row that says that it failed.
func (l *Line) All() []Entry {
	if l.Sorted != nil {
		return l.Sorted.All()
	}
	return l.ring.All()
}

// Open counts what All lists, and tells its oldest event; of a line that does not sort, the
// one whose turn it is.
func (l *Line) Open() (n int, oldest snowflake.ID) {
	if l.Sorted != nil {
		return l.Sorted.Open()
	}
	if n = l.ring.Len(); n > 0 {
		oldest = l.ring.All()[0].Event
	}
	return n, oldest
}

// Cut takes out, from anywhere, what is chosen.
func (l *Line) Cut(chosen func(*Entry) bool) (out []Entry) {
	if l.Sorted != nil {
		return l.Sorted.Withdraw(chosen)
	}
	var rest fifo.Queue[Entry]
	for _, en := range l.ring.All() {
		if chosen(&en) {
			out = append(out, en)
		} else {
			rest.Push(en)
		}
	}
	if len(out) > 0 {
		l.ring = rest
	}
	return out
}

// Clear forgets what waits in memory.
func (l *Line) Clear() { l.ring, l.Sorted = fifo.Queue[Entry]{}, nil }
