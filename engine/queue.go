package engine

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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
	attempts int       // made before
	renewed  time.Time // see Outcome.RenewedAt
	held     *held     // nil: the event is to be read from the store
	fresh    *fresh    // nil: the delivery has a row already
	slot     int       // of the subscription in fresh.targets
	group    uint64    // in which it stands, see grouping
	mark     uint64    // of the manner that group follows; 0: it has none
	failed   bool      // waits for its retry
}

// queue holds the deliveries of one subscription, so that a slow target holds back only
// its own. All fields are guarded by scheduler.mu.
type queue struct {
	id        ID
	account   string
	route     *route // nil after the subscription was deleted
	line      line
	inFlight  int
	limit     int  // how many may be in flight; shrinks when the target is in trouble
	successes int  // in a row, since limit last changed
	slowStart bool // limit doubles with success: the target was away
	resumeAt  time.Time
	pausedFor time.Duration // that resumeAt was set with
	pace      pace
	circuit   circuit
	ready     bool // stands in scheduler.ready, or in scheduler.blocked
	timer     *time.Timer
	wakeAt    time.Time // when timer goes off; zero: it was not set, or went off

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
	return q.route != nil && q.line.ready(now) && q.route.sub.Active && !q.route.held.Load() && q.inFlight < q.limit && q.circuit.admits() && !q.restsUntil(now).After(now)
}

// restsUntil is when q may go on, as far as time decides it: after a pause, at its rate,
// with the next probe. A time that is further ahead than it was when it was set is one of a
// clock that has been set back, and does not count.
func (q *queue) restsUntil(now time.Time) (at time.Time) {
	consider := func(other time.Time, most time.Duration) {
		if other.After(at) && !other.After(now.Add(most)) {
			at = other
		}
	}
	consider(q.resumeAt, q.pausedFor)
	consider(q.pace.at, q.pace.interval)
	if probe := q.circuit.probeAt(now); probe.After(at) {
		at = probe
	}
	return at
}

// restart begins with a target that is new, or was not sent to for a while.
func (q *queue) restart() {
	q.limit, q.successes, q.slowStart = q.route.terms.inFlight, 0, false
	q.resumeAt, q.pace = time.Time{}, pace{}
	q.circuit.reset()
}

// startSlowly lets what waited go one by one at first, not in a flood.
func (q *queue) startSlowly() { q.limit, q.successes, q.slowStart = 1, 0, true }

// scheduler picks what is delivered next: round robin over the subscriptions that have
// something to send, a free place in flight and no pause.
type scheduler struct {
	now   func() time.Time
	fetch func(*queue) // orders more from the store; must not block
	// fetchSorted orders, for a line that sorts, what there is from an event on.
	fetchSorted func(q *queue, line sorter, r *route, from ID)
	queued      func(event ID) bool // tells whether all events up to one have been queued
	spawn       func()              // starts a worker, if there may be another; must not block

	mu     sync.Mutex
	wake   *sync.Cond
	queues map[ID]*queue
	ready  fifo[*queue]
	idle   int // workers that wait and were not woken
	total  int // entries in all lines
	// changed are the queues whose circuit is not on disk as it is.
	changed map[ID]*queue
	begun   bool // recovery is through: the store tells all that waits
	closed  bool

	deactivateAfter time.Duration // of nothing but failure; 0: never

	gated    []*queue    // wait until earlier events have been queued
	anyGated atomic.Bool // gated holds some, or is about to

	// No account may take all workers: its slow targets would hold back everybody else's.
	share   int // attempts at one time of one account
	flying  map[string]int
	blocked map[string]*fifo[*queue] // queues that could run, but for their account's share
}

func newScheduler(now func() time.Time, share int) *scheduler {
	s := &scheduler{now: now, share: share, queues: map[ID]*queue{}, changed: map[ID]*queue{}, flying: map[string]int{}, blocked: map[string]*fifo[*queue]{}}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// setRoute makes, changes or, with a nil route, closes the queue of a subscription. The
// entries of a closed queue are given back, and what a changed one can't keep is to be set
// aside.
func (s *scheduler) setRoute(id ID, r *route) (orphans []entry, list []aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if r == nil {
		if q == nil {
			return nil, nil
		}
		orphans = slices.Clone(q.line.all())
		s.total -= q.line.len()
		q.route = nil
		q.line.clear()
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
	q.line.batch = r.sub.Batch
	if old == nil {
		q.line.sorted = s.sorterFor(q, r.grouping.manner)
		if q.line.sorted != nil && !s.begun {
			q.line.sorted.leave(1) // an earlier run may have left anything
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

// place says what became of a delivery that was to be queued.
type place int

const (
	placeQueued place = iota // waits in memory, or in the store if it has a row
	placeStore               // is to wait in the store: order its row, then call spilled
	placeNone                // its subscription is gone
)

// add queues a fresh delivery. What it pushes aside is given back.
func (s *scheduler) add(id ID, en entry) (place, *queue, []aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return placeNone, nil, nil
	}
	if q.line.sorted != nil || en.mark != 0 {
		return s.addSorted(q, en)
	}
	if q.overflow || q.line.len() >= queueRoom || s.total >= memoryRoom {
		q.overflow = true
		s.spill(q, en.event)
		return placeStore, q, nil
	}
	q.line.push(en)
	s.total++
	s.offer(q)
	return placeQueued, q, nil
}

// addStored queues a delivery that has a pending row, since its retry is due or, byHand,
// since a user wants it; known is false where the subscription is gone.
func (s *scheduler) addStored(id ID, en entry, byHand bool) (known bool, q *queue, list []aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q = s.queues[id]
	if q == nil {
		return false, nil, nil
	}
	switch was := q.line.len(); {
	case en.mark != q.route.grouping.mark:
		s.again(q, en.event)
	case q.line.sorted != nil && byHand:
		list = q.line.sorted.retry(en)
		s.count(q, was, list)
	case q.line.sorted != nil:
		list = q.line.sorted.due(en)
		s.count(q, was, list)
	case q.overflow || was >= queueRoom || s.total >= memoryRoom:
		q.overflow, q.refetch = true, true
	default:
		q.line.push(en)
		s.total++
	}
	s.offer(q)
	return true, q, list
}

// more says that the store holds deliveries of a subscription; known as in addStored.
func (s *scheduler) more(id ID) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		return false
	}
	if q.line.sorted == nil { // which reads everything anyway
		q.overflow = true
	}
	s.offer(q)
	return true
}

// spilled notes that a row ordered by spill is on disk; known is false where the
// subscription is gone.
func (s *scheduler) spilled(q *queue, event ID) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.spilling--
	q.refetch = true
	if q.line.sorted != nil {
		q.line.sorted.spilled(event)
	}
	s.offer(q)
	return q.route != nil
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
	if q.line.sorted != nil || q.line.batch.Size > 0 {
		s.offerSorted(q)
	}
	now := s.now()
	if q.ready || !q.route.sub.Active || q.line.len() == 0 {
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
			s.blocked[q.account] = &fifo[*queue]{}
		}
		s.blocked[q.account].push(q)
		return
	}
	s.ready.push(q)
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
	if q.line.sorted != nil { // since a moment ago
		s.offer(q)
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
			s.offer(q) // it may have to be woken later
			s.unblock(q.account)
			continue
		}
		if s.flying[q.account] >= s.share { // others of the account were faster
			s.offer(q)
			continue
		}
		s.flying[q.account]++
		was := q.line.len()
		p = q.line.take()
		p.resumed = q.circuit.ResumedAt
		s.total -= was - q.line.len()
		q.inFlight++
		q.pace.take(now, q.route.terms.interval)
		q.circuit.began(p.first.event)
		for i := range p.len() {
			q.unsettled = append(q.unsettled, p.at(i).event)
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
	for waiting != nil && waiting.len() > 0 {
		next := waiting.pop()
		if next.ready = next.runnable(s.now()); next.ready {
			s.ready.push(next)
			s.hire()
			break
		}
		s.offer(next) // it comes back when what stops it is over
	}
	if waiting != nil && waiting.len() == 0 {
		delete(s.blocked, account)
	}
}

// putBack queues again what was taken and not attempted, for a moment later; known is
// false where the subscription is gone. What the line can't keep is given back.
func (s *scheduler) putBack(q *queue, p parcel) (known bool, list []aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.circuit.ended(p.first.event)
	s.landed(q)
	if known, list = s.returned(q, &p); known {
		s.pause(q, putBackFor)
		s.offer(q)
	}
	return known, list
}

// finish gives back q's place in flight and heeds what the attempt said of the target.
func (s *scheduler) finish(q *queue, r *route, p parcel, v verdict) (n news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	probe := q.circuit.ended(p.first.event)
	s.landed(q)
	if q.route == nil || q.route.sub.TargetURL != r.sub.TargetURL {
		s.offer(q)
		return n
	}
	before := q.circuit.Health
	n = q.circuit.heed(v, p.first.event, probe, s.now())
	if q.circuit.Health != before {
		s.changed[q.id] = q
	}
	switch full := q.route.terms.inFlight; {
	case v.trouble:
		q.limit, q.successes, q.slowStart = max(1, q.limit/2), 0, false
	case n.closed:
		q.startSlowly()
	case q.limit < full && v.reply == replyGood:
		q.restore(full)
	}
	if v.slowDown > 0 {
		s.pause(q, v.slowDown)
	}
	n.hopeless = n.health.hopeless(s.deactivateAfter, s.now())
	s.offer(q)
	return n
}

// restore gives back some of the places in flight that a target's trouble took.
func (q *queue) restore(full int) {
	need, more := restoreAfter, 1
	if q.slowStart { // it doubles when all that are out have succeeded
		need, more = q.limit, q.limit
	}
	if q.successes++; q.successes >= need {
		q.limit, q.successes = min(q.limit+more, full), 0
	}
}

// pause leaves a target alone for a while; s.mu is held, and q is offered after it.
func (s *scheduler) pause(q *queue, d time.Duration) {
	now := s.now()
	if until := now.Add(d); until.After(q.resumeAt) || q.resumeAt.After(now.Add(q.pausedFor)) {
		q.resumeAt, q.pausedFor = until, d
	}
}

// giveUpAt is when a delivery is dead, whatever its schedule says. resumed is when the
// subscription was last switched on again.
func (r *route) giveUpAt(en *entry, resumed time.Time) time.Time {
	from := en.event.Time()
	if en.renewed.After(from) {
		from = en.renewed
	}
	// What waited while the subscription was off must not be dead when it is on again.
	if !r.terms.strictAge && resumed.After(from) {
		from = resumed
	}
	return from.Add(r.terms.giveUpAfter)
}

// takeOld takes out of memory what waits in q and is to be given up.
func (s *scheduler) takeOld(q *queue) (r *route, old []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r = q.route; r == nil || !r.sub.Active || q.line.len() == 0 {
		return r, nil
	}
	now := s.now()
	old = q.line.cut(func(en *entry) bool { return now.After(r.giveUpAt(en, q.circuit.ResumedAt)) })
	for _, en := range old {
		q.unsettled = append(q.unsettled, en.event)
	}
	if s.total -= len(old); len(old) > 0 {
		s.offer(q)
	}
	return r, old
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
	if q.line.sorted != nil {
		q.line.sorted.note(event, settledMeanwhile)
	}
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
