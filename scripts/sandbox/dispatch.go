package sandbox

import (
	"errors"
	"time"

	"switchhook/scripts"
)

const (
	maxPipelined = 32 // maximum number of jobs of a child
	maxDeaths    = 4  // children that may die with a job that is not known to be the cause
)

// job is one queued or running run or compilation.
type job struct {
	id      uint64
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
		turn := p.queue.first()
		j := turn.jobs[0]
		if j.abandoned {
			p.queue.dequeue(turn, 0)
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
		p.queue.dequeue(turn, cost)
		j.cost = cost
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
	j := c.running[id]
	if j == nil {
		j = c.reclaimed[id] // reclaimed, but the child had already started it: the answer is valid
	}
	if j != nil {
		took := out.result.CPU
		if out.err != nil {
			took = out.err.CPU
		}
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
	var report []func() // the log is written without the lock: it may block
	defer func() {
		for _, write := range report {
			write()
		}
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	id, why := c.exitReason(readErr)
	delete(p.all, c)
	if p.spare == c {
		p.spare = nil
	}
	for i := range p.active {
		if p.active[i] == c {
			p.active = append(p.active[:i:i], p.active[i+1:]...)
			break
		}
	}
	if p.isClosed {
		p.failAll(c.running)
		return
	}
	if !c.ready {
		why = startFailure(why, c.stderr.String())
		p.onStartFailure(errors.New(why.Message))
		if p.failures%logEvery == 1 {
			report = append(report, func() {
				p.log.Error("sandbox process ended before it was ready", "reason", why.Message, "stderr", c.stderr.String())
			})
		}
		if p.isolated && !p.proven {
			p.isolated = false // the namespaces may be the cause
		} else {
			p.firstOnce.Do(func() { p.first <- errors.New("sandbox process: " + why.Message) })
		}
	} else if p.spare != nil {
		p.active, p.spare = append(p.active, p.spare), nil
	}
	signal(p.refill)
	retired := c.killed == nil && c.cmd.ProcessState.Success()
	p.ended[c.endedFor(retired, why)]++
	var again []*job
	for _, j := range c.running {
		if !retired {
			j.deaths++
		}
		switch {
		case !retired && (j.id == id || j.deaths > maxDeaths):
			if j.id == id {
				j.estimate.learn(why.CPU, p.cfg.Limits.Hard)
			}
			j.finish(outcome{err: why})
		default:
			again = append(again, j)
		}
	}
	if j := c.running[id]; j != nil {
		report = append(report, func() {
			p.log.Warn("sandbox process ended by a script", "reason", why.Message, "phase", string(why.Phase))
		})
	} else if c.ready && !retired {
		report = append(report, func() { p.log.Warn("sandbox process ended", "reason", why.Message, "stderr", c.stderr.String()) })
	}
	c.running = nil
	p.queue.pushFront(again)
	p.dispatch()
}
