package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// numbered is what these tests publish: the n-th event of a key.
type numbered struct {
	K string `json:"k"`
	N int    `json:"n"`
}

// receipt is what a target got, and how it answered.
type receipt struct {
	numbered
	ok   bool
	post int // the number of the POST it came in
}

// ledger is a target that fails as it is told and keeps what came, in the order in which
// it answered.
type ledger struct {
	mu   sync.Mutex
	list []receipt
	took map[string]map[int]bool // by key, the events that were taken
	post int
	fail func(numbered) bool
}

func (l *ledger) attach(r *testkit.Receiver) {
	r.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		var events []numbered
		if !strings.HasPrefix(body, "[") {
			body = "[" + body + "]"
		}
		if err := json.Unmarshal([]byte(body), &events); err != nil {
			panic(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		ok := l.fail == nil || !slices.ContainsFunc(events, l.fail)
		l.post++
		for _, ev := range events {
			l.list = append(l.list, receipt{ev, ok, l.post})
			if ok {
				if l.took == nil {
					l.took = map[string]map[int]bool{}
				}
				if l.took[ev.K] == nil {
					l.took[ev.K] = map[int]bool{}
				}
				l.took[ev.K][ev.N] = true
			}
		}
		if !ok {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
}

func (l *ledger) set(fail func(numbered) bool) {
	l.mu.Lock()
	l.fail = fail
	l.mu.Unlock()
}

// taken counts the events of a key that were taken, each once.
func (l *ledger) taken(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took[key])
}

// checkOrder holds what came against the order of ids: when an event came, each earlier one
// of its group was taken or given up.
func (l *ledger) checkOrder(t *testing.T, ids map[numbered]engine.ID, most int, group func(numbered) string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	order := map[string][]numbered{}
	for n := range ids {
		order[group(n)] = append(order[group(n)], n)
	}
	for _, list := range order {
		slices.SortFunc(list, func(a, b numbered) int { return int(ids[a] - ids[b]) })
	}
	done, tries, next, post := map[numbered]bool{}, map[numbered]int{}, map[string]int{}, map[numbered]int{}
	for i, r := range l.list {
		list := order[group(r.numbered)]
		for ; next[group(r.numbered)] < len(list) && list[next[group(r.numbered)]] != r.numbered; next[group(r.numbered)]++ {
			if before := list[next[group(r.numbered)]]; !done[before] {
				if done[r.numbered] || post[before] == r.post {
					break // a repeat, or in one batch
				}
				t.Fatalf("%d: %v came before %v was through", i, r.numbered, before)
			}
		}
		tries[r.numbered]++
		post[r.numbered] = r.post
		if r.ok || tries[r.numbered] >= most {
			done[r.numbered] = true
		}
	}
}

func (r *rig) publishNumbered(events ...numbered) map[numbered]engine.ID {
	inputs := make([]engine.EventInput, len(events))
	for i, ev := range events {
		b, _ := json.Marshal(ev)
		inputs[i] = event("order.created", string(b))
	}
	accepted, err := r.Publish(context.Background(), inputs)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	ids := map[numbered]engine.ID{}
	for i, a := range accepted {
		ids[events[i]] = a.ID
	}
	return ids
}

// final waits until every delivery of s has come to its end, and gives their states.
func (r *rig) final(s *engine.Subscription, want int) map[engine.State]int {
	r.t.Helper()
	list := func(q engine.DeliveryQuery) []*engine.Delivery {
		r.t.Helper()
		q.Subscription = s.ID
		found, _, err := r.Deliveries(context.Background(), q)
		if err != nil {
			r.t.Fatal(err)
		}
		return found
	}
	states := map[engine.State]int{}
	count := func() (n int) {
		for q := (engine.DeliveryQuery{Limit: 1000}); ; {
			page := list(q)
			for _, d := range page {
				states[d.State]++
				n++
			}
			if len(page) < q.Limit {
				return n
			}
			q.Before = page[len(page)-1].ID
		}
	}
	// One that is on its way from one state to the other shows in the third look.
	waiting := func() bool {
		return slices.ContainsFunc([]engine.State{engine.StateRetrying, engine.StatePending, engine.StateRetrying}, func(state engine.State) bool {
			return len(list(engine.DeliveryQuery{State: state, Limit: 1})) > 0
		})
	}
	// Thousands may have to go one after the other: it is not over while it goes on.
	for came := -1; ; {
		_, before := r.sink.Count()
		if before == came {
			r.t.Fatalf("not all deliveries end: %d requests, %d deliveries wanted, %v", came, want, states)
		}
		came = before
		for deadline := time.Now().Add(testkit.Timeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if waiting() {
				continue
			}
			clear(states)
			if count() == want {
				return states
			}
		}
	}
}

// TestOrdering_HoldsUnderFailuresAndRestarts publishes, fails and restarts at random, and checks that each event came
// after those before it in its group, and ended once.
func TestOrdering_HoldsUnderFailuresAndRestarts(t *testing.T) {
	t.Parallel()
	quick := make(engine.RetrySchedule, 5)
	for i := 1; i < len(quick); i++ {
		quick[i] = 3 * time.Millisecond
	}
	one := func(numbered) string { return "" }
	own := func(n numbered) string { return n.K }
	for _, c := range []struct {
		name   string
		change func(*engine.Subscription)
		group  func(numbered) string
	}{
		{"fifo", func(s *engine.Subscription) { s.Policy.Ordering = engine.OrderingFIFO }, one},
		{"key", func(s *engine.Subscription) { s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k" }, own},
		{"fifo, batched", func(s *engine.Subscription) { s.Policy.Ordering, s.Batch = engine.OrderingFIFO, engine.Batch{Size: 7} }, one},
		{"key, batched", func(s *engine.Subscription) {
			s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k"
			s.Batch = engine.Batch{Size: 20, Wait: 5 * time.Millisecond}
		}, own},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(c *settings.Config) { c.Retries = quick })
			l := &ledger{}
			l.attach(r.sink)
			s := r.subscribe(c.change)
			random := rand.New(rand.NewPCG(1, 2))
			l.set(func(numbered) bool { return random.IntN(20) == 0 })
			ids := map[numbered]engine.ID{}
			for round := range 4 {
				var wg sync.WaitGroup
				var mu sync.Mutex
				for publisher := range 3 { // at the same time: order is that of ids
					wg.Go(func() {
						for i := range 8 {
							var events []numbered
							for j := range 5 {
								n := ((round*3+publisher)*8+i)*5 + j
								events = append(events, numbered{fmt.Sprint("k", n%7), n})
							}
							got := r.publishNumbered(events...)
							mu.Lock()
							for k, v := range got {
								ids[k] = v
							}
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				if round < 3 {
					r.restart()
					l.attach(r.sink)
				}
			}
			states := r.final(s, len(ids))
			l.checkOrder(t, ids, len(quick), c.group)
			if states[engine.StateSucceeded]+states[engine.StateDead] != len(ids) {
				t.Errorf("%v of %d", states, len(ids))
			}
		})
	}
}

// TestOrdering_BlockedKeyDelaysNoOther makes thousands of deliveries of one key wait, before,
// among and after those of others.
func TestOrdering_BlockedKeyDelaysNoOther(t *testing.T) {
	t.Parallel()
	retries := make(engine.RetrySchedule, 1000)
	for i := 1; i < len(retries); i++ {
		retries[i] = 30 * time.Millisecond
	}
	r := start(t, func(c *settings.Config) { c.Retries, c.QueueEntries = retries, 1500 })
	l := &ledger{fail: func(n numbered) bool { return n.K == "bad" }}
	l.attach(r.sink)
	s := r.subscribe(func(s *engine.Subscription) {
		s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k"
	})
	ids := map[numbered]engine.ID{}
	n := 0
	publish := func(count int, good func(int) bool) {
		var events []numbered
		for range count {
			n++
			k := "bad"
			if good(n) {
				k = fmt.Sprint("good", n%3)
			}
			events = append(events, numbered{k, n})
		}
		for events := range slices.Chunk(events, 500) {
			for k, v := range r.publishNumbered(events...) {
				ids[k] = v
			}
		}
	}
	good := func() (sent, taken int) {
		for n := range ids {
			if n.K != "bad" {
				sent++
			}
		}
		return sent, l.taken("good0") + l.taken("good1") + l.taken("good2")
	}
	allGood := func() {
		t.Helper()
		testkit.WaitFor(t, "all others are through", func() bool { sent, taken := good(); return sent == taken })
	}
	publish(2500, func(int) bool { return false })
	publish(600, func(n int) bool { return n%2 == 0 })
	allGood()
	publish(2000, func(n int) bool { return n%4 == 0 })
	allGood()
	r.restart()
	l.attach(r.sink)
	publish(600, func(n int) bool { return n%2 == 0 })
	allGood()
	if l.taken("bad") != 0 {
		t.Fatal("taken what the target refused")
	}
	l.set(nil)
	r.final(s, n)
	l.checkOrder(t, ids, len(retries), func(n numbered) string { return n.K })
}
