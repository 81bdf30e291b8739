package dispatch

import "runtime/metrics"

// longWait is a long time for a goroutine to wait for a CPU, in seconds: with one that is idle it is
// some microseconds.
const longWait = 0.0005

// cpuWait measures how long goroutines that could run waited for a CPU.
type cpuWait struct {
	sample [1]metrics.Sample
	before []uint64 // the counts of the last reading
}

func newCPUWait() *cpuWait {
	c := &cpuWait{}
	c.sample[0].Name = "/sched/latencies:seconds"
	return c
}

// longShare returns the share of the waits since the last call that took longer than longWait.
func (c *cpuWait) longShare() float64 {
	metrics.Read(c.sample[:])
	h := c.sample[0].Value.Float64Histogram()
	if c.before == nil {
		c.before = make([]uint64, len(h.Counts))
	}
	var all, long uint64
	for i, n := range h.Counts {
		came := n - c.before[i]
		c.before[i] = n
		all += came
		if h.Buckets[i] >= longWait {
			long += came
		}
	}
	return float64(long) / float64(max(1, all))
}
