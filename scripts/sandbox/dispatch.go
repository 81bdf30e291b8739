package sandbox

import (
	"errors"
	"slices"
	"time"

	"switchhook/scripts"
)

const (
	maxPipelined = 32 // maximum number of jobs of a child
	maxDeaths    = 4  // children that may die with a job that is not known to be the cause

	processCost = 20 * time.Millisecond // CPU time of starting a child, charged to the account that ended one
)

// job is one queued or running run or compilation.
type job struct {
	id      uint64
	account string           // whose share of the processes' time it uses; empty: of those that name none
	program *scripts.Program // nil: compile
	frame   []byte           // the fields after job and program
	done    chan outcome     // capacity 1: the first outcome counts

	estimate  *estimate     // of the program; nil for a compilation
	cost      time.Duration // its estimate when it was given to a child
	deaths    int           // children that died while they had it
	abandoned bool          // its caller has stopped waiting
}

type outcome struct {
	result  scripts.Result
	program *scripts.Program
	err     *scripts.Error
	cpu     time.Duration // as the child reports it, which may lie
}

// finish sends the outcome to the caller. p.mu must be held.
func (j *job) finish(out outcome) {
	j.abandoned = true
	select {
	case j.done <- out:
	default: // it was reclaimed and run twice, and this is the second answer
	}
}

// dispatch gives queued jobs to the least loaded children, but only as many as keep the wait
// behind other jobs short. p.mu must be held.
func (p *Pool) dispatch() {
	for p.queue.count > 0 {
		j := p.queue.first()
		if j.abandoned {
			p.queue.remove(j)
			continue
		}
		var least *process
		for _, c := range p.active {
			if c.killed == nil && !c.slow && len(c.running) < maxPipelined && (least == nil || c.load < least.load) {
				least = c
			}
		}
		if least == nil {
			return
		}
		cost := j.estimate.cost()
		if len(least.running) > 0 && least.load+cost > lookahead {
			return
		}
		p.queue.assign(j, cost)
		least.load += cost
		if len(least.running) == 0 {
			least.seenSince = time.Time{}
			signal(p.busy)
		}
		least.running[j.id] = j
		least.pending = append(least.pending, j)
		signal(least.wake)
	}
}

// onAnswer delivers a child's answer to the job's caller.
func (p *Pool) onAnswer(c *process, id uint64, out outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := min(max(0, out.cpu), p.cfg.Limits.Hard*compileAllowed)
	j := c.running[id]
	if j != nil {
		p.queue.settle(j, took)
	} else if j = c.reclaimed[id]; j != nil { // but the child had already started it: the answer is valid
		p.queue.charge(j.account, took)
	}
	if j != nil {
		j.estimate.learn(took, p.cfg.Limits.Hard)
		j.finish(out)
	}
	p.complete(c, id)
}

// onSkipped records that a child has skipped a reclaimed job.
func (p *Pool) onSkipped(c *process, id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.running[id] != nil {
		return errMalformed // it was not told to skip this job
	}
	p.complete(c, id)
	return nil
}

// complete removes a job from a child and gives the child more jobs, unless reclaimed jobs
// are still unanswered. p.mu must be held.
func (p *Pool) complete(c *process, id uint64) {
	if j := c.running[id]; j != nil {
		delete(c.running, id)
		c.load -= j.cost
	}
	if _, ok := c.reclaimed[id]; ok {
		delete(c.reclaimed, id)
		if len(c.reclaimed) == 0 {
			c.shared.skip(nil) // the same job may be assigned again
		}
	}
	if len(c.reclaimed) == 0 {
		c.slow = false
	}
	if p.queue.count > 0 {
		p.dispatch()
	}
}

// onReady makes a child that is ready available for jobs.
func (p *Pool) onReady(c *process, protections Protections) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ready {
		return errMalformed
	}
	c.ready = true
	p.failures, p.startErr = 0, nil
	p.proven = p.proven || c.isolated
	p.protections = protections
	if p.spare == nil && len(p.active) >= max(1, p.cfg.Processes-1) {
		p.spare = c
	} else {
		p.active = append(p.active, c)
		p.dispatch()
	}
	p.firstOnce.Do(func() { p.first <- nil })
	return nil
}

// onExit handles the jobs of a child that has ended: the one it was running fails, the others
// are run by other children. The spare child replaces it.
func (p *Pool) onExit(c *process, readErr error) {
	report := func() {} // the log is written without the lock: it may block
	defer func() { report() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	id, why := c.exitReason(readErr)
	delete(p.all, c)
	if p.spare == c {
		p.spare = nil
	}
	p.active = slices.DeleteFunc(p.active, func(other *process) bool { return other == c })
	if p.isClosed {
		p.failAll(c.running)
		return
	}
	retired := c.killed == nil && c.cmd.ProcessState.Success()
	switch {
	case !c.ready:
		why = startFailure(why, c.stderr.String())
		if p.onEarlyExit(why) {
			report = func() {
				p.log.Error("sandbox process ended before it was ready", "reason", why.Message, "stderr", c.stderr.String())
			}
		}
	case c.running[id] != nil:
		report = func() {
			p.log.Warn("sandbox process ended by a script", "reason", why.Message, "phase", string(why.Phase))
		}
	case !retired:
		report = func() { p.log.Warn("sandbox process ended", "reason", why.Message, "stderr", c.stderr.String()) }
	}
	if c.ready && p.spare != nil {
		p.active, p.spare = append(p.active, p.spare), nil
	}
	signal(p.refill)
	p.ended[c.endedFor(retired, why)]++
	p.reassign(c, id, why, retired)
}

// onEarlyExit handles the end of a child that was never ready. It reports whether the log should
// have it. p.mu must be held.
func (p *Pool) onEarlyExit(why *scripts.Error) (report bool) {
	p.onStartFailure(errors.New(why.Message))
	if p.isolated && !p.proven {
		p.isolated = false // the namespaces may be the cause
	} else {
		p.firstOnce.Do(func() { p.first <- errors.New("sandbox process: " + why.Message) })
	}
	return p.failures%logEvery == 1
}

// reassign fails the job that ended a child and queues its other ones again. A child that retired
// was ended by none. p.mu must be held.
func (p *Pool) reassign(c *process, culprit uint64, why *scripts.Error, retired bool) {
	var again []*job
	for _, j := range c.running {
		if !retired {
			j.deaths++
		}
		isCulprit := !retired && j.id == culprit
		switch {
		case isCulprit:
			p.queue.settle(j, why.CPU+processCost)
			j.estimate.learn(why.CPU, p.cfg.Limits.Hard)
			j.finish(outcome{err: why})
		case j.deaths > maxDeaths && !retired:
			p.queue.settle(j, 0)
			j.finish(outcome{err: why})
		default:
			again = append(again, j)
		}
	}
	c.running = nil
	p.queue.pushFront(again)
	p.dispatch()
}
