package dispatch

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/watermark"
)

const (
	interleavings     = 300 // of each kind
	firstInterleaving = uint64(1)
)

// interleaving runs a scheduler against a model of the store, one step at a time in a random
// order: any interleaving of workers, publishers, the writer, reads, retries and requests that the
// locks allow.
type interleaving struct {
	t      *testing.T
	random *rand.Rand
	seed   uint64
	log    []string
	weight [7]int // of the possible next actions
	fetch  int    // rows of one read
	room   int    // capacity of a group
	soon   time.Duration
	clock  int // ms
	last   engine.Position
	mixed  bool // ids do not follow positions, as those of several nodes do not

	// The subscription.
	ordering engine.Ordering
	switches bool // its ordering changes
	off      bool
	compiled *catalog.CompiledSubscription
	keys     map[engine.ID]uint64
	fails    map[engine.ID]int // attempts of an event that will fail

	// The disk.
	stored []engine.ID // events, by position
	rows   map[engine.ID]diskRow

	// The run since the last kill.
	s        *scheduler
	steps    []func() // pending actions, run in any order
	writes   []write  // of the next commit
	answers  []func() // of the last one, in order
	taking   bool     // a round of RetryLoop is running
	coming   []*arrival
	busy     map[uint64]bool    // keys whose publisher waits for its answer
	attempts map[engine.ID]bool // in flight
	nextAt   map[engine.ID]int  // when a failed delivery is due
	through  map[engine.ID]bool // must not be attempted any more

	payloads  int                // events in memory
	succeeded []engine.ID        // in order, repeats included
	manual    map[engine.ID]bool // a user retried it
	problem   string             // the first one
	finished  map[engine.ID]int  // place of the first success in succeeded
}

type diskRow struct {
	state    engine.State
	attempts int
	next     int
}

type write struct{ do, done func() }

type arrival struct {
	id     engine.ID
	queued bool
}

const theQueue = engine.ID(1)

func newInterleaving(t *testing.T, seed uint64, ordering engine.Ordering, switches bool) *interleaving {
	m := &interleaving{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), seed: seed, ordering: ordering, switches: switches, last: 100,
		keys: map[engine.ID]uint64{}, fails: map[engine.ID]int{}, rows: map[engine.ID]diskRow{}, manual: map[engine.ID]bool{}, finished: map[engine.ID]int{},
	}
	m.room = []int{100, 8, 4}[m.random.IntN(3)]
	m.fetch = []int{500, 3, 1}[m.random.IntN(3)]
	m.soon = []time.Duration{0, soon}[m.random.IntN(2)]
	m.mixed = m.random.IntN(2) == 0
	for i := range m.weight {
		m.weight[i] = 1 + m.random.IntN(8)
	}
	return m
}

// idAt returns the id of the event at a position, and positionOf the reverse.
func (m *interleaving) idAt(at engine.Position) engine.ID {
	if m.mixed {
		at ^= 5
	}
	return engine.ID(at)
}

func (m *interleaving) positionOf(id engine.ID) engine.Position {
	return engine.Position(m.idAt(engine.Position(id)))
}

func (m *interleaving) logf(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *interleaving) failf(format string, args ...any) {
	if m.problem == "" {
		m.problem = fmt.Sprintf(format, args...)
	}
}

func (m *interleaving) later(do func()) { m.steps = append(m.steps, do) }

// after runs an action some steps later.
func (m *interleaving) after(steps int, do func()) {
	m.later(func() {
		if steps == 0 {
			do()
		} else {
			m.after(steps-1, do)
		}
	})
}

func (m *interleaving) write(do, done func()) { m.writes = append(m.writes, write{do, done}) }

func (m *interleaving) now() time.Time {
	return time.Unix(1.8e9, 0).Add(time.Duration(m.clock) * time.Millisecond)
}

// startWorker implements host: attempt takes the part of the workers.
func (m *interleaving) startWorker() {}

// allQueuedThrough implements host.
func (m *interleaving) allQueuedThrough(_ string, event engine.ID) bool {
	for len(m.coming) > 0 && m.coming[0].queued {
		m.coming = m.coming[1:]
	}
	return len(m.coming) == 0 || m.positionOf(m.coming[0].id) > m.positionOf(event)
}

// boot starts a router on the stored state.
func (m *interleaving) boot() {
	m.payloads = 0
	m.steps, m.writes, m.answers, m.taking, m.coming = nil, nil, nil, false, nil
	m.busy, m.attempts, m.nextAt, m.through = map[uint64]bool{}, map[engine.ID]bool{}, map[engine.ID]int{}, map[engine.ID]bool{}
	s := newScheduler(m, limits{workers: 100, hostInFlight: 100, groupCapacity: m.room, entries: testEntries, soon: m.soon})
	m.s = s
	if m.random.IntN(2) == 0 {
		s.memory.add("other", testEntries-int64(m.random.IntN(8))) // other queues use nearly all memory
	}
	m.setSubscription()
	for _, id := range m.stored {
		if _, is := m.rows[id]; !is {
			m.rows[id] = diskRow{state: engine.StatePending}
		}
		m.through[id] = m.rows[id].state.IsFinal()
	}
	s.startOrderedFetches()
	s.markBacklog(theQueue)
}

// setSubscription creates or changes the subscription.
func (m *interleaving) setSubscription() {
	m.compiled = &catalog.CompiledSubscription{Sub: &engine.Subscription{ID: theQueue, Active: !m.off, Policy: engine.Policy{Ordering: m.ordering, OrderingKey: "x"}}, Policy: catalog.EffectivePolicy{InFlight: 4, GiveUpAfter: 1e6 * time.Hour}}
	m.compiled.TargetURL = &url.URL{Scheme: "http", Host: string(rune('a' + m.random.IntN(2)))}
	m.compiled.Grouping.Set(catalog.GroupingSpecOf(m.compiled.Sub))
	m.spillDisplaced(m.s.setSubscription(m.compiled))
}

// entry returns a delivery with its group.
func (m *interleaving) entry(r *catalog.CompiledSubscription, id engine.ID) dispatchqueue.Entry {
	en := dispatchqueue.Entry{Event: id, Position: m.positionOf(id), Attempts: m.rows[id].attempts, SpecHash: r.Grouping.SpecHash}
	if r.Grouping.Key != "" {
		en.Group = m.keys[id]
	}
	return en
}

// startFetch reads from the store as the Dispatcher does.
func (m *interleaving) startFetch(f *fetch) {
	s := m.s
	m.later(func() {
		var entries []dispatchqueue.Entry
		n, limit := 0, len(f.known)+m.fetch
		for _, id := range m.stored {
			row, is := m.rows[id]
			if !is || n == limit || row.state.IsFinal() || f.ordered == nil && row.state != engine.StatePending || m.positionOf(id) < f.from {
				continue
			}
			if n++; f.known[id] {
				continue
			}
			en := m.entry(f.compiled, id)
			en.Failed = row.state == engine.StateRetrying
			if !en.Failed {
				en.Payload = m.payload()
			}
			entries = append(entries, en)
		}
		m.logf("read from %d: %v", f.from, events(entries))
		m.later(func() {
			m.logf("fetched")
			m.spillDisplaced(f.queue, s.completeFetch(f, entries, n < limit))
		})
	})
}

func events(list []dispatchqueue.Entry) (ids []engine.ID) {
	for _, en := range list {
		ids = append(ids, en.Event)
	}
	return ids
}

func (m *interleaving) spillDisplaced(q *queue, list []dispatchqueue.Displaced) {
	for _, a := range list {
		m.spill(q, a.Entry)
	}
}

func (m *interleaving) spill(q *queue, en dispatchqueue.Entry) {
	s := m.s
	en.Release()
	m.later(func() {
		m.write(func() {
			if _, is := m.rows[en.Event]; !is {
				m.rows[en.Event] = diskRow{state: engine.StatePending}
			}
		}, func() { s.spillRecorded(q, en.Position) })
	})
}

// publish accepts an event of a key.
func (m *interleaving) publish(key uint64) {
	m.last++
	id, s := m.idAt(m.last), m.s
	ev := &arrival{id: id}
	m.coming = append(m.coming, ev)
	m.keys[id], m.busy[key] = key, true
	if m.random.IntN(4) == 0 {
		m.fails[id] = 1 + m.random.IntN(2)
	}
	en := m.entry(m.compiled, id)
	en.Tracked, en.Payload = &watermark.Event{}, m.payload()
	m.later(func() {
		m.write(func() {
			i, _ := slices.BinarySearchFunc(m.stored, m.positionOf(id), func(id engine.ID, at engine.Position) int { return cmp.Compare(m.positionOf(id), at) })
			m.stored = slices.Insert(m.stored, i, id)
		}, func() {
			m.later(func() {
				place, q, list := s.enqueue(theQueue, en)
				m.logf("add %d of %d: %d", id, key, place)
				if place == enqueueInStore {
					m.spill(q, en)
				}
				m.spillDisplaced(q, list)
				ev.queued = true
				s.releaseWaiting()
				m.busy[key] = false
			})
		})
	})
}

// attempt starts an attempt as a free worker does.
func (m *interleaving) attempt() {
	s := m.s
	f, ok := s.next()
	if !ok {
		m.t.Fatal("closed")
	}
	q, p := f.queue, &f.batch
	en := p.First
	id := en.Event
	m.logf("attempt %d of %d", id, m.keys[id])
	switch {
	case m.attempts[id]:
		m.failf("two concurrent attempts of %d", id)
	case m.through[id]:
		m.failf("another attempt of %d, which has succeeded", id)
	case m.clock < m.nextAt[id]:
		m.failf("%d is attempted before its retry is due", id)
	}
	m.attempts[id] = true
	if m.random.IntN(8) == 0 {
		m.after(m.random.IntN(20), func() { m.putBack(&f) })
		return
	}
	m.later(func() {
		v := VerdictFor(retry.Decision{Action: retry.ActionSucceed, Signal: retry.SignalHealthy})
		row := diskRow{state: engine.StateSucceeded, attempts: en.Attempts + 1}
		if m.fails[id] > 0 {
			m.fails[id]--
			v = VerdictFor(retry.Decision{Action: retry.ActionRetry, Signal: retry.SignalRejecting})
			row = diskRow{state: engine.StateRetrying, attempts: en.Attempts + 1, next: m.clock + 1 + m.random.IntN(30)}
			m.nextAt[id] = row.next
		} else {
			m.through[id] = true
			m.succeeded = append(m.succeeded, id)
			if m.finished[id] == 0 {
				m.finished[id] = len(m.succeeded)
			}
		}
		en.Release()
		m.logf("%d %s", id, v.State)
		m.later(func() {
			delete(m.attempts, id)
			if p.Queue != nil {
				m.spillDisplaced(q, s.completeOrdered(q, p, func(int) dispatchqueue.Disposition { return dispositionOf(v.State) }))
			}
			s.finish(&f, v.Decision)
			m.later(func() {
				m.write(func() { m.rows[id] = row }, func() { s.committed(q, id) })
			})
		})
	})
}

// requeue is scheduler.requeue for a sandbox without time, but without the pause, which a timer
// ends.
func (m *interleaving) putBack(f *flight) {
	s, q, id := m.s, f.queue, f.batch.First.Event
	delete(m.attempts, id)
	s.mu.Lock()
	q.circuit.attemptFinished(id)
	s.releasePlace(f, retry.SignalUnknown)
	_, list := s.returnToQueue(q, &f.batch)
	s.update(q)
	s.mu.Unlock()
	m.logf("put back %d", id)
	m.spillDisplaced(q, list)
}

// enqueueDueRetries runs one round of RetryLoop.
func (m *interleaving) takeDue() {
	m.taking = true
	s := m.s
	var due []engine.Waiting
	m.write(func() {
		for _, id := range m.stored {
			if row, is := m.rows[id]; is && row.state == engine.StateRetrying && row.next <= m.clock {
				m.rows[id] = diskRow{state: engine.StatePending, attempts: row.attempts}
				due = append(due, engine.Waiting{ID: engine.DeliveryID{Event: id, Subscription: theQueue}, Attempts: row.attempts})
			}
		}
		s.markDue(due)
	}, func() { m.queueDue(s, due) })
}

func (m *interleaving) queueDue(s *scheduler, due []engine.Waiting) {
	m.later(func() {
		if len(due) == 0 {
			m.taking = false
			s.markDue(nil)
			return
		}
		en := m.entry(m.compiled, due[0].ID.Event) // its event is read
		m.later(func() {
			m.logf("due %d", en.Event)
			_, q, list := s.enqueueDue(theQueue, en)
			m.spillDisplaced(q, list)
			m.queueDue(s, due[1:])
		})
	})
}

func (m *interleaving) dueNow() bool {
	for _, row := range m.rows {
		if row.state == engine.StateRetrying && row.next <= m.clock {
			return true
		}
	}
	return false
}

// retry retries a failed delivery by hand, as WaitForReplay does.
func (m *interleaving) retry(id engine.ID) {
	m.manual[id] = true
	s := m.s
	m.later(func() { // the row was read
		en := m.entry(m.compiled, id)
		m.later(func() {
			m.write(func() {
				m.rows[id] = diskRow{state: engine.StatePending, attempts: en.Attempts}
				delete(m.nextAt, id)
				m.through[id] = false // it may have succeeded meanwhile; it was asked for all the same
			}, func() {
				m.logf("retry %d by hand", id)
				_, q, list := s.enqueueManualRetry(theQueue, en)
				m.spillDisplaced(q, list)
			})
		})
	})
}

// step runs one action; false if there is none.
func (m *interleaving) step(publishing bool) bool {
	if m.problem != "" {
		return false
	}
	type choice struct {
		weight int
		do     func()
	}
	var choices []choice
	may := func(weight int, do func()) { choices = append(choices, choice{weight, do}) }
	if n := len(m.steps); n > 0 {
		may(m.weight[0]*n, func() {
			i := m.random.IntN(n)
			do := m.steps[i]
			m.steps = slices.Delete(m.steps, i, i+1)
			do()
		})
	}
	if len(m.answers) > 0 {
		may(m.weight[1], func() {
			done := m.answers[0]
			m.answers = m.answers[1:]
			done()
		})
	} else if len(m.writes) > 0 {
		may(m.weight[2], m.commit)
	}
	if m.s.anyReady() {
		may(m.weight[3], m.attempt)
	}
	if !m.taking && m.dueNow() {
		may(m.weight[4], m.takeDue)
	}
	failed := slices.DeleteFunc(slices.Sorted(maps.Keys(m.rows)), func(id engine.ID) bool { return m.rows[id].state != engine.StateRetrying })
	if len(failed) > 0 {
		may(1, func() { m.clock += 1 + m.random.IntN(10) })
	}
	if publishing {
		for key := range uint64(3) {
			if !m.busy[key] {
				may(m.weight[5], func() { m.publish(key) })
			}
		}
		if len(failed) > 0 && m.weight[6] > 4 {
			may(1, func() { m.retry(failed[m.random.IntN(len(failed))]) })
		}
		may(1, func() {
			m.off = !m.off
			m.logf("off: %v", m.off)
			m.setSubscription()
		})
		if m.switches {
			may(1, func() {
				m.ordering = []engine.Ordering{engine.OrderingNone, engine.OrderingKeyed, engine.OrderingFIFO}[m.random.IntN(3)]
				m.logf("ordering %q", m.ordering)
				m.setSubscription()
			})
		}
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	if total == 0 {
		return false
	}
	at := m.random.IntN(total)
	for _, c := range choices {
		if at -= c.weight; at < 0 {
			c.do()
			break
		}
	}
	return true
}

func (m *interleaving) commit() {
	m.logf("commit of %d", len(m.writes))
	writes := m.writes
	m.writes = nil
	for _, w := range writes {
		w.do()
		m.answers = append(m.answers, w.done)
	}
}

// run runs and kills routers, and lets the last one finish: a delivery that is lost then is lost
// for good.
func (m *interleaving) run() {
	for range m.random.IntN(3) {
		m.boot()
		for range m.random.IntN(300) {
			m.step(true)
		}
		m.logf("kill")
	}
	m.boot()
	for range m.random.IntN(300) {
		m.step(true)
	}
	m.off = false
	m.setSubscription()
	for n := 0; m.step(false); n++ {
		if n == 20_000 {
			m.failf("the run does not end")
			return
		}
	}
}

// countedPayload is the event of one delivery in memory.
type countedPayload struct {
	m        *interleaving
	released bool
}

func (m *interleaving) payload() *countedPayload {
	m.payloads++
	return &countedPayload{m: m}
}

// Release implements dispatchqueue.Payload.
func (p *countedPayload) Release() {
	if p.released {
		p.m.failf("an event is released twice")
	}
	p.released = true
	p.m.payloads--
}

// checkOutcomes checks the outcome of every delivery.
func (m *interleaving) checkOutcomes() {
	before := map[uint64]engine.ID{}
	if m.payloads != 0 {
		m.failf("%d events are held in memory though nothing waits", m.payloads)
	}
	for _, id := range m.stored {
		key := m.keys[id]
		if m.ordering == engine.OrderingFIFO {
			key = 0
		}
		switch place := m.finished[id]; {
		case place == 0:
			m.failf("%d was not delivered: its row is %v", id, m.rows[id])
		case m.rows[id].state != engine.StateSucceeded:
			m.failf("%d was delivered, and its row is %v", id, m.rows[id])
		case m.ordering == engine.OrderingNone || m.switches || m.manual[id]:
		case before[key] != 0 && m.finished[before[key]] > place:
			m.failf("%d was delivered before %d", id, before[key])
		default:
			before[key] = id
		}
	}
}

func TestScheduler_InterleavingsDeliverInOrderAndOnce(t *testing.T) {
	for name, c := range map[string]struct {
		ordering engine.Ordering
		switches bool
	}{
		"unordered":        {engine.OrderingNone, false},
		"ordered by key":   {engine.OrderingKeyed, false},
		"fifo":             {engine.OrderingFIFO, false},
		"ordering changes": {engine.OrderingNone, true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := firstInterleaving; seed < firstInterleaving+interleavings; seed++ {
				m := newInterleaving(t, seed, c.ordering, c.switches)
				m.run()
				m.checkOutcomes()
				if m.problem != "" {
					t.Fatalf("seed %d: %s\n%s", seed, m.problem, strings.Join(m.log[max(0, len(m.log)-200):], "\n"))
				}
			}
		})
	}
}
