package engine

import (
	"container/heap"
	"slices"
	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
	"time"
)

// windowsLow is how many windows there are at least, while more events lie in the store.
const windowsLow = queueRoom / 2

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
	beside  fifo.Queue[entry] // retried by hand: nothing supersedes them
	manual  map[ID]bool
	failed  int
	clock   func() time.Time
	last    time.Time // seen on clock
}

// window is what is known of one key.
type window struct {
	group  uint64
	newest ID    // the newest event that came
	en     entry // waits; its event is 0 where none does
	at     time.Time
	place  int // in windows.closing
	flying int
	failed entry // waits for its retry; its event is 0 where none does
}

func newWindows(within time.Duration, now func() time.Time) *windows {
	return &windows{within: within, clock: now, groups: map[uint64]*window{}, manual: map[ID]bool{}}
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

func (l *windows) len() int { return len(l.closing) + l.failed + l.beside.Len() }

func (l *windows) all() []entry {
	list := slices.Clone(l.beside.All())
	for _, w := range l.closing {
		list = append(list, w.en)
	}
	return list
}

func (l *windows) open() (n int, oldest ID) {
	oldest = snowflake.Last
	for _, en := range l.beside.All() {
		oldest = min(oldest, en.event)
	}
	for _, w := range l.closing {
		oldest = min(oldest, w.en.event)
	}
	return len(l.closing) + l.beside.Len(), oldest
}

func (l *windows) full() bool { return len(l.closing) >= queueRoom || len(l.groups) >= lanesRoom }

// add queues a fresh delivery; stored says that it is to wait in the store instead.
func (l *windows) add(en entry, crowded bool) (stored bool, list []aside) {
	w := l.groups[en.group]
	switch {
	case l.hides(en.event):
		// It begins a window when it is read. What it supersedes need not wait for that.
		if w == nil || en.event < w.newest {
			break
		}
		w.newest = en.event
		if w.en.event != 0 {
			list = append(list, aside{en: l.remove(w), by: en.event})
			l.tidy(w)
		}
	case w == nil && (crowded || l.full()):
		l.leave(en.event)
	default:
		return false, l.arrive(en, l.now().Add(l.within))
	}
	l.spill(en.event)
	return true, list
}

// arrive lets an event into its window, which closes at a time if it is not open yet.
func (l *windows) arrive(en entry, closes time.Time) (list []aside) {
	w := l.groups[en.group]
	if w == nil {
		w = &window{group: en.group}
		l.groups[en.group] = w
	}
	if en.event < w.newest {
		l.tidy(w)
		return []aside{{en: en, by: w.newest}}
	}
	w.newest = en.event
	if w.failed.event != 0 && w.failed.event != en.event {
		list = append(list, aside{en: w.failed, by: en.event})
		w.failed = entry{}
		l.failed--
	}
	if w.en.event != 0 {
		if w.en.event == en.event {
			return list
		}
		list = append(list, aside{en: w.en, by: en.event})
		w.en = en
		return list
	}
	w.en, w.at = en, closes
	heap.Push(&l.closing, w)
	return list
}

// remove takes what waits out of a window.
func (l *windows) remove(w *window) entry {
	en := w.en
	heap.Remove(&l.closing, w.place)
	w.en = entry{}
	return en
}

// tidy forgets a window of which nothing is left.
func (l *windows) tidy(w *window) {
	if w.en.event == 0 && w.failed.event == 0 && w.flying == 0 {
		delete(l.groups, w.group)
	}
}

// due queues a delivery whose retry is due; its row says so.
func (l *windows) due(en entry) []aside {
	if l.manual[en.event] {
		l.byHand(en)
		return nil
	}
	l.note(en.event, dueMeanwhile)
	w := l.groups[en.group]
	if w != nil && w.failed.event == en.event {
		w.failed = entry{}
		l.failed--
	} else if l.hides(en.event) {
		return nil
	}
	return l.arrive(en, l.now())
}

// retry queues a delivery that a user wants attempted again.
func (l *windows) retry(en entry) []aside {
	if l.beside.Len() >= queueRoom {
		l.leave(en.event)
		return nil
	}
	if w := l.groups[en.group]; w != nil && w.failed.event == en.event {
		w.failed = entry{}
		l.failed--
	}
	l.byHand(en)
	return nil
}

func (l *windows) byHand(en entry) {
	l.manual[en.event] = true
	l.beside.Push(en)
}

// look tells whether something may go now, and else when, if that is known.
func (l *windows) look(time.Time, Batch) (ready bool, at time.Time) {
	now := l.now()
	if l.beside.Len() > 0 {
		return true, at
	}
	if len(l.closing) == 0 {
		return false, at
	}
	return !l.closing[0].at.After(now), l.closing[0].at
}

func (l *windows) take(int) parcel {
	if l.beside.Len() > 0 {
		return parcel{first: l.beside.Pop()}
	}
	w := l.closing[0]
	w.flying++
	return parcel{first: l.remove(w)}
}

// landed takes note of what became of a delivery. What failed, or goes back, and has been
// superseded is given back.
func (l *windows) landed(p *parcel, became func(int) State) []aside {
	en, state := p.first, became(0)
	if l.manual[en.event] {
		if state == StatePending {
			l.beside.Push(en)
		} else if state.Done() {
			delete(l.manual, en.event)
		}
		return nil
	}
	w := l.groups[en.group]
	if w == nil {
		return nil
	}
	w.flying--
	defer l.tidy(w)
	switch {
	case state.Done():
	case w.newest > en.event:
		return []aside{{en: en, by: w.newest}}
	case state == StateFailed:
		w.failed = en.waitsForRetry()
		l.failed++
	case w.en.event == 0:
		w.en, w.at = en, l.now()
		heap.Push(&l.closing, w)
	}
	return nil
}

// withdraw takes out what is chosen of what waits.
func (l *windows) withdraw(chosen func(*entry) bool) (out []entry) {
	for _, w := range slices.Clone(l.closing) {
		if chosen(&w.en) {
			out = append(out, l.remove(w))
			l.tidy(w)
		}
	}
	return out
}

// wants tells from where the store is to be read, if it is.
func (l *windows) wants() (from ID, ok bool) {
	return l.horizon, l.tail && len(l.closing) < windowsLow && !l.full() && l.readable(l.horizon)
}

// fetched queues what was read, as far as there is room; known are the events whose
// outcome is not on disk.
func (l *windows) fetched(rows []entry, all bool, known map[ID]bool) (list []aside) {
	rows, through, ended := l.trusted(rows, all)
	now := l.now()
	for i, en := range rows {
		w := l.groups[en.group]
		if l.skips(&en, w, known) {
			en.held.release()
			continue
		}
		if w == nil && l.full() {
			through, ended = en.event-1, false
			for _, en := range rows[i:] {
				en.held.release()
			}
			break
		}
		if !en.failed {
			closes := en.event.Time().Add(l.within)
			if settled := now.Add(min(l.within, settleFor)); closes.Before(settled) {
				closes = settled
			}
			if last := now.Add(l.within); closes.After(last) {
				closes = last
			}
			list = append(list, l.arrive(en, closes)...)
			continue
		}
		en.held.release()
		en.held = nil
		switch {
		case w == nil:
			w = &window{group: en.group, newest: en.event, failed: en}
			l.groups[en.group] = w
			l.failed++
		case w.newest > en.event:
			list = append(list, aside{en: en, by: w.newest})
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

func (l *windows) skips(en *entry, w *window, known map[ID]bool) bool {
	switch l.changed[en.event] {
	case settledMeanwhile:
		return true
	case dueMeanwhile:
		en.failed = false
	}
	return known[en.event] || l.manual[en.event] || !l.hides(en.event) ||
		w != nil && (w.en.event == en.event || w.failed.event == en.event)
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
