package dispatchqueue

import "switchhook/engine/snowflake"

// How lanes get back from the store what they left there.

// NextFetch tells from where the store is to be read, if it is.
func (l *keyedFIFO) NextFetch() (from snowflake.ID, ok bool) {
	from = snowflake.Last
	if l.tail && l.waiting < LowWater && !l.full() {
		from = l.tailStart
	}
	if l.waiting < Capacity-l.room/4 || l.room == Capacity {
		for g := range l.needsFetch {
			from = min(from, g.firstInStore)
		}
	}
	return from, from != snowflake.Last && l.readable(from)
}

// FetchCompleted queues what was read, as far as there is room; known are the events whose
// outcome is not on disk.
func (l *keyedFIFO) FetchCompleted(rows []Entry, all bool, known map[snowflake.ID]bool) (list []Displaced) {
	rows, through, ended := l.isValid(rows, all)
	touched := map[*keyGroup]struct{}{}
	for i := range rows {
		en := &rows[i]
		g := l.groups[en.Group]
		if l.isStale(en, known) || l.manual.inFlight[en.Event] || l.has(g, en, touched) || l.isElsewhere(g, en) {
			en.Release()
			continue
		}
		if l.waiting >= Capacity || g == nil && l.full() {
			through, ended = en.Event-1, false
			for _, en := range rows[i:] {
				en.Release()
			}
			break
		}
		if g == nil {
			g = l.group(en.Group)
		}
		if g.blocked() || len(g.entries) >= l.room {
			if g.readMark != l.from && g.firstInStore >= l.from && !g.blocked() {
				g.firstInStore = en.Event // all before it is in memory now
			}
			g.markInStore(en.Event)
			g.readMark = l.from
			en.Release()
			continue
		}
		l.insert(g, *en)
		if g.firstInStore >= l.from {
			g.firstInStore = en.Event + 1
			g.readMark = 0
		}
		touched[g] = struct{}{}
	}
	for _, g := range l.groups {
		if g.firstInStore >= l.from && g.firstInStore <= through && g.readMark != l.from && !g.blocked() {
			if g.firstInStore = through + 1; ended {
				g.firstInStore = 0
			}
			touched[g] = struct{}{}
		}
		g.readMark = 0
	}
	l.read(through, ended)
	for g := range touched {
		list = append(list, l.updateRunnable(g)...)
	}
	return list
}

// has tells whether a delivery is in its lane. Where it waits there for a retry that became
// due, of which the line was not told because the settings changed at that moment, its lane
// is touched.
func (l *keyedFIFO) has(g *keyGroup, en *Entry, touched map[*keyGroup]struct{}) bool {
	if g == nil {
		return false
	}
	if !en.Failed && l.makeRunnable(g, *en) {
		touched[g] = struct{}{}
		return true
	}
	_, found := g.find(en.Event)
	return found
}

// isElsewhere tells whether a delivery is the matter of another read, or of nobody any more.
func (l *keyedFIFO) isElsewhere(g *keyGroup, en *Entry) bool {
	if g != nil && g.firstInStore != 0 && g.firstInStore < l.from { // it was left before where this read began
		return true
	}
	return !l.hides(en.Event) && (g == nil || g.firstInStore == 0 || en.Event < g.firstInStore)
}
