package ingest

import (
	"context"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatch"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// recountAfter is how long a count from the store is reused.
	recountAfter = 10 * time.Second
	// maxCounted limits the count of dead letters: 100,000 took 8 ms beside a million
	// (BenchmarkCount).
	maxCounted   = 100_000
	countTimeout = 5 * time.Second
)

// backlogCollector exports the unfinished deliveries and the dead letters. Deliveries in memory are
// counted at each scrape; dead letters and the oldest deliveries in the store at most every 10 s,
// and only while someone scrapes. The counts of pending and retrying deliveries are those of load
// shedding (load_shedding.go), so that an approaching limit is visible.
type backlogCollector struct {
	dispatcher *dispatch.Dispatcher
	load       *LoadShedder
	mu         sync.Mutex
	countedAt  time.Time
	stored     map[engine.State]dispatch.StateCount
}

var (
	backlogDeliveries = prometheus.NewDesc("switchhook_deliveries",
		"Deliveries that are not done: queued (in memory, for a free place), held (in memory, subscription paused or quarantined), pending (waiting, with a row in the store; also those in memory that have one), retrying (waiting for a retry); and dead ones. Pending and retrying ones are counted every 5 s or more, dead ones every 10 s at most, up to 100,000.",
		[]string{"state"}, nil)
	backlogAge = prometheus.NewDesc("switchhook_deliveries_oldest_age_seconds",
		"Time since the acceptance of the oldest event among them; 0 where there is none.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (f *backlogCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- backlogDeliveries
	ch <- backlogAge
}

// Collect implements prometheus.Collector.
func (f *backlogCollector) Collect(ch chan<- prometheus.Metric) {
	now := f.load.cfg.Now()
	send := func(state string, o dispatch.StateCount) {
		age := 0.0
		if o.Oldest != 0 {
			age = max(0, now.Sub(o.Oldest.Time()).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(backlogDeliveries, prometheus.GaugeValue, float64(o.Count), state)
		ch <- prometheus.MustNewConstMetric(backlogAge, prometheus.GaugeValue, age, state)
	}
	queued, held := f.dispatcher.BacklogInMemory()
	send("queued", queued)
	send("held", held)
	var waiting engine.BacklogCount
	if w := f.load.waiting.Load(); w != nil {
		waiting = *w
	}
	for state, o := range f.inStore(now) {
		switch state {
		case engine.StatePending:
			o.Count = int(waiting.Pending)
		case engine.StateRetrying:
			o.Count = int(waiting.Failed)
		}
		send(state.String(), o)
	}
}

// inStore returns the counts of the store, refreshed if they are too old; for pending and retrying
// deliveries only the oldest. If the store can't be read, it returns the last result.
func (f *backlogCollector) inStore(now time.Time) map[engine.State]dispatch.StateCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stored != nil && now.Sub(f.countedAt) < recountAfter {
		return f.stored
	}
	f.countedAt = now
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	fresh := make(map[engine.State]dispatch.StateCount, 3)
	for state, limit := range map[engine.State]int{engine.StatePending: 1, engine.StateRetrying: 1, engine.StateDead: maxCounted} {
		n, oldest, err := f.load.store.CountDeliveries(ctx, state, limit)
		if err != nil {
			f.load.log.Warn("deliveries not counted", "state", state.String(), "error", err)
			return f.stored
		}
		fresh[state] = dispatch.StateCount{Count: n, Oldest: oldest}
	}
	f.stored = fresh
	return fresh
}

// NewBacklogCollector returns the metrics of the backlog.
func NewBacklogCollector(dispatcher *dispatch.Dispatcher, load *LoadShedder) *backlogCollector {
	return &backlogCollector{dispatcher: dispatcher, load: load}
}
