package dispatch

import (
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/resources"
	"time"
)

// requeue lets what was taken, and was not attempted, wait for another moment.
func (d *Dispatcher) requeue(q *queue, p dispatchqueue.Batch, why *resources.Shortage) {
	d.resources.RecordShortage(why)
	known, list := d.scheduler.requeue(q, p, why)
	d.afterRequeue(q, p, known, list)
}

// halt keeps all workers from starting an attempt for a while; s.mu is held.
func (s *scheduler) halt() {
	if s.halted || s.closed {
		return // by another attempt that was on its way then
	}
	if s.halted = true; s.progress {
		s.haltFor = resources.FirstHalt
	} else {
		s.haltFor = min(max(2*s.haltFor, resources.FirstHalt), resources.LastHalt)
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
func (s *scheduler) lacks(q *queue, why *resources.Shortage) {
	switch {
	case why == nil || why.Resource == "":
		s.pause(q, requeueDelay)
	case why.Everywhere():
		s.halt()
	default:
		q.shortWait = min(max(2*q.shortWait, resources.FirstShortWait), resources.MaxShortWait)
		s.pause(q, q.shortWait)
	}
}
