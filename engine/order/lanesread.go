package order

import "switchhook/engine/snowflake"

// How lanes get back from the store what they left there.

// Wants tells from where the store is to be read, if it is.
func (l *lanes) Wants() (from snowflake.ID, ok bool) {
	from = snowflake.Last
	if l.tail && l.waiting < Low && !l.full() {
		from = l.horizon
	}
	if l.waiting < Room-l.room/4 || l.room == Room {
		for g := range l.hungry {
			from = min(from, g.left)
		}
	}
	return from, from != snowflake.Last && l.readable(from)
}

// Fetched queues what was read, as far as there is room; known are the events whose
// outcome is not on disk.
func (l *lanes) Fetched(rows []Entry, all bool, known map[snowflake.ID]bool) (list []Aside) {
	rows, through, ended := l.trusted(rows, all)
	touched := map[*lane]struct{}{}
	for i := range rows {
		en := &rows[i]
		g := l.groups[en.Group]
		if l.stale(en, known) || l.hand.own[en.Event] || l.has(g, en, touched) || l.elsewhere(g, en) {
			en.Release()
			continue
		}
		if l.waiting >= Room || g == nil && l.full() {
			through, ended = en.Event-1, false
			for _, en := range rows[i:] {
				en.Release()
			}
			break
		}
		if g == nil {
			g = l.lane(en.Group)
		}
		if g.blocked() || len(g.entries) >= l.room {
			if g.behind != l.from && g.left >= l.from && !g.blocked() {
				g.left = en.Event // all before it is in memory now
			}
			g.leave(en.Event)
			g.behind = l.from
			en.Release()
			continue
		}
		l.insert(g, *en)
		if g.left >= l.from {
			g.left = en.Event + 1
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

// has tells whether a delivery is in its lane. Where it waits there for a retry that became
// due, of which the line was not told because the settings changed at that moment, its lane
// is touched.
func (l *lanes) has(g *lane, en *Entry, touched map[*lane]struct{}) bool {
	if g == nil {
		return false
	}
	if !en.Failed && l.wake(g, *en) {
		touched[g] = struct{}{}
		return true
	}
	_, found := g.find(en.Event)
	return found
}

// elsewhere tells whether a delivery is the matter of another read, or of nobody any more.
func (l *lanes) elsewhere(g *lane, en *Entry) bool {
	if g != nil && g.left != 0 && g.left < l.from { // it was left before where this read began
		return true
	}
	return !l.hides(en.Event) && (g == nil || g.left == 0 || en.Event < g.left)
}
