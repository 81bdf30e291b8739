package order

import (
	"container/heap"
	"slices"
	"time"

	"switchhook/engine/snowflake"
)

// windowsLow is how many windows there are at least, while more events lie in the store.
const windowsLow = Room / 2

// settleFor is how long a window stays open whose time was over when it was read from the
// store: newer events may come from there.
const settleFor = time.Second

// windows holds the newest event of each key until its time has come. What is older is
// given back, as superseded.
type windows struct {
	beyond
	within  time.Duration
	groups  map[uint64]*window
	closing closingFirst
	hand    byHand
	failed  int
	clock   func() time.Time
	last    time.Time // seen on clock
}

// window is what is known of one key.
type window struct {
	group  uint64
	newest snowflake.ID // the newest event that came
	en     Entry        // waits; its event is 0 where none does
	at     time.Time
	place  int // in windows.closing
	flying int
	failed Entry // waits for its retry; its event is 0 where none does
}

// NewWindows makes windows that stay open for a time.
func NewWindows(within time.Duration, now func() time.Time) Sorter {
	return &windows{within: within, clock: now, groups: map[uint64]*window{}}
}

// now is the time. Where the clock has been set back, the windows that are open close so much
// earlier.
func (l *windows) now() time.Time {
	now := l.clock()
	if back := l.last.Sub(now); back > 0 {
		for _, w := range l.closing { // whose order stays
			w.at = w.at.Add(-back)
		}
	}
	l.last = now
	return now
}

func (l *windows) Len() int { return len(l.closing) + l.failed + l.hand.waiting.Len() }

func (l *windows) All() []Entry {
	list := slices.Clone(l.hand.waiting.All())
	for _, w := range l.closing {
		list = append(list, w.en)
	}
	return list
}

func (l *windows) Open() (n int, oldest snowflake.ID) {
	n, oldest = l.hand.open()
	for _, w := range l.closing {
		oldest = min(oldest, w.en.Event)
	}
	return len(l.closing) + n, oldest
}

func (l *windows) full() bool { return len(l.closing) >= Room || len(l.groups) >= lanesRoom }

// Add queues a fresh delivery; stored says that it is to wait in the store instead.
func (l *windows) Add(en Entry, crowded bool) (stored bool, list []Aside) {
	w := l.groups[en.Group]
	switch {
	case l.hides(en.Event):
		// It begins a window when it is read. What it supersedes need not wait for that.
		if w == nil || en.Event < w.newest {
			break
		}
		w.newest = en.Event
		if w.en.Event != 0 {
			list = append(list, Aside{Entry: l.remove(w), By: en.Event})
			l.tidy(w)
		}
	case w == nil && (crowded || l.full()):
		l.Leave(en.Event)
	default:
		return false, l.arrive(en, l.now().Add(l.within))
	}
	l.Spill(en.Event)
	return true, list
}

// arrive lets an event into its window, which closes at a time if it is not open yet.
func (l *windows) arrive(en Entry, closes time.Time) (list []Aside) {
	w := l.groups[en.Group]
	if w == nil {
		w = &window{group: en.Group}
		l.groups[en.Group] = w
	}
	if en.Event < w.newest {
		l.tidy(w)
		return []Aside{{Entry: en, By: w.newest}}
	}
	w.newest = en.Event
	if w.failed.Event != 0 && w.failed.Event != en.Event {
		list = append(list, Aside{Entry: w.failed, By: en.Event})
		w.failed = Entry{}
		l.failed--
	}
	if w.en.Event != 0 {
		if w.en.Event == en.Event {
			return list
		}
		list = append(list, Aside{Entry: w.en, By: en.Event})
		w.en = en
		return list
	}
	w.en, w.at = en, closes
	heap.Push(&l.closing, w)
	return list
}

// remove takes what waits out of a window.
func (l *windows) remove(w *window) Entry {
	en := w.en
	heap.Remove(&l.closing, w.place)
	w.en = Entry{}
	return en
}

// tidy forgets a window of which nothing is left.
func (l *windows) tidy(w *window) {
	if w.en.Event == 0 && w.failed.Event == 0 && w.flying == 0 {
		delete(l.groups, w.group)
	}
}

// Due queues a delivery whose retry is due; its row says so.
func (l *windows) Due(en Entry) []Aside {
	if l.hand.own[en.Event] {
		l.hand.put(en)
		return nil
	}
	l.note(en.Event, dueMeanwhile)
	w := l.groups[en.Group]
	if w != nil && w.failed.Event == en.Event {
		w.failed = Entry{}
		l.failed--
	} else if l.hides(en.Event) {
		return nil
	}
	return l.arrive(en, l.now())
}

// Retry queues a delivery that a user wants attempted again.
func (l *windows) Retry(en Entry) []Aside {
	if l.hand.waiting.Len() >= Room {
		l.Leave(en.Event)
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
	l.hand.put(en)
	return nil
}

// Look tells whether something may go now, and else when, if that is known.
func (l *windows) Look(time.Time, Batch) (ready bool, at time.Time) {
	now := l.now()
	if l.hand.waiting.Len() > 0 {
		return true, at
	}
	if len(l.closing) == 0 {
		return false, at
	}
	return !l.closing[0].at.After(now), l.closing[0].at
}

func (l *windows) Take(int) Parcel {
	if l.hand.waiting.Len() > 0 {
		return Parcel{First: l.hand.waiting.Pop()}
	}
	w := l.closing[0]
	w.flying++
	return Parcel{First: l.remove(w)}
}

// Landed takes note of what became of a delivery. What failed, or goes back, and has been
// superseded is given back.
func (l *windows) Landed(p *Parcel, became func(int) Fate) []Aside {
	en, state := p.First, became(0)
	if l.hand.landed(en, state) {
		return nil
	}
	w := l.groups[en.Group]
	if w == nil {
		return nil
	}
	w.flying--
	defer l.tidy(w)
	switch {
	case state == Done:
	case w.newest > en.Event:
		return []Aside{{Entry: en, By: w.newest}}
	case state == Failed:
		w.failed = en.waitsForRetry()
		l.failed++
	case w.en.Event == 0:
		w.en, w.at = en, l.now()
		heap.Push(&l.closing, w)
	}
	return nil
}

// Withdraw takes out what is chosen of what waits.
func (l *windows) Withdraw(chosen func(*Entry) bool) (out []Entry) {
	for _, w := range slices.Clone(l.closing) {
		if chosen(&w.en) {
			out = append(out, l.remove(w))
			l.tidy(w)
		}
	}
	return out
}

// Wants tells from where the store is to be read, if it is.
func (l *windows) Wants() (from snowflake.ID, ok bool) {
	return l.horizon, l.tail && len(l.closing) < windowsLow && !l.full() && l.readable(l.horizon)
}

// Fetched queues what was read, as far as there is room; known are the events whose
// outcome is not on disk.
func (l *windows) Fetched(rows []Entry, all bool, known map[snowflake.ID]bool) (list []Aside) {
	rows, through, ended := l.trusted(rows, all)
	now := l.now()
	for i, en := range rows {
		w := l.groups[en.Group]
		if l.skips(&en, w, known) {
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
			if settled := now.Add(min(l.within, settleFor)); closes.Before(settled) {
				closes = settled
			}
			if last := now.Add(l.within); closes.After(last) {
				closes = last
			}
			list = append(list, l.arrive(en, closes)...)
			continue
		}
		en.Release()
		en.Held = nil
		switch {
		case w == nil:
			w = &window{group: en.Group, newest: en.Event, failed: en}
			l.groups[en.Group] = w
			l.failed++
		case w.newest > en.Event:
			list = append(list, Aside{Entry: en, By: w.newest})
		default: // it failed before what is older could be dropped
			list = append(list, l.arrive(en, now)...)
			l.remove(w)
			w.failed = en
			l.failed++
		}
	}
	l.read(through, ended)
	return list
}

func (l *windows) skips(en *Entry, w *window, known map[snowflake.ID]bool) bool {
	return l.stale(en, known) || l.hand.own[en.Event] || !l.hides(en.Event) ||
		w != nil && (w.en.Event == en.Event || w.failed.Event == en.Event && en.Failed)
}

// closingFirst is a heap of windows, the one that closes first on top.
type closingFirst []*window

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
	w := x.(*window)
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
