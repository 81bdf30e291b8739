package engine

import (
	"slices"
	"sort"
	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
	"time"
)

const (
	// laneRoom is how many deliveries of one key wait in memory where there may be many
	// keys, so that a busy one leaves room for the others.
	laneRoom = 100
	// lanesRoom is how many keys of a subscription, and how many deliveries that failed,
	// are kept in mind. Beyond it no new key is begun until one is through.
	lanesRoom = 10_000
)

// lanes keeps the deliveries of a subscription in the order of their events, within each
// group: all of them, or those of one key.
//
// A lane whose first delivery waits for its retry is blocked. It keeps that delivery, and
// leaves the others in the store: so it takes no room from the lanes that go on. For each
// lane that was left behind there, the first of its events is remembered (lane.left); where
// there is no room for a lane at all, everything from an event on is (beyond.horizon). All
// else that waits is in memory, which is what order depends on.
type lanes struct {
	beyond
	groups map[uint64]*lane
	turns  fifo.Queue[*lane] // lanes that may go, in turn; a lane in it may have changed since
	hungry map[*lane]struct{}
	beside fifo.Queue[entry] // retried by hand: outside the order
	manual map[ID]bool       // that failed outside the order, so that its retries stay there

	waiting int // deliveries in lanes that wait for their turn
	failed  int // and those that wait for their retry
	room    int // of a lane
	queued  func(ID) bool
}

// lane is what waits of one group.
type lane struct {
	group   uint64
	entries []entry // by event
	flying  int
	left    ID // the first event that was left in the store; 0: none was
	behind  ID // the read that left it there began here, see fetched
	listed  bool
	again   bool // what flies has failed before
}

// newLanes makes lanes for one group or for many. queued tells whether all events up to
// one have been queued.
func newLanes(keyed bool, queued func(ID) bool) *lanes {
	l := &lanes{groups: map[uint64]*lane{}, hungry: map[*lane]struct{}{}, manual: map[ID]bool{}, room: queueRoom, queued: queued}
	if keyed {
		l.room = laneRoom
	}
	return l
}

func (l *lanes) len() int { return l.waiting + l.failed + l.beside.Len() }

// all lists what waits in memory, but for what has a row that says so.
func (l *lanes) all() []entry {
	list := slices.Clone(l.beside.All())
	for _, g := range l.groups {
		for _, en := range g.entries {
			if !en.failed {
				list = append(list, en)
			}
		}
	}
	return list
}

func (l *lanes) open() (n int, oldest ID) {
	oldest = snowflake.Last
	for _, en := range l.beside.All() {
		oldest = min(oldest, en.event)
	}
	for _, g := range l.groups {
		for i := range g.entries {
			if !g.entries[i].failed {
				oldest = min(oldest, g.entries[i].event)
				break
			}
		}
	}
	return l.waiting + l.beside.Len(), oldest
}

// full tells whether there is no room for another lane.
func (l *lanes) full() bool {
	return l.waiting >= queueRoom || l.failed >= lanesRoom || len(l.groups) >= lanesRoom
}

// blocked tells whether the lane waits for a retry.
func (g *lane) blocked() bool { return g.flying == 0 && len(g.entries) > 0 && g.entries[0].failed }

// find gives the place of an event in the lane.
func (g *lane) find(event ID) (int, bool) {
	i := sort.Search(len(g.entries), func(i int) bool { return g.entries[i].event >= event })
	return i, i < len(g.entries) && g.entries[i].event == event
}

// leave has the lane's events from one on looked up in the store.
func (g *lane) leave(event ID) {
	if g.left == 0 || event < g.left {
		g.left = event
	}
}

func (l *lanes) lane(group uint64) *lane {
	g := l.groups[group]
	if g == nil {
		g = &lane{group: group}
		l.groups[group] = g
	}
	return g
}

func (l *lanes) insert(g *lane, en entry) {
	i, found := g.find(en.event)
	if found {
		return
	}
	g.entries = slices.Insert(g.entries, i, en)
	if en.failed {
		l.failed++
	} else {
		l.waiting++
	}
}

// add queues a fresh delivery; stored says that it is to wait in the store instead.
func (l *lanes) add(en entry, crowded bool) (stored bool, aside []aside) {
	g := l.groups[en.group]
	known := g != nil && (len(g.entries) > 0 || g.flying > 0)
	switch {
	case l.hides(en.event):
	case g != nil && g.left != 0 && en.event >= g.left:
	case g != nil && g.blocked() && en.event > g.entries[0].event:
		g.leave(en.event)
	case known && len(g.entries) > 0 && en.event < g.entries[len(g.entries)-1].event: // a late one, of few
		l.insert(g, en)
		return false, l.review(g)
	case known && (len(g.entries) >= l.room || l.waiting >= queueRoom || crowded):
		g.leave(en.event)
	case !known && (l.full() || crowded):
		l.leave(en.event)
	default:
		g = l.lane(en.group)
		l.insert(g, en)
		return false, l.review(g)
	}
	l.spill(en.event)
	return true, nil
}

// due queues a delivery whose retry is due; its row says so.
func (l *lanes) due(en entry) []aside {
	if l.manual[en.event] {
		l.byHand(en)
		return nil
	}
	l.note(en.event, dueMeanwhile)
	g := l.groups[en.group]
	if g != nil {
		if i, found := g.find(en.event); found {
			if g.entries[i].failed {
				g.entries[i] = en
				l.failed--
				l.waiting++
			}
			return l.review(g)
		}
	}
	if l.hides(en.event) || g != nil && g.left != 0 && en.event >= g.left {
		return nil
	}
	g = l.lane(en.group) // nobody knew of it: the settings were others when it failed
	l.insert(g, en)
	return l.review(g)
}

// retry queues a delivery that a user wants attempted again.
func (l *lanes) retry(en entry) []aside {
	if g := l.groups[en.group]; g != nil {
		if _, found := g.find(en.event); found {
			return l.due(en)
		}
	}
	if l.beside.Len() >= queueRoom {
		l.leave(en.event)
		return nil
	}
	l.byHand(en)
	return nil
}

func (l *lanes) byHand(en entry) {
	l.manual[en.event] = true
	l.beside.Push(en)
}

// review sets right what depends on the state of a lane. What a lane that got blocked
// can't keep is given back.
func (l *lanes) review(g *lane) (list []aside) {
	if g.blocked() {
		keep := len(g.entries)
		for keep > 0 && !g.entries[keep-1].failed {
			keep--
		}
		for _, en := range g.entries[keep:] {
			l.waiting--
			g.leave(en.event)
			if en.fresh != nil { // it has no row yet
				l.spill(en.event)
				list = append(list, aside{en: en})
			} else {
				en.held.release()
			}
		}
		clear(g.entries[keep:])
		g.entries = g.entries[:keep]
	}
	if len(g.entries) == 0 && g.flying == 0 && g.left == 0 {
		delete(l.groups, g.group)
	}
	if !g.listed && g.flying == 0 && len(g.entries) > 0 && !g.blocked() {
		g.listed = true
		l.turns.Push(g)
	}
	// While a retry is on, the lane may be blocked again in a moment.
	if g.left != 0 && !g.blocked() && !(g.flying > 0 && g.again) && len(g.entries) <= l.room/4 {
		l.hungry[g] = struct{}{}
	} else {
		delete(l.hungry, g)
	}
	return list
}

// first gives the lane whose turn it is, or nil.
func (l *lanes) first() *lane {
	for l.turns.Len() > 0 {
		g := l.turns.All()[0]
		if g.flying == 0 && len(g.entries) > 0 && !g.entries[0].failed {
			return g
		}
		l.turns.Pop().listed = false
	}
	return nil
}

// look tells whether something may go now, and else when, if that is known. Nothing may
// before all earlier events have been queued.
func (l *lanes) look(now time.Time, b Batch) (ready bool, at time.Time) {
	if l.beside.Len() > 0 {
		return true, at
	}
	g := l.first()
	if g == nil || !l.queued(g.entries[0].event) {
		return false, at
	}
	n, oldest := 0, snowflake.Last
	for _, g := range l.turns.All() {
		if k := g.going(b.Size - n); g.flying == 0 && k > 0 {
			n += k
			oldest = min(oldest, g.entries[0].event)
		}
		if n >= b.Size {
			break
		}
	}
	return b.due(n, oldest, now)
}

// going is how many deliveries at the lane's head may go, counted up to most.
func (g *lane) going(most int) (n int) {
	for n < min(most, len(g.entries)) && !g.entries[n].failed {
		n++
	}
	return n
}

// take gives up to most deliveries that go together, in order within each lane.
func (l *lanes) take(most int) (p parcel) {
	if l.beside.Len() > 0 {
		return parcel{first: l.beside.Pop()}
	}
	n := 0
	for n < most {
		g := l.first()
		if g == nil || n > 0 && !l.queued(g.entries[0].event) {
			break
		}
		l.turns.Pop().listed = false
		for range g.going(most - n) {
			if n > 0 && !l.queued(g.entries[0].event) {
				break
			}
			p.add(n, g.entries[0])
			g.again = g.entries[0].attempts > 0
			g.entries[0] = entry{}
			g.entries = g.entries[1:]
			g.flying++
			l.waiting--
			n++
		}
		l.review(g)
	}
	return p
}

// landed takes note of what became of deliveries that were taken. Those that go back wait
// at the head of their lanes again.
func (l *lanes) landed(p *parcel, became func(i int) State) (list []aside) {
	for i := range p.len() {
		en := *p.at(i)
		state := became(i)
		if l.manual[en.event] {
			if state == StatePending {
				l.beside.Push(en)
			} else if state.Done() {
				delete(l.manual, en.event)
			}
			continue
		}
		g := l.groups[en.group]
		if g == nil {
			continue
		}
		g.flying--
		switch state {
		case StateFailed:
			l.insert(g, en.waitsForRetry())
		case StatePending:
			l.insert(g, en)
		}
	}
	for i := range p.len() {
		if g := l.groups[p.at(i).group]; g != nil {
			list = append(list, l.review(g)...)
		}
	}
	return list
}

// withdraw takes out what is chosen of what waits and is not to be tried again anyway.
func (l *lanes) withdraw(chosen func(*entry) bool) (out []entry) {
	for _, g := range l.groups {
		was := len(out)
		g.entries = slices.DeleteFunc(g.entries, func(en entry) bool {
			if en.failed || !chosen(&en) {
				return false
			}
			out = append(out, en)
			return true
		})
		if len(out) > was {
			l.waiting -= len(out) - was
			if !g.blocked() { // if it is now, the next review sets the rest aside
				l.review(g)
			}
		}
	}
	return out
}
