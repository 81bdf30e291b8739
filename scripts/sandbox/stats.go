package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"switchhook/scripts"
)

// The reasons why a sandbox process ends, as Stats.Ended counts them.
const (
	EndedTimeout = string(scripts.PhaseTimeout) // killed: a run took too long
	EndedMemory  = string(scripts.PhaseMemory)  // a run took more memory than allowed
	EndedCrash   = string(scripts.PhaseCrash)   // a run took it down, or it ended by itself
	EndedRetired = "retired"                    // went by itself, since it had grown; no run was lost
	EndedStart   = "start"                      // was never ready
)

// EndReasons lists the reasons.
var EndReasons = []string{EndedTimeout, EndedMemory, EndedCrash, EndedRetired, EndedStart}

// Stats are a Pool's figures.
type Stats struct {
	Processes int              // that live
	Busy      int              // of these, have something to run
	Running   int              // runs and compilations that were given to them
	Queued    int              // runs and compilations that wait for one
	Started   int64            // processes since the pool was started
	Ended     map[string]int64 // of these, by reason
	Memory    int64            // bytes that they hold and share with nobody; 0 where that can't be told
}

// Stats gives the figures of this moment.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	s := Stats{Processes: len(p.all), Queued: p.queue.count, Started: p.started, Ended: make(map[string]int64, len(EndReasons))}
	pids := make([]int, 0, len(p.all))
	for c := range p.all {
		pids = append(pids, c.cmd.Process.Pid)
		if n := len(c.running) + len(c.reclaimed); n > 0 {
			s.Busy++
			s.Running += n
		}
	}
	for _, reason := range EndReasons {
		s.Ended[reason] = p.ended[reason]
	}
	p.mu.Unlock()
	for _, pid := range pids {
		s.Memory += ownMemory(pid)
	}
	return s
}

// endedFor is the reason, as Stats counts it, for which a child ended.
func (c *process) endedFor(retired bool, why *scripts.Error) string {
	switch {
	case !c.ready:
		return EndedStart
	case retired:
		return EndedRetired
	}
	return string(why.Phase)
}

// ownMemory reads from /proc how many bytes a process holds in memory for itself; 0 where
// there is no such file, or no such process any more.
func ownMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text) // in pages: size, resident, shared…
	if len(fields) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	shared, _ := strconv.ParseInt(string(fields[2]), 10, 64)
	return max(0, resident-shared) * int64(os.Getpagesize())
}
