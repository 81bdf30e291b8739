package dispatchqueue

import (
	"slices"
	"sort"
	"time"

	"switchhook/engine"
	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

const (
	// GroupCapacity is the number of deliveries of one ordering key that wait in memory however old
	// the first of them is, so that a key that waits for its target leaves room for the others.
	GroupCapacity = 100
	// maxGroups limits the groups of a subscription in memory, and its deliveries that wait for a
	// retry. At the limit no new group starts until one has ended.
	maxGroups = 10_000
)

// keyedFIFO attempts the deliveries of each group in the order of their positions. A group is the
// whole subscription, or the deliveries of one ordering key.
//
//	state of a group  fields                                  what ends it
//	runnable          inFlight == 0, entries[0] not Failed    Pop
//	in flight         inFlight > 0                            Completed
//	blocked           inFlight == 0, entries[0].Failed        EnqueueDue (its retry is due)
//	partly in store   firstInStore != 0                       FetchCompleted
//	ended             nothing of the above                    updateRunnable deletes it
//
// "Partly in store" may hold beside any of the others. A blocked group keeps only the delivery that
// waits for its retry and leaves the later ones in the store, so that it takes no memory from
// other groups. keyGroup.firstInStore is the first position that a group left in the store;
// if there is no room for a group at all, everything from storeTail.tailStart on is in the store.
// Every other waiting delivery is in memory: the order depends on this invariant.
type keyedFIFO struct {
	storeTail
	groups     map[uint64]*keyGroup
	runnable   fifo.Queue[*keyGroup] // round robin; first skips groups that are no longer runnable
	needsFetch map[*keyGroup]struct{}
	manual     manualRetries

	waiting int // entries of all groups that are not Failed
	failed  int // entries of all groups that are Failed
	room    int // capacity of a group
	soon    time.Duration
	queued  func(*Entry) bool
}

// keyGroup holds the deliveries of one group.
type keyGroup struct {
	group        uint64
	entries      []Entry // ascending by position
	inFlight     int
	firstInStore engine.Position // the first that was left in the store; 0: none
	readMark     engine.Position // start of the read that set firstInStore, see FetchCompleted
	listed       bool            // is in keyedFIFO.runnable
	inRetry      bool            // the delivery in flight has failed before
}

// KeepOrder makes an empty queue attempt the deliveries of each group in order. A group holds at most
// room deliveries: Capacity if there is one group, GroupCapacity if there are many. queued reports
// whether every delivery before one has been queued.
func (q *Queue) KeepOrder(room int, queued func(*Entry) bool) {
	q.Ordered = &keyedFIFO{
		storeTail: storeTail{spills: &q.spills}, groups: map[uint64]*keyGroup{},
		needsFetch: map[*keyGroup]struct{}{}, room: room, soon: q.Soon, queued: queued,
	}
}

// Len implements OrderedQueue.
func (q *keyedFIFO) Len() int { return q.waiting + q.failed + q.manual.waiting.Len() }

// All implements OrderedQueue.
func (q *keyedFIFO) All() []Entry {
	list := slices.Clone(q.manual.waiting.All())
	for _, g := range q.groups {
		for _, en := range g.entries {
			if !en.Failed {
				list = append(list, en)
			}
		}
	}
	return list
}

// Open implements OrderedQueue.
func (q *keyedFIFO) Open() (n int, oldest engine.ID) {
	n, oldest = q.manual.open()
	for _, g := range q.groups {
		for i := range g.entries {
			if !g.entries[i].Failed {
				oldest = min(oldest, g.entries[i].Event)
				break
			}
		}
	}
	return q.waiting + n, oldest
}

// full reports whether there is no room for another group that is read from the store.
func (q *keyedFIFO) full() bool { return q.waiting >= Capacity || q.tooManyGroups() }

func (q *keyedFIFO) tooManyGroups() bool {
	return q.failed >= maxGroups || len(q.groups) >= maxGroups
}

// goesSoon implements OrderedQueue. Before a delivery come those of its group; before one of a new
// group, the first of the group whose turn it is.
func (q *keyedFIFO) goesSoon(en *Entry) bool {
	g := q.groups[en.Group]
	if g == nil || len(g.entries) == 0 {
		g = q.first()
	}
	return g == nil || cameWithin(q.soon, &g.entries[0], en)
}

// blocked reports whether the group waits for a retry.
func (g *keyGroup) blocked() bool {
	return g.inFlight == 0 && len(g.entries) > 0 && g.entries[0].Failed
}

// find returns the index of a position in g.entries, or where it would be inserted.
func (g *keyGroup) find(at engine.Position) (int, bool) {
	i := sort.Search(len(g.entries), func(i int) bool { return g.entries[i].Position >= at })
	return i, i < len(g.entries) && g.entries[i].Position == at
}

// markInStore records that the group's deliveries from a position on are in the store.
func (g *keyGroup) markInStore(from engine.Position) {
	if g.firstInStore == 0 || from < g.firstInStore {
		g.firstInStore = from
	}
}

// group returns a group, which it makes if there is none.
func (q *keyedFIFO) group(group uint64) *keyGroup {
	g := q.groups[group]
	if g == nil {
		g = &keyGroup{group: group}
		q.groups[group] = g
	}
	return g
}

// insert adds a delivery to its group unless it is there already.
func (q *keyedFIFO) insert(g *keyGroup, en Entry) {
	i, found := g.find(en.Position)
	if found {
		return
	}
	g.entries = slices.Insert(g.entries, i, en)
	if en.Failed {
		q.failed++
	} else {
		q.waiting++
	}
}

// Enqueue adds a new delivery. It must wait in the store if an earlier one of its group may be
// there, if its group is blocked, or if memory is full.
func (q *keyedFIFO) Enqueue(en Entry, crowded bool) (kept bool, list []Displaced) {
	g := q.groups[en.Group]
	known := g != nil && (len(g.entries) > 0 || g.inFlight > 0)
	switch {
	case q.hides(en.Position):
	case g != nil && g.firstInStore != 0 && en.Position >= g.firstInStore:
	case g != nil && g.blocked() && en.Position > g.entries[0].Position:
		g.markInStore(en.Position)
	case known && len(g.entries) > 0 && en.Position < g.entries[len(g.entries)-1].Position: // an earlier one that comes late; this is rare
		q.insert(g, en)
		return true, q.updateRunnable(g)
	case known && (crowded || (len(g.entries) >= q.room || q.waiting >= Capacity) && !q.goesSoon(&en)):
		g.markInStore(en.Position)
	case !known && (crowded || q.tooManyGroups() || q.waiting >= Capacity && !q.goesSoon(&en)):
		q.MarkInStore(en.Position)
	default:
		g = q.group(en.Group)
		q.insert(g, en)
		return true, q.updateRunnable(g)
	}
	return false, nil
}

// EnqueueDue adds a delivery whose retry is due and whose row is pending.
func (q *keyedFIFO) EnqueueDue(en Entry) []Displaced {
	if q.manual.inFlight[en.Event] {
		q.manual.add(en)
		return nil
	}
	q.recordChange(en.Event, retryDue)
	g := q.groups[en.Group]
	if g != nil && q.makeRunnable(g, en) {
		return q.updateRunnable(g)
	}
	if q.hides(en.Position) || g != nil && g.firstInStore != 0 && en.Position >= g.firstInStore {
		return nil
	}
	g = q.group(en.Group) // unknown here: it failed under other settings
	q.insert(g, en)
	return q.updateRunnable(g)
}

// makeRunnable replaces the failed entry of en.Event by en, and reports whether it was found.
func (q *keyedFIFO) makeRunnable(g *keyGroup, en Entry) bool {
	i, found := g.find(en.Position)
	if found && g.entries[i].Failed {
		g.entries[i] = en
		q.failed--
		q.waiting++
	}
	return found
}

// EnqueueManual adds a delivery that a user retries.
func (q *keyedFIFO) EnqueueManual(en Entry) []Displaced {
	if g := q.groups[en.Group]; g != nil {
		if _, found := g.find(en.Position); found {
			return q.EnqueueDue(en)
		}
	}
	if q.manual.waiting.Len() >= Capacity {
		q.MarkInStore(en.Position)
		return nil
	}
	q.manual.add(en)
	return nil
}

// updateRunnable must be called after every change of a group. It moves the entries of a blocked
// group to the store, deletes an ended group, and updates q.runnable and q.needsFetch.
func (q *keyedFIFO) updateRunnable(g *keyGroup) (list []Displaced) {
	if g.blocked() {
		keep := len(g.entries)
		for keep > 0 && !g.entries[keep-1].Failed {
			keep--
		}
		for _, en := range g.entries[keep:] {
			q.waiting--
			g.markInStore(en.Position)
			if en.Tracked != nil { // without a row
				list = append(list, Displaced{Entry: en})
			} else {
				en.Release()
			}
		}
		clear(g.entries[keep:])
		g.entries = g.entries[:keep]
	}
	if len(g.entries) == 0 && g.inFlight == 0 && g.firstInStore == 0 {
		delete(q.groups, g.group)
	}
	if !g.listed && g.inFlight == 0 && len(g.entries) > 0 && !g.blocked() {
		g.listed = true
		q.runnable.Push(g)
	}
	// While a retry is in flight the group may soon be blocked again.
	if g.firstInStore != 0 && !g.blocked() && !(g.inFlight > 0 && g.inRetry) && len(g.entries) <= q.room/4 {
		q.needsFetch[g] = struct{}{}
	} else {
		delete(q.needsFetch, g)
	}
	return list
}

// first returns the next runnable group, or nil.
func (q *keyedFIFO) first() *keyGroup {
	for q.runnable.Len() > 0 {
		g := q.runnable.All()[0]
		if g.inFlight == 0 && len(g.entries) > 0 && !g.entries[0].Failed {
			return g
		}
		q.runnable.Pop().listed = false
	}
	return nil
}

// Ready reports whether Pop may be called now, and otherwise when, if that is known. A delivery
// is not ready before all earlier events have been queued.
func (q *keyedFIFO) Ready(now time.Time, b BatchLimit) (ready bool, at time.Time) {
	if q.manual.waiting.Len() > 0 {
		return true, at
	}
	g := q.first()
	if g == nil || !q.queued(&g.entries[0]) {
		return false, at
	}
	n, oldest := 0, snowflake.Last
	for _, g := range q.runnable.All() {
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

// nextBatch counts the deliveries at the group's head that may be attempted, up to most.
func (g *keyGroup) nextBatch(most int) (n int) {
	for n < min(most, len(g.entries)) && !g.entries[n].Failed {
		n++
	}
	return n
}

// Pop removes and returns up to most deliveries, in order within each group.
func (q *keyedFIFO) Pop(most int) (p Batch) {
	if q.manual.waiting.Len() > 0 {
		return Batch{First: q.manual.waiting.Pop()}
	}
	n := 0
	for n < most {
		g := q.first()
		if g == nil || n > 0 && !q.queued(&g.entries[0]) {
			break
		}
		q.runnable.Pop().listed = false
		for range g.nextBatch(most - n) {
			if n > 0 && !q.queued(&g.entries[0]) {
				break
			}
			p.add(n, g.entries[0])
			g.inRetry = g.entries[0].Attempts > 0
			g.entries[0] = Entry{}
			g.entries = g.entries[1:]
			g.inFlight++
			q.waiting--
			n++
		}
		q.updateRunnable(g)
	}
	return p
}

// Completed records the disposition of each delivery of a popped batch. Deliveries that were not
// attempted return to the head of their group.
func (q *keyedFIFO) Completed(p *Batch, became func(i int) Disposition) (list []Displaced) {
	for i := range p.Len() {
		en := *p.At(i)
		state := became(i)
		if q.manual.completed(en, state) {
			continue
		}
		g := q.groups[en.Group]
		if g == nil {
			continue
		}
		g.inFlight--
		switch state {
		case Failed:
			q.insert(g, en.waitsForRetry())
		case NotAttempted:
			q.insert(g, en)
		}
	}
	for i := range p.Len() {
		if g := q.groups[p.At(i).Group]; g != nil {
			list = append(list, q.updateRunnable(g)...)
		}
	}
	return list
}

// Remove removes and returns the chosen deliveries; those that wait for a retry stay.
func (q *keyedFIFO) Remove(chosen func(*Entry) bool) (out []Entry) {
	for _, g := range q.groups {
		was := len(out)
		g.entries = slices.DeleteFunc(g.entries, func(en Entry) bool {
			if en.Failed || !chosen(&en) {
				return false
			}
			out = append(out, en)
			return true
		})
		if len(out) > was {
			q.waiting -= len(out) - was
			if !g.blocked() { // otherwise the next updateRunnable moves the rest to the store
				q.updateRunnable(g)
			}
		}
	}
	return out
}
