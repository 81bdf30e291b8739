package engine

import (
	"switchhook/engine/fifo"
	"time"
)

// line holds the deliveries of one subscription that wait in memory, and says which may
// go next and in what company. Like the queue that owns it, it is guarded by
// scheduler.mu.
type line struct {
	ring   fifo.Queue[entry]
	sorted sorter // holds them instead where it matters how they stand to one another
	batch  Batch
	most   int // less than batch.Size where the target refused a larger body; 0: it has not
	fits   int // batches in a row that it took since
}

// sorter holds deliveries that can't just go one after the other: lanes (ordering) or
// windows (debounce). What it can't keep it gives back, to be set aside.
type sorter interface {
	len() int
	// all lists what waits in memory and has no row that says that it failed.
	all() []entry
	// open counts that, and tells the oldest event of it.
	open() (n int, oldest ID)
	// add takes a fresh delivery, or says that it is to wait in the store.
	add(en entry, crowded bool) (stored bool, list []aside)
	// due takes a delivery whose retry is due, retry one that a user wants attempted again.
	due(en entry) []aside
	retry(en entry) []aside
	// look tells whether something may go now, and else when, if that is known.
	look(now time.Time, b Batch) (ready bool, at time.Time)
	take(most int) parcel
	// landed takes note of what became of what was taken; what is pending was not attempted.
	landed(p *parcel, became func(i int) State) []aside
	withdraw(chosen func(*entry) bool) []entry
	// wants tells from where the store is to be read, if it is. begin and fetched enclose
	// such a read.
	wants() (from ID, ok bool)
	begin(from ID)
	fetched(rows []entry, all bool, known map[ID]bool) []aside
	// What beyond knows of the store.
	leave(from ID)
	spill(event ID)
	spilled(event ID)
	note(event ID, what meanwhile)
	doubt(rows int)
}

// aside is a delivery that a line could not keep: it is to wait in the store, or to be
// dropped because a newer event took its place.
type aside struct {
	en entry
	by ID // the newer event; 0: it is to wait in the store
}

// parcel is what goes in one attempt: one delivery, or several in one POST. The first
// stands by itself, so that the usual parcel needs no memory of its own.
type parcel struct {
	first entry
	rest  []entry
	from  sorter // that it was taken from; nil: from the ring

	resumed time.Time // when the subscription was last switched on again
}

// add puts in the n-th delivery.
func (p *parcel) add(n int, en entry) {
	if n == 0 {
		p.first = en
	} else {
		p.rest = append(p.rest, en)
	}
}

// len is how many deliveries the parcel holds.
func (p *parcel) len() int { return 1 + len(p.rest) }

// at gives the i-th delivery of the parcel.
func (p *parcel) at(i int) *entry {
	if i == 0 {
		return &p.first
	}
	return &p.rest[i-1]
}

// waitsForRetry is the delivery after an attempt that failed.
func (en entry) waitsForRetry() entry {
	en.attempts++
	en.held, en.fresh, en.failed = nil, nil, true
	return en
}

// due tells whether n deliveries make a batch at a time, the oldest as given, and else
// when they will.
func (b Batch) due(n int, oldest ID, now time.Time) (due bool, at time.Time) {
	if n == 0 {
		return false, at
	}
	came := oldest.Time()
	at = came.Add(b.Wait)
	// A clock that was set back must not make them wait for it.
	return n >= b.Size || !at.After(now) || came.After(now), at
}

// size is the batch that the line makes now.
func (l *line) size() Batch {
	switch {
	case l.batch.Size == 0:
		return Batch{Size: 1}
	case l.most > 0:
		return Batch{Size: min(l.most, l.batch.Size), Wait: l.batch.Wait}
	}
	return l.batch
}

// len is how many deliveries wait in memory.
func (l *line) len() int {
	if l.sorted != nil {
		return l.sorted.len()
	}
	return l.ring.Len()
}

// push adds a delivery behind those that wait; not for a sorted line.
func (l *line) push(en entry) { l.ring.Push(en) }

// ready tells whether something may go now.
func (l *line) ready(now time.Time) bool {
	if l.sorted == nil && l.batch.Size == 0 {
		return l.ring.Len() > 0
	}
	ready, _ := l.look(now)
	return ready
}

// look tells whether something may go now, and else when, if that is known.
func (l *line) look(now time.Time) (ready bool, at time.Time) {
	b := l.size()
	if l.sorted != nil {
		return l.sorted.look(now, b)
	}
	if l.ring.Len() == 0 {
		return false, at
	}
	return b.due(l.ring.Len(), l.ring.All()[0].event, now)
}

// take gives what goes next; ready must have said that there is something.
func (l *line) take() parcel {
	if l.sorted != nil {
		p := l.sorted.take(l.size().Size)
		p.from = l.sorted
		return p
	}
	p := parcel{first: l.ring.Pop()}
	if l.batch.Size > 0 {
		n := min(l.size().Size-1, l.ring.Len())
		p.rest = make([]entry, n)
		for i := range p.rest {
			p.rest[i] = l.ring.Pop()
		}
	}
	return p
}

// tooLarge has later batches hold half of n at most: the target refused the body.
func (l *line) tooLarge(n int) { l.most, l.fits = max(1, n/2), 0 }

// fit notes that the target took a batch. After some, larger ones are tried again.
func (l *line) fit() {
	if l.most == 0 {
		return
	}
	if l.fits++; l.fits >= restoreAfter {
		l.most, l.fits = l.most+max(1, l.most/4), 0
	}
	if l.most >= l.batch.Size {
		l.most = 0
	}
}

// all lists what waits in memory and has no row that says that it failed.
func (l *line) all() []entry {
	if l.sorted != nil {
		return l.sorted.all()
	}
	return l.ring.All()
}

// open counts what all lists, and tells its oldest event; of a line that does not sort, the
// one whose turn it is.
func (l *line) open() (n int, oldest ID) {
	if l.sorted != nil {
		return l.sorted.open()
	}
	if n = l.ring.Len(); n > 0 {
		oldest = l.ring.All()[0].event
	}
	return n, oldest
}

// cut takes out, from anywhere, what is chosen.
func (l *line) cut(chosen func(*entry) bool) (out []entry) {
	if l.sorted != nil {
		return l.sorted.withdraw(chosen)
	}
	var rest fifo.Queue[entry]
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

// clear forgets what waits in memory.
func (l *line) clear() { l.ring, l.sorted = fifo.Queue[entry]{}, nil }
