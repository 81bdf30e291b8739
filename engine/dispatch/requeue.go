package dispatch

import (
	"switchhook/engine/resources"
	"time"
)

// requeue returns a batch that was not attempted to its queue.
func (d *Dispatcher) requeue(f *flight, why *resources.Shortage) {
	d.resources.RecordShortage(why)
	known, list := d.scheduler.requeue(f, why)
	d.afterRequeue(f.queue, f.batch, known, list)
}

// halt stops all workers from starting an attempt until resume; s.mu is held.
func (s *scheduler) halt() {
	if s.halted || s.closed {
		return // another attempt in flight has met the same shortage
	}
	if s.halted = true; s.progress {
		s.haltFor = resources.FirstHalt
	} else {
		s.haltFor = min(max(2*s.haltFor, resources.FirstHalt), resources.LastHalt)
	}
	s.progress = false
	time.AfterFunc(s.haltFor, s.resume)
}

// resume ends a halt and wakes the workers.
func (s *scheduler) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = false
	for _, a := range s.eligible.list {
		for range a.ready.Len() {
			s.wakeWorker()
		}
	}
}

// pauseForShortage pauses the queue whose attempt met a shortage, or halts all queues; s.mu is held.
func (s *scheduler) pauseForShortage(q *queue, why *resources.Shortage) {
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
