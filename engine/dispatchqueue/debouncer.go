package dispatchqueue

import (
	"container/heap"
	"slices"
	"time"

	"switchhook/engine"
)

// debounceLowWater is the number of open windows below which more events are read from the store.
const debounceLowWater = Capacity / 2

// clockTolerance is how long a window stays open whose time was over when its event was read from
// the store: newer events of its key may follow from there.
const clockTolerance = time.Second

// debouncer holds the newest event of each key until its window closes. Older events are returned
// as superseded.
//
//	state of a window   fields             what ends it
//	open                en.Event != 0      Pop after at; a newer event replaces en
//	in flight           inFlight > 0       Completed
//	waiting for retry   failed.Event != 0  EnqueueDue; a newer event supersedes failed
//	ended               nothing of these   removeClosed deletes it
//
// An open window may also have a delivery in flight or waiting for its retry. An attempt
// that fails after a newer event came is not retried but superseded.
type debouncer struct {
	storeTail
	within  time.Duration
	groups  map[uint64]*debounceWindow
	closing closingFirst
	manual  manualRetries
	failed  int
	clock   func() time.Time
	last    time.Time // the last reading of clock
}

// debounceWindow is the state of one key.
type debounceWindow struct {
	group     uint64
	newest    engine.Position // of the newest event seen
	newestID  engine.ID
	en        Entry     // the delivery that waits for the window to close; Event 0: none
	at        time.Time // when the window closes
	heapIndex int       // in debouncer.closing
	inFlight  int
	failed    Entry // the delivery that waits for its retry; Event 0: none
}

// Debounce makes an empty queue keep the window of each key open for within.
func (q *Queue) Debounce(within time.Duration, now func() time.Time) {
	q.Ordered = &debouncer{storeTail: storeTail{spills: &q.spills}, within: within, clock: now, groups: map[uint64]*debounceWindow{}}
}

// now returns the time of the clock. If the clock was set back, it moves the close of all open
// windows back by the same amount.
func (d *debouncer) now() time.Time {
	now := d.clock()
	if back := d.last.Sub(now); back > 0 {
		for _, w := range d.closing { // the order of the heap does not change
			w.at = w.at.Add(-back)
		}
	}
	d.last = now
	return now
}

// Len implements OrderedQueue.
func (d *debouncer) Len() int { return len(d.closing) + d.failed + d.manual.waiting.Len() }

// All implements OrderedQueue.
func (d *debouncer) All() []Entry {
	list := slices.Clone(d.manual.waiting.All())
	for _, w := range d.closing {
		list = append(list, w.en)
	}
	return list
}

// Open implements OrderedQueue.
func (d *debouncer) Open() (n int, oldest engine.ID) {
	n, oldest = d.manual.open()
	for _, w := range d.closing {
		oldest = min(oldest, w.en.Event)
	}
	return len(d.closing) + n, oldest
}

// goesSoon reports true: a window closes when its time is over, and full limits their number.
func (d *debouncer) goesSoon(*Entry) bool { return true }

func (d *debouncer) full() bool { return len(d.closing) >= Capacity || len(d.groups) >= maxGroups }

// Enqueue implements OrderedQueue.
func (d *debouncer) Enqueue(en Entry, crowded bool) (kept bool, list []Displaced) {
	w := d.groups[en.Group]
	switch {
	case d.hides(en.Position):
		// It opens a window when it is read; the older event is superseded at once.
		if w == nil || en.Position < w.newest {
			break
		}
		w.newest, w.newestID = en.Position, en.Event
		if w.en.Event != 0 {
			list = append(list, Displaced{Entry: d.remove(w), SupersededBy: en.Event})
			d.removeClosed(w)
		}
	case w == nil && (crowded || d.full()):
		d.MarkInStore(en.Position)
	default:
		return true, d.insert(en, d.now().Add(d.within))
	}
	return false, list
}

// insert puts an event into the window of its key. A window that is not open opens and closes at
// closes.
func (d *debouncer) insert(en Entry, closes time.Time) (list []Displaced) {
	w := d.groups[en.Group]
	if w == nil {
		w = &debounceWindow{group: en.Group}
		d.groups[en.Group] = w
	}
	if en.Position < w.newest {
		d.removeClosed(w)
		return []Displaced{{Entry: en, SupersededBy: w.newestID}}
	}
	w.newest, w.newestID = en.Position, en.Event
	if w.failed.Event != 0 && w.failed.Event != en.Event {
		list = append(list, Displaced{Entry: d.clearFailed(w), SupersededBy: en.Event})
	}
	if w.en.Event != 0 {
		if w.en.Event == en.Event {
			return list
		}
		list = append(list, Displaced{Entry: w.en, SupersededBy: en.Event})
		w.en = en
		return list
	}
	w.en, w.at = en, closes
	heap.Push(&d.closing, w)
	return list
}

// remove removes and returns the delivery of an open window.
func (d *debouncer) remove(w *debounceWindow) Entry {
	en := w.en
	heap.Remove(&d.closing, w.heapIndex)
	w.en = Entry{}
	return en
}

// removeClosed deletes a window that has ended.
func (d *debouncer) removeClosed(w *debounceWindow) {
	if w.en.Event == 0 && w.failed.Event == 0 && w.inFlight == 0 {
		delete(d.groups, w.group)
	}
}

// EnqueueDue adds a delivery whose retry is due and whose row is pending.
func (d *debouncer) EnqueueDue(en Entry) []Displaced {
	if d.manual.inFlight[en.Event] {
		d.manual.add(en)
		return nil
	}
	d.recordChange(en.Event, retryDue)
	w := d.groups[en.Group]
	if w != nil && w.failed.Event == en.Event {
		d.clearFailed(w)
	} else if d.hides(en.Position) {
		return nil
	}
	return d.insert(en, d.now())
}

// EnqueueManual adds a delivery that a user retries.
func (d *debouncer) EnqueueManual(en Entry) []Displaced {
	if d.manual.waiting.Len() >= Capacity {
		d.MarkInStore(en.Position)
		return nil
	}
	if w := d.groups[en.Group]; w != nil {
		switch en.Event {
		case w.en.Event: // already waiting
			return nil
		case w.failed.Event:
			d.clearFailed(w)
		}
	}
	d.manual.add(en)
	return nil
}

// Ready reports whether Pop may be called now, and otherwise when, if that is known.
func (d *debouncer) Ready(time.Time, BatchLimit) (ready bool, at time.Time) {
	now := d.now()
	if d.manual.waiting.Len() > 0 {
		return true, at
	}
	if len(d.closing) == 0 {
		return false, at
	}
	return !d.closing[0].at.After(now), d.closing[0].at
}

// Pop removes and returns the delivery of the window that closed first.
func (d *debouncer) Pop(int) Batch {
	if d.manual.waiting.Len() > 0 {
		return Batch{First: d.manual.waiting.Pop()}
	}
	w := d.closing[0]
	w.inFlight++
	return Batch{First: d.remove(w)}
}

// Completed records the disposition of a popped delivery. One that failed or was not attempted,
// and has been superseded meanwhile, is returned.
func (d *debouncer) Completed(p *Batch, became func(int) Disposition) []Displaced {
	en, state := p.First, became(0)
	if d.manual.completed(en, state) {
		return nil
	}
	w := d.groups[en.Group]
	if w == nil {
		return nil
	}
	w.inFlight--
	defer d.removeClosed(w)
	switch {
	case state == Finished:
	case w.newest > en.Position:
		return []Displaced{{Entry: en, SupersededBy: w.newestID}}
	case state == Failed:
		w.failed = en.waitsForRetry()
		d.failed++
	case w.en.Event == 0:
		w.en, w.at = en, d.now()
		heap.Push(&d.closing, w)
	}
	return nil
}

// Remove removes and returns the chosen deliveries; those that wait for a retry stay.
func (d *debouncer) Remove(chosen func(*Entry) bool) (out []Entry) {
	for _, w := range slices.Clone(d.closing) {
		if chosen(&w.en) {
			out = append(out, d.remove(w))
			d.removeClosed(w)
		}
	}
	return out
}

// StartFetch implements OrderedQueue.
func (d *debouncer) StartFetch() (from engine.Position, ok bool) {
	if ok = d.tail && len(d.closing) < debounceLowWater && !d.full() && d.readable(d.tailStart); ok {
		d.startRead(d.tailStart)
	}
	return d.tailStart, ok
}

// FetchCompleted queues the rows of a read as far as there is room. known are the events whose
// outcome is not on disk yet.
func (d *debouncer) FetchCompleted(rows []Entry, all bool, known map[engine.ID]bool) (list []Displaced) {
	rows, through, ended := d.endRead(rows, all, known)
	now := d.now()
	for i, en := range rows {
		w := d.groups[en.Group]
		action := d.actionFor(w, &en)
		if action == stopAtRow {
			through, ended = en.Position-1, false
			releaseAll(rows[i:])
			break
		}
		switch action {
		case skipRow:
			en.Release()
		case supersedeRow:
			list = append(list, Displaced{Entry: en, SupersededBy: w.newestID})
		case insertRow:
			if w != nil && w.failed.Event == en.Event { // its retry became due while the settings changed
				d.clearFailed(w)
			}
			list = append(list, d.insert(en, d.closeOfStored(en, now))...)
		case failedRow:
			list = append(list, d.insert(en, now)...)
			w = d.groups[en.Group]
			w.failed = d.remove(w)
			d.failed++
		}
	}
	d.shrinkTail(through, ended)
	return list
}

// actionFor returns what to do with a row of w, which is nil if there is no such window yet. It
// changes nothing.
func (d *debouncer) actionFor(w *debounceWindow, en *Entry) rowAction {
	switch {
	case d.manual.inFlight[en.Event], !d.hides(en.Position):
		return skipRow
	case w != nil && (w.en.Event == en.Event || w.failed.Event == en.Event && en.Failed):
		return skipRow
	case w == nil && d.full():
		return stopAtRow
	case !en.Failed:
		return insertRow
	case w != nil && w.newest > en.Position: // it failed before this one could be dropped
		return supersedeRow
	}
	return failedRow
}

// closeOfStored returns when the window of a delivery closes that was read from the store.
func (d *debouncer) closeOfStored(en Entry, now time.Time) time.Time {
	closes := en.Event.Time().Add(d.within)
	if settled := now.Add(min(d.within, clockTolerance)); closes.Before(settled) {
		closes = settled
	}
	if last := now.Add(d.within); closes.After(last) {
		closes = last
	}
	return closes
}

// clearFailed forgets the delivery of w that waits for its retry, and returns it.
func (d *debouncer) clearFailed(w *debounceWindow) Entry {
	en := w.failed
	w.failed = Entry{}
	d.failed--
	return en
}

// closingFirst is a heap of open windows; the one that closes first is on top.
type closingFirst []*debounceWindow

// Len implements heap.Interface.
func (d closingFirst) Len() int { return len(d) }

// Less implements heap.Interface.
func (d closingFirst) Less(i, j int) bool { return d[i].at.Before(d[j].at) }

// Swap implements heap.Interface.
func (d closingFirst) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapIndex, d[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (d *closingFirst) Push(x any) {
	w := x.(*debounceWindow)
	w.heapIndex = len(*d)
	*d = append(*d, w)
}

// Pop implements heap.Interface.
func (d *closingFirst) Pop() any {
	old := *d
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return w
}
