package engine

import (
	"slices"
	"time"

	"switchhook/engine/order"
)

// place says what became of a delivery that was to be queued.
type place int

const (
	placeQueued place = iota // waits in memory, or in the store if it has a row
	placeStore               // is to wait in the store: order its row, then call spilled
	placeNone                // its subscription is gone
)

// add queues a fresh delivery. What it pushes aside is given back.
func (s *scheduler) add(id ID, en order.Entry) (place, *queue, []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return placeNone, nil, nil
	}
	if q.line.Sorted != nil || en.Mark != 0 {
		return s.addSorted(q, en)
	}
	if q.overflow || q.line.Len() >= order.Room || s.total >= memoryRoom {
		q.overflow = true
		s.spill(q, en.Event)
		return placeStore, q, nil
	}
	q.line.Push(en)
	s.total++
	s.offer(q)
	return placeQueued, q, nil
}

// expect notes the deliveries that the store is about to make pending, because their
// retries are due, before they can be read there. Until addDue queues one, it may get into
// other hands: a read finds it, or a user asks for it. Whoever queues it then takes it out
// of here, or it would be attempted again after it has succeeded.
func (s *scheduler) expect(due []Waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.due)
	for _, w := range due {
		s.due[w.ID] = struct{}{}
	}
}

// addDue queues a delivery that was expected; known is false where the subscription is gone.
func (s *scheduler) addDue(id ID, en order.Entry) (known bool, q *queue, list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q = s.queues[id]; q == nil {
		return false, nil, nil
	}
	expected := DeliveryID{en.Event, id}
	if _, ok := s.due[expected]; !ok {
		return true, q, nil
	}
	delete(s.due, expected)
	return true, q, s.addStored(q, en, order.Sorter.Due)
}

// addByHand queues a delivery that a user wants attempted, as soon as its row says that it
// is pending; known as in addDue.
func (s *scheduler) addByHand(id ID, en order.Entry) (known bool, q *queue, list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q = s.queues[id]; q == nil {
		return false, nil, nil
	}
	// A read may have been faster; or its retry was, whose outcome replaces the row.
	if slices.Contains(q.unsettled, en.Event) || q.line.Sorted == nil && q.line.Holds(en.Event) {
		return true, q, nil
	}
	delete(s.due, DeliveryID{en.Event, id})
	return true, q, s.addStored(q, en, order.Sorter.Retry)
}

// addStored queues a delivery that has a pending row: add puts it in a line that sorts.
// s.mu is held.
func (s *scheduler) addStored(q *queue, en order.Entry, add func(order.Sorter, order.Entry) []order.Aside) (list []order.Aside) {
	switch was := q.line.Len(); {
	case en.Mark != q.route.grouping.mark:
		s.again(q, en.Event)
	case q.line.Sorted != nil:
		list = add(q.line.Sorted, en)
		s.count(q, was, list)
	case q.overflow || was >= order.Room || s.total >= memoryRoom:
		q.overflow, q.refetch = true, true
	default:
		q.line.Push(en)
		s.total++
	}
	s.offer(q)
	return list
}

// more says that the store holds deliveries of a subscription; known as in addDue.
func (s *scheduler) more(id ID) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return false
	}
	if q.line.Sorted == nil { // which reads everything anyway
		q.overflow = true
	}
	s.offer(q)
	return true
}

// spilled notes that a row ordered by spill is on disk; known is false where the
// subscription is gone.
func (s *scheduler) spilled(q *queue, event ID) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.spilling--
	q.refetch = true
	if q.line.Sorted != nil {
		q.line.Sorted.Spilled(event)
	}
	s.offer(q)
	return q.route != nil
}

// known gives the events of q that are in memory or whose outcome is not on disk, and
// must not be fetched.
func (s *scheduler) known(q *queue) map[ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.refetch = false
	ids := make(map[ID]bool, q.line.Len()+len(q.unsettled))
	for _, en := range q.line.All() {
		ids[en.Event] = true
	}
	for _, id := range q.unsettled {
		ids[id] = true
	}
	return ids
}

// fetched queues what was read from the store; all says that it was everything there.
func (s *scheduler) fetched(q *queue, entries []order.Entry, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	outdated := q.outdated
	q.fetching, q.outdated = false, false
	if q.route == nil {
		return
	}
	if outdated {
		s.offer(q)
		return
	}
	for _, en := range entries {
		delete(s.due, DeliveryID{en.Event, q.id})
		q.line.Push(en)
	}
	s.total += len(entries)
	if all && q.spilling == 0 && !q.refetch {
		q.overflow = false
	}
	// With rows still on their way a fetch now would find nothing; spilled comes back.
	if len(entries) > 0 || q.spilling == 0 {
		s.offer(q)
	}
}

// giveUpAt is when a delivery is dead, whatever its schedule says. resumed is when the
// subscription was last switched on again.
func (r *route) giveUpAt(en *order.Entry, resumed time.Time) time.Time {
	from := en.Event.Time()
	if en.Renewed.After(from) {
		from = en.Renewed
	}
	// What waited while the subscription was off must not be dead when it is on again.
	if !r.terms.strictAge && resumed.After(from) {
		from = resumed
	}
	return from.Add(r.terms.giveUpAfter)
}

// takeOld takes out of memory what waits in q and is to be given up.
func (s *scheduler) takeOld(q *queue) (r *route, old []order.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r = q.route; r == nil || !r.sub.Active || q.line.Len() == 0 {
		return r, nil
	}
	now := s.now()
	old = q.line.Cut(func(en *order.Entry) bool { return now.After(r.giveUpAt(en, q.circuit.ResumedAt)) })
	for _, en := range old {
		q.unsettled = append(q.unsettled, en.Event)
	}
	if s.total -= len(old); len(old) > 0 {
		s.offer(q)
	}
	return r, old
}
