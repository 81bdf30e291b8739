package sandbox

import (
	"slices"
	"time"
)

// fairQueue holds the jobs that no child has room for, and gives each program its share of
// the CPU: next is the program that was given the least time of late. A script that takes
// 1,000 times as long as another has one run for 1,000 of the other's, and holds back
// nobody but itself. The pool's mutex guards it.
type fairQueue struct {
	lanes map[string]*lane // by program's hash; compilations share the empty one
	clock time.Duration    // the time given to the lane that was served last
	count int
}

// lane is the jobs of one program, oldest first; there is at least one.
type lane struct {
	key   string
	jobs  []*job
	given time.Duration // of CPU; a lane begins where the clock stands
}

func (j *job) key() string {
	if j.program == nil {
		return ""
	}
	return j.program.Hash
}

func (q *fairQueue) lane(j *job) *lane {
	key := j.key()
	l := q.lanes[key]
	if l == nil {
		if q.lanes == nil {
			q.lanes = map[string]*lane{}
		}
		l = &lane{key: key, given: q.clock}
		q.lanes[key] = l
	}
	return l
}

func (q *fairQueue) push(j *job) {
	l := q.lane(j)
	l.jobs = append(l.jobs, j)
	q.count++
}

// pushFront is for jobs that were given out before: they have waited longest.
func (q *fairQueue) pushFront(jobs []*job) {
	for _, j := range slices.Backward(jobs) {
		l := q.lane(j)
		l.jobs = append([]*job{j}, l.jobs...)
		q.count++
	}
}

// first gives the lane whose turn it is; nil where nothing waits.
func (q *fairQueue) first() (least *lane) {
	for _, l := range q.lanes {
		if least == nil || l.given < least.given || l.given == least.given && l.jobs[0].id < least.jobs[0].id {
			least = l
		}
	}
	return least
}

// take removes the oldest job of a lane, which is to cost so much.
func (q *fairQueue) take(l *lane, cost time.Duration) {
	q.clock = max(q.clock, l.given)
	l.given += cost
	l.jobs[0] = nil
	l.jobs = l.jobs[1:]
	q.count--
	if len(l.jobs) == 0 {
		delete(q.lanes, l.key)
	}
}

// remove takes a job out that nobody waits for any more.
func (q *fairQueue) remove(j *job) {
	l := q.lanes[j.key()]
	if l == nil {
		return
	}
	before := len(l.jobs)
	l.jobs = without(l.jobs, j)
	q.count -= before - len(l.jobs)
	if len(l.jobs) == 0 {
		delete(q.lanes, l.key)
	}
}

// drain empties the queue.
func (q *fairQueue) drain() (jobs []*job) {
	for _, l := range q.lanes {
		jobs = append(jobs, l.jobs...)
	}
	q.lanes, q.count = nil, 0
	return jobs
}
