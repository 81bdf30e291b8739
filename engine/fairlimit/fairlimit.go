// Package fairlimit limits concurrent operations so that accounts share the slots fairly.
package fairlimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// The reasons for which Acquire refuses an operation.
var (
	ErrFull        = errors.New("all slots are in use")
	ErrAccountFull = errors.New("the account uses as many slots as it may")
	ErrSuperseded  = errors.New("a newer operation of the same caller took the place in the queue")
)

// Limiter admits a limited number of concurrent operations. If all slots are in use, operations wait
// for a while; the next free slot goes to the account that was served the longest time ago.
// golang.org/x/sync/semaphore does not suit: it serves callers in the order of their arrival, so one account could take all turns.
type Limiter struct {
	perAccount int
	wait       time.Duration

	mu      sync.Mutex
	free    int
	held    map[string]int    // slots by account
	waiting []*waiter         // oldest first
	served  map[string]uint64 // number of the last operation of an account, until all slots are free
	count   uint64            // operations served
}

// waiter is an operation that waits for a slot.
type waiter struct {
	account, caller string
	done            chan error // receives nil with a slot, or ErrSuperseded
}

// New returns a Limiter with a number of slots, of which an account may hold perAccount. An
// operation waits for a slot until wait is over.
func New(slots, perAccount int, wait time.Duration) *Limiter {
	return &Limiter{free: slots, perAccount: perAccount, wait: wait, held: map[string]int{}, served: map[string]uint64{}}
}

// Acquire waits for a slot, which release returns. caller identifies the client and its purpose: if it is not
// empty, an older operation of the account with the same caller that still waits is refused. Errors:
// ErrFull, ErrAccountFull, ErrSuperseded, and that of ctx.
func (l *Limiter) Acquire(ctx context.Context, account, caller string) (release func(), err error) {
	w := &waiter{account, caller, make(chan error, 1)}
	l.mu.Lock()
	l.supersede(w)
	l.waiting = append(l.waiting, w)
	l.serve()
	l.mu.Unlock()
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case err = <-w.done:
	case <-ctx.Done():
		err = l.leave(w, ctx.Err())
	case <-timer.C:
		err = l.leave(w, ErrFull)
	}
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { l.release(account) }), nil
}

// supersede refuses the operation that waits in the name of w's caller.
func (l *Limiter) supersede(w *waiter) {
	if w.caller == "" {
		return
	}
	i := slices.IndexFunc(l.waiting, func(o *waiter) bool { return o.account == w.account && o.caller == w.caller })
	if i >= 0 {
		l.waiting[i].done <- ErrSuperseded
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// leave removes an operation that waits no longer, and returns why; nil if it has got its slot.
func (l *Limiter) leave(w *waiter, why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, w)
	if i < 0 {
		return <-w.done
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	if why == ErrFull && l.held[w.account] >= l.perAccount {
		return ErrAccountFull
	}
	return why
}

func (l *Limiter) release(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free++
	if l.held[account]--; l.held[account] == 0 {
		delete(l.held, account)
	}
	l.serve()
}

// serve gives free slots to waiting operations, one account after the other.
func (l *Limiter) serve() {
	for l.free > 0 {
		next := -1
		for i, w := range l.waiting {
			if l.held[w.account] < l.perAccount && (next < 0 || l.served[w.account] < l.served[l.waiting[next].account]) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		w := l.waiting[next]
		l.waiting = slices.Delete(l.waiting, next, next+1)
		l.free--
		l.held[w.account]++
		l.count++
		l.served[w.account] = l.count
		w.done <- nil
	}
	if len(l.waiting) == 0 && len(l.held) == 0 {
		clear(l.served)
	}
}
