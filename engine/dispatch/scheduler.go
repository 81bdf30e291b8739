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

// host is what a scheduler needs of its owner. It is called with scheduler.mu held, so no method
// may block.
type host interface {
	now() time.Time
	// startWorker starts a goroutine that calls next until that ends.
	startWorker()
	// startFetch starts a read of the store that calls completeFetch.
	startFetch(f *fetch)
	// allQueuedThrough reports whether all events of this node up to one have been queued.
	allQueuedThrough(event engine.ID) bool
}

// limits are the constants of a scheduler.
type limits struct {
	workers       int
	account       int // attempts of one account in flight
	groupCapacity int // deliveries of one ordering key in memory

	deactivateAfter time.Duration // of failures only; 0: never
}

// scheduler picks the next delivery: round robin over the ready queues, fair by account. The states
// of a queue are listed at queueState and backlogState.
//
//	method             called when                                    effect
//	update             anything about a queue changed                 its next state, or a fetch
//	next               a worker is free                               pops a batch, takes a slot
//	finish, requeue    the attempt ended, or was not made             releases the slot
//	unblockAccount     a slot of the account is free                  one blocked queue gets ready
//	halt, resume       the router lacks what every attempt needs      no queue is popped between
type scheduler struct {
	host   host
	limits limits

	mu          sync.Mutex
	wake        *sync.Cond
	queues      map[engine.ID]*queue
	ready       fifo.Queue[*queue]
	workers     int
	idleWorkers int // workers that wait and were not woken
	total       int // deliveries in memory over all queues
	// dirtyHealth are the queues whose health differs from the stored one.
	dirtyHealth map[engine.ID]*queue
	due         map[engine.DeliveryID]struct{} // see markDue
	recovered   bool                           // recovery has ended: every waiting delivery has a row
	closed      bool

	// While halted is set no attempt starts: the router lacks a resource that each of them needs.
	halted   bool
	haltFor  time.Duration // of the last halt
	progress bool          // an attempt was made since the last halt

	waitingForEarlier    []*queue    // wait until earlier events have been queued
	anyWaitingForEarlier atomic.Bool // waitingForEarlier is not empty, or soon will not be

	// An account may not take all workers: its slow targets would delay every other account.
	inFlightByAccount map[string]int
	blocked           map[string]*fifo.Queue[*queue] // queues in queueBlocked
}

func newScheduler(h host, l limits) *scheduler {
	s := &scheduler{
		host: h, limits: l, queues: map[engine.ID]*queue{}, due: map[engine.DeliveryID]struct{}{},
		dirtyHealth: map[engine.ID]*queue{}, inFlightByAccount: map[string]int{}, blocked: map[string]*fifo.Queue[*queue]{},
	}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// setSubscription makes or changes the queue of a subscription. It returns the deliveries that the
// change displaced.
func (s *scheduler) setSubscription(r *catalog.CompiledSubscription) (q *queue, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.Sub.ID
	q = s.queues[id]
	if q == nil {
		q = &queue{id: id, account: r.Sub.Account, limit: r.Policy.InFlight, circuit: circuitBreaker{Health: engine.Health{Subscription: id}}}
		s.queues[id] = q
	}
	old := q.compiled
	q.compiled = r
	q.waiting.Limit = dispatchqueue.BatchLimit(r.Sub.Batch)
	if old == nil {
		s.setOrder(q)
		if q.waiting.Ordered != nil && !s.recovered {
			q.waiting.Ordered.MarkInStore(engine.FirstPosition) // an earlier run may have left anything
		}
		s.update(q)
		return q, nil
	}
	if old.Grouping.GroupingSpec != r.Grouping.GroupingSpec {
		list = s.rebuildQueue(q)
	}
	if old.Policy.InFlight != r.Policy.InFlight {
		q.limit, q.successes = min(q.limit, r.Policy.InFlight), 0
		if q.limit == old.Policy.InFlight { // it was not lowered
			q.limit = r.Policy.InFlight
		}
	}
	if old.Policy.Interval != r.Policy.Interval {
		q.pacer = pacer{}
	}
	if old.Sub.TargetURL != r.Sub.TargetURL { // the new target has its own health
		q.reset()
		s.dirtyHealth[id] = q
	}
	if !old.Sub.Active && r.Sub.Active {
		q.reset()
		q.startSlow()
		q.circuit.ResumedAt = s.host.now().UTC().Truncate(time.Microsecond)
		s.dirtyHealth[id] = q
	}
	s.update(q)
	return q, list
}

// removeSubscription closes the queue of a subscription and returns its deliveries.
func (s *scheduler) removeSubscription(id engine.ID) (orphans []dispatchqueue.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return nil
	}
	orphans = slices.Clone(q.waiting.All())
	s.total -= q.waiting.Len()
	q.compiled, q.fetch = nil, nil
	q.waiting.Clear()
	if q.timer != nil {
		q.timer.Stop()
	}
	delete(s.queues, id)
	delete(s.dirtyHealth, id)
	return orphans
}

// setHealth restores the health of a target from an earlier run.
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

// takeDirtyHealth returns the health that must be written, and marks it as written.
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

// restoreDirtyHealth marks health that could not be written as dirty again.
func (s *scheduler) restoreDirtyHealth(list []engine.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range list {
		if q := s.queues[h.Subscription]; q != nil {
			s.dirtyHealth[q.id] = q
		}
	}
}

// evaluate returns the state that q must be in, and when a timed one ends; s.mu is held.
func (s *scheduler) evaluate(q *queue, now time.Time) (state queueState, at time.Time) {
	if q.compiled == nil || !q.compiled.Sub.Active || q.compiled.Transform.Quarantined.Load() {
		return queueIdle, at
	}
	ready, at := q.waiting.Ready(now)
	if ready {
		at = q.notBefore(now)
	}
	switch {
	case !ready && !at.IsZero() || at.After(now):
		return queueTimed, at
	case !ready || q.inFlight >= q.limit || !q.circuit.allows():
		return queueIdle, at
	case s.inFlightByAccount[q.account] >= s.limits.account:
		return queueBlocked, at
	}
	return queueReady, at
}

// enter puts q, which is in neither scheduler.ready nor scheduler.blocked, into a state; s.mu is held.
func (s *scheduler) enter(q *queue, state queueState, at, now time.Time) {
	q.state = state
	switch state {
	case queueTimed:
		s.scheduleWakeup(q, at, now)
	case queueReady:
		s.ready.Push(q)
		s.wakeWorker()
	case queueBlocked:
		if s.blocked[q.account] == nil {
			s.blocked[q.account] = &fifo.Queue[*queue]{}
		}
		s.blocked[q.account].Push(q)
	}
}

// update puts q into the state that follows a change of it, and starts a fetch if it needs one. A
// queue that is ready or blocked is evaluated when its turn comes. s.mu is held.
func (s *scheduler) update(q *queue) {
	if q.compiled == nil || s.closed {
		return
	}
	s.fetchIfNeeded(q)
	if q.state == queueReady || q.state == queueBlocked {
		return
	}
	now := s.host.now()
	state, at := s.evaluate(q, now)
	s.enter(q, state, at, now)
}

// scheduleWakeup calls update for q at a later time; s.mu is held.
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
		s.update(q)
	})
}

// wakeWorker wakes a worker, or starts one; s.mu is held.
func (s *scheduler) wakeWorker() {
	switch {
	case s.halted: // resume wakes the workers
	case s.idleWorkers > 0:
		s.idleWorkers-- // here, not in the woken worker: two signals must reach two workers
		s.wake.Signal()
	case s.workers < s.limits.workers:
		s.workers++
		s.host.startWorker()
	}
}

// next waits for a ready queue and pops its next batch; ok is false once s is closed.
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
		q.state = queueIdle
		now := s.host.now()
		if state, at := s.evaluate(q, now); state != queueReady {
			s.enter(q, state, at, now)
			s.unblockAccount(q.account)
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
		s.update(q)
		return q, r, p, true
	}
}

// releaseSlot releases an in-flight slot of q and of its account; s.mu is held.
func (s *scheduler) releaseSlot(q *queue) {
	q.inFlight--
	if s.inFlightByAccount[q.account]--; s.inFlightByAccount[q.account] == 0 {
		delete(s.inFlightByAccount, q.account)
	}
	s.unblockAccount(q.account)
}

// unblockAccount makes one blocked queue of an account ready if a slot of the account is free.
// s.mu is held.
func (s *scheduler) unblockAccount(account string) {
	blocked := s.blocked[account]
	if blocked == nil || s.inFlightByAccount[account] >= s.limits.account {
		return
	}
	for state := queueIdle; state != queueReady && blocked.Len() > 0; {
		q, now := blocked.Pop(), s.host.now()
		var at time.Time
		state, at = s.evaluate(q, now)
		s.enter(q, state, at, now)
	}
	if blocked.Len() == 0 {
		delete(s.blocked, account)
	}
}

// requeue returns a batch that was not attempted to its queue, which pauses; why may be nil. known
// is false if the subscription was deleted. It returns the displaced deliveries.
func (s *scheduler) requeue(q *queue, p dispatchqueue.Batch, why *resources.Shortage) (known bool, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.circuit.attemptFinished(p.First.Event)
	s.releaseSlot(q)
	if known, list = s.returnToQueue(q, &p); known {
		s.pauseForShortage(q, why)
		s.update(q)
	}
	return known, list
}

// finish releases q's in-flight slot and updates its circuit breaker and in-flight limit. An
// attempt at a target URL that has changed since says nothing about the new one.
func (s *scheduler) finish(q *queue, r *catalog.CompiledSubscription, p dispatchqueue.Batch, v retry.Decision) (n transition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	probe := q.circuit.attemptFinished(p.First.Event)
	s.releaseSlot(q)
	if v.Signal != retry.SignalUnknown {
		q.shortWait, s.progress = 0, true
	}
	if q.compiled == nil || q.compiled.Sub.TargetURL != r.Sub.TargetURL {
		s.update(q)
		return n
	}
	before := q.circuit.Health
	n = q.circuit.observe(v, p.First.Event, probe, s.host.now())
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
	n.failingTooLong = n.health.FailingTooLong(s.limits.deactivateAfter, s.host.now())
	s.update(q)
	return n
}

// pause stops the attempts of q for d; s.mu is held. The caller calls update.
func (s *scheduler) pause(q *queue, d time.Duration) {
	now := s.host.now()
	if until := now.Add(d); until.After(q.resumeAt) || q.resumeAt.After(now.Add(q.pausedFor)) {
		q.resumeAt, q.pausedFor = until, d
	}
}

// all returns the queues.
func (s *scheduler) all() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.queues))
}

// committed records that the outcome of an attempt is on disk.
func (s *scheduler) committed(q *queue, event engine.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.markCommitted(event)
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.OutcomeRecorded(event)
	}
}

// waiting returns the number of deliveries of a subscription in memory.
func (s *scheduler) waiting(id engine.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[id]; q != nil {
		return q.waiting.Len()
	}
	return 0
}

// openCircuits returns the number of active subscriptions whose circuit is open.
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

// close ends all workers, each after its current attempt.
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
