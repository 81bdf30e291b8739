package sandbox

import (
	"slices"
	"time"
)

// fairQueue holds the jobs that no child has room for, and shares CPU time fairly between
// programs: the next job is of the program that got the least time recently. A script that
// takes 1,000 times as long as another gets one run per 1,000 of the other's, and delays
// only itself. The pool's mutex guards it.
type fairQueue struct {
	byProgram map[string]*programQueue // by program hash; compilations share the empty one
	clock     time.Duration            // the time given to the program that was served last
	count     int
}

// programQueue holds the jobs of one program, oldest first; it has at least one.
type programQueue struct {
	key   string
	jobs  []*job
	given time.Duration // CPU time; a new queue starts at the clock
}

func (j *job) key() string {
	if j.program == nil {
		return ""
	}
	return j.program.Hash
}

func (q *fairQueue) queueOf(j *job) *programQueue {
	key := j.key()
	l := q.byProgram[key]
	if l == nil {
		if q.byProgram == nil {
			q.byProgram = map[string]*programQueue{}
		}
		l = &programQueue{key: key, given: q.clock}
		q.byProgram[key] = l
	}
	return l
}

func (q *fairQueue) push(j *job) {
	l := q.queueOf(j)
	l.jobs = append(l.jobs, j)
	q.count++
}

// pushFront adds jobs that were assigned before at the front: they have waited longest.
func (q *fairQueue) pushFront(jobs []*job) {
	for _, j := range slices.Backward(jobs) {
		l := q.queueOf(j)
		l.jobs = append([]*job{j}, l.jobs...)
		q.count++
	}
}

// first returns the program queue to serve next; nil if the fairQueue is empty.
func (q *fairQueue) first() (least *programQueue) {
	for _, l := range q.byProgram {
		if least == nil || l.given < least.given || l.given == least.given && l.jobs[0].id < least.jobs[0].id {
			least = l
		}
	}
	return least
}

// dequeue removes the oldest job of a program queue and charges its expected cost.
func (q *fairQueue) dequeue(l *programQueue, cost time.Duration) {
	q.clock = max(q.clock, l.given)
	l.given += cost
	l.jobs[0] = nil
	l.jobs = l.jobs[1:]
	q.count--
	if len(l.jobs) == 0 {
		delete(q.byProgram, l.key)
	}
}

// remove removes an abandoned job.
func (q *fairQueue) remove(j *job) {
	l := q.byProgram[j.key()]
	if l == nil {
		return
	}
	before := len(l.jobs)
	l.jobs = without(l.jobs, j)
	q.count -= before - len(l.jobs)
	if len(l.jobs) == 0 {
		delete(q.byProgram, l.key)
	}
}

// drain removes all jobs.
func (q *fairQueue) drain() (jobs []*job) {
	for _, l := range q.byProgram {
		jobs = append(jobs, l.jobs...)
	}
	q.byProgram, q.count = nil, 0
	return jobs
}
