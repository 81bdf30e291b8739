package catalog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
)

// match runs filters that take some time each, and returns how many ran.
func match(ctx context.Context, turns *fairlimit.Limiter, account string, filters int, takes time.Duration, ran func()) error {
	reg := &SubscriptionRegistry{matchTurns: turns}
	spent := reg.BeginMatching(ctx, account)
	defer spent.End()
	for range filters {
		if err := spent.Check(); err != nil {
			return err
		}
		time.Sleep(takes)
		ran()
	}
	return nil
}

func TestMatchTime_CostlyFiltersSlowTheirOwnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := fairlimit.New(fairlimit.Limits{Units: 1, Wait: MatchTimeout, MaxWaiting: 50})
		ctx, stop := context.WithCancel(t.Context())
		const filter = 5 * time.Millisecond
		var hostile, refused atomic.Int64
		gone := make(chan struct{})
		for range 60 {
			go func() {
				for ctx.Err() == nil {
					if err := match(ctx, turns, "hostile", 100, filter, func() { hostile.Add(1) }); errors.Is(err, ErrMatchBusy) {
						refused.Add(1)
						time.Sleep(time.Second)
					}
				}
				gone <- struct{}{}
			}()
		}
		time.Sleep(time.Second)
		if running := hostile.Load(); running > 60+200 { // the first of each is free
			t.Errorf("%d filters of 5 ms ran in a second", running)
		}
		// Cheap filters wait for nothing, however many.
		began := time.Now()
		if err := match(t.Context(), turns, "good", 1000, time.Microsecond, func() {}); err != nil || time.Since(began) != time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		// Costly ones of another account have every second turn.
		before := hostile.Load()
		began = time.Now()
		if err := match(t.Context(), turns, "other", 20, filter, func() {}); err != nil {
			t.Error(err)
		}
		if others := hostile.Load() - before; others > 2*20+4 {
			t.Errorf("%d filters of the other account ran between 20, which took %s", others, time.Since(began))
		}
		if refused.Load() == 0 {
			t.Error("nothing was refused although more wait than may")
		}
		stop()
		for range 60 {
			<-gone
		}
		synctest.Wait()
		if u := turns.Usage(); u.InUse != 0 || u.Waiting != 0 {
			t.Errorf("at the end: %+v", u)
		}
	})
}

func TestMatchTime_LimitsWhatOneOperationTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := fairlimit.New(fairlimit.Limits{Units: 1, Wait: MatchTimeout})
		began := time.Now()
		err := match(t.Context(), turns, "a", 10_000, 5*time.Millisecond, func() {})
		if took := time.Since(began); !errors.Is(err, ErrFiltersTooSlow) || took > MatchTimeout+10*time.Millisecond {
			t.Errorf("%v after %s", err, took)
		}
		held, err := turns.Acquire(t.Context(), "b", "", 1)
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		err = match(t.Context(), turns, "a", 10_000, 5*time.Millisecond, func() {})
		if took := time.Since(began); !errors.Is(err, ErrMatchBusy) || took > MatchTimeout+10*time.Millisecond {
			t.Errorf("%v after %s", err, took)
		}
		held()
		if u := turns.Usage(); u.InUse != 0 {
			t.Errorf("at the end: %+v", u)
		}
	})
}

// A replay ends its turn before it reads an event; the next filter waits for one again.
func TestMatchTime_EndedTurnIsTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &SubscriptionRegistry{matchTurns: fairlimit.New(fairlimit.Limits{Units: 1, Wait: MatchTimeout})}
		spent := reg.BeginMatching(t.Context(), "a")
		for range 3 {
			time.Sleep(matchTurn)
			if err := spent.Check(); err != nil {
				t.Fatal(err)
			}
			if u := reg.matchTurns.Usage(); u.InUse != 1 {
				t.Errorf("%+v", u)
			}
			spent.End()
			if u := reg.matchTurns.Usage(); u.InUse != 0 {
				t.Errorf("%+v", u)
			}
		}
	})
}

func TestMatchTime_ErrorSaysWhyThereIsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &SubscriptionRegistry{matchTurns: fairlimit.New(fairlimit.Limits{Units: 1, Wait: MatchTimeout})}
		if _, err := reg.AcquireMatching(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		if _, err := reg.AcquireMatching(t.Context(), "a"); engine.ErrorCode(err) != engine.CodeBusy || errors.Is(err, ErrMatchBusy) {
			t.Error(err) // nothing is published here
		}
		ended, stop := context.WithCancelCause(t.Context())
		stop(errors.New("took too long"))
		if _, err := reg.AcquireMatching(ended, "a"); err == nil || err.Error() != "took too long" {
			t.Error(err)
		}
		spent := reg.BeginMatching(ended, "a")
		time.Sleep(matchTurn)
		if err := spent.Check(); engine.ErrorCode(err) != engine.CodeUnavailable {
			t.Error(err) // the router stops
		}
	})
}
