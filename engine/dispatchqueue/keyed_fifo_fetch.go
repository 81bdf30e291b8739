package dispatchqueue

import "switchhook/engine"

// Refilling groups from the store.

// StartFetch returns the position to read the store from: the first that the tail or a group with
// room left there.
func (q *keyedFIFO) StartFetch() (from engine.Position, ok bool) {
	from = engine.LastPosition
	if q.tail && q.waiting < LowWater && !q.full() {
		from = q.tailStart
	}
	if q.waiting < Capacity-q.room/4 || q.room == Capacity {
		for g := range q.needsFetch {
			from = min(from, g.firstInStore)
		}
	}
	if ok = from != engine.LastPosition && q.readable(from); ok {
		q.startRead(from)
	}
	return from, ok
}

// FetchCompleted queues the rows of a read as far as there is room. known are the events whose
// outcome is not on disk yet.
//
// A group that was full or blocked during the read keeps its firstInStore, and readMark says so;
// firstInStore of every other group moves past the last row read.
func (q *keyedFIFO) FetchCompleted(rows []Entry, all bool, known map[engine.ID]bool) (list []Displaced) {
	rows, through, ended := q.endRead(rows, all, known)
	touched := map[*keyGroup]struct{}{}
	for i := range rows {
		en := &rows[i]
		g := q.groups[en.Group]
		action := q.actionFor(g, en)
		if action == stopAtRow {
			through, ended = en.Position-1, false
			releaseAll(rows[i:])
			break
		}
		switch action {
		case skipRow:
			en.Release()
		case leaveRow:
			en.Release()
			if g.readMark != q.from && g.firstInStore >= q.from && !g.blocked() {
				g.firstInStore = en.Position // everything before it is in memory now
			}
			g.markInStore(en.Position)
			g.readMark = q.from
		case insertRow:
			g = q.group(en.Group)
			q.insert(g, *en)
			if g.firstInStore >= q.from {
				g.firstInStore = en.Position + 1
				g.readMark = 0
			}
			touched[g] = struct{}{}
		case dueRow:
			q.makeRunnable(g, *en)
			touched[g] = struct{}{}
		}
	}
	q.advanceGroups(through, ended, touched)
	q.shrinkTail(through, ended)
	for g := range touched {
		list = append(list, q.updateRunnable(g)...)
	}
	return list
}

// actionFor returns what to do with a row of g, which is nil if there is no such group yet. It
// changes nothing.
func (q *keyedFIFO) actionFor(g *keyGroup, en *Entry) rowAction {
	hidden := q.hides(en.Position)
	if q.manual.inFlight[en.Event] {
		return skipRow
	}
	if g != nil {
		if i, found := g.find(en.Position); found {
			if !en.Failed && g.entries[i].Failed { // EnqueueDue was not called: the settings changed at that moment
				return dueRow
			}
			return skipRow
		}
		if g.firstInStore != 0 {
			if g.firstInStore < q.from { // the group's earlier deliveries come first
				return skipRow
			}
			hidden = hidden || en.Position >= g.firstInStore
		}
	}
	switch {
	case !hidden:
		return skipRow
	case q.waiting >= Capacity || g == nil && q.full():
		return stopAtRow
	case g != nil && (g.blocked() || len(g.entries) >= q.room):
		return leaveRow
	}
	return insertRow
}

// advanceGroups moves firstInStore of the groups that a read up to through covered.
func (q *keyedFIFO) advanceGroups(through engine.Position, ended bool, touched map[*keyGroup]struct{}) {
	for _, g := range q.groups {
		if g.firstInStore >= q.from && g.firstInStore <= through && g.readMark != q.from && !g.blocked() {
			if g.firstInStore = through + 1; ended {
				g.firstInStore = 0
			}
			touched[g] = struct{}{}
		}
		g.readMark = 0
	}
}
