package engine

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// countAgainAfter is for how long what was counted in the store is shown.
	countAgainAfter = 10 * time.Second
	// countAtMost bounds how many dead letters are counted: 100,000 took 8 ms beside a
	// million (BenchmarkCount).
	countAtMost = 100_000
	countWithin = 5 * time.Second
)

// open is how many deliveries stand somewhere, and the oldest one's event.
type open struct {
	count  int
	oldest ID // 0 where there is none
}

func (o *open) add(n int, event ID) {
	o.count += n
	if o.oldest == 0 || event < o.oldest {
		o.oldest = event
	}
}

// openFigures tells of the deliveries that are not done, and of the dead ones. What is in
// memory is counted on each look, dead letters and what is oldest in the store every 10 s
// at most, and only while somebody looks. Pending and failed deliveries are those that the
// backlog is judged by (pressure.go), so that its limit can be seen coming.
type openFigures struct {
	e       *Engine
	mu      sync.Mutex
	counted time.Time
	stored  map[State]open
}

var (
	openDeliveries = prometheus.NewDesc("switchhook_deliveries",
		"Deliveries that are not done: queued (in memory, for a free place), held (in memory, subscription paused or quarantined), pending (waiting, with a row in the store; also those in memory that have one), failed (waiting for a retry); and dead ones. Pending and failed ones are counted every 5 s or more, dead ones every 10 s at most, up to 100,000.",
		[]string{"state"}, nil)
	openAge = prometheus.NewDesc("switchhook_deliveries_oldest_age_seconds",
		"Time since the acceptance of the oldest event among them; 0 where there is none.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (f *openFigures) Describe(ch chan<- *prometheus.Desc) {
	ch <- openDeliveries
	ch <- openAge
}

// Collect implements prometheus.Collector.
func (f *openFigures) Collect(ch chan<- prometheus.Metric) {
	now := f.e.cfg.Now()
	send := func(state string, o open) {
		age := 0.0
		if o.oldest != 0 {
			age = max(0, now.Sub(o.oldest.Time()).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(openDeliveries, prometheus.GaugeValue, float64(o.count), state)
		ch <- prometheus.MustNewConstMetric(openAge, prometheus.GaugeValue, age, state)
	}
	queued, held := f.e.scheduler.open()
	send("queued", queued)
	send("held", held)
	var waiting OpenCount
	if w := f.e.pressure.waiting.Load(); w != nil {
		waiting = *w
	}
	for state, o := range f.inStore(now) {
		switch state {
		case StatePending:
			o.count = int(waiting.Pending)
		case StateFailed:
			o.count = int(waiting.Failed)
		}
		send(state.String(), o)
	}
}

// inStore gives what is known of the store, looked up anew where that is old: of pending
// and failed deliveries only which is the oldest. While it can't
// be read, what was known last is shown.
func (f *openFigures) inStore(now time.Time) map[State]open {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stored != nil && now.Sub(f.counted) < countAgainAfter {
		return f.stored
	}
	f.counted = now
	ctx, cancel := context.WithTimeout(context.Background(), countWithin)
	defer cancel()
	fresh := make(map[State]open, 3)
	for state, limit := range map[State]int{StatePending: 1, StateFailed: 1, StateDead: countAtMost} {
		n, oldest, err := f.e.store.CountDeliveries(ctx, state, limit)
		if err != nil {
			f.e.log.Warn("deliveries not counted", "state", state.String(), "error", err)
			return f.stored
		}
		fresh[state] = open{n, oldest}
	}
	f.stored = fresh
	return fresh
}

// open counts the deliveries in memory: those that wait for a free place, and those of
// subscriptions that are paused or quarantined.
func (s *scheduler) open() (queued, held open) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		n, oldest := q.line.Open()
		if n == 0 {
			continue
		}
		at := &queued
		if q.route == nil || !q.route.sub.Active || q.route.held.Load() {
			at = &held
		}
		at.add(n, oldest)
	}
	return queued, held
}
