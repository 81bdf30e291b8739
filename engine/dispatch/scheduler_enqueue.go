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
func (s *scheduler) enqueue(id engine.ID, en dispatchqueue.Entry) (result enqueueResult, q *queue, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q = s.queues[id]; q == nil {
		return enqueueNoSubscription, nil, nil
	}
	kept, list := s.insert(q, en, func(ordered dispatchqueue.OrderedQueue) (bool, []dispatchqueue.Displaced) {
		return ordered.Enqueue(en, !s.hasRoom(q))
	})
	if !kept {
		q.waiting.SpillStarted(en.Position)
		result = enqueueInStore
	}
	s.update(q)
	return result, q, list
}

// hasRoom reports whether there is memory for another delivery of q. Of the part of its account a
// queue may have as much as it leaves free, so that it does not push the others to the store. s.mu is
// held.
func (s *scheduler) hasRoom(q *queue) bool {
	return int64(q.waiting.Len()) < s.memory.room(q.account.name)
}

// insert adds a delivery to q: to an ordered queue by add, or it is left in the store if there is
// no room, or if its group was made by other settings. s.mu is held.
func (s *scheduler) insert(q *queue, en dispatchqueue.Entry, add func(dispatchqueue.OrderedQueue) (kept bool, list []dispatchqueue.Displaced)) (kept bool, list []dispatchqueue.Displaced) {
	was := q.waiting.Len()
	switch {
	case en.SpecHash != q.compiled.Grouping.SpecHash:
		q.leaveInStore(en.Position)
		return false, nil
	case q.waiting.Ordered != nil:
		kept, list = add(q.waiting.Ordered)
	case q.backlog != inMemory || was >= dispatchqueue.Capacity && !q.waiting.GoesSoon(&en) || !s.hasRoom(q):
		q.leaveInStore(en.Position)
		return false, nil
	default:
		q.waiting.Push(en)
		kept = true
	}
	s.reconcile(q, was, list)
	return kept, list
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
		en.Release()
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
	if slices.Contains(q.uncommitted, en.Event) || q.waiting.Ordered == nil && q.waiting.HasRow(en.Event) {
		return true, q, nil
	}
	delete(s.due, engine.DeliveryID{Event: en.Event, Subscription: id})
	return true, q, s.enqueueStored(q, en, dispatchqueue.OrderedQueue.EnqueueManual)
}

// enqueueStored queues a delivery that has a pending row; add adds it to an ordered queue. s.mu is
// held.
func (s *scheduler) enqueueStored(q *queue, en dispatchqueue.Entry, add func(dispatchqueue.OrderedQueue, dispatchqueue.Entry) []dispatchqueue.Displaced) []dispatchqueue.Displaced {
	if q.waiting.Ordered != nil { // it may not keep it
		en.Release()
		en.Payload = nil
	}
	kept, list := s.insert(q, en, func(ordered dispatchqueue.OrderedQueue) (bool, []dispatchqueue.Displaced) {
		return true, add(ordered, en)
	})
	if !kept {
		en.Release()
	}
	s.update(q)
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
		q.leaveInStore(engine.FirstPosition)
	}
	s.update(q)
	return true
}

// spillRecorded records that the row of a spilled delivery is on disk; known is false if the
// subscription was deleted.
func (s *scheduler) spillRecorded(q *queue, at engine.Position) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.waiting.SpillRecorded(at)
	if q.waiting.Ordered == nil {
		q.leaveInStore(at)
	}
	s.update(q)
	return q.compiled != nil
}

// fetchIfNeeded starts a fetch if q may need one: a plain FIFO if it runs low and more is in the
// store, an ordered queue if it says so. s.mu is held.
func (s *scheduler) fetchIfNeeded(q *queue) {
	if q.fetch != nil || !q.compiled.Sub.Active {
		return
	}
	var known map[engine.ID]bool
	var from engine.Position
	if q.waiting.Ordered != nil {
		ok := s.recovered
		if ok {
			from, ok = q.waiting.Ordered.StartFetch()
		}
		if !ok {
			return
		}
	} else {
		n := q.waiting.Len()
		if q.backlog != inStore || n >= dispatchqueue.LowWater || n > 0 && !s.hasRoom(q) {
			return
		}
		known = q.uncommittedSet(q.waiting.Len())
		for _, en := range q.waiting.All() {
			known[en.Event] = true
		}
	}
	rows := s.fetchRows(q)
	s.memory.add(q.account.name, int64(rows))
	q.fetch = &fetch{queue: q, compiled: q.compiled, known: known, ordered: q.waiting.Ordered, from: from, rows: rows}
	q.backlog = q.backlog.after(fetchStarted)
	s.host.startFetch(q.fetch)
}

// fetchRows returns the number of rows that a fetch of q may read. However short memory is, it reads
// some, or what is in the store would never be attempted. s.mu is held.
func (s *scheduler) fetchRows(q *queue) int {
	return int(min(max(s.memory.room(q.account.name), leastFetch), fetchSize))
}

// completeFetch queues the rows of a fetch, unless its queue was rebuilt or closed since; all means
// that the store holds no more. It returns the displaced deliveries.
func (s *scheduler) completeFetch(f *fetch, rows []dispatchqueue.Entry, all bool) (list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := f.queue
	s.memory.add(q.account.name, -int64(f.rows))
	if q.fetch != f {
		releaseAll(rows)
		return nil
	}
	q.fetch = nil
	was := q.waiting.Len()
	if f.ordered != nil {
		for i := range rows {
			if _, due := s.due[engine.DeliveryID{Event: rows[i].Event, Subscription: q.id}]; due {
				rows[i].Release()
				rows[i].Failed, rows[i].Payload = true, nil // until enqueueDue queues it
			}
		}
		list = f.ordered.FetchCompleted(rows, all, q.uncommittedSet(0))
		q.backlog = q.backlog.after(fetchedAll)
		s.reconcile(q, was, list)
		s.update(q)
		return list
	}
	for _, en := range rows {
		delete(s.due, engine.DeliveryID{Event: en.Event, Subscription: q.id})
		q.waiting.Push(en)
	}
	s.reconcile(q, was, nil)
	change := fetchedSome
	if all && q.waiting.Spilling() == 0 {
		change = fetchedAll
	}
	q.backlog = q.backlog.after(change)
	// While rows are being written a fetch would find nothing; spillRecorded calls update.
	if len(rows) > 0 || q.waiting.Spilling() == 0 {
		s.update(q)
	}
	return nil
}

// takeExpired removes and returns the deliveries in q that have expired.
func (s *scheduler) takeExpired(q *queue) (r *catalog.CompiledSubscription, old []dispatchqueue.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r = q.compiled; r == nil || !r.Sub.Active || q.waiting.Len() == 0 {
		return r, nil
	}
	now := s.host.now()
	old = q.waiting.Remove(func(en *dispatchqueue.Entry) bool { return now.After(r.GiveUpAt(en, q.circuit.ResumedAt)) })
	for _, en := range old {
		q.uncommitted = append(q.uncommitted, en.Event)
	}
	if s.memory.add(q.account.name, -int64(len(old))); len(old) > 0 {
		s.update(q)
	}
	return r, old
}
