package engine

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// chooseEvery is how often the accounts with figures of their own are chosen anew.
	chooseEvery = time.Hour
	// accountRoom is how many accounts are watched to know which are the busiest.
	accountRoom = 10_000
	// otherAccounts is the label of all that have no figures of their own. No account can
	// have the name.
	otherAccounts = "(other)"
)

// accountFigures counts by account, for the busiest ones: the others are counted together,
// so that there are never more series than were asked for. An account's figures begin at 0
// when it becomes one of the busiest, and end when it is none any more: then all rates
// are right, which sums that move from one label to another would not be.
type accountFigures struct {
	places int // accounts with figures of their own; 0: nothing is counted
	now    func() time.Time

	mu      sync.Mutex
	known   map[string]*accountFigure
	shown   int // of them have figures of their own
	others  accountFigure
	chosen  time.Time
	ordered []string // reused
}

// accountFigure is what one account did.
type accountFigure struct {
	own      bool
	recent   int // what it did of late, to compare
	accepted int
	attempts [StateDropped + 1]int // by result
}

func newAccountFigures(places int, now func() time.Time) *accountFigures {
	return &accountFigures{places: places, now: now, known: map[string]*accountFigure{}}
}

// accepted counts an event.
func (f *accountFigures) accepted(account string) {
	if f.places == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(account).accepted++
}

// attempted counts an attempt.
func (f *accountFigures) attempted(account string, result State) {
	if f.places == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(account).attempts[result]++
}

// of gives the figure that stands for an account; f.mu is held.
func (f *accountFigures) of(account string) *accountFigure {
	a := f.known[account]
	if a == nil {
		if len(f.known) == accountRoom {
			return &f.others
		}
		a = &accountFigure{}
		if f.shown < f.places {
			a.own, f.shown = true, f.shown+1
		}
		f.known[account] = a
	}
	a.recent++
	if !a.own {
		return &f.others
	}
	return a
}

// choose gives the busiest accounts figures of their own; f.mu is held.
func (f *accountFigures) choose() {
	f.ordered = f.ordered[:0]
	for name, a := range f.known {
		if a.recent /= 2; a.recent == 0 && !a.own {
			delete(f.known, name)
			continue
		}
		f.ordered = append(f.ordered, name)
	}
	slices.SortFunc(f.ordered, func(x, y string) int {
		return cmp.Or(cmp.Compare(f.known[y].recent, f.known[x].recent), cmp.Compare(x, y))
	})
	f.shown = min(f.places, len(f.ordered))
	for i, name := range f.ordered {
		if a := f.known[name]; a.own != (i < f.shown) {
			*a = accountFigure{own: i < f.shown, recent: a.recent}
		}
	}
}

var (
	accountAccepted = prometheus.NewDesc("switchhook_account_events_accepted_total", "Events that were stored, by account: of the busiest ones, all others are (other).", []string{"account"}, nil)
	accountAttempts = prometheus.NewDesc("switchhook_account_delivery_attempts_total", "Attempts by account and by what the delivery became.", []string{"account", "result"}, nil)
)

// Describe implements prometheus.Collector.
func (f *accountFigures) Describe(ch chan<- *prometheus.Desc) {
	ch <- accountAccepted
	ch <- accountAttempts
}

// Collect implements prometheus.Collector.
func (f *accountFigures) Collect(ch chan<- prometheus.Metric) {
	for name, a := range f.series() {
		ch <- prometheus.MustNewConstMetric(accountAccepted, prometheus.CounterValue, float64(a.accepted), name)
		for s := StateFailed; s <= StateDropped; s++ {
			ch <- prometheus.MustNewConstMetric(accountAttempts, prometheus.CounterValue, float64(a.attempts[s]), name, s.String())
		}
	}
}

// series copies the figures that are shown, by account, after a new choice where it is
// time for one.
func (f *accountFigures) series() map[string]accountFigure {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); f.chosen.IsZero() {
		f.chosen = now
	} else if now.Sub(f.chosen) >= chooseEvery {
		f.chosen = now
		f.choose()
	}
	shown := map[string]accountFigure{otherAccounts: f.others}
	for name, a := range f.known {
		if a.own {
			shown[name] = *a
		}
	}
	return shown
}
