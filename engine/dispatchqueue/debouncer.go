package dispatchqueue

import (
	"container/heap"
	"slices"
	"time"

	"switchhook/engine/snowflake"
)

// debounceLowWater is how many windows there are at least, while more events lie in the store.
const debounceLowWater = Capacity / 2

// clockTolerance is how long a window stays open whose time was over when it was read from the
// store: newer events may come from there.
const clockTolerance = time.Second

// debouncer holds the newest event of each key until its time has come. What is older is
// given back, as superseded.
type debouncer struct {
	storeTail
	within  time.Duration
	groups  map[uint64]*debounceWindow
	closing closingFirst
	manual  manualRetries
	failed  int
	clock   func() time.Time
	last    time.Time // seen on clock
}

// debounceWindow is what is known of one key.
type debounceWindow struct {
	group    uint64
	newest   snowflake.ID // the newest event that came
	en       Entry        // waits; its event is 0 where none does
	at       time.Time
	place    int // in windows.closing
	inFlight int
	failed   Entry // waits for its retry; its event is 0 where none does
}

// NewDebouncer makes windows that stay open for a time.
func NewDebouncer(within time.Duration, now func() time.Time) OrderedQueue {
	return &debouncer{within: within, clock: now, groups: map[uint64]*debounceWindow{}}
}

// now is the time. Where the clock has been set back, the windows that are open close so much
// earlier.
func (l *debouncer) now() time.Time {
	now := l.clock()
	if back := l.last.Sub(now); back > 0 {
		for _, w := range l.closing { // whose order stays
			w.at = w.at.Add(-back)
		}
	}
	l.last = now
	return now
}

func (l *debouncer) Len() int { return len(l.closing) + l.failed + l.manual.waiting.Len() }

func (l *debouncer) All() []Entry {
	list := slices.Clone(l.manual.waiting.All())
	for _, w := range l.closing {
		list = append(list, w.en)
	}
	return list
}

func (l *debouncer) Open() (n int, oldest snowflake.ID) {
	n, oldest = l.manual.open()
	for _, w := range l.closing {
		oldest = min(oldest, w.en.Event)
	}
	return len(l.closing) + n, oldest
}

func (l *debouncer) full() bool { return len(l.closing) >= Capacity || len(l.groups) >= maxGroups }

// Enqueue queues a fresh delivery; stored says that it is to wait in the store instead.
func (l *debouncer) Enqueue(en Entry, crowded bool) (stored bool, list []Displaced) {
	w := l.groups[en.Group]
	switch {
	case l.hides(en.Event):
		// It begins a window when it is read. What it supersedes need not wait for that.
		if w == nil || en.Event < w.newest {
			break
		}
		w.newest = en.Event
		if w.en.Event != 0 {
			list = append(list, Displaced{Entry: l.remove(w), SupersededBy: en.Event})
			l.removeClosed(w)
		}
	case w == nil && (crowded || l.full()):
		l.MarkInStore(en.Event)
	default:
		return false, l.insert(en, l.now().Add(l.within))
	}
	l.SpillStarted(en.Event)
	return true, list
}

// insert lets an event into its window, which closes at a time if it is not open yet.
func (l *debouncer) insert(en Entry, closes time.Time) (list []Displaced) {
	w := l.groups[en.Group]
	if w == nil {
		w = &debounceWindow{group: en.Group}
		l.groups[en.Group] = w
	}
	if en.Event < w.newest {
		l.removeClosed(w)
		return []Displaced{{Entry: en, SupersededBy: w.newest}}
	}
	w.newest = en.Event
	if w.failed.Event != 0 && w.failed.Event != en.Event {
		list = append(list, Displaced{Entry: w.failed, SupersededBy: en.Event})
		w.failed = Entry{}
		l.failed--
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
	heap.Push(&l.closing, w)
	return list
}

// remove takes what waits out of a window.
func (l *debouncer) remove(w *debounceWindow) Entry {
	en := w.en
	heap.Remove(&l.closing, w.place)
	w.en = Entry{}
	return en
}

// removeClosed forgets a window of which nothing is left.
func (l *debouncer) removeClosed(w *debounceWindow) {
	if w.en.Event == 0 && w.failed.Event == 0 && w.inFlight == 0 {
		delete(l.groups, w.group)
	}
}

// EnqueueDue queues a delivery whose retry is due; its row says so.
func (l *debouncer) EnqueueDue(en Entry) []Displaced {
	if l.manual.inFlight[en.Event] {
		l.manual.add(en)
		return nil
	}
	l.recordChange(en.Event, retryDue)
	w := l.groups[en.Group]
	if w != nil && w.failed.Event == en.Event {
		w.failed = Entry{}
		l.failed--
	} else if l.hides(en.Event) {
		return nil
	}
	return l.insert(en, l.now())
}

// EnqueueManual queues a delivery that a user wants attempted again.
func (l *debouncer) EnqueueManual(en Entry) []Displaced {
	if l.manual.waiting.Len() >= Capacity {
		l.MarkInStore(en.Event)
		return nil
	}
	if w := l.groups[en.Group]; w != nil {
		switch en.Event {
		case w.en.Event: // it waits already
			return nil
		case w.failed.Event:
			w.failed = Entry{}
			l.failed--
		}
	}
	l.manual.add(en)
	return nil
}

// Ready tells whether something may go now, and else when, if that is known.
func (l *debouncer) Ready(time.Time, BatchLimit) (ready bool, at time.Time) {
	now := l.now()
	if l.manual.waiting.Len() > 0 {
		return true, at
	}
	if len(l.closing) == 0 {
		return false, at
	}
	return !l.closing[0].at.After(now), l.closing[0].at
}

func (l *debouncer) Pop(int) Batch {
	if l.manual.waiting.Len() > 0 {
		return Batch{First: l.manual.waiting.Pop()}
	}
	w := l.closing[0]
	w.inFlight++
	return Batch{First: l.remove(w)}
}

// Completed takes note of what became of a delivery. What failed, or goes back, and has been
// superseded is given back.
func (l *debouncer) Completed(p *Batch, became func(int) Disposition) []Displaced {
	en, state := p.First, became(0)
	if l.manual.completed(en, state) {
		return nil
	}
	w := l.groups[en.Group]
	if w == nil {
		return nil
	}
	w.inFlight--
	defer l.removeClosed(w)
	switch {
	case state == Finished:
	case w.newest > en.Event:
		return []Displaced{{Entry: en, SupersededBy: w.newest}}
	case state == Failed:
		w.failed = en.waitsForRetry()
		l.failed++
	case w.en.Event == 0:
		w.en, w.at = en, l.now()
		heap.Push(&l.closing, w)
	}
	return nil
}

// Remove takes out what is chosen of what waits.
func (l *debouncer) Remove(chosen func(*Entry) bool) (out []Entry) {
	for _, w := range slices.Clone(l.closing) {
		if chosen(&w.en) {
			out = append(out, l.remove(w))
			l.removeClosed(w)
		}
	}
	return out
}

// NextFetch tells from where the store is to be read, if it is.
func (l *debouncer) NextFetch() (from snowflake.ID, ok bool) {
	return l.tailStart, l.tail && len(l.closing) < debounceLowWater && !l.full() && l.readable(l.tailStart)
}

// FetchCompleted queues what was read, as far as there is room; known are the events whose
// outcome is not on disk.
func (l *debouncer) FetchCompleted(rows []Entry, all bool, known map[snowflake.ID]bool) (list []Displaced) {
	rows, through, ended := l.isValid(rows, all)
	now := l.now()
	for i, en := range rows {
		w := l.groups[en.Group]
		if l.isSuperseded(&en, w, known) {
			en.Release()
			continue
		}
		if w == nil && l.full() {
			through, ended = en.Event-1, false
			for _, en := range rows[i:] {
				en.Release()
			}
			break
		}
		if !en.Failed {
			if w != nil && w.failed.Event == en.Event { // its retry became due while the settings changed
				w.failed = Entry{}
				l.failed--
			}
			closes := en.Event.Time().Add(l.within)
			if settled := now.Add(min(l.within, clockTolerance)); closes.Before(settled) {
				closes = settled
			}
			if last := now.Add(l.within); closes.After(last) {
				closes = last
			}
			list = append(list, l.insert(en, closes)...)
			continue
		}
		en.Release()
		en.Payload = nil
		switch {
		case w == nil:
			w = &debounceWindow{group: en.Group, newest: en.Event, failed: en}
			l.groups[en.Group] = w
			l.failed++
		case w.newest > en.Event:
			list = append(list, Displaced{Entry: en, SupersededBy: w.newest})
		default: // it failed before what is older could be dropped
			list = append(list, l.insert(en, now)...)
			l.remove(w)
			w.failed = en
			l.failed++
		}
	}
	l.read(through, ended)
	return list
}

func (l *debouncer) isSuperseded(en *Entry, w *debounceWindow, known map[snowflake.ID]bool) bool {
	return l.isStale(en, known) || l.manual.inFlight[en.Event] || !l.hides(en.Event) ||
		w != nil && (w.en.Event == en.Event || w.failed.Event == en.Event && en.Failed)
}

// closingFirst is a heap of windows, the one that closes first on top.
type closingFirst []*debounceWindow

// Len implements heap.Interface.
func (d closingFirst) Len() int { return len(d) }

// Less implements heap.Interface.
func (d closingFirst) Less(i, j int) bool { return d[i].at.Before(d[j].at) }

// Swap implements heap.Interface.
func (d closingFirst) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *closingFirst) Push(x any) {
	w := x.(*debounceWindow)
	w.place = len(*d)
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
