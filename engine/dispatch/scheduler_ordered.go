package dispatch

import (
	"slices"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

// What the scheduler does with lines that sort: those of subscriptions that keep order or
// debounce, and with batches.

// newOrderedQueue makes what sorts a queue's deliveries; nil where nothing has to.
func (s *scheduler) newOrderedQueue(q *queue, m catalog.GroupingSpec) dispatchqueue.OrderedQueue {
	switch {
	case m.Within > 0:
		return dispatchqueue.NewDebouncer(m.Within, s.now)
	case m.Ordering != engine.OrderingNone:
		room := dispatchqueue.Capacity
		if m.Ordering == engine.OrderingKeyed {
			room = s.groupCapacity
		}
		return dispatchqueue.NewKeyedFIFO(room, func(event engine.ID) bool { return s.allQueuedThrough(q, event) })
	}
	return nil
}

// rebuildQueue makes the line of a queue anew: all that waits is read from the store again,
// where what has no row yet is put first. s.mu is held.
func (s *scheduler) rebuildQueue(q *queue) (list []dispatchqueue.Displaced) {
	waiting := q.waiting.All()
	s.total -= q.waiting.Len()
	q.waiting.Clear()
	q.fetchStale = q.fetching
	if q.waiting.Ordered = s.newOrderedQueue(q, q.compiled.Grouping.GroupingSpec); q.waiting.Ordered != nil {
		q.overflow = false
		q.waiting.Ordered.MarkInStore(1)
		q.waiting.Ordered.BlockReads(q.pendingSpills)
	} else {
		q.overflow, q.refetch = true, true
	}
	for _, en := range waiting {
		if en.Tracked == nil {
			en.Release()
			continue
		}
		s.spill(q, en.Event)
		list = append(list, dispatchqueue.Displaced{Entry: en})
	}
	return list
}

// spillToStore notes that a row was ordered, so that a delivery can wait in the store; s.mu is held.
func (s *scheduler) spill(q *queue, event engine.ID) {
	q.pendingSpills++
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.SpillStarted(event)
	}
}

// enqueueOrdered does so where the line sorts, or did when the event was matched; s.mu is held.
func (s *scheduler) enqueueOrdered(q *queue, en dispatchqueue.Entry) (enqueueResult, *queue, []dispatchqueue.Displaced) {
	if en.SpecHash != q.compiled.Grouping.SpecHash { // its group is one of other settings
		s.markForRefetch(q, en.Event)
		s.spill(q, en.Event)
		return enqueueInStore, q, nil
	}
	was := q.waiting.Len()
	stored, list := q.waiting.Ordered.Enqueue(en, s.total >= maxInMemory)
	s.reconcileCounters(q, was, list)
	s.makeRunnable(q)
	if stored {
		q.pendingSpills++ // the line has noted it
		return enqueueInStore, q, list
	}
	return enqueued, q, list
}

// Count keeps the books after a sorted line has changed: it had was entries before, and
// gave back list. s.mu is held.
func (s *scheduler) reconcileCounters(q *queue, was int, list []dispatchqueue.Displaced) {
	s.total += q.waiting.Len() - was
	for _, a := range list {
		if a.SupersededBy != 0 {
			if !slices.Contains(q.uncommitted, a.Entry.Event) {
				q.uncommitted = append(q.uncommitted, a.Entry.Event)
			}
		} else {
			q.pendingSpills++ // the line has noted it
		}
	}
}

// markForRefetch has what waits from an event on read from the store; s.mu is held.
func (s *scheduler) markForRefetch(q *queue, event engine.ID) {
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.MarkInStore(event)
	} else {
		q.overflow, q.refetch = true, true
	}
}

// Add lets sorted lines read what an earlier run left; all of it has rows by now.
func (s *scheduler) startOrderedFetches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recovered = true
	for _, q := range s.queues {
		if q.waiting.Ordered != nil {
			s.makeRunnable(q)
		}
	}
}

// makeOrderedRunnable does what only lines need that sort or make batches: read the store from
// some event on, and look again when a time has come. s.mu is held.
func (s *scheduler) makeOrderedRunnable(q *queue) {
	if !q.compiled.Sub.Active {
		return
	}
	if q.waiting.Ordered != nil && s.recovered && !q.fetching {
		if from, ok := q.waiting.Ordered.NextFetch(); ok {
			q.fetching = true
			q.waiting.Ordered.FetchStarted(from)
			s.fetchOrdered(q, q.waiting.Ordered, q.compiled, from)
		}
	}
	now := s.now()
	if ready, at := q.waiting.Ready(now); !ready && !at.IsZero() {
		s.scheduleWakeup(q, at, now)
	}
}

// completeOrderedFetch queues what was read for a sorted line. What it can't keep is given back.
func (s *scheduler) completeOrderedFetch(q *queue, line dispatchqueue.OrderedQueue, rows []dispatchqueue.Entry, all bool) (list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.fetching, q.fetchStale = false, false
	if q.compiled == nil || q.waiting.Ordered != line {
		for _, en := range rows {
			en.Release()
		}
		s.makeRunnable(q)
		return nil
	}
	known := make(map[engine.ID]bool, len(q.uncommitted))
	for _, id := range q.uncommitted {
		known[id] = true
	}
	for i := range rows {
		if _, ok := s.due[engine.DeliveryID{Event: rows[i].Event, Subscription: q.id}]; ok {
			rows[i].Failed = true // enqueueDue says when it may go
		}
	}
	was := q.waiting.Len()
	list = line.FetchCompleted(rows, all, known)
	s.reconcileCounters(q, was, list)
	s.makeRunnable(q)
	return list
}

// requeueRest does so with what did not fit in the POST that is on its way.
func (s *scheduler) requeueRest(q *queue, p dispatchqueue.Batch) (known bool, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, list = s.returnToQueue(q, &p); known {
		s.makeRunnable(q)
	}
	return known, list
}

// returnToQueue queues a parcel again; s.mu is held.
func (s *scheduler) returnToQueue(q *queue, p *dispatchqueue.Batch) (known bool, list []dispatchqueue.Displaced) {
	for i := range p.Len() {
		q.markCommitted(p.At(i).Event)
	}
	if q.compiled == nil {
		return false, nil
	}
	was := q.waiting.Len()
	switch {
	case p.Queue != q.waiting.Ordered: // the settings changed
		for i := range p.Len() {
			en := *p.At(i)
			s.markForRefetch(q, en.Event)
			if en.Tracked == nil {
				en.Release()
				continue
			}
			if q.waiting.Ordered != nil {
				q.waiting.Ordered.SpillStarted(en.Event)
			}
			list = append(list, dispatchqueue.Displaced{Entry: en})
		}
	case p.Queue != nil:
		list = p.Queue.Completed(p, func(int) dispatchqueue.Disposition { return dispatchqueue.NotAttempted })
	default:
		for i := range p.Len() {
			q.waiting.Push(*p.At(i))
		}
	}
	s.reconcileCounters(q, was, list)
	return true, list
}

// completeOrdered tells a sorted line what became of a parcel. What it can't keep is given back;
// where it is of the parcel, it is dropped instead of tried again.
func (s *scheduler) completeOrdered(q *queue, p *dispatchqueue.Batch, became func(i int) dispatchqueue.Disposition) (list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.compiled == nil || p.Queue != q.waiting.Ordered {
		return nil
	}
	was := q.waiting.Len()
	list = p.Queue.Completed(p, became)
	s.reconcileCounters(q, was, list)
	return list
}

// batchTooLarge has later batches be smaller: the target refused one of n deliveries.
func (s *scheduler) batchTooLarge(q *queue, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiting.BatchTooLarge(n)
}

// batchAccepted notes that the target took a batch.
func (s *scheduler) batchAccepted(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiting.BatchAccepted()
}

// allQueuedThrough tells whether all events up to one have been queued. Where not, q is offered
// again once they may have been. s.mu is held.
func (s *scheduler) allQueuedThrough(q *queue, event engine.ID) bool {
	if s.allQueuedThroughEvent(event) {
		return true
	}
	s.anyWaitingForEarlier.Store(true)
	if s.allQueuedThroughEvent(event) { // whoever queued it since may not have seen that
		return true
	}
	if !slices.Contains(s.waitingForEarlier, q) {
		s.waitingForEarlier = append(s.waitingForEarlier, q)
	}
	return false
}

// releaseWaiting offers the queues that wait for events to be queued.
func (s *scheduler) releaseWaiting() {
	if !s.anyWaitingForEarlier.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anyWaitingForEarlier.Store(false)
	list := s.waitingForEarlier
	s.waitingForEarlier = nil
	for _, q := range list {
		s.makeRunnable(q)
	}
}
