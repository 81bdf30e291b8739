package dispatch

import (
	"slices"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
)

// The part of the scheduler for subscriptions that are ordered, debounced or batched.

// setOrder makes an empty queue what its grouping needs: ordered, debounced or a plain FIFO.
func (s *scheduler) setOrder(q *queue) {
	switch m := q.compiled.Grouping.GroupingSpec; {
	case m.Within > 0:
		q.waiting.Debounce(m.Within, s.host.now)
	case m.Ordering != engine.OrderingNone:
		room := dispatchqueue.Capacity
		if m.Ordering == engine.OrderingKeyed {
			room = s.limits.groupCapacity
		}
		q.waiting.KeepOrder(room, func(en *dispatchqueue.Entry) bool { return s.allQueuedThrough(q, en) })
	}
}

// rebuildQueue empties a queue after its grouping changed: every waiting delivery is read from the
// store again. It returns those without a row, which must be written first. s.mu is held.
func (s *scheduler) rebuildQueue(q *queue) (list []dispatchqueue.Displaced) {
	waiting := q.waiting.All()
	s.memory.add(q.account.name, -int64(q.waiting.Len()))
	q.waiting.Clear()
	q.fetch, q.backlog = nil, inMemory
	s.setOrder(q)
	q.leaveInStore(engine.FirstPosition)
	for _, en := range waiting {
		if en.Tracked == nil {
			en.Release()
			continue
		}
		q.waiting.SpillStarted(en.Position)
		list = append(list, dispatchqueue.Displaced{Entry: en})
	}
	return list
}

// reconcile updates the counters after deliveries entered or left q: it held was of them before, and
// displaced list. s.mu is held.
func (s *scheduler) reconcile(q *queue, was int, list []dispatchqueue.Displaced) {
	s.memory.add(q.account.name, int64(q.waiting.Len()-was))
	for _, a := range list {
		if a.SupersededBy != 0 {
			q.markUncommitted(a.Entry.Event)
		} else {
			q.waiting.SpillStarted(a.Entry.Position)
		}
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
			s.update(q)
		}
	}
}

// requeueRest returns the deliveries that did not fit in a POST to their queue.
func (s *scheduler) requeueRest(q *queue, p dispatchqueue.Batch) (known bool, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, list = s.returnToQueue(q, &p); known {
		s.update(q)
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
			q.leaveInStore(en.Position)
			if en.Tracked == nil {
				en.Release()
				continue
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
	s.reconcile(q, was, list)
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
	s.reconcile(q, was, list)
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
	if s.host.allQueuedThrough(q.account.name, en.Event) {
		return true
	}
	s.anyWaitingForEarlier.Store(true)
	if s.host.allQueuedThrough(q.account.name, en.Event) { // it may have been queued before the flag was set
		return true
	}
	if !slices.Contains(s.waitingForEarlier, q) {
		s.waitingForEarlier = append(s.waitingForEarlier, q)
	}
	return false
}

// releaseWaiting calls update for the queues that wait for earlier events.
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
		s.update(q)
	}
}
