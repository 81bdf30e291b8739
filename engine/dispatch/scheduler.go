package dispatch

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/fifo"
	"switchhook/engine/resources"
	"switchhook/engine/retry"
)

// scheduler picks what is delivered next: round robin over the subscriptions that have
// something to send, a free place in flight and no pause.
type scheduler struct {
	now   func() time.Time
	fetch func(*queue) // orders more from the store; must not block
	// fetchOrdered orders, for a line that sorts, what there is from an event on.
	fetchOrdered          func(q *queue, line dispatchqueue.OrderedQueue, r *catalog.CompiledSubscription, from engine.ID)
	allQueuedThroughEvent func(event engine.ID) bool // tells whether all events up to one have been queued
	spawn                 func()                     // starts a worker, if there may be another; must not block

	mu            sync.Mutex
	wake          *sync.Cond
	queues        map[engine.ID]*queue
	ready         fifo.Queue[*queue]
	idleWorkers   int // workers that wait and were not woken
	total         int // entries in all lines
	groupCapacity int // deliveries of one key
	// changed are the queues whose circuit is not on disk as it is.
	dirtyHealth map[engine.ID]*queue
	due         map[engine.DeliveryID]struct{} // see expect
	recovered   bool                           // recovery is through: the store tells all that waits
	closed      bool

	deactivateAfter time.Duration // of nothing but failure; 0: never

	// While it is halted no attempt begins: the router lacks what each of them needs.
	halted   bool
	haltFor  time.Duration // the last time
	progress bool          // an attempt was made since

	waitingForEarlier    []*queue    // wait until earlier events have been queued
	anyWaitingForEarlier atomic.Bool // gated holds some, or is about to

	// No account may take all workers: its slow targets would hold back everybody else's.
	accountLimit      int // attempts at one time of one account
	inFlightByAccount map[string]int
	blocked           map[string]*fifo.Queue[*queue] // queues that could run, but for their account's share
}

func newScheduler(now func() time.Time, share int) *scheduler {
	s := &scheduler{now: now, accountLimit: share, groupCapacity: dispatchqueue.GroupCapacity, queues: map[engine.ID]*queue{}, due: map[engine.DeliveryID]struct{}{}, dirtyHealth: map[engine.ID]*queue{}, inFlightByAccount: map[string]int{}, blocked: map[string]*fifo.Queue[*queue]{}}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// setSubscription makes, changes or, with a nil route, closes the queue of a subscription. The
// entries of a closed queue are given back, and what a changed one can't keep is to be set
// aside.
func (s *scheduler) setSubscription(id engine.ID, r *catalog.CompiledSubscription) (orphans []dispatchqueue.Entry, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if r == nil {
		if q == nil {
			return nil, nil
		}
		orphans = slices.Clone(q.waiting.All())
		s.total -= q.waiting.Len()
		q.compiled = nil
		q.waiting.Clear()
		if q.timer != nil {
			q.timer.Stop()
		}
		delete(s.queues, id)
		delete(s.dirtyHealth, id)
		return orphans, nil
	}
	if q == nil {
		q = &queue{id: id, account: r.Sub.Account, limit: r.Policy.InFlight, circuit: circuitBreaker{Health: engine.Health{Subscription: id}}}
		s.queues[id] = q
	}
	old := q.compiled
	q.compiled = r
	q.waiting.Limit = dispatchqueue.BatchLimit(r.Sub.Batch)
	if old == nil {
		q.waiting.Ordered = s.newOrderedQueue(q, r.Grouping.GroupingSpec)
		if q.waiting.Ordered != nil && !s.recovered {
			q.waiting.Ordered.MarkInStore(1) // an earlier run may have left anything
		}
		s.makeRunnable(q)
		return nil, nil
	}
	if old.Grouping.GroupingSpec != r.Grouping.GroupingSpec {
		list = s.rebuildQueue(q)
	}
	if old.Policy.InFlight != r.Policy.InFlight {
		q.limit, q.successes = min(q.limit, r.Policy.InFlight), 0
		if q.limit == old.Policy.InFlight { // nothing had made it less
			q.limit = r.Policy.InFlight
		}
	}
	if old.Policy.Interval != r.Policy.Interval {
		q.pacer = pacer{}
	}
	if old.Sub.TargetURL != r.Sub.TargetURL { // the old target's troubles are not the new one's
		q.reset()
		s.dirtyHealth[id] = q
	}
	if !old.Sub.Active && r.Sub.Active {
		q.reset()
		q.startSlow()
		q.circuit.ResumedAt = s.now().UTC().Truncate(time.Microsecond)
		s.dirtyHealth[id] = q
	}
	s.makeRunnable(q)
	return nil, list
}

// setHealth takes over what an earlier run knew of a target.
func (s *scheduler) setHealth(h engine.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[h.Subscription]; q != nil {
		q.circuit.Health = h
		if q.circuit.open() {
			q.limit = 1
		}
	}
}

// takeDirtyHealth gives what is to be written down of targets.
func (s *scheduler) takeDirtyHealth() []engine.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]engine.Health, 0, len(s.dirtyHealth))
	for _, q := range s.dirtyHealth {
		list = append(list, q.circuit.Health)
	}
	clear(s.dirtyHealth)
	return list
}

// restoreDirtyHealth takes back what could not be written.
func (s *scheduler) restoreDirtyHealth(list []engine.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range list {
		if q := s.queues[h.Subscription]; q != nil {
			s.dirtyHealth[q.id] = q
		}
	}
}

// queue finds the queue of a subscription; nil where it is gone.
func (s *scheduler) queue(id engine.ID) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[id]
}

// makeRunnable puts q where the workers look, or orders more from the store. s.mu is held.
func (s *scheduler) makeRunnable(q *queue) {
	if q.compiled == nil || s.closed {
		return
	}
	if q.overflow && !q.fetching && q.waiting.Len() < dispatchqueue.LowWater && q.compiled.Sub.Active {
		q.fetching = true
		s.fetch(q)
	}
	if q.waiting.Ordered != nil || q.waiting.Limit.Size > 0 {
		s.makeOrderedRunnable(q)
	}
	now := s.now()
	if q.ready || !q.compiled.Sub.Active || q.waiting.Len() == 0 {
		return
	}
	if at := q.notBefore(now); at.After(now) {
		s.scheduleWakeup(q, at, now)
		return
	}
	if !q.runnable(now) {
		return
	}
	q.ready = true
	if s.inFlightByAccount[q.account] >= s.accountLimit {
		if s.blocked[q.account] == nil {
			s.blocked[q.account] = &fifo.Queue[*queue]{}
		}
		s.blocked[q.account].Push(q)
		return
	}
	s.ready.Push(q)
	s.wakeWorker()
}

// scheduleWakeup has q offered at a later time; s.mu is held.
func (s *scheduler) scheduleWakeup(q *queue, at, now time.Time) {
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
		s.makeRunnable(q)
	})
}

// wakeWorker wakes a worker, or starts one; s.mu is held.
func (s *scheduler) wakeWorker() {
	if s.halted {
		return // resume does so
	}
	if s.idleWorkers > 0 {
		s.idleWorkers-- // here, not by the one who wakes: two signals must reach two workers
		s.wake.Signal()
	} else {
		s.spawn()
	}
}

// next waits for what may be attempted; ok is false once the scheduler is closed.
func (s *scheduler) next() (q *queue, r *catalog.CompiledSubscription, p dispatchqueue.Batch, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for (s.ready.Len() == 0 || s.halted) && !s.closed {
			s.idleWorkers++
			s.wake.Wait()
		}
		if s.closed {
			return nil, nil, dispatchqueue.Batch{}, false
		}
		q = s.ready.Pop()
		q.ready = false
		now := s.now()
		if !q.runnable(now) {
			s.makeRunnable(q) // it may have to be woken later
			s.unblockAccount(q.account)
			continue
		}
		if s.inFlightByAccount[q.account] >= s.accountLimit { // others of the account were faster
			s.makeRunnable(q)
			continue
		}
		s.inFlightByAccount[q.account]++
		was := q.waiting.Len()
		p = q.waiting.Pop()
		p.ResumedAt = q.circuit.ResumedAt
		s.total -= was - q.waiting.Len()
		q.inFlight++
		q.pacer.advance(now, q.compiled.Policy.Interval)
		q.circuit.attemptStarted(p.First.Event)
		for i := range p.Len() {
			q.uncommitted = append(q.uncommitted, p.At(i).Event)
		}
		r = q.compiled
		s.makeRunnable(q)
		return q, r, p, true
	}
}

// releaseSlot gives back a place in flight of q, and so one of its account; s.mu is held.
func (s *scheduler) releaseSlot(q *queue) {
	q.inFlight--
	if s.inFlightByAccount[q.account]--; s.inFlightByAccount[q.account] == 0 {
		delete(s.inFlightByAccount, q.account)
	}
	s.unblockAccount(q.account)
}

// unblockAccount lets one more queue of an account go: a place in its share is free, or was not
// made use of. s.mu is held.
func (s *scheduler) unblockAccount(account string) {
	waiting := s.blocked[account]
	for waiting != nil && waiting.Len() > 0 {
		next := waiting.Pop()
		if next.ready = next.runnable(s.now()); next.ready {
			s.ready.Push(next)
			s.wakeWorker()
			break
		}
		s.makeRunnable(next) // it comes back when what stops it is over
	}
	if waiting != nil && waiting.Len() == 0 {
		delete(s.blocked, account)
	}
}

// requeue queues again what was taken and not attempted, for later: why may be nil. known is
// false where the subscription is gone. What the line can't keep is given back.
func (s *scheduler) requeue(q *queue, p dispatchqueue.Batch, why *resources.Shortage) (known bool, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.circuit.attemptFinished(p.First.Event)
	s.releaseSlot(q)
	if known, list = s.returnToQueue(q, &p); known {
		s.lacks(q, why)
		s.makeRunnable(q)
	}
	return known, list
}

// finish gives back q's place in flight and heeds what the attempt said of the target.
func (s *scheduler) finish(q *queue, r *catalog.CompiledSubscription, p dispatchqueue.Batch, v retry.Decision) (n transition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	probe := q.circuit.attemptFinished(p.First.Event)
	s.releaseSlot(q)
	if v.Signal != retry.SignalUnknown {
		q.shortWait, s.progress = 0, true
	}
	if q.compiled == nil || q.compiled.Sub.TargetURL != r.Sub.TargetURL {
		s.makeRunnable(q)
		return n
	}
	before := q.circuit.Health
	n = q.circuit.observe(v, p.First.Event, probe, s.now())
	if q.circuit.Health != before {
		s.dirtyHealth[q.id] = q
	}
	switch full := q.compiled.Policy.InFlight; {
	case v.Overloaded:
		q.limit, q.successes, q.slowStart = max(1, q.limit/2), 0, false
	case n.closed:
		q.startSlow()
	case q.limit < full && v.Signal == retry.SignalHealthy:
		q.growLimit(full)
	}
	if v.PauseFor > 0 {
		s.pause(q, v.PauseFor)
	}
	n.failingTooLong = n.health.FailingTooLong(s.deactivateAfter, s.now())
	s.makeRunnable(q)
	return n
}

// pause leaves a target alone for a while; s.mu is held, and q is offered after it.
func (s *scheduler) pause(q *queue, d time.Duration) {
	now := s.now()
	if until := now.Add(d); until.After(q.resumeAt) || q.resumeAt.After(now.Add(q.pausedFor)) {
		q.resumeAt, q.pausedFor = until, d
	}
}

// total lists the queues.
func (s *scheduler) all() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.queues))
}

// committed notes that the outcome of an attempt is on disk.
func (s *scheduler) committed(q *queue, event engine.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.markCommitted(event)
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.OutcomeRecorded(event)
	}
}

// waiting gives how many deliveries of a subscription wait in memory.
func (s *scheduler) waiting(id engine.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[id]; q != nil {
		return q.waiting.Len()
	}
	return 0
}

// openCircuits gives how many circuits are open.
func (s *scheduler) openCircuits() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.circuit.open() && q.compiled.Sub.Active {
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

// inFlight returns the number of attempts in flight.
func (s *scheduler) inFlight() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.inFlightByAccount {
		n += k
	}
	return n
}
