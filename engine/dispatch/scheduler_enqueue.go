package dispatch

import (
	"slices"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

// enqueueResult is the result of enqueue.
type enqueueResult int

const (
	enqueued              enqueueResult = iota // waits in memory, or in the store if it has a row
	enqueueInStore                             // must wait in the store: write its row, then call spillRecorded
	enqueueNoSubscription                      // its subscription was deleted
)

// enqueue queues a new delivery and returns the deliveries that it displaced.
func (s *scheduler) enqueue(id engine.ID, en dispatchqueue.Entry) (enqueueResult, *queue, []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return enqueueNoSubscription, nil, nil
	}
	if q.waiting.Ordered != nil || en.SpecHash != 0 {
		return s.enqueueOrdered(q, en)
	}
	if q.overflow || q.waiting.Len() >= dispatchqueue.Capacity || s.total >= maxInMemory {
		q.overflow = true
		s.spill(q, en.Position)
		return enqueueInStore, q, nil
	}
	q.waiting.Push(en)
	s.total++
	s.makeRunnable(q)
	return enqueued, q, nil
}

// markDue records the deliveries that the store is about to make pending because their retries
// are due, before a fetch can read them. Until enqueueDue queues one of them, a fetch may find it
// or a user may retry it. The first of these that queues it deletes it from s.due; otherwise it
// would be attempted again after it has succeeded.
func (s *scheduler) markDue(due []engine.Waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.due)
	for _, w := range due {
		s.due[w.ID] = struct{}{}
	}
}

// enqueueDue queues a delivery that is still marked as due; known is false if the subscription was
// deleted.
func (s *scheduler) enqueueDue(id engine.ID, en dispatchqueue.Entry) (known bool, q *queue, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q = s.queues[id]; q == nil {
		return false, nil, nil
	}
	expected := engine.DeliveryID{Event: en.Event, Subscription: id}
	if _, ok := s.due[expected]; !ok {
		return true, q, nil
	}
	delete(s.due, expected)
	return true, q, s.enqueueStored(q, en, dispatchqueue.OrderedQueue.EnqueueDue)
}

// enqueueManualRetry queues a delivery that a user retries, once its row is pending; known is
// false if the subscription was deleted.
func (s *scheduler) enqueueManualRetry(id engine.ID, en dispatchqueue.Entry) (known bool, q *queue, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q = s.queues[id]; q == nil {
		return false, nil, nil
	}
	// A fetch may have been faster; or its scheduled retry was, whose outcome replaces the row.
	if slices.Contains(q.uncommitted, en.Event) || q.waiting.Ordered == nil && q.waiting.Contains(en.Event) {
		return true, q, nil
	}
	delete(s.due, engine.DeliveryID{Event: en.Event, Subscription: id})
	return true, q, s.enqueueStored(q, en, dispatchqueue.OrderedQueue.EnqueueManual)
}

// enqueueStored queues a delivery that has a pending row; add adds it to an ordered queue. s.mu is
// held.
func (s *scheduler) enqueueStored(q *queue, en dispatchqueue.Entry, add func(dispatchqueue.OrderedQueue, dispatchqueue.Entry) []dispatchqueue.Displaced) (list []dispatchqueue.Displaced) {
	switch was := q.waiting.Len(); {
	case en.SpecHash != q.compiled.Grouping.SpecHash:
		s.markForRefetch(q, en.Position)
	case q.waiting.Ordered != nil:
		list = add(q.waiting.Ordered, en)
		s.reconcileCounters(q, was, list)
	case q.overflow || was >= dispatchqueue.Capacity || s.total >= maxInMemory:
		q.overflow, q.refetch = true, true
	default:
		q.waiting.Push(en)
		s.total++
	}
	s.makeRunnable(q)
	return list
}

// markBacklog records that the store holds deliveries of a subscription; known is false if the
// subscription was deleted.
func (s *scheduler) markBacklog(id engine.ID) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return false
	}
	if q.waiting.Ordered == nil { // an ordered queue reads everything anyway
		q.overflow = true
	}
	s.makeRunnable(q)
	return true
}

// spillRecorded records that the row of a spilled delivery is on disk; known is false if the
// subscription was deleted.
func (s *scheduler) spillRecorded(q *queue, at engine.Position) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.pendingSpills--
	q.refetch = true
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.SpillRecorded(at)
	}
	s.makeRunnable(q)
	return q.compiled != nil
}

// inMemoryIDs returns the events of q that a fetch must skip: those in memory, and those whose
// outcome is not on disk.
func (s *scheduler) inMemoryIDs(q *queue) map[engine.ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.refetch = false
	ids := make(map[engine.ID]bool, q.waiting.Len()+len(q.uncommitted))
	for _, en := range q.waiting.All() {
		ids[en.Event] = true
	}
	for _, id := range q.uncommitted {
		ids[id] = true
	}
	return ids
}

// completeFetch queues the rows of a fetch; all means that the store holds no more.
func (s *scheduler) completeFetch(q *queue, entries []dispatchqueue.Entry, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	outdated := q.fetchStale
	q.fetching, q.fetchStale = false, false
	if q.compiled == nil {
		return
	}
	if outdated {
		s.makeRunnable(q)
		return
	}
	for _, en := range entries {
		delete(s.due, engine.DeliveryID{Event: en.Event, Subscription: q.id})
		q.waiting.Push(en)
	}
	s.total += len(entries)
	if all && q.pendingSpills == 0 && !q.refetch {
		q.overflow = false
	}
	// While rows are being written a fetch would find nothing; spillRecorded calls makeRunnable.
	if len(entries) > 0 || q.pendingSpills == 0 {
		s.makeRunnable(q)
	}
}

// takeExpired removes and returns the deliveries in q that have expired.
func (s *scheduler) takeExpired(q *queue) (r *catalog.CompiledSubscription, old []dispatchqueue.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r = q.compiled; r == nil || !r.Sub.Active || q.waiting.Len() == 0 {
		return r, nil
	}
	now := s.now()
	old = q.waiting.Remove(func(en *dispatchqueue.Entry) bool { return now.After(r.GiveUpAt(en, q.circuit.ResumedAt)) })
	for _, en := range old {
		q.uncommitted = append(q.uncommitted, en.Event)
	}
	if s.total -= len(old); len(old) > 0 {
		s.makeRunnable(q)
	}
	return r, old
}
