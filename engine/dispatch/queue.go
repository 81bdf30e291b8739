package dispatch

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

const (
	// fetchSize is how many are read from the store at one time.
	fetchSize = 500
	// maxInMemory is how many wait in memory in all.
	maxInMemory = 200_000
	// requeueDelay is how long a subscription pauses whose transform found no time to run.
	requeueDelay = 500 * time.Millisecond
	// growAfter successes in a row give a slowed target one more place in flight.
	growAfter = 8
)

// queue holds the deliveries of one subscription, so that a slow target holds back only
// its own. All fields are guarded by scheduler.mu.
type queue struct {
	id        engine.ID
	account   string
	compiled  *catalog.CompiledSubscription // nil after the subscription was deleted
	waiting   dispatchqueue.Queue
	inFlight  int
	limit     int  // how many may be in flight; shrinks when the target is in trouble
	successes int  // in a row, since limit last changed
	slowStart bool // limit doubles with success: the target was away
	resumeAt  time.Time
	pausedFor time.Duration // that resumeAt was set with
	shortWait time.Duration // the last pause for a shortage, see lacks
	pacer     pacer
	circuit   circuitBreaker
	ready     bool // stands in scheduler.ready, or in scheduler.blocked
	timer     *time.Timer
	wakeAt    time.Time // when timer goes off; zero: it was not set, or went off

	// unsettled events were taken out of line, but their outcome is not on disk yet.
	uncommitted []engine.ID
	// overflow says that more waits in the store. While it is set nothing enters line but
	// what is fetched from there, so the oldest goes first.
	overflow      bool
	pendingSpills int // rows ordered for the overflow and not on disk yet
	fetching      bool
	refetch       bool // something was left in the store while a fetch was on
	fetchStale    bool // the line was made anew while a fetch was on, which knows nothing of what it holds now
}

// runnable tells whether a delivery of q may be started now.
func (q *queue) runnable(now time.Time) bool {
	return q.compiled != nil && q.waiting.IsReady(now) && q.compiled.Sub.Active && !q.compiled.Quarantined.Load() && q.inFlight < q.limit && q.circuit.allows() && !q.notBefore(now).After(now)
}

// notBefore is when q may go on, as far as time decides it: after a pause, at its rate,
// with the next probe. A time that is further ahead than it was when it was set is one of a
// clock that has been set back, and does not count.
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

// reset begins with a target that is new, or was not sent to for a while.
func (q *queue) reset() {
	q.limit, q.successes, q.slowStart = q.compiled.Policy.InFlight, 0, false
	q.resumeAt, q.pacer = time.Time{}, pacer{}
	q.circuit.reset()
}

// startSlow lets what waited go one by one at first, not in a flood.
func (q *queue) startSlow() { q.limit, q.successes, q.slowStart = 1, 0, true }

// growLimit gives back some of the places in flight that a target's trouble took.
func (q *queue) growLimit(full int) {
	need, more := growAfter, 1
	if q.slowStart { // it doubles when all that are out have succeeded
		need, more = q.limit, q.limit
	}
	if q.successes++; q.successes >= need {
		q.limit, q.successes = min(q.limit+more, full), 0
	}
}

// markCommitted forgets an event whose outcome is on disk, or that waits again.
func (q *queue) markCommitted(event engine.ID) {
	if i := slices.Index(q.uncommitted, event); i >= 0 {
		q.uncommitted = slices.Delete(q.uncommitted, i, i+1)
	}
}
