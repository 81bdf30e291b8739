package dispatch

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

const (
	// fetchSize is the number of rows that one fetch reads from the store.
	fetchSize = 500
	// leastFetch is the number of rows that it reads if memory is short.
	leastFetch = 10
	// soon is the time within which what waits in memory should be attempted: behind a delivery that
	// has waited for longer only dispatchqueue.Capacity others do.
	soon = 5 * time.Second
	// requeueDelay is how long a subscription pauses if the sandbox had no time for its transform.
	requeueDelay = 500 * time.Millisecond
	// growAfter is the number of successes in a row that raise a lowered in-flight limit by one.
	growAfter = 8
)

// queueState says whether the next attempt of a queue may start. scheduler.evaluate computes it, and
// scheduler.enter sets it.
//
//	state     the next attempt              leaves it when
//	idle      can't start                   something changes: an enqueue, a fetch, the end of an attempt,
//	                                        the settings, or all earlier events are queued
//	timed     waits for a time              the timer fires, or something changes
//	ready     may start: in account.ready   a worker takes it: its account may start an attempt, and
//	                                        is the one that used the least
//	blocked   waits for its host, which     an attempt to the host ends, or its rate allows one
//	          is at a limit of its shield:
//	          in hostShield.waiting
type queueState uint8

const (
	queueIdle queueState = iota
	queueTimed
	queueReady
	queueBlocked
)

// backlogState says where the deliveries are that are not in memory. While it is not inMemory only
// fetched deliveries enter a plain queue, so the oldest is attempted first. An ordered queue tracks
// itself what is in the store: it is only inMemory or fetching.
//
//	state          leftInStore    fetchStarted  fetchedAll  fetchedSome
//	inMemory       inStore        fetching*     -           -
//	inStore        inStore        fetching      -           -
//	fetching       fetchingStale  -             inMemory    inStore
//	fetchingStale  fetchingStale  -             inStore     inStore
//
// * of an ordered queue. A fetch that runs while its queue is rebuilt or closed is not the queue's
// any more: its rows are discarded, and the new queue starts over.
type backlogState uint8

const (
	inMemory      backlogState = iota // all that waits is in memory
	inStore                           // more waits in the store
	fetching                          // more waits in the store, and is being read
	fetchingStale                     // and something was left in the store since the fetch began
)

// backlogChange is what happens to the deliveries that are not in memory.
type backlogChange uint8

const (
	leftInStore  backlogChange = iota // a delivery was left in the store
	fetchStarted                      // a fetch began
	fetchedAll                        // it read everything that waits, and no row is on its way
	fetchedSome                       // it did not
)

// after returns the state that follows a change. Changes that can't happen leave the state.
func (b backlogState) after(change backlogChange) backlogState {
	switch {
	case change == fetchStarted:
		return fetching
	case change == leftInStore && b >= fetching:
		return fetchingStale
	case change == fetchedAll && b == fetching:
		return inMemory
	}
	return inStore
}

// queue holds the deliveries of one subscription, so that a slow target delays only its own. All
// fields are guarded by scheduler.mu.
type queue struct {
	id        engine.ID
	account   *account
	compiled  *catalog.CompiledSubscription // nil after the subscription was deleted
	state     queueState
	turn      turn        // among the queues of its account
	shield    *hostShield // of the target's host; nil if the target's URL can't be used
	waiting   dispatchqueue.Queue
	inFlight  int
	limit     int  // in-flight limit; lowered while the target is overloaded
	successes int  // in a row, since limit last changed
	slowStart bool // limit doubles with success: the target was unavailable
	resumeAt  time.Time
	pausedFor time.Duration // the pause that set resumeAt
	shortWait time.Duration // the last pause for a shortage, see pauseForShortage
	pacer     pacer
	circuit   circuitBreaker
	fastest   fastest // of its attempts
	timer     *time.Timer
	wakeAt    time.Time // when timer fires; zero: it is not set

	// uncommitted are the events that left the queue and whose outcome is not on disk yet.
	uncommitted []engine.ID
	backlog     backlogState
	fetch       *fetch // the one that runs; nil: none
}

// fetch is a read of waiting deliveries from the store.
type fetch struct {
	queue    *queue
	compiled *catalog.CompiledSubscription
	known    map[engine.ID]bool         // events to skip: in memory, or their outcome is not on disk
	ordered  dispatchqueue.OrderedQueue // the queue that the rows are for; nil: a plain FIFO
	from     engine.Position            // of the first row, if ordered
	rows     int                        // that it reads at most
}

// notBefore returns the earliest time of q's next attempt, by its pause, its rate and the next
// probe. A time further ahead than when it was set means that the clock was set back; it is
// ignored.
func (q *queue) notBefore(now time.Time) (at time.Time) {
	consider := func(other time.Time, most time.Duration) {
		if other.After(at) && !other.After(now.Add(most)) {
			at = other
		}
	}
	consider(q.resumeAt, q.pausedFor)
	consider(q.pacer.at, q.pacer.interval)
	if probe := q.circuit.probeAt(now); probe.After(at) {
		at = probe
	}
	return at
}

// leaveInStore records that deliveries from a position on must be read from the store.
func (q *queue) leaveInStore(from engine.Position) {
	if q.waiting.Ordered != nil {
		q.waiting.Ordered.MarkInStore(from)
	} else {
		q.backlog = q.backlog.after(leftInStore)
	}
}

// reset forgets the state of the target: it is new, or the subscription was reactivated.
func (q *queue) reset() {
	q.limit, q.successes, q.slowStart = q.compiled.Policy.InFlight, 0, false
	q.resumeAt, q.pacer = time.Time{}, pacer{}
	q.circuit.reset()
}

// startSlow lowers the in-flight limit to one, from where growLimit doubles it.
func (q *queue) startSlow() { q.limit, q.successes, q.slowStart = 1, 0, true }

// growLimit records a success and raises the in-flight limit towards full.
func (q *queue) growLimit(full int) {
	need, more := growAfter, 1
	if q.slowStart { // it doubles once all attempts in flight have succeeded
		need, more = q.limit, q.limit
	}
	if q.successes++; q.successes >= need {
		q.limit, q.successes = min(q.limit+more, full), 0
	}
}

// markUncommitted adds an event whose outcome must reach the disk.
func (q *queue) markUncommitted(event engine.ID) {
	if !slices.Contains(q.uncommitted, event) {
		q.uncommitted = append(q.uncommitted, event)
	}
}

// markCommitted removes an event whose outcome is on disk, or that is queued again.
func (q *queue) markCommitted(event engine.ID) {
	if i := slices.Index(q.uncommitted, event); i >= 0 {
		q.uncommitted = slices.Delete(q.uncommitted, i, i+1)
	}
}

// uncommittedSet returns the events whose outcome is not on disk.
func (q *queue) uncommittedSet(size int) map[engine.ID]bool {
	ids := make(map[engine.ID]bool, size+len(q.uncommitted))
	for _, id := range q.uncommitted {
		ids[id] = true
	}
	return ids
}
