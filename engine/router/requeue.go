package router

import (
	"switchhook/engine/dispatchqueue"
	"time"
)

// requeue lets what was taken, and was not attempted, wait for another moment.
func (d *Dispatcher) requeue(q *queue, p dispatchqueue.Batch, why *shortage) {
	d.resources.noteShortage(why)
	known, list := d.scheduler.requeue(q, p, why)
	d.afterRequeue(q, p, known, list)
}

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
