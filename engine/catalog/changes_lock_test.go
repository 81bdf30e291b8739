package catalog

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
)

// Changes of one account that wait do not delay that of another account behind all of them, and the
// lock is exclusive.
func TestFairLock_AccountsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFairLock()
		of := func(account string) context.Context {
			return engine.WithActor(t.Context(), engine.Actor{Key: &engine.Key{Account: account}})
		}
		var group sync.WaitGroup
		held, done := 0, 0
		for range 100 {
			group.Go(func() {
				defer l.lock(of("many"))()
				held++
				time.Sleep(time.Second)
				if held != 1 {
					t.Error("two have the lock")
				}
				held--
				done++
			})
		}
		synctest.Wait()
		ended, cancel := context.WithCancel(of("few"))
		cancel()
		unlock := l.lock(ended)
		if done > 1 {
			t.Errorf("after %d changes of the other account", done)
		}
		unlock()
		group.Wait()
		l.lock(context.Background())()
	})
}
