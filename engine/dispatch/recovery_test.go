package dispatch

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine/lifecycle"
	"switchhook/engine/settings"
)

// The clock is set between the record of a retry and the moment when the sleeping loop hears of it.
func TestRetryLoop_ClockSetBackDoesNotProlongSleep(t *testing.T) {
	for name, jump := range map[string]time.Duration{"as it was": 0, "a minute back": -time.Minute, "a day back": -24 * time.Hour, "a day forth": 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var offset atomic.Int64
			now := func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }
			d := &Dispatcher{cfg: settings.Config{Now: now}, life: lifecycle.New(now), retryWake: make(chan time.Time, 64)}
			began := time.Now()
			slept := make(chan time.Duration, 1)
			go func() {
				d.sleepUntilRetry(maxRetrySleep)
				slept <- time.Since(began)
			}()
			synctest.Wait()
			due := now().Add(3 * time.Second)
			offset.Store(int64(jump))
			d.wakeRetries(due)
			if got, want := <-slept, min(max(3*time.Second-jump, 0), maxRetrySleep); got != want {
				t.Errorf("%s: slept for %s, not %s", name, got, want)
			}
		})
	}
}
