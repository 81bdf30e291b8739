package dispatchqueue

import (
	"slices"
	"sort"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

const (
	// GroupCapacity is how many deliveries of one key wait in memory where there may be many
	// keys, so that a busy one leaves room for the others.
	GroupCapacity = 100
	// maxGroups is how many keys of a subscription, and how many deliveries that failed,
	// are kept in mind. Beyond it no new key is begun until one is through.
	maxGroups = 10_000
)

// keyedFIFO keeps the deliveries of a subscription in the order of their events, within each
// group: all of them, or those of one key.
//
// A lane whose first delivery waits for its retry is blocked. It keeps that delivery, and
// leaves the others in the store: so it takes no room from the lanes that go on. For each
// lane that was left behind there, the first of its events is remembered (lane.left); where
// there is no room for a lane at all, everything from an event on is (beyond.horizon). All
// else that waits is in memory, which is what order depends on.
type keyedFIFO struct {
	storeTail
	groups     map[uint64]*keyGroup
	runnable   fifo.Queue[*keyGroup] // lanes that may go, in turn; a lane in it may have changed since
	needsFetch map[*keyGroup]struct{}
	manual     manualRetries

	waiting int // deliveries in lanes that wait for their turn
	failed  int // and those that wait for their retry
	room    int // of a lane
	queued  func(snowflake.ID) bool
}

// keyGroup is what waits of one group.
type keyGroup struct {
	group        uint64
	entries      []Entry // by event
	inFlight     int
	firstInStore snowflake.ID // the first event that was left in the store; 0: none was
	readMark     snowflake.ID // the read that left it there began here, see Fetched
	listed       bool
	readAgain    bool // what flies has failed before
}

// NewKeyedFIFO makes lanes with room for so many deliveries each: Room for one group, GroupCapacity
// for many. queued tells whether all events up to one have been queued.
func NewKeyedFIFO(room int, queued func(snowflake.ID) bool) OrderedQueue {
	return &keyedFIFO{groups: map[uint64]*keyGroup{}, needsFetch: map[*keyGroup]struct{}{}, room: room, queued: queued}
}

func (l *keyedFIFO) Len() int { return l.waiting + l.failed + l.manual.waiting.Len() }

// All lists what waits in memory, but for what has a row that says so.
func (l *keyedFIFO) All() []Entry {
	list := slices.Clone(l.manual.waiting.All())
	for _, g := range l.groups {
		for _, en := range g.entries {
			if !en.Failed {
				list = append(list, en)
			}
		}
	}
	return list
}

func (l *keyedFIFO) Open() (n int, oldest snowflake.ID) {
	n, oldest = l.manual.open()
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
func (l *keyedFIFO) full() bool {
	return l.waiting >= Capacity || l.failed >= maxGroups || len(l.groups) >= maxGroups
}

// blocked tells whether the lane waits for a retry.
func (g *keyGroup) blocked() bool {
	return g.inFlight == 0 && len(g.entries) > 0 && g.entries[0].Failed
}

// find gives the place of an event in the lane.
func (g *keyGroup) find(event snowflake.ID) (int, bool) {
	i := sort.Search(len(g.entries), func(i int) bool { return g.entries[i].Event >= event })
	return i, i < len(g.entries) && g.entries[i].Event == event
}

// markInStore has the lane's events from one on looked up in the store.
func (g *keyGroup) markInStore(event snowflake.ID) {
	if g.firstInStore == 0 || event < g.firstInStore {
		g.firstInStore = event
	}
}

func (l *keyedFIFO) group(group uint64) *keyGroup {
	g := l.groups[group]
	if g == nil {
		g = &keyGroup{group: group}
		l.groups[group] = g
	}
	return g
}

func (l *keyedFIFO) insert(g *keyGroup, en Entry) {
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

// Enqueue queues a fresh delivery; stored says that it is to wait in the store instead.
func (l *keyedFIFO) Enqueue(en Entry, crowded bool) (stored bool, aside []Displaced) {
	g := l.groups[en.Group]
	known := g != nil && (len(g.entries) > 0 || g.inFlight > 0)
	switch {
	case l.hides(en.Event):
	case g != nil && g.firstInStore != 0 && en.Event >= g.firstInStore:
	case g != nil && g.blocked() && en.Event > g.entries[0].Event:
		g.markInStore(en.Event)
	case known && len(g.entries) > 0 && en.Event < g.entries[len(g.entries)-1].Event: // a late one, of few
		l.insert(g, en)
		return false, l.updateRunnable(g)
	case known && (len(g.entries) >= l.room || l.waiting >= Capacity || crowded):
		g.markInStore(en.Event)
	case !known && (l.full() || crowded):
		l.MarkInStore(en.Event)
	default:
		g = l.group(en.Group)
		l.insert(g, en)
		return false, l.updateRunnable(g)
	}
	l.SpillStarted(en.Event)
	return true, nil
}

// EnqueueDue queues a delivery whose retry is due; its row says so.
func (l *keyedFIFO) EnqueueDue(en Entry) []Displaced {
	if l.manual.inFlight[en.Event] {
		l.manual.add(en)
		return nil
	}
	l.recordChange(en.Event, retryDue)
	g := l.groups[en.Group]
	if g != nil && l.makeRunnable(g, en) {
		return l.updateRunnable(g)
	}
	if l.hides(en.Event) || g != nil && g.firstInStore != 0 && en.Event >= g.firstInStore {
		return nil
	}
	g = l.group(en.Group) // nobody knew of it: the settings were others when it failed
	l.insert(g, en)
	return l.updateRunnable(g)
}

// makeRunnable ends a delivery's wait for its retry; it tells whether the delivery is in the lane.
func (l *keyedFIFO) makeRunnable(g *keyGroup, en Entry) bool {
	i, found := g.find(en.Event)
	if found && g.entries[i].Failed {
		g.entries[i] = en
		l.failed--
		l.waiting++
	}
	return found
}

// EnqueueManual queues a delivery that a user wants attempted again.
func (l *keyedFIFO) EnqueueManual(en Entry) []Displaced {
	if g := l.groups[en.Group]; g != nil {
		if _, found := g.find(en.Event); found {
			return l.EnqueueDue(en)
		}
	}
	if l.manual.waiting.Len() >= Capacity {
		l.MarkInStore(en.Event)
		return nil
	}
	l.manual.add(en)
	return nil
}

// updateRunnable sets right what depends on the state of a lane. What a lane that got blocked
// can't keep is given back.
func (l *keyedFIFO) updateRunnable(g *keyGroup) (list []Displaced) {
	if g.blocked() {
		keep := len(g.entries)
		for keep > 0 && !g.entries[keep-1].Failed {
			keep--
		}
		for _, en := range g.entries[keep:] {
			l.waiting--
			g.markInStore(en.Event)
			if en.Tracked != nil { // it has no row yet
				l.SpillStarted(en.Event)
				list = append(list, Displaced{Entry: en})
			} else {
				en.Release()
			}
		}
		clear(g.entries[keep:])
		g.entries = g.entries[:keep]
	}
	if len(g.entries) == 0 && g.inFlight == 0 && g.firstInStore == 0 {
		delete(l.groups, g.group)
	}
	if !g.listed && g.inFlight == 0 && len(g.entries) > 0 && !g.blocked() {
		g.listed = true
		l.runnable.Push(g)
	}
	// While a retry is on, the lane may be blocked again in a moment.
	if g.firstInStore != 0 && !g.blocked() && !(g.inFlight > 0 && g.readAgain) && len(g.entries) <= l.room/4 {
		l.needsFetch[g] = struct{}{}
	} else {
		delete(l.needsFetch, g)
	}
	return list
}

// first gives the lane whose turn it is, or nil.
func (l *keyedFIFO) first() *keyGroup {
	for l.runnable.Len() > 0 {
		g := l.runnable.All()[0]
		if g.inFlight == 0 && len(g.entries) > 0 && !g.entries[0].Failed {
			return g
		}
		l.runnable.Pop().listed = false
	}
	return nil
}

// Ready tells whether something may go now, and else when, if that is known. Nothing may
// before all earlier events have been queued.
func (l *keyedFIFO) Ready(now time.Time, b BatchLimit) (ready bool, at time.Time) {
	if l.manual.waiting.Len() > 0 {
		return true, at
	}
	g := l.first()
	if g == nil || !l.queued(g.entries[0].Event) {
		return false, at
	}
	n, oldest := 0, snowflake.Last
	for _, g := range l.runnable.All() {
		if k := g.nextBatch(b.Size - n); g.inFlight == 0 && k > 0 {
			n += k
			oldest = min(oldest, g.entries[0].Event)
		}
		if n >= b.Size {
			break
		}
	}
	return b.due(n, oldest, now)
}

// nextBatch is how many deliveries at the lane's head may go, counted up to most.
func (g *keyGroup) nextBatch(most int) (n int) {
	for n < min(most, len(g.entries)) && !g.entries[n].Failed {
		n++
	}
	return n
}

// Pop gives up to most deliveries that go together, in order within each lane.
func (l *keyedFIFO) Pop(most int) (p Batch) {
	if l.manual.waiting.Len() > 0 {
		return Batch{First: l.manual.waiting.Pop()}
	}
	n := 0
	for n < most {
		g := l.first()
		if g == nil || n > 0 && !l.queued(g.entries[0].Event) {
			break
		}
		l.runnable.Pop().listed = false
		for range g.nextBatch(most - n) {
			if n > 0 && !l.queued(g.entries[0].Event) {
				break
			}
			p.add(n, g.entries[0])
			g.readAgain = g.entries[0].Attempts > 0
			g.entries[0] = Entry{}
			g.entries = g.entries[1:]
			g.inFlight++
			l.waiting--
			n++
		}
		l.updateRunnable(g)
	}
	return p
}

// Completed takes note of what became of deliveries that were taken. Those that go back wait
// at the head of their lanes again.
func (l *keyedFIFO) Completed(p *Batch, became func(i int) Disposition) (list []Displaced) {
	for i := range p.Len() {
		en := *p.At(i)
		state := became(i)
		if l.manual.completed(en, state) {
			continue
		}
		g := l.groups[en.Group]
		if g == nil {
			continue
		}
		g.inFlight--
		switch state {
		case Failed:
			l.insert(g, en.waitsForRetry())
		case NotAttempted:
			l.insert(g, en)
		}
	}
	for i := range p.Len() {
		if g := l.groups[p.At(i).Group]; g != nil {
			list = append(list, l.updateRunnable(g)...)
		}
	}
	return list
}

// Remove takes out what is chosen of what waits and is not to be tried again anyway.
func (l *keyedFIFO) Remove(chosen func(*Entry) bool) (out []Entry) {
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
				l.updateRunnable(g)
			}
		}
	}
	return out
}
