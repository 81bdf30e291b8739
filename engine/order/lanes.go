package order

import (
	"slices"
	"sort"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

const (
	// LaneRoom is how many deliveries of one key wait in memory where there may be many
	// keys, so that a busy one leaves room for the others.
	LaneRoom = 100
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
	hand   byHand

	waiting int // deliveries in lanes that wait for their turn
	failed  int // and those that wait for their retry
	room    int // of a lane
	queued  func(snowflake.ID) bool
}

// lane is what waits of one group.
type lane struct {
	group   uint64
	entries []Entry // by event
	flying  int
	left    snowflake.ID // the first event that was left in the store; 0: none was
	behind  snowflake.ID // the read that left it there began here, see Fetched
	listed  bool
	again   bool // what flies has failed before
}

// NewLanes makes lanes with room for so many deliveries each: Room for one group, LaneRoom
// for many. queued tells whether all events up to one have been queued.
func NewLanes(room int, queued func(snowflake.ID) bool) Sorter {
	return &lanes{groups: map[uint64]*lane{}, hungry: map[*lane]struct{}{}, room: room, queued: queued}
}

func (l *lanes) Len() int { return l.waiting + l.failed + l.hand.waiting.Len() }

// All lists what waits in memory, but for what has a row that says so.
func (l *lanes) All() []Entry {
	list := slices.Clone(l.hand.waiting.All())
	for _, g := range l.groups {
		for _, en := range g.entries {
			if !en.Failed {
				list = append(list, en)
			}
		}
	}
	return list
}

func (l *lanes) Open() (n int, oldest snowflake.ID) {
	n, oldest = l.hand.open()
	for _, g := range l.groups {
		for i := range g.entries {
			if !g.entries[i].Failed {
				oldest = min(oldest, g.entries[i].Event)
				break
			}
		}
	}
	return l.waiting + n, oldest
}

// full tells whether there is no room for another lane.
func (l *lanes) full() bool {
	return l.waiting >= Room || l.failed >= lanesRoom || len(l.groups) >= lanesRoom
}

// blocked tells whether the lane waits for a retry.
func (g *lane) blocked() bool { return g.flying == 0 && len(g.entries) > 0 && g.entries[0].Failed }

// find gives the place of an event in the lane.
func (g *lane) find(event snowflake.ID) (int, bool) {
	i := sort.Search(len(g.entries), func(i int) bool { return g.entries[i].Event >= event })
	return i, i < len(g.entries) && g.entries[i].Event == event
}

// leave has the lane's events from one on looked up in the store.
func (g *lane) leave(event snowflake.ID) {
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

func (l *lanes) insert(g *lane, en Entry) {
	i, found := g.find(en.Event)
	if found {
		return
	}
	g.entries = slices.Insert(g.entries, i, en)
	if en.Failed {
		l.failed++
	} else {
		l.waiting++
	}
}

// Add queues a fresh delivery; stored says that it is to wait in the store instead.
func (l *lanes) Add(en Entry, crowded bool) (stored bool, aside []Aside) {
	g := l.groups[en.Group]
	known := g != nil && (len(g.entries) > 0 || g.flying > 0)
	switch {
	case l.hides(en.Event):
	case g != nil && g.left != 0 && en.Event >= g.left:
	case g != nil && g.blocked() && en.Event > g.entries[0].Event:
		g.leave(en.Event)
	case known && len(g.entries) > 0 && en.Event < g.entries[len(g.entries)-1].Event: // a late one, of few
		l.insert(g, en)
		return false, l.review(g)
	case known && (len(g.entries) >= l.room || l.waiting >= Room || crowded):
		g.leave(en.Event)
	case !known && (l.full() || crowded):
		l.Leave(en.Event)
	default:
		g = l.lane(en.Group)
		l.insert(g, en)
		return false, l.review(g)
	}
	l.Spill(en.Event)
	return true, nil
}

// Due queues a delivery whose retry is due; its row says so.
func (l *lanes) Due(en Entry) []Aside {
	if l.hand.own[en.Event] {
		l.hand.put(en)
		return nil
	}
	l.note(en.Event, dueMeanwhile)
	g := l.groups[en.Group]
	if g != nil && l.wake(g, en) {
		return l.review(g)
	}
	if l.hides(en.Event) || g != nil && g.left != 0 && en.Event >= g.left {
		return nil
	}
	g = l.lane(en.Group) // nobody knew of it: the settings were others when it failed
	l.insert(g, en)
	return l.review(g)
}

// wake ends a delivery's wait for its retry; it tells whether the delivery is in the lane.
func (l *lanes) wake(g *lane, en Entry) bool {
	i, found := g.find(en.Event)
	if found && g.entries[i].Failed {
		g.entries[i] = en
		l.failed--
		l.waiting++
	}
	return found
}

// Retry queues a delivery that a user wants attempted again.
func (l *lanes) Retry(en Entry) []Aside {
	if g := l.groups[en.Group]; g != nil {
		if _, found := g.find(en.Event); found {
			return l.Due(en)
		}
	}
	if l.hand.waiting.Len() >= Room {
		l.Leave(en.Event)
		return nil
	}
	l.hand.put(en)
	return nil
}

// review sets right what depends on the state of a lane. What a lane that got blocked
// can't keep is given back.
func (l *lanes) review(g *lane) (list []Aside) {
	if g.blocked() {
		keep := len(g.entries)
		for keep > 0 && !g.entries[keep-1].Failed {
			keep--
		}
		for _, en := range g.entries[keep:] {
			l.waiting--
			g.leave(en.Event)
			if en.Fresh != nil { // it has no row yet
				l.Spill(en.Event)
				list = append(list, Aside{Entry: en})
			} else {
				en.Release()
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
		if g.flying == 0 && len(g.entries) > 0 && !g.entries[0].Failed {
			return g
		}
		l.turns.Pop().listed = false
	}
	return nil
}

// Look tells whether something may go now, and else when, if that is known. Nothing may
// before all earlier events have been queued.
func (l *lanes) Look(now time.Time, b Batch) (ready bool, at time.Time) {
	if l.hand.waiting.Len() > 0 {
		return true, at
	}
	g := l.first()
	if g == nil || !l.queued(g.entries[0].Event) {
		return false, at
	}
	n, oldest := 0, snowflake.Last
	for _, g := range l.turns.All() {
		if k := g.going(b.Size - n); g.flying == 0 && k > 0 {
			n += k
			oldest = min(oldest, g.entries[0].Event)
		}
		if n >= b.Size {
			break
		}
	}
	return b.due(n, oldest, now)
}

// going is how many deliveries at the lane's head may go, counted up to most.
func (g *lane) going(most int) (n int) {
	for n < min(most, len(g.entries)) && !g.entries[n].Failed {
		n++
	}
	return n
}

// Take gives up to most deliveries that go together, in order within each lane.
func (l *lanes) Take(most int) (p Parcel) {
	if l.hand.waiting.Len() > 0 {
		return Parcel{First: l.hand.waiting.Pop()}
	}
	n := 0
	for n < most {
		g := l.first()
		if g == nil || n > 0 && !l.queued(g.entries[0].Event) {
			break
		}
		l.turns.Pop().listed = false
		for range g.going(most - n) {
			if n > 0 && !l.queued(g.entries[0].Event) {
				break
			}
			p.add(n, g.entries[0])
			g.again = g.entries[0].Attempts > 0
			g.entries[0] = Entry{}
			g.entries = g.entries[1:]
			g.flying++
			l.waiting--
			n++
		}
		l.review(g)
	}
	return p
}

// Landed takes note of what became of deliveries that were taken. Those that go back wait
// at the head of their lanes again.
func (l *lanes) Landed(p *Parcel, became func(i int) Fate) (list []Aside) {
	for i := range p.Len() {
		en := *p.At(i)
		state := became(i)
		if l.hand.landed(en, state) {
			continue
		}
		g := l.groups[en.Group]
		if g == nil {
			continue
		}
		g.flying--
		switch state {
		case Failed:
			l.insert(g, en.waitsForRetry())
		case Returned:
			l.insert(g, en)
		}
	}
	for i := range p.Len() {
		if g := l.groups[p.At(i).Group]; g != nil {
			list = append(list, l.review(g)...)
		}
	}
	return list
}

// Withdraw takes out what is chosen of what waits and is not to be tried again anyway.
func (l *lanes) Withdraw(chosen func(*Entry) bool) (out []Entry) {
	for _, g := range l.groups {
		was := len(out)
		g.entries = slices.DeleteFunc(g.entries, func(en Entry) bool {
			if en.Failed || !chosen(&en) {
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
