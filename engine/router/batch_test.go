package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// batches lists the bodies that came, as JSON arrays.
func batches(t *testing.T, receiver *testkit.Receiver) (list [][]json.RawMessage) {
	t.Helper()
	for _, body := range receiver.Bodies() {
		var elements []json.RawMessage
		if err := json.Unmarshal([]byte(body), &elements); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		list = append(list, elements)
	}
	return list
}

func (r *rig) publishMany(n int, data func(int) string) (ids []engine.ID) {
	r.t.Helper()
	inputs := make([]engine.EventInput, n)
	for i := range inputs {
		inputs[i] = event("order.created", data(i))
	}
	accepted, err := r.Publish(context.Background(), inputs)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, a := range accepted {
		ids = append(ids, a.ID)
	}
	return ids
}

func TestBatch_ContainsWaitingDeliveries(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) {
		s.PayloadFormat, s.Batch = engine.FormatStandard, engine.Batch{Size: 5, Wait: 2 * testkit.Timeout}
	})
	ids := r.publishMany(5, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i) })
	for i, id := range ids {
		d, attempts := r.delivery(id, s, engine.StateSucceeded)
		want := fmt.Sprintf(`"data":{"n":%d}}`, i)
		if body := string(attempts[0].Request.Body); d.Attempts != 1 || attempts[0].Batch != 5 || !strings.HasSuffix(body, want) || !strings.HasPrefix(body, `{"id":"`+id.Format("evt")+`","type":"order.created",`) {
			t.Errorf("%+v %s", d, body)
		}
	}
	bodies, sent := batches(t, r.sink), r.sink.Requests()[0]
	if len(bodies) != 1 || len(bodies[0]) != 5 || !strings.HasPrefix(sent.Header.Get("webhook-id"), "bat_") || sent.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s %v", bodies, sent.Header)
	}
	wh, err := standardwebhooks.NewWebhook(s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := wh.Verify([]byte(sent.Body), sent.Header); err != nil {
		t.Error(err)
	}
}

func TestBatch_SentAfterWait(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.Batch = engine.Batch{Size: 100, Wait: 3 * time.Second} }) // in which all three are queued
	ids := r.publishMany(3, func(i int) string { return fmt.Sprint(i) })
	for _, id := range ids {
		r.delivery(id, s, engine.StateSucceeded)
	}
	if bodies := batches(t, r.sink); len(bodies) != 1 || len(bodies[0]) != 3 {
		t.Errorf("%s", bodies)
	}
}

func TestBatch_RetryHasTheSameID(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) {
		c.Retries = append(engine.RetrySchedule{0}, slices.Repeat(engine.RetrySchedule{10 * time.Millisecond}, 1000)...)
	})
	// Retries may be due one by one, and then go in other company: it fails until the same
	// has come again.
	repeated := ""
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if repeated == "" && r.sink.Times(body) == 2 {
			repeated = body
		}
		if repeated == "" {
			w.WriteHeader(500)
		}
	})
	s := r.subscribe(func(s *engine.Subscription) {
		s.Policy.Ordering, s.Policy.InFlight, s.Batch = engine.OrderingFIFO, 1, engine.Batch{Size: 3, Wait: 2 * testkit.Timeout}
	})
	for _, id := range r.publishMany(3, func(i int) string { return fmt.Sprint(i) }) {
		r.delivery(id, s, engine.StateSucceeded)
	}
	ids, bodies := map[string]string{}, map[string]string{}
	for _, sent := range r.sink.Requests() {
		id, body := sent.Header.Get("webhook-id"), sent.Body
		if ids[body] != "" && ids[body] != id || bodies[id] != "" && bodies[id] != body {
			t.Errorf("%s came as %s, %s and %s before", body, id, ids[body], bodies[id])
		}
		ids[body], bodies[id] = id, body
	}
}

func TestBatch_SplitAtMaximumBytes(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.Policy.InFlight, s.Batch = 1, engine.Batch{Size: 100} })
	text := strings.Repeat("x", 200<<10)
	ids := r.behindOne(func() []engine.ID {
		return r.publishMany(12, func(i int) string { return fmt.Sprintf(`{"n":%d,"t":%q}`, i, text) })
	})
	for _, id := range ids {
		r.delivery(id, s, engine.StateSucceeded)
	}
	bodies := r.sink.Bodies()
	for _, body := range bodies {
		if len(body) > 1<<20 {
			t.Errorf("a body of %d bytes", len(body))
		}
	}
	if n := len(bodies) - 1; n > 4 {
		t.Errorf("%d posts", n)
	}
}

// behindOne publishes while an attempt is on, behind which all of it is queued before the
// next one begins. The subscription has one attempt at a time.
func (r *rig) behindOne(publish func() []engine.ID) []engine.ID {
	r.t.Helper()
	began, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	answer := r.sink.SetAnswer(nil)
	r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, body string) {
		hold := false
		first.Do(func() { hold = true })
		if hold {
			close(began)
			<-goOn
		} else if answer != nil {
			answer(w, req, body)
		}
	})
	defer close(goOn)
	r.publishMany(1, func(int) string { return `"first"` })
	<-began
	return publish()
}

func TestBatch_SplitAfter413(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	var refused atomic.Int32
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Count(body, ",") > 3 {
			refused.Add(1)
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	s := r.subscribe(func(s *engine.Subscription) {
		s.Policy.Ordering, s.Policy.InFlight, s.Batch = engine.OrderingFIFO, 1, engine.Batch{Size: 16}
	})
	for _, id := range r.behindOne(func() []engine.ID { return r.publishMany(16, func(i int) string { return fmt.Sprint(i) }) }) {
		if d, attempts := r.delivery(id, s, engine.StateSucceeded); d.Attempts != 1 || attempts[0].Batch > 4 {
			t.Errorf("%+v", d)
		}
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused")
	}
}

func TestBatch_Transforms(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	s := r.subscribe(func(s *engine.Subscription) {
		s.Batch = engine.Batch{Size: 7, Wait: 3 * time.Second} // in which all seven are queued; what is cut off waits its time
		s.Policy.Ordering = engine.OrderingFIFO
		s.Transform = `export default function (event, request) {
			if (event.data === 1) return drop("not this one")
			if (event.data === 2) { request.path = "/elsewhere" }
			if (event.data === 3) return "text"
			if (event.data === 4) throw new Error("no")
			return { n: event.data }
		}`
	})
	var paths sync.Map
	r.sink.SetAnswer(func(_ http.ResponseWriter, req *http.Request, body string) { paths.Store(body, req.URL.Path) })
	ids := r.publishMany(7, func(i int) string { return fmt.Sprint(i) })
	for i, want := range []engine.State{3, 5, 3, 3, 4, 3, 3} {
		d, attempts := r.delivery(ids[i], s, want)
		if wantBatch := []int{1, 0, 0, 0, 0, 2, 2}[i]; attempts[0].Batch != wantBatch {
			t.Errorf("%d: %+v %+v", i, d, attempts[0])
		}
	}
	for _, c := range []struct{ body, path string }{{`[{"n":0}]`, "/hook"}, {`{"n":2}`, "/elsewhere"}, {`text`, "/hook"}, {`[{"n":5},{"n":6}]`, "/hook"}} {
		if got, _ := paths.Load(c.body); got != c.path {
			t.Errorf("%s went to %v", c.body, got)
		}
	}
}

func TestBatch_WaitingDeliveriesFollowSubscriptionChanges(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*engine.Subscription)
	}{
		{"fifo", func(s *engine.Subscription) { s.Policy.Ordering = engine.OrderingFIFO }},
		{"key", func(s *engine.Subscription) {
			s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.n % 3"
		}},
		{"batch", func(s *engine.Subscription) { s.Batch = engine.Batch{Size: 2} }},
		{"debounce", func(s *engine.Subscription) {
			s.Debounce = engine.Debounce{Key: "data.n", Within: 100 * time.Millisecond}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			retries := make(engine.RetrySchedule, 2000)
			for i := 1; i < len(retries); i++ {
				retries[i] = 20 * time.Millisecond
			}
			r := start(t, func(c *settings.Config) { c.Retries, c.QueueEntries = retries, 1500 })
			r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, _ string) {
				if req.URL.Path == "/hook" {
					w.WriteHeader(500)
				}
			})
			s := r.subscribe(tc.change)
			const count = 1500 // more than there is room for in memory
			publish := func() (ids []engine.ID) {
				for i := range 3 {
					ids = append(ids, r.publishMany(count/3, func(j int) string { return fmt.Sprintf(`{"n":%d}`, i*count/3+j) })...)
				}
				return ids
			}
			update := func(change func(*engine.Subscription)) {
				t.Helper()
				if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error { change(s); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			publish()
			update(func(s *engine.Subscription) { s.Active = false })
			r.restart()
			update(func(s *engine.Subscription) { s.Active, s.TargetURL = true, r.sink.URL+"/new" })
			if states := r.final(s, count); states[engine.StateSucceeded] != count {
				t.Errorf("after a new target: %v", states)
			}
			update(func(s *engine.Subscription) { s.TargetURL = r.sink.URL + "/hook" })
			ids := publish()
			if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
				t.Fatal(err)
			}
			if states := r.final(s, 2*count); states[engine.StateDead] != count {
				t.Errorf("after its end: %v", states)
			}
			d, _ := r.delivery(ids[count-1], s, engine.StateDead)
			if !strings.Contains(d.Error, "deleted") {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestOrdering_ChangeLosesNoDelivery changes the ordering while deliveries wait.
func TestOrdering_ChangeLosesNoDelivery(t *testing.T) {
	t.Parallel()
	retries := make(engine.RetrySchedule, 2000)
	for i := 1; i < len(retries); i++ {
		retries[i] = 50 * time.Millisecond // nothing is dead before the target is well again
	}
	r := start(t, func(c *settings.Config) { c.Retries, c.QueueEntries = retries, 1500 })
	l := &ledger{fail: func(n numbered) bool { return n.N%10 == 0 }}
	l.attach(r.sink)
	s := r.subscribe(nil)
	count := 0
	for _, change := range []func(*engine.Subscription){
		func(s *engine.Subscription) { s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data.k" },
		func(s *engine.Subscription) { s.Policy.OrderingKey = "data.n % 10" },
		func(s *engine.Subscription) { s.Batch = engine.Batch{Size: 10, Wait: time.Millisecond} },
		func(s *engine.Subscription) { s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingFIFO, "" },
		func(s *engine.Subscription) { s.Policy.Ordering = engine.OrderingNone },
		func(s *engine.Subscription) {
			s.Batch, s.Debounce = engine.Batch{}, engine.Debounce{Key: "data.n", Within: 100 * time.Millisecond}
		},
		func(s *engine.Subscription) { s.Debounce = engine.Debounce{} },
	} {
		var events []numbered
		for range 400 {
			count++
			events = append(events, numbered{fmt.Sprint(count % 5), count})
		}
		r.publishNumbered(events...)
		if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error { change(s); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	l.set(nil)
	if states := r.final(s, count); states[engine.StateSucceeded] != count {
		t.Errorf("%v of %d", states, count)
	}
}
