package dispatch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
)

// fairnessRun is a scheduler with workers whose attempts take the time that their target takes, in a
// bubble of synctest. Each subscription has deliveries waiting all the time, or gets one at a
// constant interval.
type fairnessRun struct {
	*testScheduler
	mu       sync.Mutex
	takes    map[engine.ID]time.Duration
	endless  map[engine.ID]bool
	answers  map[engine.ID]retry.Decision // good if it is not set
	last     engine.ID
	enqueued map[engine.ID]time.Time
	delays   map[engine.ID][]time.Duration // from the queue to the attempt
	held     map[string]time.Duration      // places × time of an account
	most     map[string]int                // of an account's places at the same time
	now      map[string]int
}

func newFairnessRun(workers int) *fairnessRun {
	m := &fairnessRun{
		testScheduler: newTestScheduler(), takes: map[engine.ID]time.Duration{}, endless: map[engine.ID]bool{}, answers: map[engine.ID]retry.Decision{},
		enqueued: map[engine.ID]time.Time{}, delays: map[engine.ID][]time.Duration{},
		held: map[string]time.Duration{}, most: map[string]int{}, now: map[string]int{}, last: newIDs(1)[0],
	}
	m.limits.workers = workers
	m.work = m.attempt
	return m
}

func (m *fairnessRun) attempt(f flight) {
	id, account, began := f.queue.id, f.queue.account.name, time.Now()
	m.mu.Lock()
	m.delays[id] = append(m.delays[id], began.Sub(m.enqueued[f.batch.First.Event]))
	delete(m.enqueued, f.batch.First.Event)
	m.now[account]++
	m.most[account] = max(m.most[account], m.now[account])
	takes := m.takes[id] * time.Duration(75+f.batch.First.Event*37%51) / 100 // else they would all end together
	m.mu.Unlock()
	time.Sleep(takes)
	m.mu.Lock()
	m.now[account]--
	m.held[account] += time.Since(began)
	endless, answer := m.endless[id], good
	if other, ok := m.answers[id]; ok {
		answer = other
	}
	m.mu.Unlock()
	m.end(f, answer)
	m.committed(f.queue, f.batch.First.Event)
	if endless {
		m.add(id)
	}
}

// add queues a delivery.
func (m *fairnessRun) add(id engine.ID) {
	m.mu.Lock()
	m.last++
	event := m.last
	m.enqueued[event] = time.Now()
	m.mu.Unlock()
	m.enqueue(id, dispatchqueue.Entry{Event: event})
}

// subscribe adds a subscription whose target takes some time for an attempt. waiting deliveries
// are there all the time.
func (m *fairnessRun) subscribe(account string, id engine.ID, inFlight int, takes time.Duration, waiting int) {
	m.addSubscription(engine.Subscription{ID: id, Account: account}, catalog.EffectivePolicy{InFlight: inFlight})
	m.mu.Lock()
	m.takes[id], m.endless[id] = takes, waiting > 0
	m.mu.Unlock()
	for range waiting {
		m.add(id)
	}
}

// attempts returns the number of attempts of a subscription so far.
func (m *fairnessRun) attempts(id engine.ID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.delays[id])
}

// placesOf returns the most places that an account had at the same time, and its places × time.
func (m *fairnessRun) placesOf(account string) (most int, held time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most[account], m.held[account]
}

// every queues a delivery of a subscription at an interval, for a time.
func (m *fairnessRun) every(id engine.ID, interval, long time.Duration) {
	for began := time.Now(); time.Since(began) < long; time.Sleep(interval) {
		m.add(id)
	}
}

// finish ends all workers.
func (m *fairnessRun) finish() {
	m.mu.Lock()
	clear(m.endless)
	m.mu.Unlock()
	time.Sleep(2 * time.Hour) // longer than any attempt takes
	m.close()
	synctest.Wait()
}

// delay returns a percentile of the delays of a subscription.
func (m *fairnessRun) delay(id engine.ID, percent int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Sorted(slices.Values(m.delays[id]))
	return all[len(all)*percent/100]
}

func TestFairShare_QuickTargetsPassSlowOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(512)
		const slow, fast = 100, engine.ID(1)
		for i := range engine.ID(slow) {
			m.subscribe("a", 100+i, 16, 200*time.Millisecond, 50)
		}
		m.subscribe("a", fast, 16, time.Millisecond, 0)
		time.Sleep(time.Second)
		m.every(fast, 2*time.Millisecond, 10*time.Second)
		if most, _ := m.placesOf("a"); most != 384 {
			t.Errorf("the account had %d places, not 3/4", most)
		}
		if p50, p99 := m.delay(fast, 50), m.delay(fast, 99); p50 > time.Millisecond || p99 > 10*time.Millisecond {
			t.Errorf("the quick target waits %s, at most %s", p50, p99)
		}
		for i := range engine.ID(slow) {
			if n := m.attempts(100 + i); n < 180 || n > 230 { // 384 places / 100 targets × 55 attempts
				t.Fatalf("slow target %d was attempted %d times", i, n)
			}
		}
		m.finish()
	})
}

func TestFairShare_QueueThatHeldMuchUncontendedIsNotPunished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(8) // 6 for an account
		m.subscribe("a", 1, 6, time.Second, 6)
		time.Sleep(time.Hour) // it has all places, and nobody waits
		for id := range engine.ID(5) {
			m.subscribe("a", 2+id, 6, time.Second, 6)
		}
		m.mu.Lock()
		clear(m.delays)
		m.mu.Unlock()
		time.Sleep(time.Minute)
		for id := range engine.ID(6) {
			if n := m.attempts(1 + id); n < 55 || n > 65 { // 6 places, 6 queues
				t.Errorf("queue %d was attempted %d times in a minute", 1+id, n)
			}
		}
		m.finish()
	})
}

// An account with a thousand ready queues gets no more turns than one with a single queue.
func TestFairShare_ByAccountFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(70)
		for i := range engine.ID(1000) {
			m.subscribe("large", 1000+i, 16, 100*time.Millisecond, 2)
		}
		m.subscribe("small", 1, 200, 100*time.Millisecond, 200)
		m.subscribe("quick", 2, 16, time.Millisecond, 0)
		time.Sleep(10 * time.Second)
		mostLarge, large := m.placesOf("large")
		mostSmall, small := m.placesOf("small")
		if small < large*9/10 || large < small*9/10 {
			t.Errorf("places × time: %s and %s", large, small)
		}
		if mostLarge > 53 || mostSmall > 53 {
			t.Errorf("an account had more than 3/4 of the places: %d, %d", mostLarge, mostSmall)
		}
		m.every(2, 10*time.Millisecond, 10*time.Second)
		if p99 := m.delay(2, 99); p99 != 0 { // two accounts leave some places free
			t.Errorf("the third account waits for %s", p99)
		}
		m.finish()
	})
}

// A place that becomes free while only full accounts wait is used at once.
func TestFairShare_FreedPlacesAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFairnessRun(40)
		m.subscribe("a", 1, 100, 10*time.Second, 100)
		m.subscribe("b", 2, 100, 10*time.Second, 100)
		m.subscribe("c", 3, 100, time.Hour, 1)
		time.Sleep(time.Second)
		m.removeSubscription(2)
		time.Sleep(12 * time.Second) // the attempts of b are over
		m.mu.Lock()
		now := m.now["a"]
		m.mu.Unlock()
		if now != 30 { // less than 3 times the other 10, of which c holds one
			t.Errorf("%d in flight once the other account is gone", now)
		}
		m.finish()
		if n := len(m.accounts); n != 2 {
			t.Errorf("%d accounts are kept", n)
		}
	})
}

func BenchmarkScheduler(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("queues=%d", n), func(b *testing.B) {
			d := &testScheduler{}
			d.scheduler = newScheduler(d, limits{workers: 512, hostInFlight: 512, groupCapacity: dispatchqueue.GroupCapacity})
			for i := range engine.ID(n) {
				d.addSubscription(engine.Subscription{ID: 1 + i, Account: "a"}, catalog.EffectivePolicy{})
			}
			event := newIDs(1)[0]
			for i := 0; b.Loop(); i++ {
				event++
				id := engine.ID(1 + i%n)
				d.enqueue(id, dispatchqueue.Entry{Event: event})
				f, _ := d.next()
				d.end(f, good)
				d.committed(f.queue, event)
			}
		})
	}
}
