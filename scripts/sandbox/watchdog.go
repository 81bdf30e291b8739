package sandbox

import (
	"time"

	"switchhook/scripts"
)

const (
	watchInterval = 5 * time.Millisecond
	reclaimAfter  = 10 * time.Millisecond // CPU time of a run after which the jobs behind it are reclaimed
	maxWall       = 5 * time.Second       // maximum wall time of a run, regardless of CPU time; compiling may take compileAllowed times that
	wallPerHard   = 3                     // if CPU time is unknown: wall time divided by this is used instead
)

// watchLoop checks the children every few milliseconds while they have work, and sleeps
// otherwise.
func (p *Pool) watchLoop() {
	defer p.wg.Done()
	timer := time.NewTimer(time.Hour)
	for {
		select {
		case <-p.busy:
		case <-p.closing:
			return
		}
		for again := true; again; {
			timer.Reset(watchInterval)
			select {
			case <-timer.C:
			case <-p.closing:
				return
			}
			again = p.checkDeadlines()
		}
	}
}

// check kills the children whose run is over its limit, and reclaims the runs that wait
// behind a long one for other children. It reports whether there is still work.
func (p *Pool) checkDeadlines() (working bool) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.active {
		id, began := c.shared.now()
		if c.killed != nil || len(c.running)+len(c.reclaimed) == 0 && id == 0 {
			continue
		}
		working = true
		if id != c.seenJob || c.seenSince.IsZero() {
			c.seenJob, c.seenSince = id, now
		}
		wall := now.Sub(c.seenSince)
		if id == 0 {
			if wall >= maxWall {
				p.kill(c, 0, &scripts.Error{Phase: scripts.PhaseCrash, Message: "crashed: the process does not answer"})
			}
			continue
		}
		used, known := cpuOf(c.cmd.Process.Pid)
		if used -= began; !known {
			used = wall / wallPerHard
		}
		j := c.running[id]
		if j == nil {
			j = c.reclaimed[id] // reclaimed: if the child dies of it, no job is to blame
		}
		limits, longest := p.cfg.Limits, maxWall
		if j != nil && j.program == nil {
			limits.Soft, limits.Hard, longest = limits.Soft*compileAllowed, limits.Hard*compileAllowed, longest*compileAllowed
		}
		switch {
		case used >= limits.Hard || wall >= longest:
			e := limits.TimeoutError()
			if c.shared.words.inRegexp.Load() {
				e.Message += scripts.InRegexp
			}
			e.CPU = limits.Hard
			p.kill(c, id, e)
		case used >= reclaimAfter:
			p.reclaim(c, j)
		}
	}
	return working || p.queue.count > 0
}

func (p *Pool) kill(c *process, id uint64, why *scripts.Error) {
	c.killed, c.killedID = why, id
	_ = c.cmd.Process.Kill()
}

// reclaim takes the jobs that wait behind j from the child. The child must skip those that
// were already written; it gets no others until it has answered them all, so that no new job
// waits behind skipped ones. p.mu must be held.
func (p *Pool) reclaim(c *process, j *job) {
	var stolen []*job
	var written []uint64
	for id, other := range c.running {
		if other == j {
			continue
		}
		delete(c.running, id)
		c.load -= other.cost
		stolen = append(stolen, other)
		if left := without(c.pending, other); len(left) < len(c.pending) {
			c.pending = left
			continue
		}
		c.reclaimed[id] = other
		written = append(written, id)
	}
	c.slow = len(c.running)+len(c.reclaimed) > 0 // until it answers
	if len(stolen) == 0 {
		return
	}
	if len(written) > 0 { // there are no earlier unanswered ones, otherwise the child would have no jobs to reclaim
		c.shared.skip(written)
	}
	p.queue.pushFront(stolen)
	p.dispatch()
}

func without(jobs []*job, j *job) []*job {
	for i := range jobs {
		if jobs[i] == j {
			return append(jobs[:i:i], jobs[i+1:]...)
		}
	}
	return jobs
}
