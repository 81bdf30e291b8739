package telemetry

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"switchhook/engine"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// selectEvery is how often the accounts with their own metrics are selected.
	selectEvery = time.Hour
	// maxTrackedAccounts is how many accounts are tracked to find the busiest.
	maxTrackedAccounts = 10_000
	// otherAccounts is the label of all accounts without their own metrics. No account can have
	// this name.
	otherAccounts = "(other)"
)

// accountCollector counts by account, for the busiest ones: the others are counted together, so
// that the number of series is bounded. An account's counters begin at 0 when it becomes one of the
// busiest, and end when it no longer is: so all rates are right, which they would not be if sums
// moved from one label to another.
type accountCollector struct {
	slots int // accounts with their own metrics; 0: nothing is counted
	now   func() time.Time

	mu        sync.Mutex
	byAccount map[string]*accountSeries
	shown     int // number of accounts with their own metrics
	others    accountSeries
	chosen    time.Time
	ordered   []string // reused
}

// accountSeries are the counters of one account.
type accountSeries struct {
	own      bool
	recent   int // recent activity, for comparison
	accepted int
	attempts [engine.StateDropped + 1]int // by result
}

func newAccountCollector(places int, now func() time.Time) *accountCollector {
	return &accountCollector{slots: places, now: now, byAccount: map[string]*accountSeries{}}
}

// Accepted counts an event.
func (f *accountCollector) Accepted(account string) {
	if f.slots == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seriesFor(account).accepted++
}

// attempted counts an attempt.
func (f *accountCollector) attempted(account string, result engine.State) {
	if f.slots == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seriesFor(account).attempts[result]++
}

// seriesFor returns the counters of an account; the caller holds f.mu.
func (f *accountCollector) seriesFor(account string) *accountSeries {
	a := f.byAccount[account]
	if a == nil {
		if len(f.byAccount) == maxTrackedAccounts {
			return &f.others
		}
		a = &accountSeries{}
		if f.shown < f.slots {
			a.own, f.shown = true, f.shown+1
		}
		f.byAccount[account] = a
	}
	a.recent++
	if !a.own {
		return &f.others
	}
	return a
}

// selectBusiest gives the busiest accounts their own counters; the caller holds f.mu.
func (f *accountCollector) selectBusiest() {
	f.ordered = f.ordered[:0]
	for name, a := range f.byAccount {
		if a.recent /= 2; a.recent == 0 && !a.own {
			delete(f.byAccount, name)
			continue
		}
		f.ordered = append(f.ordered, name)
	}
	slices.SortFunc(f.ordered, func(x, y string) int {
		return cmp.Or(cmp.Compare(f.byAccount[y].recent, f.byAccount[x].recent), cmp.Compare(x, y))
	})
	f.shown = min(f.slots, len(f.ordered))
	for i, name := range f.ordered {
		if a := f.byAccount[name]; a.own != (i < f.shown) {
			*a = accountSeries{own: i < f.shown, recent: a.recent}
		}
	}
}

var (
	accountAccepted = prometheus.NewDesc("switchhook_account_events_accepted_total", "Events that were stored, by account: of the busiest ones, all others are (other).", []string{"account"}, nil)
	accountAttempts = prometheus.NewDesc("switchhook_account_delivery_attempts_total", "Attempts by account and by what the delivery became.", []string{"account", "result"}, nil)
)

// Describe implements prometheus.Collector.
func (f *accountCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- accountAccepted
	ch <- accountAttempts
}

// Collect implements prometheus.Collector.
func (f *accountCollector) Collect(ch chan<- prometheus.Metric) {
	for name, a := range f.series() {
		ch <- prometheus.MustNewConstMetric(accountAccepted, prometheus.CounterValue, float64(a.accepted), name)
		for s := engine.StateRetrying; s <= engine.StateDropped; s++ {
			ch <- prometheus.MustNewConstMetric(accountAttempts, prometheus.CounterValue, float64(a.attempts[s]), name, s.String())
		}
	}
}

// series returns copies of the exported counters, by account, after a new selection if one is due.
func (f *accountCollector) series() map[string]accountSeries {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); f.chosen.IsZero() {
		f.chosen = now
	} else if now.Sub(f.chosen) >= selectEvery {
		f.chosen = now
		f.selectBusiest()
	}
	shown := map[string]accountSeries{otherAccounts: f.others}
	for name, a := range f.byAccount {
		if a.own {
			shown[name] = *a
		}
	}
	return shown
}
