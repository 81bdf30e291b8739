package engine

import (
	"slices"
	"sync"
	"time"
)

const (
	// queueRoom is how many deliveries of one subscription wait in memory; the rest waits
	// in the store and is fetched when the queue runs low.
	queueRoom = 1000
	queueLow  = 100
	fetchSize = 500
	// memoryRoom is how many wait in memory in all.
	memoryRoom = 200_000
	// putBackFor is how long a subscription pauses whose transform found no time to run.
	putBackFor = 500 * time.Millisecond
	// restoreAfter successes in a row give a slowed target one more place in flight.
	restoreAfter = 8
)

// entry is a delivery that waits in memory.
type entry struct {
	event    ID
	attempts int    // made before
	held     *held  // nil: the event is to be read from the store
	fresh    *fresh // nil: the delivery has a row already
	slot     int    // of the subscription in fresh.targets
}

// queue holds the deliveries of one subscription, so that a slow target holds back only
// its own. All fields are guarded by scheduler.mu.
type queue struct {
	id        ID
	route     *route // nil after the subscription was deleted
	line      line
	inFlight  int
	limit     int // how many may be in flight; shrinks when the target is in trouble
	successes int // in a row, since limit shrank
	resumeAt  time.Time
	ready     bool // stands in scheduler.ready, or in scheduler.blocked

	// unsettled events were taken out of line, but their outcome is not on disk yet.
	unsettled []ID
	// overflow says that more waits in the store. While it is set nothing enters line but
	// what is fetched from there, so the oldest goes first.
	overflow bool
	spilling int // rows ordered for the overflow and not on disk yet
	fetching bool
	refetch  bool // something was left in the store while a fetch was on
}

// runnable tells whether a delivery of q may be started now.
func (q *queue) runnable(now time.Time) bool {
	return q.route != nil && q.line.ready(now) && q.route.sub.Active && !q.route.held.Load() && q.inFlight < q.limit && !q.resumeAt.After(now)
}

// scheduler picks what is delivered next: round robin over the subscriptions that have
// something to send, a free place in flight and no pause.
type scheduler struct {
	now   func() time.Time
	limit int          // in-flight limit of a subscription
	fetch func(*queue) // orders more from the store; must not block
	spawn func()       // starts a worker, if there may be another; must not block

	mu     sync.Mutex
	wake   *sync.Cond
	queues map[ID]*queue
	ready  fifo[*queue]
	idle   int // workers that wait and were not woken
	total  int // entries in all lines
	closed bool

	// No account may take all workers: its slow targets would hold back everybody else's.
	share   int // attempts at one time of one account
	flying  map[string]int
	blocked map[string]*fifo[*queue] // queues that could run, but for their account's share
}

func newScheduler(now func() time.Time, limit, share int) *scheduler {
	s := &scheduler{now: now, limit: limit, share: share, queues: map[ID]*queue{}, flying: map[string]int{}, blocked: map[string]*fifo[*queue]{}}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// setRoute makes, changes or, with a nil route, closes the queue of a subscription. The
// entries of a closed queue are given back.
func (s *scheduler) setRoute(id ID, r *route) (orphans []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if r == nil {
		if q == nil {
			return nil
		}
		orphans = slices.Clone(q.line.all())
		s.total -= q.line.len()
		q.route = nil
		q.line.clear()
		delete(s.queues, id)
		return orphans
	}
	if q == nil {
		q = &queue{id: id, limit: s.limit}
		s.queues[id] = q
	}
	if q.route != nil && q.route.sub.TargetURL != r.sub.TargetURL {
		q.limit, q.resumeAt = s.limit, time.Time{} // the old target's troubles are not the new one's
	}
	q.route = r
	s.offer(q)
	return nil
}

// place says what became of a delivery that was to be queued.
type place int

const (
	placeQueued place = iota // waits in memory, or in the store if it has a row
	placeStore               // is to wait in the store: order its row, then call spilled
	placeNone                // its subscription is gone
)

// add queues a fresh delivery.
func (s *scheduler) add(id ID, en entry) (place, *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return placeNone, nil
	}
	if q.overflow || q.line.len() >= queueRoom || s.total >= memoryRoom {
		q.overflow = true
		q.spilling++
		return placeStore, q
	}
	q.line.push(en)
	s.total++
	s.offer(q)
	return placeQueued, q
}

// addStored queues a delivery that has a pending row; known is false where the
// subscription is gone.
func (s *scheduler) addStored(id ID, en entry) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return false
	}
	if q.overflow || q.line.len() >= queueRoom || s.total >= memoryRoom {
		q.overflow, q.refetch = true, true
	} else {
		q.line.push(en)
		s.total++
	}
	s.offer(q)
	return true
}

// more says that the store holds deliveries of a subscription; known as in addStored.
func (s *scheduler) more(id ID) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return false
	}
	q.overflow = true
	s.offer(q)
	return true
}

// spilled notes that a row ordered by spill is on disk.
func (s *scheduler) spilled(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.spilling--
	q.refetch = true
	s.offer(q)
}

// offer puts q where the workers look, or orders more from the store. s.mu is held.
func (s *scheduler) offer(q *queue) {
	if q.route == nil || s.closed {
		return
	}
	if q.overflow && !q.fetching && q.line.len() < queueLow && q.route.sub.Active {
		q.fetching = true
		s.fetch(q)
	}
	if q.ready || !q.runnable(s.now()) {
		return
	}
	q.ready = true
	if account := q.route.sub.Account; s.flying[account] >= s.share {
		if s.blocked[account] == nil {
			s.blocked[account] = &fifo[*queue]{}
		}
		s.blocked[account].push(q)
		return
	}
	s.ready.push(q)
	s.hire()
}

// hire wakes a worker, or starts one; s.mu is held.
func (s *scheduler) hire() {
	if s.idle > 0 {
		s.idle-- // here, not by the one who wakes: two signals must reach two workers
		s.wake.Signal()
	} else {
		s.spawn()
	}
}

// known gives the events of q that are in memory or whose outcome is not on disk, and
// must not be fetched.
func (s *scheduler) known(q *queue) map[ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.refetch = false
	ids := make(map[ID]bool, q.line.len()+len(q.unsettled))
	for _, en := range q.line.all() {
		ids[en.event] = true
	}
	for _, id := range q.unsettled {
		ids[id] = true
	}
	return ids
}

// fetched queues what was read from the store; all says that it was everything there.
func (s *scheduler) fetched(q *queue, entries []entry, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.fetching = false
	if q.route == nil {
		return
	}
	for _, en := range entries {
		q.line.push(en)
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

// next waits for what may be attempted; ok is false once the scheduler is closed.
func (s *scheduler) next() (q *queue, r *route, p parcel, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.ready.len() == 0 && !s.closed {
			s.idle++
			s.wake.Wait()
		}
		if s.closed {
			return nil, nil, parcel{}, false
		}
		q = s.ready.pop()
		q.ready = false
		now := s.now()
		if !q.runnable(now) {
			continue
		}
		account := q.route.sub.Account
		if s.flying[account] >= s.share { // others of the account were faster
			s.offer(q)
			continue
		}
		s.flying[account]++
		p = q.line.take(now)
		s.total -= p.len()
		q.inFlight++
		for i := range p.len() {
			q.unsettled = append(q.unsettled, p.at(i).event)
		}
		r = q.route
		s.offer(q)
		return q, r, p, true
	}
}

// landed gives back a place in flight of q, and so one of its account; s.mu is held.
func (s *scheduler) landed(q *queue, account string) {
	q.inFlight--
	if s.flying[account]--; s.flying[account] == 0 {
		delete(s.flying, account)
	}
	waiting := s.blocked[account]
	for waiting != nil && waiting.len() > 0 {
		next := waiting.pop()
		// One that can't run any more comes back by itself, when what stops it is over.
		if next.ready = next.runnable(s.now()); next.ready {
			s.ready.push(next)
			s.hire()
			break
		}
	}
	if waiting != nil && waiting.len() == 0 {
		delete(s.blocked, account)
	}
}

// putBack queues again what was taken and not attempted, for a moment later; known is
// false where the subscription is gone.
func (s *scheduler) putBack(q *queue, r *route, p parcel) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range p.len() {
		q.unsettle(p.at(i).event)
	}
	s.landed(q, r.sub.Account)
	if q.route == nil {
		return false
	}
	for i := range p.len() {
		q.line.push(*p.at(i))
	}
	s.total += p.len()
	s.pause(q, putBackFor)
	return true
}

// finish gives back q's place in flight and heeds what the attempt said of the target.
func (s *scheduler) finish(q *queue, r *route, p parcel, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.landed(q, r.sub.Account)
	switch {
	case v.trouble:
		q.limit, q.successes = max(1, q.limit/2), 0
	case q.limit < s.limit:
		if q.successes++; q.successes >= restoreAfter {
			q.limit, q.successes = q.limit+1, 0
		}
	}
	if v.slowDown > 0 {
		s.pause(q, v.slowDown)
	}
	s.offer(q)
}

// pause leaves a target alone for a while; s.mu is held.
func (s *scheduler) pause(q *queue, d time.Duration) {
	until := s.now().Add(d)
	if !until.After(q.resumeAt) {
		return
	}
	q.resumeAt = until
	time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if q.resumeAt.Equal(until) {
			q.resumeAt = time.Time{}
		}
		s.offer(q)
	})
}

// settle notes that the outcome of an attempt is on disk.
func (s *scheduler) settle(q *queue, event ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.unsettle(event)
}

// unsettle forgets an event whose outcome is on disk, or that waits again.
func (q *queue) unsettle(event ID) {
	if i := slices.Index(q.unsettled, event); i >= 0 {
		q.unsettled = slices.Delete(q.unsettled, i, i+1)
	}
}

// waiting gives how many deliveries of a subscription wait in memory.
func (s *scheduler) waiting(id ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[id]; q != nil {
		return q.line.len()
	}
	return 0
}

// depth gives how many deliveries wait in memory.
func (s *scheduler) depth() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// close lets all workers go once they have finished what they are at.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake.Broadcast()
}
