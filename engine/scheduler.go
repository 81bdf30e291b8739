package engine

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine/fifo"
	"switchhook/engine/judge"
	"switchhook/engine/order"
)

// scheduler picks what is delivered next: round robin over the subscriptions that have
// something to send, a free place in flight and no pause.
type scheduler struct {
	now   func() time.Time
	fetch func(*queue) // orders more from the store; must not block
	// fetchSorted orders, for a line that sorts, what there is from an event on.
	fetchSorted func(q *queue, line order.Sorter, r *route, from ID)
	queued      func(event ID) bool // tells whether all events up to one have been queued
	spawn       func()              // starts a worker, if there may be another; must not block

	mu       sync.Mutex
	wake     *sync.Cond
	queues   map[ID]*queue
	ready    fifo.Queue[*queue]
	idle     int // workers that wait and were not woken
	total    int // entries in all lines
	laneRoom int // deliveries of one key
	// changed are the queues whose circuit is not on disk as it is.
	changed map[ID]*queue
	due     map[DeliveryID]struct{} // see expect
	begun   bool                    // recovery is through: the store tells all that waits
	closed  bool

	deactivateAfter time.Duration // of nothing but failure; 0: never

	// While it is halted no attempt begins: the router lacks what each of them needs.
	halted   bool
	haltFor  time.Duration // the last time
	progress bool          // an attempt was made since

	gated    []*queue    // wait until earlier events have been queued
	anyGated atomic.Bool // gated holds some, or is about to

	// No account may take all workers: its slow targets would hold back everybody else's.
	share   int // attempts at one time of one account
	flying  map[string]int
	blocked map[string]*fifo.Queue[*queue] // queues that could run, but for their account's share
}

func newScheduler(now func() time.Time, share int) *scheduler {
	s := &scheduler{now: now, share: share, laneRoom: order.LaneRoom, queues: map[ID]*queue{}, due: map[DeliveryID]struct{}{}, changed: map[ID]*queue{}, flying: map[string]int{}, blocked: map[string]*fifo.Queue[*queue]{}}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// setRoute makes, changes or, with a nil route, closes the queue of a subscription. The
// entries of a closed queue are given back, and what a changed one can't keep is to be set
// aside.
func (s *scheduler) setRoute(id ID, r *route) (orphans []order.Entry, list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if r == nil {
		if q == nil {
			return nil, nil
		}
		orphans = slices.Clone(q.line.All())
		s.total -= q.line.Len()
		q.route = nil
		q.line.Clear()
		if q.timer != nil {
			q.timer.Stop()
		}
		delete(s.queues, id)
		delete(s.changed, id)
		return orphans, nil
	}
	if q == nil {
		q = &queue{id: id, account: r.sub.Account, limit: r.terms.inFlight, circuit: circuit{Health: Health{Subscription: id}}}
		s.queues[id] = q
	}
	old := q.route
	q.route = r
	q.line.Batch = order.Batch(r.sub.Batch)
	if old == nil {
		q.line.Sorted = s.sorterFor(q, r.grouping.manner)
		if q.line.Sorted != nil && !s.begun {
			q.line.Sorted.Leave(1) // an earlier run may have left anything
		}
		s.offer(q)
		return nil, nil
	}
	if old.grouping.manner != r.grouping.manner {
		list = s.regroup(q)
	}
	if old.terms.inFlight != r.terms.inFlight {
		q.limit, q.successes = min(q.limit, r.terms.inFlight), 0
		if q.limit == old.terms.inFlight { // nothing had made it less
			q.limit = r.terms.inFlight
		}
	}
	if old.terms.interval != r.terms.interval {
		q.pace = pace{}
	}
	if old.sub.TargetURL != r.sub.TargetURL { // the old target's troubles are not the new one's
		q.restart()
		s.changed[id] = q
	}
	if !old.sub.Active && r.sub.Active {
		q.restart()
		q.startSlowly()
		q.circuit.ResumedAt = s.now().UTC().Truncate(time.Microsecond)
		s.changed[id] = q
	}
	s.offer(q)
	return nil, list
}

// setHealth takes over what an earlier run knew of a target.
func (s *scheduler) setHealth(h Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[h.Subscription]; q != nil {
		q.circuit.Health = h
		if q.circuit.open() {
			q.limit = 1
		}
	}
}

// takeChanged gives what is to be written down of targets.
func (s *scheduler) takeChanged() []Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Health, 0, len(s.changed))
	for _, q := range s.changed {
		list = append(list, q.circuit.Health)
	}
	clear(s.changed)
	return list
}

// changedStill takes back what could not be written.
func (s *scheduler) changedStill(list []Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range list {
		if q := s.queues[h.Subscription]; q != nil {
			s.changed[q.id] = q
		}
	}
}

// queue finds the queue of a subscription; nil where it is gone.
func (s *scheduler) queue(id ID) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[id]
}

// offer puts q where the workers look, or orders more from the store. s.mu is held.
func (s *scheduler) offer(q *queue) {
	if q.route == nil || s.closed {
		return
	}
	if q.overflow && !q.fetching && q.line.Len() < order.Low && q.route.sub.Active {
		q.fetching = true
		s.fetch(q)
	}
	if q.line.Sorted != nil || q.line.Batch.Size > 0 {
		s.offerSorted(q)
	}
	now := s.now()
	if q.ready || !q.route.sub.Active || q.line.Len() == 0 {
		return
	}
	if at := q.restsUntil(now); at.After(now) {
		s.lookAgain(q, at, now)
		return
	}
	if !q.runnable(now) {
		return
	}
	q.ready = true
	if s.flying[q.account] >= s.share {
		if s.blocked[q.account] == nil {
			s.blocked[q.account] = &fifo.Queue[*queue]{}
		}
		s.blocked[q.account].Push(q)
		return
	}
	s.ready.Push(q)
	s.hire()
}

// lookAgain has q offered at a later time; s.mu is held.
func (s *scheduler) lookAgain(q *queue, at, now time.Time) {
	if q.wakeAt.After(now) && !at.Before(q.wakeAt) {
		return
	}
	q.wakeAt = at
	if q.timer != nil {
		q.timer.Reset(at.Sub(now))
		return
	}
	q.timer = time.AfterFunc(at.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		q.wakeAt = time.Time{}
		s.offer(q)
	})
}

// hire wakes a worker, or starts one; s.mu is held.
func (s *scheduler) hire() {
	if s.halted {
		return // resume does so
	}
	if s.idle > 0 {
		s.idle-- // here, not by the one who wakes: two signals must reach two workers
		s.wake.Signal()
	} else {
		s.spawn()
	}
}

// next waits for what may be attempted; ok is false once the scheduler is closed.
func (s *scheduler) next() (q *queue, r *route, p order.Parcel, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for (s.ready.Len() == 0 || s.halted) && !s.closed {
			s.idle++
			s.wake.Wait()
		}
		if s.closed {
			return nil, nil, order.Parcel{}, false
		}
		q = s.ready.Pop()
		q.ready = false
		now := s.now()
		if !q.runnable(now) {
			s.offer(q) // it may have to be woken later
			s.unblock(q.account)
			continue
		}
		if s.flying[q.account] >= s.share { // others of the account were faster
			s.offer(q)
			continue
		}
		s.flying[q.account]++
		was := q.line.Len()
		p = q.line.Take()
		p.Resumed = q.circuit.ResumedAt
		s.total -= was - q.line.Len()
		q.inFlight++
		q.pace.take(now, q.route.terms.interval)
		q.circuit.began(p.First.Event)
		for i := range p.Len() {
			q.unsettled = append(q.unsettled, p.At(i).Event)
		}
		r = q.route
		s.offer(q)
		return q, r, p, true
	}
}

// landed gives back a place in flight of q, and so one of its account; s.mu is held.
func (s *scheduler) landed(q *queue) {
	q.inFlight--
	if s.flying[q.account]--; s.flying[q.account] == 0 {
		delete(s.flying, q.account)
	}
	s.unblock(q.account)
}

// unblock lets one more queue of an account go: a place in its share is free, or was not
// made use of. s.mu is held.
func (s *scheduler) unblock(account string) {
	waiting := s.blocked[account]
	for waiting != nil && waiting.Len() > 0 {
		next := waiting.Pop()
		if next.ready = next.runnable(s.now()); next.ready {
			s.ready.Push(next)
			s.hire()
			break
		}
		s.offer(next) // it comes back when what stops it is over
	}
	if waiting != nil && waiting.Len() == 0 {
		delete(s.blocked, account)
	}
}

// putBack queues again what was taken and not attempted, for later: why may be nil. known is
// false where the subscription is gone. What the line can't keep is given back.
func (s *scheduler) putBack(q *queue, p order.Parcel, why *shortage) (known bool, list []order.Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.circuit.ended(p.First.Event)
	s.landed(q)
	if known, list = s.returned(q, &p); known {
		s.lacks(q, why)
		s.offer(q)
	}
	return known, list
}

// finish gives back q's place in flight and heeds what the attempt said of the target.
func (s *scheduler) finish(q *queue, r *route, p order.Parcel, v judge.Verdict) (n news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	probe := q.circuit.ended(p.First.Event)
	s.landed(q)
	if v.Reply != judge.None {
		q.shortWait, s.progress = 0, true
	}
	if q.route == nil || q.route.sub.TargetURL != r.sub.TargetURL {
		s.offer(q)
		return n
	}
	before := q.circuit.Health
	n = q.circuit.heed(v, p.First.Event, probe, s.now())
	if q.circuit.Health != before {
		s.changed[q.id] = q
	}
	switch full := q.route.terms.inFlight; {
	case v.Trouble:
		q.limit, q.successes, q.slowStart = max(1, q.limit/2), 0, false
	case n.closed:
		q.startSlowly()
	case q.limit < full && v.Reply == judge.Good:
		q.restore(full)
	}
	if v.SlowDown > 0 {
		s.pause(q, v.SlowDown)
	}
	n.hopeless = n.health.hopeless(s.deactivateAfter, s.now())
	s.offer(q)
	return n
}

// pause leaves a target alone for a while; s.mu is held, and q is offered after it.
func (s *scheduler) pause(q *queue, d time.Duration) {
	now := s.now()
	if until := now.Add(d); until.After(q.resumeAt) || q.resumeAt.After(now.Add(q.pausedFor)) {
		q.resumeAt, q.pausedFor = until, d
	}
}

// all lists the queues.
func (s *scheduler) all() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.queues))
}

// settle notes that the outcome of an attempt is on disk.
func (s *scheduler) settle(q *queue, event ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.unsettle(event)
	if q.line.Sorted != nil {
		q.line.Sorted.Settled(event)
	}
}

// waiting gives how many deliveries of a subscription wait in memory.
func (s *scheduler) waiting(id ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[id]; q != nil {
		return q.line.Len()
	}
	return 0
}

// probing gives how many circuits are open.
func (s *scheduler) probing() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.circuit.open() && q.route.sub.Active {
			n++
		}
	}
	return n
}

// close lets all workers go once they have finished what they are at.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake.Broadcast()
}
