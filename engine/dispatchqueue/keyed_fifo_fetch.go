package dispatchqueue

import "switchhook/engine"

// Refilling groups from the store.

// NextFetch returns the position to read the store from: the first that the tail or a group with
// room left there. ok is false if no read is needed or none is allowed now.
func (q *keyedFIFO) NextFetch() (from engine.Position, ok bool) {
	from = engine.LastPosition
	if q.tail && q.waiting < LowWater && !q.full() {
		from = q.tailStart
	}
	if q.waiting < Capacity-q.room/4 || q.room == Capacity {
		for g := range q.needsFetch {
			from = min(from, g.firstInStore)
		}
	}
	return from, from != engine.LastPosition && q.readable(from)
}

// FetchCompleted queues the rows of a read as far as there is room. known are the events whose
// outcome is not on disk yet.
//
// A group that was full or blocked during the read keeps its firstInStore, and readMark says so;
// firstInStore of every other group moves past the last row read.
func (q *keyedFIFO) FetchCompleted(rows []Entry, all bool, known map[engine.ID]bool) (list []Displaced) {
	rows, through, ended := q.endRead(rows, all)
	touched := map[*keyGroup]struct{}{}
	for i := range rows {
		en := &rows[i]
		g := q.groups[en.Group]
		if q.isStale(en, known) || q.manual.inFlight[en.Event] || q.has(g, en, touched) || q.isElsewhere(g, en) {
			continue
		}
		if q.waiting >= Capacity || g == nil && q.full() {
			through, ended = en.Position-1, false
			break
		}
		if g == nil {
			g = q.group(en.Group)
		}
		if g.blocked() || len(g.entries) >= q.room {
			if g.readMark != q.from && g.firstInStore >= q.from && !g.blocked() {
				g.firstInStore = en.Position // everything before it is in memory now
			}
			g.markInStore(en.Position)
			g.readMark = q.from
			continue
		}
		q.insert(g, *en)
		if g.firstInStore >= q.from {
			g.firstInStore = en.Position + 1
			g.readMark = 0
		}
		touched[g] = struct{}{}
	}
	for _, g := range q.groups {
		if g.firstInStore >= q.from && g.firstInStore <= through && g.readMark != q.from && !g.blocked() {
			if g.firstInStore = through + 1; ended {
				g.firstInStore = 0
			}
			touched[g] = struct{}{}
		}
		g.readMark = 0
	}
	q.shrinkTail(through, ended)
	for g := range touched {
		list = append(list, q.updateRunnable(g)...)
	}
	return list
}

// has reports whether a delivery is in its group. If it waits there for a retry that, by its row,
// is due already, has makes it runnable and touches the group: EnqueueDue was not called
// because the settings changed at that moment.
func (q *keyedFIFO) has(g *keyGroup, en *Entry, touched map[*keyGroup]struct{}) bool {
	if g == nil {
		return false
	}
	if !en.Failed && q.makeRunnable(g, *en) {
		touched[g] = struct{}{}
		return true
	}
	_, found := g.find(en.Position)
	return found
}

// isElsewhere reports whether a row belongs to another read, or is not waiting any more.
func (q *keyedFIFO) isElsewhere(g *keyGroup, en *Entry) bool {
	if g != nil && g.firstInStore != 0 && g.firstInStore < q.from { // the group's earlier events come first
		return true
	}
	return !q.hides(en.Position) && (g == nil || g.firstInStore == 0 || en.Position < g.firstInStore)
}
