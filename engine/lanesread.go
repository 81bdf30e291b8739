package engine

import "switchhook/engine/snowflake"

// How lanes get back from the store what they left there.

// wants tells from where the store is to be read, if it is.
func (l *lanes) wants() (from ID, ok bool) {
	from = snowflake.Last
	if l.tail && l.waiting < queueLow && !l.full() {
		from = l.horizon
	}
	if l.waiting < queueRoom-l.room/4 || l.room == queueRoom {
		for g := range l.hungry {
			from = min(from, g.left)
		}
	}
	return from, from != snowflake.Last && l.readable(from)
}

// fetched queues what was read, as far as there is room; known are the events whose
// outcome is not on disk.
func (l *lanes) fetched(rows []entry, all bool, known map[ID]bool) (list []aside) {
	rows, through, ended := l.trusted(rows, all)
	touched := map[*lane]struct{}{}
	for i := range rows {
		en := &rows[i]
		if l.skips(en, known) {
			en.held.release()
			continue
		}
		g := l.groups[en.group]
		if l.waiting >= queueRoom || g == nil && l.full() {
			through, ended = en.event-1, false
			for _, en := range rows[i:] {
				en.held.release()
			}
			break
		}
		if g == nil {
			g = l.lane(en.group)
		}
		if g.blocked() || len(g.entries) >= l.room {
			if g.behind != l.from && g.left >= l.from && !g.blocked() {
				g.left = en.event // all before it is in memory now
			}
			g.leave(en.event)
			g.behind = l.from
			en.held.release()
			continue
		}
		l.insert(g, *en)
		if g.left >= l.from {
			g.left = en.event + 1
			g.behind = 0
		}
		touched[g] = struct{}{}
	}
	for _, g := range l.groups {
		if g.left >= l.from && g.left <= through && g.behind != l.from && !g.blocked() {
			if g.left = through + 1; ended {
				g.left = 0
			}
			touched[g] = struct{}{}
		}
		g.behind = 0
	}
	l.read(through, ended)
	for g := range touched {
		list = append(list, l.review(g)...)
	}
	return list
}

// skips tells whether a row says nothing new.
func (l *lanes) skips(en *entry, known map[ID]bool) bool {
	switch l.changed[en.event] {
	case settledMeanwhile:
		return true
	case dueMeanwhile:
		en.failed = false
	}
	if known[en.event] || l.manual[en.event] {
		return true
	}
	g := l.groups[en.group]
	if g != nil {
		if _, found := g.find(en.event); found {
			return true
		}
		if g.left != 0 && g.left < l.from { // it was left before where this read began
			return true
		}
	}
	return !l.hides(en.event) && (g == nil || g.left == 0 || en.event < g.left)
}
