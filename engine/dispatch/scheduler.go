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
	"switchhook/engine/resources"
	"switchhook/engine/retry"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// host is what a scheduler needs of its owner. It is called with scheduler.mu held, so no method
// may block.
type host interface {
	now() time.Time
	// startWorker starts a goroutine that calls next until that ends.
	startWorker()
	// startFetch starts a read of the store that calls completeFetch.
	startFetch(f *fetch)
	// allQueuedThrough reports whether all events of an account up to one have been queued, if this node
	// accepted them.
	allQueuedThrough(account string, event engine.ID) bool
}

// limits are the constants of a scheduler.
type limits struct {
	workers       int           // attempts in flight; an account has a share, see mayStart
	groupCapacity int           // see dispatchqueue.GroupCapacity
	entries       int64         // deliveries in memory
	soon          time.Duration // see dispatchqueue.Queue.GoesSoon

	hostInFlight int           // attempts of one account to one host in flight
	hostInterval time.Duration // between their starts; 0: no limit

	deactivateAfter time.Duration // of failures only; 0: never
}

// scheduler picks the next delivery: of the account, and of the ready queue in it, that held places
// for the least time (see fair_share.go). The states of a queue are listed at queueState and
// backlogState.
//
//	method             called when                                    effect
//	update             anything about a queue changed                 its next state, or a fetch
//	next               a worker is free                               pops a batch, takes a place
//	finish, requeue    the attempt ended, or was not made             releases the place
//	halt, resume       the router lacks what every attempt needs      no queue is popped between
type scheduler struct {
	host   host
	limits limits

	mu          sync.Mutex
	wake        *sync.Cond
	queues      map[engine.ID]*queue
	workers     int
	idleWorkers int    // workers that wait and were not woken
	woken       int    // workers that were woken or started and have not come yet
	memory      budget // of deliveries in memory, over all queues; those that a fetch may bring included
	lag         lagMeter
	pressure    *backpressure
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

	// Of the accounts with queues in queueReady, those that may start an attempt are in eligible, and
	// those with too many in flight are in full.
	places   int // taken: attempts in flight
	accounts map[string]*account
	// formerHosts are the shields of hosts without subscriptions that have accepted nothing.
	formerHosts *simplelru.LRU[hostOfAccount, *hostShield]
	clock       fairClock // of the accounts
	eligible    waitHeap[*account]
	full        waitHeap[*account]
}

func newScheduler(h host, l limits) *scheduler {
	s := &scheduler{
		host: h, limits: l, memory: newBudget(l.entries), pressure: newBackpressure(), queues: map[engine.ID]*queue{}, due: map[engine.DeliveryID]struct{}{},
		dirtyHealth: map[engine.ID]*queue{}, accounts: map[string]*account{},
		eligible: waitHeap[*account]{less: byUse[*account]}, full: waitHeap[*account]{less: byInFlight},
	}
	s.wake = sync.NewCond(&s.mu)
	var err error
	if s.formerHosts, err = simplelru.NewLRU[hostOfAccount, *hostShield](formerHosts, nil); err != nil {
		panic(err) // the size is positive
	}
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
		q = &queue{
			id: id, account: s.accountOf(r.Sub.Account), limit: r.Policy.InFlight,
			circuit: circuitBreaker{Health: engine.Health{Subscription: id}},
		}
		q.account.queues++
		q.waiting.Soon = s.limits.soon
		s.queues[id] = q
	}
	old := q.compiled
	q.compiled = r
	s.setShield(q, r)
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
	s.memory.add(q.account.name, -int64(q.waiting.Len()))
	q.compiled, q.fetch = nil, nil
	q.waiting.Clear()
	if q.state == queueReady || q.state == queueBlocked {
		s.stopWaiting(q)
	}
	q.state = queueIdle
	s.setShield(q, nil)
	q.account.queues--
	s.forgetAccount(q.account)
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
	case q.shield != nil:
		if ok, _ := q.shield.allows(&s.limits, now); !ok {
			return queueBlocked, at
		}
	}
	return queueReady, at
}

// enter puts q, which does not wait for a place, into a state; s.mu is held.
func (s *scheduler) enter(q *queue, state queueState, at, now time.Time) {
	q.state = state
	switch state {
	case queueTimed:
		s.scheduleWakeup(q, at, now)
	case queueReady:
		s.waitForPlace(q, now)
	case queueBlocked:
		s.waitForHost(q, now)
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
		s.woken++
		s.wake.Signal()
	case s.workers < s.limits.workers:
		s.workers++
		s.woken++
		s.host.startWorker()
	}
}

// work makes attempts until s is closed. It is a worker that startWorker starts.
func (s *scheduler) work(deliver func(flight)) {
	s.mu.Lock()
	s.woken--
	s.mu.Unlock()
	for {
		f, ok := s.next()
		if !ok {
			return
		}
		deliver(f)
	}
}

// next waits for a ready queue of an account that may start an attempt, and pops its next batch; ok
// is false once s is closed.
func (s *scheduler) next() (f flight, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for (s.eligible.Len() == 0 || s.halted) && !s.closed {
			s.idleWorkers++
			s.wake.Wait()
			s.woken--
		}
		if s.closed {
			return flight{}, false
		}
		a := s.eligible.first()
		if !s.mayStart(a) {
			s.eligible.remove(a)
			s.full.add(a)
			continue
		}
		q := a.ready.first()
		s.stopWaiting(q)
		q.state = queueIdle
		now := s.host.now()
		if state, at := s.evaluate(q, now); state != queueReady {
			s.enter(q, state, at, now)
			if q.shield != nil { // another queue may use the host instead
				s.admitToHost(q.shield)
			}
			continue
		}
		f = s.start(q, now)
		s.update(q)
		if s.eligible.Len() > 0 && s.woken == 0 { // a place may have become free since it was added
			s.wakeWorker()
		}
		return f, true
	}
}

// start pops the next batch of q and takes a place for it; s.mu is held.
func (s *scheduler) start(q *queue, now time.Time) flight {
	f := s.takePlace(q, now)
	was := q.waiting.Len()
	f.batch = q.waiting.Pop()
	f.batch.ResumedAt = q.circuit.ResumedAt
	s.measureLag(q, &f.batch, now)
	s.memory.add(q.account.name, int64(q.waiting.Len()-was))
	q.pacer.advance(now, q.compiled.Policy.Interval)
	q.circuit.attemptStarted(f.batch.First.Event)
	for i := range f.batch.Len() {
		q.uncommitted = append(q.uncommitted, f.batch.At(i).Event)
	}
	return f
}

// requeue returns a batch that was not attempted to its queue, which pauses; why may be nil. known
// is false if the subscription was deleted. It returns the displaced deliveries.
func (s *scheduler) requeue(f *flight, why *resources.Shortage) (known bool, list []dispatchqueue.Displaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := f.queue
	q.circuit.attemptFinished(f.batch.First.Event)
	s.releasePlace(f, retry.SignalUnknown)
	if known, list = s.returnToQueue(q, &f.batch); known {
		s.pauseForShortage(q, why)
		s.update(q)
	}
	return known, list
}

// finish releases the place of an attempt and updates the circuit breaker and in-flight limit of its
// queue. An attempt at a target URL that has changed since says nothing about the new one.
func (s *scheduler) finish(f *flight, v retry.Decision) (n transition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, event := f.queue, f.batch.First.Event
	probe := q.circuit.attemptFinished(event)
	s.releasePlace(f, v.Signal)
	if v.Signal == retry.SignalHealthy {
		q.fastest.add(s.host.now().Sub(f.started))
	}
	if v.Signal != retry.SignalUnknown {
		q.shortWait, s.progress = 0, true
	}
	if q.compiled == nil || q.compiled.Sub.TargetURL != f.compiled.Sub.TargetURL {
		s.update(q)
		return n
	}
	before := q.circuit.Health
	n = q.circuit.observe(v, event, probe, s.host.now())
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
func (s *scheduler) inFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places
}
