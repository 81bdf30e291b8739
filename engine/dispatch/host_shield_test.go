package dispatch

import (
	"fmt"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/retry"
)

var (
	failing  = retry.Decision{Action: retry.ActionRetry, Signal: retry.SignalUnavailable, Reason: "the target answered 500"}
	notFound = retry.Decision{Action: retry.ActionRetry, Signal: retry.SignalRejecting, Reason: "the target answered 404"}
)

func (m *fairnessRun) answer(id engine.ID, v retry.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers[id] = v
}

// subscribeTo is subscribe with a target URL.
func (m *fairnessRun) subscribeTo(target, account string, id engine.ID, takes time.Duration, waiting int) {
	u, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	m.setSubscription(&catalog.CompiledSubscription{
		Sub: &engine.Subscription{ID: id, Account: account, Active: true}, TargetURL: u,
		Policy: catalog.EffectivePolicy{InFlight: 16, GiveUpAfter: catalog.DefaultGiveUpAfter},
	})
	m.mu.Lock()
	m.takes[id], m.endless[id] = takes, waiting > 0
	m.mu.Unlock()
	for range waiting {
		m.add(id)
	}
}

// total returns the number of attempts of all subscriptions from first on.
func (m *fairnessRun) total(first engine.ID) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, list := range m.delays {
		if id >= first {
			n += len(list)
		}
	}
	return n
}

func TestHostShield_HostThatNeverAcceptedGetsLittle(t *testing.T) {
	for name, answer := range map[string]retry.Decision{"fails": failing, "refuses": notFound} {
		synctest.Test(t, func(t *testing.T) {
			m := newFairnessRun(512)
			m.limits.hostInFlight = 64
			for i := range engine.ID(300) {
				m.answer(100+i, answer)
				m.subscribeTo(fmt.Sprintf("http://Victim.example./%d", i), "a", 100+i, 10*time.Millisecond, 5)
			}
			m.subscribeTo("http://victim.example:8080/", "a", 1, 10*time.Millisecond, 1) // another port
			m.subscribeTo("http://victim.example/", "b", 2, 10*time.Millisecond, 1)      // another account
			time.Sleep(15 * time.Second)
			most, _ := m.placesOf("a")
			if n := m.total(100); n < 110 || n > 120 || most > unprovenInFlight+16 {
				t.Errorf("%s: %d attempts in 15 s, %d at the same time", name, n, most)
			}
			if m.attempts(1) < 1000 || m.attempts(2) < 1000 {
				t.Errorf("%s: %d and %d attempts of others", name, m.attempts(1), m.attempts(2))
			}
			m.answer(100+7, good) // one of them is accepted: the host wants deliveries
			// The 300 share one probe a second, in turns.
			for waited := 0; m.attempts(100+7) < 100; waited++ {
				if waited > 310 {
					t.Fatalf("%s: the subscription whose target works waits for ever", name)
				}
				time.Sleep(time.Second)
			}
			m.finish()
			if n := len(m.accounts["a"].hosts); n != 2 {
				t.Errorf("%s: %d shields", name, n)
			}
			for i := range engine.ID(300) {
				m.removeSubscription(100 + i)
			}
			if n := len(m.accounts["a"].hosts); n != 1 {
				t.Errorf("%s: %d shields of hosts without subscriptions", name, n-1)
			}
		})
	}
}

// New subscriptions of a host that accepts nothing don't begin anew.
func TestHostShield_IsRememberedWithoutSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(512)
		m.limits.hostInFlight = 64
		const rounds = 5
		for i := range engine.ID(rounds) {
			m.answer(100+i, notFound)
			m.subscribeTo("http://victim.example/", "a", 100+i, 10*time.Millisecond, 300)
			time.Sleep(3 * time.Second)
			m.removeSubscription(100 + i)
			time.Sleep(time.Second) // its last attempt has ended
		}
		if n := m.total(100); n < probeHostAfter || n > probeHostAfter+4*rounds {
			t.Errorf("%d attempts of %d subscriptions, one after the other", n, rounds)
		}
		m.finish()
	})
}

// A host that accepts some deliveries is not stopped by a path that fails.
func TestHostShield_FailingPathDoesNotStopOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(512)
		m.limits.hostInFlight = 64
		m.subscribeTo("http://a.example/good", "a", 1, 10*time.Millisecond, 16)
		time.Sleep(time.Second)
		for i := range engine.ID(10) {
			m.answer(10+i, notFound)
			m.subscribeTo("http://a.example/bad", "a", 10+i, 10*time.Millisecond, 2)
		}
		before := m.attempts(1)
		time.Sleep(10 * time.Second)
		if n := m.attempts(1) - before; n < 15_000 { // 16 at a time, 10 ms each
			t.Errorf("%d attempts of the path that works", n)
		}
		m.finish()
	})
}

func TestHostShield_LimitsInFlightAndRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(512)
		m.limits.hostInFlight, m.limits.hostInterval = 64, 10*time.Millisecond
		for i := range engine.ID(50) {
			m.subscribeTo("http://a.example/", "a", 1+i, 20*time.Millisecond, 4)
		}
		time.Sleep(10 * time.Second)
		if n := m.total(1); n < 990 || n > 1001 {
			t.Errorf("%d attempts in 10 s at 100 a second", n)
		}
		m.scheduler.mu.Lock()
		m.limits.hostInterval = 0
		m.scheduler.mu.Unlock()
		time.Sleep(10 * time.Second)
		if most, _ := m.placesOf("a"); most != 64 {
			t.Errorf("%d in flight", most)
		}
		for i := range engine.ID(50) {
			if n := m.attempts(1 + i); n < 500 {
				t.Errorf("subscription %d was attempted %d times", 1+i, n)
			}
		}
		m.finish()
	})
}

// A place at a host that was given to a queue and not used goes to the next queue.
func TestHostShield_UnusedPlaceGoesToNextQueue(t *testing.T) {
	for name, stop := range map[string]func(*fairnessRun, *catalog.CompiledSubscription){
		"inactive": func(m *fairnessRun, r *catalog.CompiledSubscription) {
			off := *r.Sub
			off.Active = false
			m.setSubscription(&catalog.CompiledSubscription{Sub: &off, TargetURL: r.TargetURL, Policy: r.Policy})
		},
		"deleted": func(m *fairnessRun, r *catalog.CompiledSubscription) { m.removeSubscription(r.Sub.ID) },
		"another target": func(m *fairnessRun, r *catalog.CompiledSubscription) {
			other := &url.URL{Scheme: "http", Host: "b.example"}
			m.setSubscription(&catalog.CompiledSubscription{Sub: r.Sub, TargetURL: other, Policy: r.Policy})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newFairnessRun(2) // for other accounts, as long as the test needs
			m.limits.hostInFlight = 1
			m.subscribeTo("http://a.example/", "a", 1, time.Second, 0)
			m.subscribeTo("http://a.example/", "a", 2, time.Second, 0)
			m.subscribeTo("http://a.example/", "a", 3, time.Second, 0)
			m.subscribe("b", 4, 16, 10*time.Second, 0)
			m.add(1)
			synctest.Wait()
			m.add(2)
			m.add(3)
			synctest.Wait()
			m.mu.Lock()
			m.takes[1] = 0
			m.mu.Unlock()
			m.add(4) // has the other worker
			synctest.Wait()
			m.scheduler.mu.Lock()
			second, third := m.queues[2], m.queues[3]
			if second.state != queueBlocked || third.state != queueBlocked {
				t.Errorf("%s: %d and %d", name, second.state, third.state)
			}
			m.halted = true // no worker takes what gets ready
			m.scheduler.mu.Unlock()
			time.Sleep(2 * time.Second) // the first attempt is over
			m.scheduler.mu.Lock()
			if second.state != queueReady || third.state != queueBlocked {
				t.Errorf("%s: %d and %d once a place is free", name, second.state, third.state)
			}
			r := second.compiled
			m.scheduler.mu.Unlock()
			stop(m, r)
			m.resume()
			time.Sleep(time.Second)
			if m.attempts(3) != 1 {
				t.Errorf("%s: the third queue waits for ever", name)
			}
			m.finish()
		})
	}
}
