package dispatch

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/watermark"
)

// lagging returns a backpressure that paces.
func lagging() *backpressure {
	b := newBackpressure()
	b.adjust(lagTarget, true)
	return b
}

// publishMany starts n requests of an account and counts those that were admitted.
func publishMany(b *backpressure, account string, n int) *atomic.Int64 {
	var admitted atomic.Int64
	for range n {
		go func() {
			if b.wait(context.Background(), account, 1) == nil {
				admitted.Add(1)
			}
		}()
	}
	synctest.Wait()
	return &admitted
}

func TestBackpressure_AdmitsAsDeliveriesStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lagging()
		busy := publishMany(b, "busy", 500)
		if n := busy.Load(); n != 0 {
			t.Fatalf("%d requests were admitted before a delivery started", n)
		}
		start := func(n int) {
			for range n {
				b.started(1)
				synctest.Wait()
			}
		}
		start(100)
		if n := busy.Load(); n < 99 || n > 101 {
			t.Errorf("%d requests were admitted for 100 deliveries", n)
		}
		// Another account is served before those of the busy one that do not wait in front.
		other := publishMany(b, "other", 1)
		start(2 * pacingPlaces)
		if other.Load() != 1 {
			t.Error("an account with one request waits behind those of another")
		}
		time.Sleep(pacingWait)
		synctest.Wait()
		if n := busy.Load(); n != 500 {
			t.Errorf("%d of 500 requests were admitted after %s", n, pacingWait)
		}
	})
}

// An account that publishes little does not wait beside one whose lists need more than there is.
func TestBackpressure_BelowItsShareAnAccountDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lagging()
		var lists, own atomic.Int64
		for range 8 {
			go func() {
				for range 10 {
					if b.wait(context.Background(), "lists", 1000) == nil {
						lists.Add(1)
					}
				}
			}()
		}
		waited := time.Duration(0)
		for range 40 { // of 50 ms
			for range 5 {
				b.started(20)
				time.Sleep(adjustEvery / 5)
			}
			b.adjust(lagTarget, true)
			if began := time.Now(); lists.Load() > 0 {
				for range 3 {
					if b.wait(context.Background(), "small", 1) == nil {
						own.Add(1)
					}
				}
				waited = max(waited, time.Since(began))
			}
		}
		if own.Load() < 60 || waited > 0 {
			t.Errorf("%d requests were admitted, one after %s", own.Load(), waited)
		}
		time.Sleep(time.Minute)
	})
}

func TestBackpressure_FanOutCostsItsDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lagging()
		for range 40 { // each event leads to ten deliveries
			b.events.Store(100)
			b.deliveries.Store(1000)
			b.adjust(lagTarget, true)
		}
		admitted := publishMany(b, "a", 100)
		for range 100 {
			b.started(1)
		}
		synctest.Wait()
		if n := admitted.Load(); n < 9 || n > 11 {
			t.Errorf("%d events were admitted for 100 deliveries", n)
		}
		time.Sleep(time.Second)
	})
}

func TestBackpressure_EndsWithLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackpressure()
		b.adjust(time.Hour, false)
		if b.active.Load() {
			t.Error("publishing is paced though the CPUs are idle")
		}
		b = lagging()
		admitted := publishMany(b, "a", pacingPlaces)
		for range calmAfter {
			if !b.active.Load() {
				t.Error("the pacing ends too early")
			}
			b.adjust(0, true)
		}
		synctest.Wait()
		if n := admitted.Load(); b.active.Load() || n != pacingPlaces {
			t.Errorf("paced: %v, %d requests were admitted", b.active.Load(), n)
		}
	})
}

func TestBackpressure_RefusesWhatIsTooMuchToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lagging()
		admitted := publishMany(b, "a", maxPaced+pacingPlaces)
		began := time.Now()
		err := b.wait(context.Background(), "a", 1)
		if engine.ErrorCode(err) != engine.CodeBusy || time.Since(began) != 0 {
			t.Errorf("one request too many: %v after %s", err, time.Since(began))
		}
		if other := publishMany(b, "b", 1); engine.ErrorCode(err) != engine.CodeBusy || other.Load() != 0 {
			t.Error("a request of another account does not wait")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := b.wait(ctx, "c", 1); err != context.Canceled {
			t.Errorf("a client that is gone: %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := admitted.Load(); n != maxPaced+pacingPlaces {
			t.Errorf("%d requests were admitted", n)
		}
	})
}

// A target that is slow makes its deliveries wait, but is no lag of the router.
func TestScheduler_SlowTargetIsNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestScheduler()
		d.addSubscription(engine.Subscription{ID: 1}, catalog.EffectivePolicy{InFlight: 4})
		attempt := func(n int, took func(i int) time.Duration) time.Duration {
			for _, id := range newIDs(n) {
				d.enqueue(1, dispatchqueue.Entry{Event: id, Tracked: &watermark.Event{At: time.Now()}})
			}
			for i := 0; d.waiting(1) > 0; i++ {
				flights := d.start()
				time.Sleep(took(i))
				for _, f := range flights {
					d.end(f, retry.Decision{Action: retry.ActionSucceed, Signal: retry.SignalHealthy})
					d.committed(f.queue, f.batch.First.Event)
				}
			}
			return d.lag.take()
		}
		if lag := attempt(400, func(int) time.Duration { return 100 * time.Millisecond }); lag != 0 {
			t.Errorf("a target that takes 100 ms is a lag of %s", lag)
		}
		uneven := func(i int) time.Duration { return time.Duration(1+i%20*10) * time.Millisecond }
		if lag := attempt(400, uneven); lag < lagTarget {
			t.Errorf("attempts that take 1 ms at best and 100 ms as a rule are a lag of %s", lag)
		}
		d.close()
	})
}

func TestLagMeter_Median(t *testing.T) {
	var m lagMeter
	for ms := range 1000 {
		m.add(time.Duration(ms) * time.Millisecond)
	}
	if got := m.take(); got < 450*time.Millisecond || got > 550*time.Millisecond {
		t.Errorf("%s is the median of 0 to 1 s", got)
	}
	if got := m.take(); got != 0 {
		t.Errorf("%s is the median of nothing", got)
	}
}
