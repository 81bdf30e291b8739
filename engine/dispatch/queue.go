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
	// maxInMemory is the number of deliveries in memory over all subscriptions.
	maxInMemory = 200_000
	// requeueDelay is how long a subscription pauses if the sandbox had no time for its transform.
	requeueDelay = 500 * time.Millisecond
	// growAfter is the number of successes in a row that raise a lowered in-flight limit by one.
	growAfter = 8
)

// queue holds the deliveries of one subscription, so that a slow target delays only its own. All
// fields are guarded by scheduler.mu.
//
//	state                  fields                            what ends it
//	empty                  waiting.Len() == 0                enqueue, fetch
//	waiting for time       resumeAt, pacer, NextProbeAt      timer (scheduleWakeup)
//	runnable               ready, in scheduler.ready         next
//	blocked by account     ready, in scheduler.blocked       unblockAccount
//	at its limit           inFlight == limit                 finish, requeue
//	waiting for earlier    in scheduler.waitingForEarlier    releaseWaiting
//	overflowing            overflow: more is in the store    a fetch that read everything
//	fetching               fetching                          completeFetch; refetch asks for another
//
// Overflow is for plain FIFOs; ordered queues track what is in the store themselves.
type queue struct {
	id        engine.ID
	account   string
	compiled  *catalog.CompiledSubscription // nil after the subscription was deleted
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
	ready     bool // is in scheduler.ready or in scheduler.blocked
	timer     *time.Timer
	wakeAt    time.Time // when timer fires; zero: it is not set

	// uncommitted are the events that left the queue and whose outcome is not on disk yet.
	uncommitted []engine.ID
	// overflow means that more waits in the store. While it is set only fetched deliveries enter
	// the queue, so the oldest is attempted first.
	overflow      bool
	pendingSpills int // rows handed to the store's writer by spill and not on disk yet
	fetching      bool
	refetch       bool // deliveries were left in the store during a fetch
	fetchStale    bool // the queue was rebuilt during a fetch, whose rows must be discarded
}

// runnable reports whether an attempt of q may start now, not considering its account.
func (q *queue) runnable(now time.Time) bool {
	return q.compiled != nil && q.waiting.IsReady(now) && q.compiled.Sub.Active && !q.compiled.Quarantined.Load() && q.inFlight < q.limit && q.circuit.allows() && !q.notBefore(now).After(now)
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

// markCommitted removes an event whose outcome is on disk, or that is queued again.
func (q *queue) markCommitted(event engine.ID) {
	if i := slices.Index(q.uncommitted, event); i >= 0 {
		q.uncommitted = slices.Delete(q.uncommitted, i, i+1)
	}
}
