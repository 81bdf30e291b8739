package dispatch

import (
	"slices"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

// The part of the scheduler for subscriptions that are ordered, debounced or batched.

// newOrderedQueue returns the ordered queue that a grouping needs, or nil if a plain FIFO will do.
func (s *scheduler) newOrderedQueue(q *queue, m catalog.GroupingSpec) dispatchqueue.OrderedQueue {
	switch {
	case m.Within > 0:
		return dispatchqueue.NewDebouncer(m.Within, s.now)
	case m.Ordering != engine.OrderingNone:
		room := dispatchqueue.Capacity
		if m.Ordering == engine.OrderingKeyed {
			room = s.groupCapacity
		}
		return dispatchqueue.NewKeyedFIFO(room, func(en *dispatchqueue.Entry) bool { return s.allQueuedThrough(q, en) })
	}
	return nil
}

// rebuildQueue empties a queue after its grouping changed: every waiting delivery is read from the
// store again. It returns those without a row, which must be written first. s.mu is held.
func (s *scheduler) rebuildQueue(q *queue) (list []dispatchqueue.Displaced) {
	waiting := q.waiting.All()
	s.total -= q.waiting.Len()
	q.waiting.Clear()
	q.fetchStale = q.fetching
	if q.waiting.Ordered = s.newOrderedQueue(q, q.compiled.Grouping.GroupingSpec); q.waiting.Ordered != nil {
		q.overflow = false
		q.waiting.Ordered.MarkInStore(engine.FirstPosition)
		q.waiting.Ordered.BlockReads(q.pendingSpills)
	} else {
		q.overflow, q.refetch = true, true
	}
	for _, en := range waiting {
		if en.Tracked == nil {
			en.Release()
			continue
		}
		s.spill(q, en.Position)
		list = append(list, dispatchqueue.Displaced{Entry: en})
	}
	return list
}

// spill records that the row of a delivery is handed to the store's writer, so that it can wait in
// the store; s.mu is held.
func (s *scheduler) spill(q *queue, at engine.Position) {
	q.pendingSpills++
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.SpillStarted(at)
	}
}

// enqueueOrdered enqueues a delivery of a subscription that is ordered or debounced, or was when
// the event was matched; s.mu is held.
func (s *scheduler) enqueueOrdered(q *queue, en dispatchqueue.Entry) (enqueueResult, *queue, []dispatchqueue.Displaced) {
	if en.SpecHash != q.compiled.Grouping.SpecHash { // its group was made by other settings
		s.markForRefetch(q, en.Position)
		s.spill(q, en.Position)
		return enqueueInStore, q, nil
	}
	was := q.waiting.Len()
	stored, list := q.waiting.Ordered.Enqueue(en, s.total >= maxInMemory)
	s.reconcileCounters(q, was, list)
	s.makeRunnable(q)
	if stored {
		q.pendingSpills++ // Enqueue has called SpillStarted
		return enqueueInStore, q, list
	}
	return enqueued, q, list
}

// reconcileCounters updates the counters after an ordered queue has changed: it held was entries
// before, and displaced list. s.mu is held.
func (s *scheduler) reconcileCounters(q *queue, was int, list []dispatchqueue.Displaced) {
	s.total += q.waiting.Len() - was
	for _, a := range list {
		if a.SupersededBy != 0 {
			if !slices.Contains(q.uncommitted, a.Entry.Event) {
				q.uncommitted = append(q.uncommitted, a.Entry.Event)
			}
		} else {
			q.pendingSpills++ // the ordered queue has called SpillStarted
		}
	}
}

// markForRefetch records that deliveries from a position on must be read from the store; s.mu is held.
func (s *scheduler) markForRefetch(q *queue, from engine.Position) {
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.MarkInStore(from)
	} else {
		q.overflow, q.refetch = true, true
	}
}

// startOrderedFetches lets ordered queues read the deliveries of an earlier run, all of which have
// rows by now.
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

// makeOrderedRunnable starts the fetch that an ordered queue needs, and sets the timer of a queue
// that is ordered or batched and not ready yet. s.mu is held.
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

// completeOrderedFetch queues the rows of a fetch for an ordered queue, unless it was rebuilt
// since. It returns the displaced deliveries.
func (s *scheduler) completeOrderedFetch(q *queue, ordered dispatchqueue.OrderedQueue, rows []dispatchqueue.Entry, all bool) (list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.fetching, q.fetchStale = false, false
	if q.compiled == nil || q.waiting.Ordered != ordered {
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
			rows[i].Failed = true // until enqueueDue queues it
		}
	}
	was := q.waiting.Len()
	list = ordered.FetchCompleted(rows, all, known)
	s.reconcileCounters(q, was, list)
	s.makeRunnable(q)
	return list
}

// requeueRest returns the deliveries that did not fit in a POST to their queue.
func (s *scheduler) requeueRest(q *queue, p dispatchqueue.Batch) (known bool, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, list = s.returnToQueue(q, &p); known {
		s.makeRunnable(q)
	}
	return known, list
}

// returnToQueue returns a batch to its queue; s.mu is held.
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
			s.markForRefetch(q, en.Position)
			if en.Tracked == nil {
				en.Release()
				continue
			}
			if q.waiting.Ordered != nil {
				q.waiting.Ordered.SpillStarted(en.Position)
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

// completeOrdered reports the disposition of each delivery of a batch to the ordered queue it came
// from, and returns the displaced deliveries. One of the batch among them is superseded: it is
// dropped instead of retried.
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

// batchTooLarge lowers the batch size of q: the target refused a batch of n deliveries.
func (s *scheduler) batchTooLarge(q *queue, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiting.BatchTooLarge(n)
}

// batchAccepted records that the target accepted a batch.
func (s *scheduler) batchAccepted(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiting.BatchAccepted()
}

// allQueuedThrough reports whether every delivery of q at a lower position than en has been queued.
// If not, q waits for releaseWaiting. New deliveries come from events of this node only, whose
// positions have the order of their ids. s.mu is held.
func (s *scheduler) allQueuedThrough(q *queue, en *dispatchqueue.Entry) bool {
	if s.allQueuedThroughEvent(en.Event) {
		return true
	}
	s.anyWaitingForEarlier.Store(true)
	if s.allQueuedThroughEvent(en.Event) { // it may have been queued before the flag was set
		return true
	}
	if !slices.Contains(s.waitingForEarlier, q) {
		s.waitingForEarlier = append(s.waitingForEarlier, q)
	}
	return false
}

// releaseWaiting calls makeRunnable for the queues that wait for earlier events.
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
