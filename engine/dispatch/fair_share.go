package dispatch

import (
	"cmp"
	"container/heap"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
)

// Attempts in flight are shared by the time that they hold their places, so that quick targets pass
// slow ones: an account's next place goes to that of its queues which used the least place-time, and
// the next worker to the account which did. The rule is that of package fairlimit, start-time fair
// queueing, with the time that an attempt took as its length. An attempt is charged with the time
// that the queue's last ones took when it starts, and with its own when it ends.

// turn is the position of a queue or an account among those that wait for a place. All fields are
// guarded by scheduler.mu.
type turn struct {
	used     float64 // place-seconds in this round; while it waits, not less than fairClock.virtual
	round    uint64  // of used
	expected float64 // seconds that one attempt takes, by the last ones
	arrived  uint64  // number of its arrival in the heap
	index    int     // in the heap, counted from 1; 0: it does not wait
}

// less orders equals by the time of their attempts, then by their arrival.
func (t *turn) less(o *turn) bool {
	return cmp.Or(cmp.Compare(t.used, o.used), cmp.Compare(t.expected, o.expected), cmp.Compare(t.arrived, o.arrived)) < 0
}

// fairClock is the virtual time of those that share places. A round is the time in which one of them
// waits: what was used before does not count in it, and what was left unused is no credit.
type fairClock struct {
	virtual float64 // used of the turn that was served last, when it was served
	round   uint64
	since   time.Time // the beginning of the round
	waiting int
	arrived uint64
}

// join records that t begins to wait.
func (c *fairClock) join(t *turn, now time.Time) {
	if c.waiting == 0 {
		c.round++
		c.virtual, c.since = 0, now
	}
	c.waiting++
	c.arrived++
	c.catchUp(t)
	t.used, t.arrived = max(t.used, c.virtual), c.arrived
}

// leave records that a turn waits no longer.
func (c *fairClock) leave() { c.waiting-- }

// catchUp forgets what t used in earlier rounds.
func (c *fairClock) catchUp(t *turn) {
	if t.round != c.round {
		t.used, t.round = 0, c.round
	}
}

// serve charges t with an attempt that starts, and returns the charge. expected is its time in
// seconds.
func (c *fairClock) serve(t *turn, expected float64) charge {
	c.catchUp(t)
	c.virtual = max(c.virtual, t.used)
	t.used += expected
	return charge{c.round, expected}
}

// settle replaces the charge of an attempt by the time since its start, as far as it lies in this
// round.
func (c *fairClock) settle(t *turn, paid charge, started, now time.Time) {
	c.catchUp(t)
	if paid.round != c.round {
		paid.seconds = 0
		if c.since.After(started) {
			started = c.since
		}
	}
	t.used += max(0, now.Sub(started).Seconds()) - paid.seconds
}

// charge is what an attempt in flight was charged with when it started.
type charge struct {
	round   uint64
	seconds float64
}

// waiter is a queue or an account that waits for a place.
type waiter interface {
	comparable
	position() *turn
}

// waitHeap holds those that wait, with the one that less puts first on top.
type waitHeap[T waiter] struct {
	list []T
	less func(a, b T) bool
}

// byUse orders by turn.less.
func byUse[T waiter](a, b T) bool { return a.position().less(b.position()) }

func (h *waitHeap[T]) first() T { return h.list[0] }
func (h *waitHeap[T]) add(w T)  { heap.Push(h, w) }

// remove removes w, which must be in h.
func (h *waitHeap[T]) remove(w T) { heap.Remove(h, w.position().index-1) }

// fix moves w to its place after its turn changed.
func (h *waitHeap[T]) fix(w T) { heap.Fix(h, w.position().index-1) }

// has reports whether w is in h. It may be in another heap.
func (h *waitHeap[T]) has(w T) bool {
	i := w.position().index
	return i > 0 && i <= len(h.list) && h.list[i-1] == w
}

// Len implements heap.Interface.
func (h *waitHeap[T]) Len() int { return len(h.list) }

// Less implements heap.Interface.
func (h *waitHeap[T]) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }

// Swap implements heap.Interface.
func (h *waitHeap[T]) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].position().index, h.list[j].position().index = i+1, j+1
}

// Push implements heap.Interface.
func (h *waitHeap[T]) Push(w any) {
	h.list = append(h.list, w.(T))
	h.list[len(h.list)-1].position().index = len(h.list)
}

// Pop implements heap.Interface.
func (h *waitHeap[T]) Pop() any {
	last := len(h.list) - 1
	w := h.list[last]
	var none T
	h.list[last] = none
	h.list = h.list[:last]
	w.position().index = 0
	return w
}

// byInFlight puts the account first that may start an attempt soonest.
func byInFlight(a, b *account) bool { return a.inFlight < b.inFlight }

// flight is an attempt in flight, and what it was charged with.
type flight struct {
	queue    *queue
	compiled *catalog.CompiledSubscription
	batch    dispatchqueue.Batch
	shield   *hostShield // of the target's host; nil if the target's URL can't be used
	started  time.Time

	ofQueue, ofAccount charge
}

// account holds the attempts of one account in flight, and its queues that wait for a place.
type account struct {
	name     string
	queues   int // of the account's subscriptions
	inFlight int
	turn     turn             // among the accounts
	clock    fairClock        // of its queues
	ready    waitHeap[*queue] // queues in queueReady
	hosts    map[string]*hostShield
}

func (a *account) position() *turn { return &a.turn }
func (q *queue) position() *turn   { return &q.turn }

// accountOf returns the state of an account; s.mu is held.
func (s *scheduler) accountOf(name string) *account {
	a := s.accounts[name]
	if a == nil {
		a = &account{name: name, ready: waitHeap[*queue]{less: byUse[*queue]}, hosts: map[string]*hostShield{}}
		s.accounts[name] = a
	}
	return a
}

// forgetAccount drops the state of an account without queues and attempts; s.mu is held.
func (s *scheduler) forgetAccount(a *account) {
	if a.queues == 0 && a.inFlight == 0 {
		delete(s.accounts, a.name)
	}
}

// mayStart reports whether an account may start an attempt, by shareOfFree: an account alone gets 3/4
// of all places, two accounts 3/7 each, and some are always free for one that comes later. s.mu is held.
func (s *scheduler) mayStart(a *account) bool {
	return a.inFlight < shareOfFree*(s.limits.workers-s.places)
}

// waitForPlace adds q, which is in queueReady, to those of its account, and the account to those
// that wait; s.mu is held.
func (s *scheduler) waitForPlace(q *queue, now time.Time) {
	a := q.account
	a.clock.join(&q.turn, now)
	a.ready.add(q)
	if a.turn.index == 0 {
		s.clock.join(&a.turn, now)
		if s.mayStart(a) {
			s.eligible.add(a)
		} else {
			s.full.add(a)
		}
	}
	if s.eligible.has(a) {
		s.wakeWorker()
	}
}

// stopWaiting removes q, which is ready or blocked, from those that wait, and its account if no queue
// of it is ready any more; s.mu is held. The caller sets the next state.
func (s *scheduler) stopWaiting(q *queue) {
	a := q.account
	a.clock.leave()
	if q.state == queueBlocked {
		q.shield.waiting.remove(q)
		return
	}
	if a.ready.remove(q); a.ready.Len() > 0 {
		return
	}
	if s.full.has(a) {
		s.full.remove(a)
	} else {
		s.eligible.remove(a)
	}
	s.clock.leave()
}

// takePlace starts an attempt of q: it counts and charges it; s.mu is held.
func (s *scheduler) takePlace(q *queue, now time.Time) (f flight) {
	a := q.account
	f = flight{queue: q, compiled: q.compiled, shield: q.shield, started: now}
	f.ofQueue = a.clock.serve(&q.turn, q.turn.expected)
	f.ofAccount = s.clock.serve(&a.turn, q.turn.expected)
	q.inFlight++
	a.inFlight++
	s.places++
	if f.shield != nil {
		s.startAtHost(f.shield, now)
	}
	s.reorder(q)
	return f
}

// expectedShare is the weight of one attempt in turn.expected.
const expectedShare = 1.0 / 8

// releasePlace ends an attempt: it counts and charges it, and lets queues and accounts start that may
// now; s.mu is held. signal is what the attempt says about the target.
func (s *scheduler) releasePlace(f *flight, signal retry.TargetSignal) {
	q, a, now := f.queue, f.queue.account, s.host.now()
	q.inFlight--
	a.inFlight--
	s.places--
	a.clock.settle(&q.turn, f.ofQueue, f.started, now)
	s.clock.settle(&a.turn, f.ofAccount, f.started, now)
	q.turn.expected += expectedShare * (max(0, now.Sub(f.started).Seconds()) - q.turn.expected)
	s.reorder(q)
	if f.shield != nil {
		s.endAtHost(a, f.shield, signal)
	}
	s.forgetAccount(a)
	for s.full.Len() > 0 && s.mayStart(s.full.first()) {
		a := s.full.first()
		s.full.remove(a)
		s.eligible.add(a)
		s.wakeWorker()
	}
}

// reorder moves q and its account to their places after their turns changed; s.mu is held.
func (s *scheduler) reorder(q *queue) {
	a := q.account
	switch {
	case a.ready.has(q):
		a.ready.fix(q)
	case q.state == queueBlocked:
		q.shield.waiting.fix(q)
	}
	switch {
	case s.eligible.has(a):
		s.eligible.fix(a)
	case s.full.has(a):
		s.full.fix(a)
	}
}

// waitsFor returns the limit that q waits for; s.mu is held.
func (s *scheduler) waitsFor(q *queue) engine.SharedLimit {
	switch {
	case q.state == queueBlocked:
		return engine.LimitHost
	case q.state == queueReady && s.full.has(q.account):
		return engine.LimitAccount
	}
	return ""
}
