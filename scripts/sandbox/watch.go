package sandbox

import (
	"time"

	"switchhook/scripts"
)

const (
	watchPause  = 5 * time.Millisecond
	stealAfter  = 10 * time.Millisecond // CPU time of a run after which others need not wait for it
	wallAtMost  = 5 * time.Second       // a run's longest, whatever its CPU time; compiling may take ten times that
	wallPerHard = 3                     // where CPU time is unknown: wall time in place of CPU time, divided by this
)

// watchLoop looks at the children every few milliseconds while they have work, and
// sleeps otherwise.
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
			timer.Reset(watchPause)
			select {
			case <-timer.C:
			case <-p.closing:
				return
			}
			again = p.look()
		}
	}
}

// look kills the children whose run is over its limit, and gives the runs that wait
// behind a long one to other children. It tells whether there is still work.
func (p *Pool) look() (working bool) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.active {
		id, began := c.shared.now()
		if c.killed != nil || len(c.running) == 0 && id == 0 {
			continue
		}
		working = true
		if id != c.seenJob || c.seenSince.IsZero() {
			c.seenJob, c.seenSince = id, now
		}
		wall := now.Sub(c.seenSince)
		if id == 0 {
			if wall >= wallAtMost {
				p.kill(c, 0, &scripts.Error{Phase: scripts.PhaseCrash, Message: "crashed: the process does not answer"})
			}
			continue
		}
		used, known := cpuOf(c.cmd.Process.Pid)
		if used -= began; !known {
			used = wall / wallPerHard
		}
		j := c.running[id] // nil if it was taken back: nobody is to blame then
		limits, longest := p.cfg.Limits, wallAtMost
		if j != nil && j.program == nil {
			limits.Soft, limits.Hard, longest = limits.Soft*compileAllowed, limits.Hard*compileAllowed, longest*compileAllowed
		}
		switch {
		case used >= limits.Hard || wall >= longest:
			e := limits.TimeoutError()
			e.CPU = limits.Hard
			p.kill(c, id, e)
		case used >= stealAfter:
			p.steal(c, j)
		}
	}
	return working || len(p.queue) > 0
}

func (p *Pool) kill(c *process, id uint64, why *scripts.Error) {
	c.killed, c.killedID = why, id
	_ = c.cmd.Process.Kill()
}

// steal takes back the jobs that wait behind j; the child gets no others until it answers. The child will run them nonetheless, and
// its answers will find nobody waiting.
func (p *Pool) steal(c *process, j *job) {
	c.slow = true
	for id, other := range c.running {
		if other != j {
			delete(c.running, id)
			c.pending = without(c.pending, other)
			p.queue = append(p.queue, other)
		}
	}
	p.handOut()
}

func without(jobs []*job, j *job) []*job {
	for i := range jobs {
		if jobs[i] == j {
			return append(jobs[:i:i], jobs[i+1:]...)
		}
	}
	return jobs
}
