package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"switchhook/scripts"
)

// The reasons for the end of a sandbox process, as Stats.Ended counts them.
const (
	EndedTimeout = string(scripts.PhaseTimeout) // killed: a run took too long
	EndedMemory  = string(scripts.PhaseMemory)  // a run used more memory than allowed
	EndedCrash   = string(scripts.PhaseCrash)   // a run crashed it, or it ended by itself
	EndedRetired = "retired"                    // ended by itself because it had grown; no run was lost
	EndedStart   = "start"                      // was never ready
)

// EndReasons lists the reasons for the end of a sandbox process.
var EndReasons = []string{EndedTimeout, EndedMemory, EndedCrash, EndedRetired, EndedStart}

// Stats are a Pool's statistics.
type Stats struct {
	Processes int              // running now
	Busy      int              // of these, with jobs
	Running   int              // runs and compilations assigned to processes
	Queued    int              // runs and compilations that wait for a process
	Started   int64            // processes since the pool was started
	Ended     map[string]int64 // of these, by reason
	Memory    int64            // bytes of their private memory; 0 if not known
}

// Stats returns the current statistics.
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

// endedFor returns the reason for which a child ended, as Stats counts it.
func (c *process) endedFor(retired bool, why *scripts.Error) string {
	switch {
	case !c.ready:
		return EndedStart
	case retired:
		return EndedRetired
	}
	return string(why.Phase)
}

// ownMemory reads the private memory of a process from /proc, in bytes; 0 if there is no such
// file or process.
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
