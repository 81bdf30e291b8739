package sandbox

import (
	"slices"
	"time"
)

// fairQueue holds the jobs that no child has room for, and shares CPU time fairly: the next job is
// of the account that got the least time recently, and of the program of that account that did. A
// script that takes 1,000 times as long as another gets one run per 1,000 of the other's, and
// delays only itself; an account with many scripts gets no more than one with a single script. (This
// is start-time fair queueing.) The pool's mutex guards it.
type fairQueue struct {
	accounts map[string]*accountQueue
	clock    time.Duration // the time given to the account that was served last
	count    int
}

// accountQueue holds the jobs of one account; it has at least one, or children have some of it.
type accountQueue struct {
	programs map[string]*programQueue // by program hash; compilations share the empty one
	clock    time.Duration            // the time given to the program that was served last
	given    time.Duration            // CPU time; a new queue starts at the clock
	running  int                      // jobs that children have
}

// programQueue holds the jobs of one program, oldest first; it has at least one.
type programQueue struct {
	jobs  []*job
	given time.Duration // CPU time; a new queue starts at the account's clock
}

func (j *job) key() string {
	if j.program == nil {
		return ""
	}
	return j.program.Hash
}

// queueOf returns the queues of a job, which it makes if they are missing.
func (q *fairQueue) queueOf(j *job) (*accountQueue, *programQueue) {
	a := q.accounts[j.account]
	if a == nil {
		if q.accounts == nil {
			q.accounts = map[string]*accountQueue{}
		}
		a = &accountQueue{programs: map[string]*programQueue{}, given: q.clock}
		q.accounts[j.account] = a
	}
	l := a.programs[j.key()]
	if l == nil {
		l = &programQueue{given: a.clock}
		a.programs[j.key()] = l
	}
	return a, l
}

func (q *fairQueue) push(j *job) {
	_, l := q.queueOf(j)
	l.jobs = append(l.jobs, j)
	q.count++
}

// pushFront adds jobs that children gave back at the front: they have waited longest.
func (q *fairQueue) pushFront(jobs []*job) {
	for _, j := range slices.Backward(jobs) {
		q.settle(j, 0)
		_, l := q.queueOf(j)
		l.jobs = append([]*job{j}, l.jobs...)
		q.count++
	}
}

// first returns the job to serve next; nil if the fairQueue is empty.
func (q *fairQueue) first() *job {
	var account *accountQueue
	for _, a := range q.accounts {
		if len(a.programs) > 0 && (account == nil || a.given < account.given) {
			account = a
		}
	}
	if account == nil {
		return nil
	}
	var least *programQueue
	for _, l := range account.programs {
		if least == nil || l.given < least.given || l.given == least.given && l.jobs[0].id < least.jobs[0].id {
			least = l
		}
	}
	return least.jobs[0]
}

// assign removes the first job for a child, and charges its expected cost.
func (q *fairQueue) assign(j *job, cost time.Duration) {
	a, l := q.queueOf(j)
	q.clock, a.clock = max(q.clock, a.given), max(a.clock, l.given)
	j.cost = cost
	a.given += cost
	l.given += cost
	a.running++
	q.remove(j)
}

// settle charges what a job that a child had really took, instead of its expected cost.
func (q *fairQueue) settle(j *job, took time.Duration) {
	if a := q.accounts[j.account]; a != nil {
		a.given += took - j.cost
		if l := a.programs[j.key()]; l != nil {
			l.given += took - j.cost
		}
		a.running--
		q.forget(j.account, a)
	}
}

// charge charges what an account caused beside its jobs.
func (q *fairQueue) charge(account string, took time.Duration) {
	if a := q.accounts[account]; a != nil {
		a.given += took
	}
}

// forget drops an account without jobs.
func (q *fairQueue) forget(name string, a *accountQueue) {
	if a.running == 0 && len(a.programs) == 0 {
		delete(q.accounts, name)
	}
}

// remove removes a job that waits.
func (q *fairQueue) remove(j *job) {
	a := q.accounts[j.account]
	if a == nil || a.programs[j.key()] == nil {
		return
	}
	l := a.programs[j.key()]
	before := len(l.jobs)
	if l.jobs[0] == j {
		l.jobs[0] = nil
		l.jobs = l.jobs[1:]
	} else {
		l.jobs = without(l.jobs, j)
	}
	q.count -= before - len(l.jobs)
	if len(l.jobs) == 0 {
		delete(a.programs, j.key())
	}
	q.forget(j.account, a)
}

// drain removes all jobs that wait.
func (q *fairQueue) drain() (jobs []*job) {
	for name, a := range q.accounts {
		for _, l := range a.programs {
			jobs = append(jobs, l.jobs...)
		}
		clear(a.programs)
		q.forget(name, a)
	}
	q.count = 0
	return jobs
}
