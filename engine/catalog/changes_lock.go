package catalog

import (
	"context"
	"math"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
)

// fairLock is a lock that serves the account next which had it for the shortest time: the many changes
// of one account do not delay the change of another one behind all of them.
type fairLock struct{ turns *fairlimit.Limiter }

func newFairLock() fairLock {
	return fairLock{fairlimit.New(fairlimit.Limits{Units: 1, Wait: math.MaxInt64})}
}

// lock waits for the lock, in the name of the account that acts in ctx, or of the router. It never
// fails, even if ctx ends.
func (l fairLock) lock(ctx context.Context) (unlock func()) {
	account := ""
	if key := engine.ActorOf(ctx).Key; key != nil {
		account = key.Account
	}
	unlock, err := l.turns.Acquire(context.WithoutCancel(ctx), account, "", 1)
	if err != nil {
		panic(err) // only after the wait, which is endless
	}
	return unlock
}
