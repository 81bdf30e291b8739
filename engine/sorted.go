package engine

import (
	"slices"

	"switchhook/engine/order"
)

// What the scheduler does with lines that sort: those of subscriptions that keep order or
// debounce, and with batches.

// sorterFor makes what sorts a queue's deliveries; nil where nothing has to.
func (s *scheduler) sorterFor(q *queue, m manner) order.Sorter {
	switch {
	case m.within > 0:
		return order.NewWindows(m.within, s.now)
	case m.ordering != OrderingNone:
		room := order.Room
		if m.ordering == OrderingKeyed {
			room = s.laneRoom
		}
		return order.NewLanes(room, func(event ID) bool { return s.queuedUpTo(q, event) })
	}
	return nil
}

// regroup makes the line of a queue anew: all that waits is read from the store again,
// where what has no row yet is put first. s.mu is held.
func (s *scheduler) regroup(q *queue) (list []order.Aside) {
	waiting := q.line.All()
	s.total -= q.line.Len()
	q.line.Clear()
	q.outdated = q.fetching
	if q.line.Sorted = s.sorterFor(q, q.route.grouping.manner); q.line.Sorted != nil {
		q.overflow = false
		q.line.Sorted.Leave(1)
		q.line.Sorted.Doubt(q.spilling)
	} else {
		q.overflow, q.refetch = true, true
	}
	for _, en := range waiting {
		if en.Fresh == nil {
			en.Release()
			continue
		}
		s.spill(q, en.Event)
		list = append(list, order.Aside{Entry: en})
	}
	return list
}

// spill notes that a row was ordered, so that a delivery can wait in the store; s.mu is held.
func (s *scheduler) spill(q *queue, event ID) {
	q.spilling++
	if q.line.Sorted != nil {
		q.line.Sorted.Spill(event)
	}
}

// addSorted does so where the line sorts, or did when the event was matched; s.mu is held.
func (s *scheduler) addSorted(q *queue, en order.Entry) (place, *queue, []order.Aside) {
	if en.Mark != q.route.grouping.mark { // its group is one of other settings
		s.again(q, en.Event)
		s.spill(q, en.Event)
		return placeStore, q, nil
	}
	was := q.line.Len()
	stored, list := q.line.Sorted.Add(en, s.total >= memoryRoom)
	s.count(q, was, list)
	s.offer(q)
	if stored {
		q.spilling++ // the line has noted it
		return placeStore, q, list
	}
	return placeQueued, q, list
}

// count keeps the books after a sorted line has changed: it had was entries before, and
// gave back list. s.mu is held.
func (s *scheduler) count(q *queue, was int, list []order.Aside) {
	s.total += q.line.Len() - was
	for _, a := range list {
		if a.By != 0 {
			if !slices.Contains(q.unsettled, a.Entry.Event) {
				q.unsettled = append(q.unsettled, a.Entry.Event)
			}
		} else {
			q.spilling++ // the line has noted it
		}
	}
}

// again has what waits from an event on read from the store; s.mu is held.
func (s *scheduler) again(q *queue, event ID) {
	if q.line.Sorted != nil {
		q.line.Sorted.Leave(event)
	} else {
		q.overflow, q.refetch = true, true
	}
}

// begin lets sorted lines read what an earlier run left; all of it has rows by now.
func (s *scheduler) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
	for _, q := range s.queues {
		if q.line.Sorted != nil {
			s.offer(q)
		}
	}
}

// offerSorted does what only lines need that sort or make batches: read the store from
// some event on, and look again when a time has come. s.mu is held.
func (s *scheduler) offerSorted(q *queue) {
	if !q.route.sub.Active {
		return
	}
	if q.line.Sorted != nil && s.begun && !q.fetching {
		if from, ok := q.line.Sorted.Wants(); ok {
			q.fetching = true
			q.line.Sorted.Begin(from)
			s.fetchSorted(q, q.line.Sorted, q.route, from)
		}
	}
	now := s.now()
	if ready, at := q.line.Look(now); !ready && !at.IsZero() {
		s.lookAgain(q, at, now)
	}
}

// fetchedSorted queues what was read for a sorted line. What it can't keep is given back.
func (s *scheduler) fetchedSorted(q *queue, line order.Sorter, rows []order.Entry, all bool) (list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.fetching, q.outdated = false, false
	if q.route == nil || q.line.Sorted != line {
		for _, en := range rows {
			en.Release()
		}
		s.offer(q)
		return nil
	}
	known := make(map[ID]bool, len(q.unsettled))
	for _, id := range q.unsettled {
		known[id] = true
	}
	for i := range rows {
		if _, ok := s.due[DeliveryID{rows[i].Event, q.id}]; ok {
			rows[i].Failed = true // addDue says when it may go
		}
	}
	was := q.line.Len()
	list = line.Fetched(rows, all, known)
	s.count(q, was, list)
	s.offer(q)
	return list
}

// putRest does so with what did not fit in the POST that is on its way.
func (s *scheduler) putRest(q *queue, p order.Parcel) (known bool, list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, list = s.returned(q, &p); known {
		s.offer(q)
	}
	return known, list
}

// returned queues a parcel again; s.mu is held.
func (s *scheduler) returned(q *queue, p *order.Parcel) (known bool, list []order.Aside) {
	for i := range p.Len() {
		q.unsettle(p.At(i).Event)
	}
	if q.route == nil {
		return false, nil
	}
	was := q.line.Len()
	switch {
	case p.From != q.line.Sorted: // the settings changed
		for i := range p.Len() {
			en := *p.At(i)
			s.again(q, en.Event)
			if en.Fresh == nil {
				en.Release()
				continue
			}
			if q.line.Sorted != nil {
				q.line.Sorted.Spill(en.Event)
			}
			list = append(list, order.Aside{Entry: en})
		}
	case p.From != nil:
		list = p.From.Landed(p, func(int) order.Fate { return order.Returned })
	default:
		for i := range p.Len() {
			q.line.Push(*p.At(i))
		}
	}
	s.count(q, was, list)
	return true, list
}

// arrived tells a sorted line what became of a parcel. What it can't keep is given back;
// where it is of the parcel, it is dropped instead of tried again.
func (s *scheduler) arrived(q *queue, p *order.Parcel, became func(i int) order.Fate) (list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.route == nil || p.From != q.line.Sorted {
		return nil
	}
	was := q.line.Len()
	list = p.From.Landed(p, became)
	s.count(q, was, list)
	return list
}

// tooLarge has later batches be smaller: the target refused one of n deliveries.
func (s *scheduler) tooLarge(q *queue, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.line.TooLarge(n)
}

// fits notes that the target took a batch.
func (s *scheduler) fits(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.line.Fit()
}

// queuedUpTo tells whether all events up to one have been queued. Where not, q is offered
// again once they may have been. s.mu is held.
func (s *scheduler) queuedUpTo(q *queue, event ID) bool {
	if s.queued(event) {
		return true
	}
	s.anyGated.Store(true)
	if s.queued(event) { // whoever queued it since may not have seen that
		return true
	}
	if !slices.Contains(s.gated, q) {
		s.gated = append(s.gated, q)
	}
	return false
}

// ungate offers the queues that wait for events to be queued.
func (s *scheduler) ungate() {
	if !s.anyGated.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anyGated.Store(false)
	list := s.gated
	s.gated = nil
	for _, q := range list {
		s.offer(q)
	}
}
