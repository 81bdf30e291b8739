package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/target"
	"switchhook/scripts"
)

// What the router itself lacks is no failure of a target: no attempt was made. The delivery
// goes back to its queue as it was, and waits: with all others where nothing could be sent
// at all, otherwise with those of its subscription. It is logged, counted, and a reason in
// /readyz.

// Resources that an attempt needs besides those of package target.
const (
	resourceSandbox = "sandbox" // processes that run transforms
	resourceStore   = "store"   // events are read from it
)

// resourceTexts say what is missing, for operators.
var resourceTexts = map[string]string{
	string(target.ShortageFiles):  "file descriptors: raise the limit of open files (ulimit -n, LimitNOFILE), or lower --in-flight",
	string(target.ShortageMemory): "memory of the kernel for connections",
	string(target.ShortagePorts):  "local ports for connections to one address: many were closed of late",
	string(target.ShortageDNS):    "name servers that answer: see /etc/resolv.conf",
	string(target.ShortageProxy):  "the proxy for targets: see --target-proxy",
	resourceSandbox:               "processes that run transforms: none can be started",
	resourceStore:                 "events: they can't be read from the database",
}

// shortage is what an attempt could not be made for. The zero shortage is a sandbox that
// was only busy.
type shortage struct {
	resource string
	err      error
}

// everywhere reports whether no delivery can be attempted. Ports are missing for one
// address, names for hosts that have none kept open: the targets of others can be reached.
func (s *shortage) everywhere() bool {
	switch target.Shortage(s.resource) {
	case target.ShortageFiles, target.ShortageMemory, target.ShortageProxy:
		return true
	}
	return false
}

// shortageIn tells what the router lacked for an attempt; nil where it was made.
func (e *Engine) shortageIn(x retry.Result, phase string) *shortage {
	if x.Err == nil {
		return nil
	}
	var script *scripts.Error
	if errors.As(x.Err, &script) {
		switch {
		case script.ScriptFault():
			return nil
		case script.Cause == nil:
			return &shortage{}
		}
		return &shortage{resourceSandbox, script.Cause}
	}
	switch phase {
	case phaseEvent:
		if code := engine.ErrorCode(x.Err); code == engine.CodeNotFound || code == engine.CodeUnreadable {
			return nil // which is so the next time, too
		}
		return &shortage{resourceStore, x.Err}
	case phaseTransform, phaseRefused:
		return nil
	}
	if resource := e.cfg.Guard.Shortage(x.Err); resource != "" {
		return &shortage{string(resource), cause(x.Err)}
	}
	return nil
}

// cause is why a request was not sent, with the addresses that the target's owner is not
// shown.
func cause(err error) error {
	var failed *target.Error
	if errors.As(err, &failed) && failed.Unwrap() != nil {
		return failed.Unwrap()
	}
	return err
}

// requeue lets what was taken, and was not attempted, wait for another moment.
func (e *Engine) requeue(q *queue, p dispatchqueue.Batch, why *shortage) {
	e.noteShortage(why)
	known, list := e.scheduler.requeue(q, p, why)
	e.afterRequeue(q, p, known, list)
}

// noteShortage counts and tells a shortage.
func (e *Engine) noteShortage(why *shortage) {
	if why == nil || why.resource == "" {
		return
	}
	e.metrics.shortages.WithLabelValues(why.resource).Inc()
	if why.everywhere() { // they may be kept connections that nobody uses
		if t, ok := e.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
	if e.shortages.note(why, time.Now()) {
		e.log.Error("deliveries wait: the router lacks "+resourceTexts[why.resource], "resource", why.resource, "error", why.err)
	}
}

const (
	// shortageLogged is how often a shortage that goes on is logged.
	shortageLogged = time.Minute
	// shortageShown is how long one shows after it was met last: longer than deliveries wait
	// that met it.
	shortageShown = 2 * maxShortWait
)

// shortages are what the router lacks, or lacked a moment ago. The times are of a clock
// that nobody sets.
type shortages struct {
	any atomic.Bool // there is one
	mu  sync.Mutex
	now map[string]*shortageSeen
}

type shortageSeen struct{ last, logged time.Time }

// recordStrike keeps a shortage, and reports whether it is to be logged.
func (s *shortages) note(why *shortage, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.now[why.resource]
	if seen == nil {
		if s.now == nil {
			s.now = map[string]*shortageSeen{}
		}
		seen = &shortageSeen{}
		s.now[why.resource] = seen
		s.any.Store(true)
	}
	seen.last = now
	if !seen.logged.IsZero() && now.Sub(seen.logged) < shortageLogged {
		return false
	}
	seen.logged = now
	return true
}

// current lists what is lacking. over are those that have not been met for so long that
// they are not lacking any more.
func (s *shortages) current(now time.Time) (lacking, over []string) {
	if !s.any.Load() {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for resource, seen := range s.now {
		if now.Sub(seen.last) < shortageShown {
			lacking = append(lacking, resource)
			continue
		}
		over = append(over, resource)
		delete(s.now, resource)
	}
	s.any.Store(len(s.now) > 0)
	slices.Sort(lacking)
	return lacking, over
}

// lookAtShortages logs those that are over.
func (e *Engine) lookAtShortages() []string {
	lacking, over := e.shortages.current(time.Now())
	for _, resource := range over {
		e.log.Info("deliveries go on: what the router lacked is there again", "resource", resource)
	}
	return lacking
}

// Lacking says, a sentence each, for want of what deliveries wait; nil for want of nothing.
// Events are accepted all the same.
func (e *Engine) Lacking() (reasons []string) {
	for _, resource := range e.lookAtShortages() {
		reasons = append(reasons, "deliveries wait: the router lacks "+resourceTexts[resource])
	}
	return reasons
}

// shortageError is what somebody is told who waits for an attempt.
func (why *shortage) Error() string {
	if why.resource == "" {
		return "the sandbox has no time for the transform; try again in a moment"
	}
	text, _, _ := strings.Cut(resourceTexts[why.resource], ":")
	return fmt.Sprintf("nothing was sent: the router lacks %s; try again later", text)
}

const (
	// Deliveries wait first firstHalt for what all of them lack, and twice as long each time
	// in which none went out, up to lastHalt.
	firstHalt = 50 * time.Millisecond
	lastHalt  = 5 * time.Second
	// Likewise for what those of one subscription lack.
	firstShortWait = 500 * time.Millisecond
	maxShortWait   = 30 * time.Second
)

// halt keeps all workers from starting an attempt for a while; s.mu is held.
func (s *scheduler) halt() {
	if s.halted || s.closed {
		return // by another attempt that was on its way then
	}
	if s.halted = true; s.progress {
		s.haltFor = firstHalt
	} else {
		s.haltFor = min(max(2*s.haltFor, firstHalt), lastHalt)
	}
	s.progress = false
	time.AfterFunc(s.haltFor, s.resume)
}

// resume lets the workers go on.
func (s *scheduler) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = false
	for range s.ready.Len() {
		s.wakeWorker()
	}
}

// lacks notes for how long a queue waits that was short of something; s.mu is held.
func (s *scheduler) lacks(q *queue, why *shortage) {
	switch {
	case why == nil || why.resource == "":
		s.pause(q, requeueDelay)
	case why.everywhere():
		s.halt()
	default:
		q.shortWait = min(max(2*q.shortWait, firstShortWait), maxShortWait)
		s.pause(q, q.shortWait)
	}
}
