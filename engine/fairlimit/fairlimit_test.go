package fairlimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// acquired is the result of an Acquire in the background.
type acquired struct {
	name    string
	release func()
	err     error
	after   time.Duration
}

// queue acquires a slot in the background, and returns when it has been admitted, refused or queued.
func queue(ctx context.Context, l *Limiter, results chan<- acquired, name, account, caller string) {
	began := time.Now()
	go func() {
		release, err := l.Acquire(ctx, account, caller, 1)
		results <- acquired{name, release, err, time.Since(began)}
	}()
	synctest.Wait()
}

func mustAcquire(t *testing.T, l *Limiter, account string) (release func()) {
	t.Helper()
	release, err := l.Acquire(t.Context(), account, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func (l *Limiter) checkEmpty(t *testing.T, units int64) {
	t.Helper()
	if l.free != units || len(l.accounts)+l.waiting != 0 {
		t.Errorf("%d of %d units are free; accounts %v, %d wait", l.free, units, l.accounts, l.waiting)
	}
}

func TestLimiter_WaitsThenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 2, PerAccount: 2, Wait: 250 * time.Millisecond})
		a, b := mustAcquire(t, l, "a"), mustAcquire(t, l, "b")
		results := make(chan acquired, 4)
		queue(t.Context(), l, results, "refused", "c", "")
		if r := <-results; !errors.Is(r.err, ErrFull) || r.after != 250*time.Millisecond {
			t.Errorf("%+v", r)
		}
		queue(t.Context(), l, results, "served", "c", "")
		time.Sleep(200 * time.Millisecond)
		a()
		a() // a second release frees nothing
		r := <-results
		if r.err != nil || r.after != 200*time.Millisecond {
			t.Errorf("%+v", r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		queue(ctx, l, results, "left", "c", "")
		cancel()
		if left := <-results; !errors.Is(left.err, context.Canceled) || left.after != 0 {
			t.Errorf("%+v", left)
		}
		b()
		r.release()
		l.checkEmpty(t, 2)
	})
}

func TestLimiter_AccountLeavesSlotsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 3, PerAccount: 2, Wait: 250 * time.Millisecond})
		first, second := mustAcquire(t, l, "a"), mustAcquire(t, l, "a")
		results := make(chan acquired, 4)
		queue(t.Context(), l, results, "third", "a", "")
		mustAcquire(t, l, "b")() // not behind the third of a
		if r := <-results; !errors.Is(r.err, ErrAccountFull) {
			t.Errorf("%+v", r)
		}
		queue(t.Context(), l, results, "third", "a", "")
		first()
		r := <-results
		if r.err != nil || r.after != 0 {
			t.Errorf("%+v", r)
		}
		second()
		r.release()
		l.checkEmpty(t, 3)
	})
}

func TestLimiter_NewerOfCallerReplacesWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 1, PerAccount: 1, Wait: 250 * time.Millisecond})
		held := mustAcquire(t, l, "z")
		results := make(chan acquired, 8)
		queue(t.Context(), l, results, "older", "a", "key filter")
		queue(t.Context(), l, results, "another account", "b", "key filter")
		queue(t.Context(), l, results, "another caller", "a", "key transform")
		queue(t.Context(), l, results, "without caller", "a", "")
		queue(t.Context(), l, results, "without caller", "a", "")
		select {
		case r := <-results:
			t.Fatalf("%+v", r)
		default:
		}
		queue(t.Context(), l, results, "newer", "a", "key filter")
		if r := <-results; r.name != "older" || !errors.Is(r.err, ErrSuperseded) || r.after != 0 {
			t.Errorf("%+v", r)
		}
		held()
		var served []string
		for range 5 {
			r := <-results
			if r.err != nil {
				t.Fatalf("%+v", r)
			}
			served = append(served, r.name)
			r.release()
		}
		if slices.Sort(served); fmt.Sprint(served) != "[another account another caller newer without caller without caller]" {
			t.Errorf("%q", served)
		}
		// One that runs is not replaced.
		running, err := l.Acquire(t.Context(), "a", "key filter", 1)
		if err != nil {
			t.Fatal(err)
		}
		queue(t.Context(), l, results, "next", "a", "key filter")
		running()
		r := <-results
		if r.err != nil {
			t.Errorf("%+v", r)
		}
		r.release()
		l.checkEmpty(t, 1)
	})
}

func TestLimiter_AccountsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 1, PerAccount: 1, Wait: time.Minute})
		held := mustAcquire(t, l, "a")
		results := make(chan acquired, 16)
		for i := range 6 {
			queue(t.Context(), l, results, "a", "a", fmt.Sprint(i))
		}
		for i := range 2 {
			queue(t.Context(), l, results, "b", "b", fmt.Sprint(i))
		}
		queue(t.Context(), l, results, "c", "c", "")
		held()
		order := ""
		for range 9 {
			r := <-results
			if r.err != nil {
				t.Fatalf("%+v", r)
			}
			order += r.name
			r.release()
		}
		if order != "bcabaaaaa" {
			t.Error(order)
		}
		l.checkEmpty(t, 1)
	})
}

func TestLimiter_SlowOperationsDelayTheirOwnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 2, Wait: time.Hour})
		done := make(chan string, 64)
		start := func(account string, lasts time.Duration, times int) {
			for range times {
				go func() {
					release, err := l.Acquire(t.Context(), account, "", 1)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(lasts)
					release()
					done <- account
				}()
			}
			synctest.Wait()
		}
		start("slow", time.Second, 20)
		start("fast", 10*time.Millisecond, 20)
		first := map[string]int{}
		for range 25 {
			first[<-done]++
		}
		// A quick operation waits for one slow one at most, and then all of them have their turn: 100
		// take the time of one slow operation.
		if first["fast"] != 20 || first["slow"] > 5 {
			t.Errorf("of the first 25 operations %v", first)
		}
		for range 15 {
			<-done
		}
		synctest.Wait()
		l.checkEmpty(t, 2)
	})
}

func TestLimiter_UnitsAreFairWhateverAnOperationNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 10, PerAccount: 8, Wait: time.Minute, MaxWaiting: 2})
		all, err := l.Acquire(t.Context(), "a", "", 100) // gets what an account may have
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Usage(); got != (Usage{InUse: 8}) {
			t.Errorf("%+v", got)
		}
		results := make(chan acquired, 4)
		acquire := func(name, account string, units int64) {
			go func() {
				release, err := l.Acquire(t.Context(), account, "", units)
				results <- acquired{name: name, release: release, err: err}
			}()
			synctest.Wait()
		}
		acquire("large", "b", 6)
		acquire("small", "c", 2) // would fit, but must not keep "large" from ever running
		acquire("large", "b", 6)
		acquire("third", "b", 1)
		if r := <-results; r.name != "third" || !errors.Is(r.err, ErrFull) {
			t.Errorf("%+v", r)
		}
		if got := l.Usage(); got != (Usage{InUse: 8, Waiting: 3, Refused: 1}) {
			t.Errorf("%+v", got)
		}
		all()
		first, second := <-results, <-results
		if first.err != nil || second.err != nil || first.name == second.name {
			t.Errorf("%+v, %+v", first, second)
		}
		first.release()
		second.release()
		(<-results).release()
		l.checkEmpty(t, 10)
	})
}

func TestLimiter_IdleTimeIsNoCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 1, Wait: time.Hour})
		held := mustAcquire(t, l, "busy")
		time.Sleep(30 * time.Minute) // the other account used nothing meanwhile
		results := make(chan acquired, 16)
		for i := range 4 {
			queue(t.Context(), l, results, "b", "busy", fmt.Sprint(i))
			queue(t.Context(), l, results, "n", "new", fmt.Sprint(i))
		}
		held()
		order := ""
		for range 8 {
			r := <-results
			order += r.name
			time.Sleep(time.Second)
			r.release()
		}
		if order != "nbnbnbnb" && order != "nbnbnbbn" {
			t.Error(order)
		}
	})
}

func TestLimiter_HoldShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Units: 10, Wait: time.Second})
		h, err := l.Hold(t.Context(), "a", "", 10)
		if err != nil {
			t.Fatal(err)
		}
		admitted := make(chan error, 1)
		go func() {
			_, err := l.Acquire(t.Context(), "b", "", 6)
			admitted <- err
		}()
		synctest.Wait()
		h.Shrink(12) // no growth
		h.Shrink(4)
		if err := <-admitted; err != nil {
			t.Error(err)
		}
		if got := l.Usage(); got.InUse != 10 {
			t.Errorf("%+v", got)
		}
		h.Release()
		h.Release()
		if got := l.Usage(); got.InUse != 6 || len(l.accounts) != 1 {
			t.Errorf("%+v, %d accounts", got, len(l.accounts))
		}
	})
}
