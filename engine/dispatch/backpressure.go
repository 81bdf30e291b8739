package dispatch

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/fairlimit"
	"switchhook/engine/fifo"
)

const (
	// lagTarget is how long new deliveries should wait at most for their first attempt, half of them
	// shorter. Above half of it publishing is paced, if the router is busy.
	lagTarget = 100 * time.Millisecond
	// adjustEvery is how often the lag is measured.
	adjustEvery = 50 * time.Millisecond
	// busyShare is the share of goroutines that waited for a CPU for longWait above which the CPUs are
	// busy.
	busyShare = 0.02
	// calmAfter is the number of measurements without lag that end the pacing.
	calmAfter = 10
	// pacingWait is how long a request waits at most.
	pacingWait = 250 * time.Millisecond
	// pacingPlaces is the number of requests, of all accounts, that wait for the next deliveries to
	// start; further ones wait for their account's turn to be among them.
	pacingPlaces = 32
	// maxPaced is the number of requests of one account that may wait; more are refused.
	maxPaced = 2048
	// maxCredit is the number of events that may be admitted at once, after none came for a while.
	maxCredit = 64
	// leastShare is the least number of events of one account that are admitted between two
	// measurements without waiting.
	leastShare = 8
)

// backpressure slows publishing while the router itself lags behind: while new deliveries wait for
// their first attempt although their targets are not to blame, because the CPUs are busy. Then an
// event is admitted when as many deliveries have started as an event leads to. So a client that
// publishes as fast as it gets answers is slowed to the rate of deliveries, and what waits stays short.
// Accounts share what is admitted: one that publishes less than its share beside others that publish
// more does not wait, and these take turns.
type backpressure struct {
	active             atomic.Bool
	turns              *fairlimit.Limiter
	events, deliveries atomic.Int64 // that came since the last adjustment

	mu       sync.Mutex
	waiting  fifo.Queue[*pacedRequest]
	credit   float64 // events that may be admitted now; negative: admitted too early
	perEvent float64 // deliveries that an event leads to, on average
	pace     float64 // deliveries admitted for each that starts
	calm     int     // measurements without lag in a row
	admitted float64 // events for which deliveries have started since the last adjustment
	share    float64 // events of an account between two adjustments that don't wait
	// debts are the events of an account that were admitted and exceed its shares until now; without
	// those of accounts that have none.
	debts   map[string]float64
	largest float64 // of debts
}

// pacedRequest is a request that waits.
type pacedRequest struct {
	account  string
	events   float64
	admitted chan struct{}
	gone     bool // it waits no longer
}

func newBackpressure() *backpressure {
	return &backpressure{perEvent: 1, pace: 1, share: leastShare, debts: map[string]float64{}, turns: fairlimit.New(fairlimit.Limits{
		Units: pacingPlaces, Wait: pacingWait, MaxWaiting: maxPaced,
	})}
}

// wait waits until a request with events of an account may be admitted: at most pacingWait. Error:
// CodeBusy if too many requests of the account wait.
func (b *backpressure) wait(ctx context.Context, account string, events int) error {
	if !b.active.Load() || b.admitBelowShare(account, float64(events)) {
		return nil
	}
	began := time.Now()
	release, err := b.turns.Acquire(ctx, account, "", int64(min(events, pacingPlaces/4)))
	switch {
	case err == nil:
		defer release()
	case ctx.Err() != nil:
		return ctx.Err()
	case time.Since(began) >= pacingWait: // it waited
		return nil
	default:
		return &engine.Error{Code: engine.CodeBusy, Wait: time.Second, Message: "the router delivers as fast as it can, " +
			"and too many requests of account " + account + " wait to publish; nothing was stored, " +
			"send the events again in a second, and from fewer connections"}
	}
	p := &pacedRequest{account: account, events: float64(events), admitted: make(chan struct{})}
	b.mu.Lock()
	if b.active.Load() {
		b.waiting.Push(p)
		b.admit()
	} else {
		close(p.admitted)
	}
	b.mu.Unlock()
	timer := time.NewTimer(pacingWait - time.Since(began))
	defer timer.Stop()
	select {
	case <-p.admitted:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.gone = true; ctx.Err() == nil {
		b.charge(account, p.events)
	}
	return ctx.Err()
}

// charge counts events that are admitted; b.mu is held.
func (b *backpressure) charge(account string, events float64) {
	b.debts[account] += events
	b.largest = max(b.largest, b.debts[account])
}

// admitBelowShare admits events of an account without waiting if it has published less than its
// share, and much less than another one. A list may exceed the share; then the account waits for
// longer.
func (b *backpressure) admitBelowShare(account string, events float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if debt := b.debts[account]; debt >= b.share || debt >= b.largest/2 {
		return false
	}
	b.charge(account, events)
	b.credit -= events
	return true
}

// repay computes the share of each account, and takes it from the debts; b.mu is held.
func (b *backpressure) repay() {
	b.share = max(leastShare, b.admitted/float64(max(1, len(b.debts))))
	b.admitted, b.largest = 0, 0
	for account, debt := range b.debts {
		if debt -= b.share; debt > 0 {
			b.debts[account] = debt
			b.largest = max(b.largest, debt)
		} else {
			delete(b.debts, account)
		}
	}
}

// admit admits those whose turn it is; b.mu is held.
func (b *backpressure) admit() {
	for b.waiting.Len() > 0 && b.credit > 0 {
		p := b.waiting.Pop()
		if !p.gone {
			b.credit -= p.events
			b.charge(p.account, p.events)
			close(p.admitted)
		}
	}
}

// started records that first attempts of n deliveries start.
func (b *backpressure) started(n int) {
	if !b.active.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	events := float64(n) * b.pace / b.perEvent
	b.admitted += events
	b.credit = min(b.credit+events, maxCredit)
	b.admit()
}

// adjust begins or ends the pacing, and sets how fast it goes. lag is the median wait of the
// deliveries that started since the last call; busy means that the CPUs are.
func (b *backpressure) adjust(lag time.Duration, busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if events, deliveries := b.events.Swap(0), b.deliveries.Swap(0); events > 0 {
		b.perEvent += (max(float64(deliveries)/float64(events), 0.1) - b.perEvent) / 4
	}
	lagging := lag > lagTarget/2
	if !b.active.Load() {
		if lagging && busy {
			b.calm, b.credit = 0, 0
			b.active.Store(true)
		}
		return
	}
	if b.calm++; lagging && busy {
		b.calm = 0
	}
	b.repay()
	if b.calm >= calmAfter {
		b.active.Store(false)
		clear(b.debts)
		b.largest = 0
		for b.waiting.Len() > 0 {
			close(b.waiting.Pop().admitted)
		}
		return
	}
	// A third of what would be right without the delay until a change shows: more would swing.
	b.pace = 1 + min(max((float64(lagTarget)/float64(max(lag, time.Millisecond))-1)/3, -0.3), 0.3)
}

// AdmitEvents waits while publishing is paced because the router lags behind. Error: CodeBusy.
func (d *Dispatcher) AdmitEvents(ctx context.Context, account string, events int) error {
	return d.scheduler.pressure.wait(ctx, account, events)
}

// Paced reports whether publishing is paced, and how many requests wait for that.
func (d *Dispatcher) Paced() (active bool, waiting int) {
	b := d.scheduler.pressure
	u := b.turns.Usage()
	return b.active.Load(), u.Waiting + int(u.InUse)
}

// LagLoop measures whether the router lags behind, and paces publishing while it does, until the
// router stops.
func (d *Dispatcher) LagLoop() {
	cpu := newCPUWait()
	d.life.RunEvery(adjustEvery, func() {
		d.scheduler.mu.Lock()
		idle := d.scheduler.lag.number == 0
		lag := d.scheduler.lag.take()
		d.scheduler.mu.Unlock()
		if !idle || d.scheduler.pressure.active.Load() {
			d.scheduler.pressure.adjust(lag, cpu.longShare() > busyShare)
		}
	})
}

// lagMeter measures how long new deliveries waited for their first attempt.
type lagMeter struct {
	waits  [32]int // number by the bits of their milliseconds
	number int
}

func (m *lagMeter) add(wait time.Duration) {
	m.waits[bits.Len32(uint32(max(0, wait.Milliseconds())))]++
	m.number++
}

// measureLag records the deliveries of a batch that starts. Those that wait by design do not count:
// for their batch, or for their window to close. s.mu is held.
func (s *scheduler) measureLag(q *queue, p *dispatchqueue.Batch, now time.Time) {
	if q.waiting.Limit.Size > 0 || q.compiled.Grouping.Within > 0 || p.First.Tracked == nil || p.First.Attempts > 0 {
		return
	}
	wait := now.Sub(p.First.Tracked.At)
	if !q.fastest.exceededBy(q.turn.expected) {
		wait = 0
	}
	s.lag.add(wait)
	s.pressure.started(1)
}

// fastestWindow is the number of attempts of which the fastest one is known.
const fastestWindow = 64

// fastest is the time of the fastest of the last attempts of a queue that succeeded: how long its
// target takes if neither is busy. The zero fastest knows none.
type fastest struct {
	now, before time.Duration // of this window, and of the one before
	number      int           // of attempts in this one
}

func (f *fastest) add(took time.Duration) {
	if f.number == fastestWindow {
		f.before, f.number = f.now, 0
	}
	if f.number++; f.number == 1 || took < f.now {
		f.now = took
	}
}

// exceededBy reports whether attempts take much longer than the fastest one, in seconds: then it is
// hardly the target that they wait for.
func (f *fastest) exceededBy(usual float64) bool {
	least := f.now
	if f.before > 0 {
		least = min(least, f.before)
	}
	return f.number > 0 && usual > 3*least.Seconds()
}

// take returns the median wait, and begins anew.
func (m *lagMeter) take() (median time.Duration) {
	left := m.number / 2
	for i, n := range m.waits {
		if left -= n; left < 0 {
			// Between 2^(i-1) and 2^i ms, by how far into them the median is.
			low := time.Duration(1<<i/2) * time.Millisecond
			median = low + time.Duration(float64(low)*float64(n+left)/float64(n))
			break
		}
	}
	*m = lagMeter{}
	return median
}
