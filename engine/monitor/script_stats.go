package monitor

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/scripts"
)

// ScriptStats counts a script's runs since the router started.
type ScriptStats struct {
	Runs     int64
	Errors   int64 // failed runs, including timeouts
	Timeouts int64
	Dropped  int64         // runs that dropped; for a filter, events that did not match
	Buckets  []int64       // runs by CPU time, one count for each of ScriptBuckets and one for longer runs
	CPU      time.Duration // of all runs
}

// ScriptBuckets are the upper bounds of ScriptStats.Buckets.
var ScriptBuckets = []time.Duration{
	time.Microsecond, 10 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
}

// scriptSeries is the number of scripts with their own metrics, those that ran first: accounts can
// create many scripts, and each costs 15 series. The others share one. The selection is fixed while
// the router runs, since counters that change their script would seem to grow.
const scriptSeries = 200

const otherScripts = "other"

// scriptCounts holds the statistics of named scripts. The zero ID stands for all inline sources.
type scriptCounts struct {
	mu    sync.Mutex
	byID  map[engine.ID]*ScriptStats
	names map[engine.ID]string // of those with their own metrics
	gone  ScriptStats          // of deleted scripts without their own metrics: the shared counters must not decrease
}

// forget drops the statistics of a deleted script.
func (c *scriptCounts) forget(id engine.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.byID[id]; s != nil && c.names[id] == "" {
		if c.gone.Buckets == nil {
			c.gone.Buckets = make([]int64, len(s.Buckets))
		}
		c.gone.add(s)
	}
	delete(c.byID, id)
	delete(c.names, id)
}

func (c *scriptCounts) add(id engine.ID, took time.Duration, dropped bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byID[id]
	if s == nil {
		if c.byID == nil {
			c.byID, c.names = map[engine.ID]*ScriptStats{}, map[engine.ID]string{0: "inline"}
		}
		if _, known := c.names[id]; !known && len(c.names) <= scriptSeries {
			c.names[id] = id.Format(engine.ScriptPrefix)
		}
		s = &ScriptStats{Buckets: make([]int64, len(ScriptBuckets)+1)}
		c.byID[id] = s
	}
	s.Runs++
	s.CPU += took
	i := 0
	for i < len(ScriptBuckets) && took > ScriptBuckets[i] {
		i++
	}
	s.Buckets[i]++
	if dropped {
		s.Dropped++
	}
	if err != nil {
		s.Errors++
		var se *scripts.Error
		if errors.As(err, &se) && se.Phase == scripts.PhaseTimeout {
			s.Timeouts++
		}
	}
}

// add adds the counts of o to s.
func (s *ScriptStats) add(o *ScriptStats) {
	s.Runs += o.Runs
	s.Errors += o.Errors
	s.Timeouts += o.Timeouts
	s.Dropped += o.Dropped
	s.CPU += o.CPU
	for i, n := range o.Buckets {
		s.Buckets[i] += n
	}
}

// of returns a copy of a script's statistics.
func (c *scriptCounts) of(id engine.ID) ScriptStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.byID[id]; s != nil {
		copied := *s
		copied.Buckets = append([]int64(nil), s.Buckets...)
		return copied
	}
	return ScriptStats{Buckets: make([]int64, len(ScriptBuckets)+1)}
}

var (
	scriptRuns     = prometheus.NewDesc("switchhook_script_runs_total", "Runs of scripts; script is the id, inline for what subscriptions hold themselves, or other.", []string{"script"}, nil)
	scriptErrors   = prometheus.NewDesc("switchhook_script_errors_total", "Runs of scripts that failed.", []string{"script"}, nil)
	scriptTimeouts = prometheus.NewDesc("switchhook_script_timeouts_total", "Runs of scripts that were stopped for their time.", []string{"script"}, nil)
	scriptDropped  = prometheus.NewDesc("switchhook_script_dropped_total", "Runs of scripts that kept an event back.", []string{"script"}, nil)
	scriptSeconds  = prometheus.NewDesc("switchhook_script_seconds", "CPU time of runs of scripts.", []string{"script"}, nil)
)

// Describe implements prometheus.Collector.
func (c *scriptCounts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{scriptRuns, scriptErrors, scriptTimeouts, scriptDropped, scriptSeconds} {
		ch <- d
	}
}

// series returns copies of the statistics by their label.
func (c *scriptCounts) series() map[string]*ScriptStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown := map[string]*ScriptStats{}
	if c.gone.Buckets != nil {
		shown[otherScripts] = &ScriptStats{Buckets: make([]int64, len(ScriptBuckets)+1)}
		shown[otherScripts].add(&c.gone)
	}
	for id, s := range c.byID {
		name, ok := c.names[id]
		if !ok {
			name = otherScripts
		}
		if shown[name] == nil {
			shown[name] = &ScriptStats{Buckets: make([]int64, len(ScriptBuckets)+1)}
		}
		shown[name].add(s)
	}
	return shown
}

// Collect implements prometheus.Collector.
func (c *scriptCounts) Collect(ch chan<- prometheus.Metric) {
	for label, s := range c.series() {
		for d, n := range map[*prometheus.Desc]int64{scriptRuns: s.Runs, scriptErrors: s.Errors, scriptTimeouts: s.Timeouts, scriptDropped: s.Dropped} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
		}
		buckets, sum := map[float64]uint64{}, uint64(0)
		for i, bound := range ScriptBuckets {
			sum += uint64(s.Buckets[i])
			buckets[bound.Seconds()] = sum
		}
		ch <- prometheus.MustNewConstHistogram(scriptSeconds, uint64(s.Runs), s.CPU.Seconds(), buckets, label)
	}
}

// Retained counts the entries of the monitor's in-memory tables.
func (m *Monitor) Retained() map[string]int {
	m.scripts.mu.Lock()
	defer m.scripts.mu.Unlock()
	return map[string]int{"script stats": len(m.scripts.byID)}
}
