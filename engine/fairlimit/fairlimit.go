// Package fairlimit limits what operations use at the same time, so that accounts share it fairly.
package fairlimit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// The reasons for which Acquire refuses an operation.
var (
	ErrFull        = errors.New("all of it is in use")
	ErrAccountFull = errors.New("the account uses as much as it may")
	ErrSuperseded  = errors.New("a newer operation of the same caller took the place in the queue")
)

// Limits are the constants of a Limiter. A unit is whatever is limited: a place, a byte.
type Limits struct {
	Units      int64         // that may be in use
	PerAccount int64         // of which one account may use so many; 0: all
	Wait       time.Duration // how long an operation waits for its units
	MaxWaiting int           // operations of one account that may wait; more are refused at once; 0: no limit
}

// Limiter admits operations as long as units are free. Otherwise they wait: the next free units go
// to the account that used the least, in units × time, since operations began to wait. So an
// account with many or with slow operations delays its own. (This is start-time fair queueing, with
// the time that an operation took as its length.)
// golang.org/x/sync/semaphore does not suit: it serves callers in the order of their arrival, so
// one account could take all turns.
type Limiter struct {
	limits Limits

	mu       sync.Mutex
	free     int64
	accounts map[string]*account // those that use units or wait
	waiting  int                 // operations that wait, of all accounts
	virtual  float64             // the usage of the accounts that were served: an account begins to wait with it
	admitted uint64              // operations so far
	arrived  uint64              // operations so far that had to wait
	refused  uint64              // operations so far that got nothing, because what is limited was in use
}

// account is what one account uses, and its operations that wait.
type account struct {
	used    float64   // units × seconds until since; counted from when operations began to wait
	since   time.Time // of the last change of held
	held    int64     // units in use
	last    uint64    // number of the operation that was admitted last
	waiting []*waiter
}

// usage returns the units × seconds that the account has used until now.
func (a *account) usage(now time.Time) float64 {
	return a.used + float64(a.held)*now.Sub(a.since).Seconds()
}

// hold changes the units in use.
func (a *account) hold(units int64, now time.Time) {
	a.used, a.since = a.usage(now), now
	a.held += units
}

// waiter is an operation that waits for its units.
type waiter struct {
	caller  string
	units   int64
	arrived uint64     // number among all that had to wait
	outcome chan error // receives nil once it is admitted, or ErrSuperseded
}

// New returns a Limiter.
func New(l Limits) *Limiter {
	if l.PerAccount == 0 {
		l.PerAccount = l.Units
	}
	return &Limiter{limits: l, free: l.Units, accounts: map[string]*account{}}
}

// Acquire waits for units, which release returns. An operation that needs more units than an account
// may use gets these. caller identifies the client and its purpose: if it is not empty, an older
// operation of the account with the same caller that still waits is refused. Errors: ErrFull,
// ErrAccountFull, ErrSuperseded, and that of ctx.
func (l *Limiter) Acquire(ctx context.Context, name, caller string, units int64) (release func(), err error) {
	h, err := l.Hold(ctx, name, caller, units)
	if err != nil {
		return nil, err
	}
	return h.Release, nil
}

// Hold is Acquire for an operation that learns later how many units it needs.
func (l *Limiter) Hold(ctx context.Context, name, caller string, units int64) (*Hold, error) {
	w := &waiter{caller: caller, units: max(1, min(units, l.limits.PerAccount))}
	l.mu.Lock()
	a := l.accounts[name]
	if a == nil {
		a = &account{}
		l.accounts[name] = a
	}
	l.supersede(a, caller)
	if l.waiting == 0 && w.units <= l.free && l.mayHold(a, w) {
		l.admit(a, w, time.Now())
		l.mu.Unlock()
		return &Hold{l, name, w}, nil
	}
	if l.limits.Wait <= 0 || l.limits.MaxWaiting > 0 && len(a.waiting) >= l.limits.MaxWaiting {
		err := l.refusal(a, w)
		l.forget(name, a)
		l.mu.Unlock()
		return nil, err
	}
	l.enqueue(a, w)
	l.serve()
	l.mu.Unlock()
	if err := l.await(ctx, name, w); err != nil {
		return nil, err
	}
	return &Hold{l, name, w}, nil
}

// await waits until w is admitted or refused.
func (l *Limiter) await(ctx context.Context, name string, w *waiter) error {
	timer := time.NewTimer(l.limits.Wait)
	defer timer.Stop()
	select {
	case err := <-w.outcome:
		return err
	case <-ctx.Done():
		return l.leave(name, w, ctx.Err())
	case <-timer.C:
		return l.leave(name, w, nil)
	}
}

// leave removes an operation that waits no longer. It returns why, or the refusal if that is nil;
// nil if the operation was admitted meanwhile.
func (l *Limiter) leave(name string, w *waiter, why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[name]
	i := -1
	if a != nil {
		i = slices.Index(a.waiting, w)
	}
	if i < 0 {
		return <-w.outcome
	}
	a.waiting = slices.Delete(a.waiting, i, i+1)
	l.waiting--
	if why == nil {
		why = l.refusal(a, w)
	}
	l.forget(name, a)
	l.serve() // others may have waited behind it
	return why
}

// Hold is the units of an operation.
type Hold struct {
	limiter *Limiter
	account string
	w       *waiter
}

// Release returns the units. It may be called again.
func (h *Hold) Release() { h.Shrink(0) }

// Shrink returns the units beyond so many.
func (h *Hold) Shrink(units int64) {
	l := h.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if units >= h.w.units {
		return
	}
	a := l.accounts[h.account]
	a.hold(units-h.w.units, time.Now())
	l.free += h.w.units - units
	h.w.units = units
	l.forget(h.account, a)
	l.serve()
}

// enqueue adds an operation that must wait. What accounts used while none waited does not count
// against them, and what an account left unused is no credit.
func (l *Limiter) enqueue(a *account, w *waiter) {
	now := time.Now()
	if l.waiting == 0 {
		l.virtual = 0
		for _, other := range l.accounts {
			other.used, other.since = 0, now
		}
	}
	if len(a.waiting) == 0 {
		a.used += max(0, l.virtual-a.usage(now))
	}
	l.arrived++
	w.arrived, w.outcome = l.arrived, make(chan error, 1)
	a.waiting = append(a.waiting, w)
	l.waiting++
}

// forget drops the state of an account that neither uses units nor waits.
func (l *Limiter) forget(name string, a *account) {
	if a.held == 0 && len(a.waiting) == 0 {
		delete(l.accounts, name)
	}
}

// supersede refuses the operation that waits in the name of a caller.
func (l *Limiter) supersede(a *account, caller string) {
	if caller == "" {
		return
	}
	if i := slices.IndexFunc(a.waiting, func(o *waiter) bool { return o.caller == caller }); i >= 0 {
		a.waiting[i].outcome <- ErrSuperseded
		a.waiting = slices.Delete(a.waiting, i, i+1)
		l.waiting--
	}
}

func (l *Limiter) mayHold(a *account, w *waiter) bool { return a.held+w.units <= l.limits.PerAccount }

func (l *Limiter) refusal(a *account, w *waiter) error {
	l.refused++
	if !l.mayHold(a, w) {
		return ErrAccountFull
	}
	return ErrFull
}

func (l *Limiter) admit(a *account, w *waiter, now time.Time) {
	l.admitted++
	a.last = l.admitted
	l.virtual = max(l.virtual, a.usage(now))
	l.free -= w.units
	a.hold(w.units, now)
}

// serve admits waiting operations, each time the first one of the account that used the least. If
// that needs more units than are free, all wait: else an operation that needs many would never run.
func (l *Limiter) serve() {
	now := time.Now()
	for l.free > 0 && l.waiting > 0 {
		var next *account
		for _, a := range l.accounts {
			if len(a.waiting) > 0 && l.mayHold(a, a.waiting[0]) && (next == nil || a.before(next, now)) {
				next = a
			}
		}
		if next == nil || next.waiting[0].units > l.free {
			return
		}
		w := next.waiting[0]
		next.waiting = slices.Delete(next.waiting, 0, 1)
		l.waiting--
		l.admit(next, w, now)
		w.outcome <- nil
	}
}

// before reports whether a is served before b; the operations of both wait.
func (a *account) before(b *account, now time.Time) bool {
	return cmp.Or(
		cmp.Compare(a.usage(now), b.usage(now)),
		cmp.Compare(a.last, b.last),
		cmp.Compare(a.waiting[0].arrived, b.waiting[0].arrived),
	) < 0
}

// Usage is the current state of a Limiter, for metrics.
type Usage struct {
	InUse   int64  // units
	Waiting int    // operations
	Refused uint64 // operations so far with ErrFull or ErrAccountFull
}

// Usage returns the current state.
func (l *Limiter) Usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Usage{l.limits.Units - l.free, l.waiting, l.refused}
}
