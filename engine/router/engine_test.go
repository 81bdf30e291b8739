package router_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/testkit"
	"switchhook/scripts/jsonindex"
)

func TestMain(m *testing.M) { routertest.Main(m) }

// rig is a router over a real database, with a receiver.
type rig struct {
	*routertest.Router
	t    *testing.T
	sink *testkit.Receiver
}

func start(t *testing.T, change func(*settings.Config)) *rig {
	t.Helper()
	r := &rig{t: t, sink: testkit.NewReceiver(t, nil)}
	r.Router = routertest.Start(t, change)
	t.Cleanup(r.sink.Release) // before the router is stopped, which waits for its attempts
	return r
}

func (r *rig) stop() {
	r.sink.Release()
	r.Stop()
}

// restart stops and starts again over the same database.
func (r *rig) restart() {
	r.stop()
	r.Open()
}

func (r *rig) subscribe(change func(*engine.Subscription)) *engine.Subscription {
	r.t.Helper()
	s := &engine.Subscription{Account: engine.DefaultAccount, Events: []string{"*"}, TargetURL: r.sink.URL + "/hook", Active: true, PayloadFormat: engine.FormatData}
	if change != nil {
		change(s)
	}
	s, err := r.CreateSubscription(context.Background(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func event(kind, data string) engine.EventInput {
	doc, err := jsonindex.Parse([]byte(data), jsonindex.Limits{})
	if err != nil {
		panic(err)
	}
	return engine.EventInput{Type: kind, Data: doc.Root()}
}

func (r *rig) publish(kind, data string) engine.Accepted {
	r.t.Helper()
	a, err := r.Publish(context.Background(), []engine.EventInput{event(kind, data)})
	if err != nil {
		r.t.Fatal(err)
	}
	return a[0]
}

// delivery waits until the event's delivery to s is in one of the states. The attempts are oldest
// first.
func (r *rig) delivery(ev engine.ID, s *engine.Subscription, states ...engine.State) (*engine.Delivery, []*engine.Attempt) {
	r.t.Helper()
	id := engine.DeliveryID{Event: ev, Subscription: s.ID}
	var d *engine.Delivery
	testkit.WaitFor(r.t, fmt.Sprintf("the delivery is %v", states), func() bool {
		var err error
		if d, err = r.Delivery(context.Background(), "", id); err != nil {
			r.t.Fatal(err)
		}
		return slices.Contains(states, d.State)
	})
	list, _, err := r.Attempts(context.Background(), "", engine.AttemptQuery{Delivery: id})
	if err != nil {
		r.t.Fatal(err)
	}
	attempts := make([]*engine.Attempt, len(list))
	for i, listed := range list {
		a, err := r.StoredAttempt(context.Background(), "", id, listed.Number)
		if err != nil || len(a.Request.Body) != listed.Request.Size || len(a.Response.Body) != listed.Response.Size {
			r.t.Fatalf("attempt %+v is listed as %+v, %v", a, listed, err)
		}
		attempts[len(list)-1-i] = a
	}
	return d, attempts
}

func TestDelivery_EventArrives(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) {
		s.PayloadFormat = engine.FormatStandard
		s.Headers = map[string]string{"X-Shop": "7", "Authorization": "Bearer t"}
	})
	a := r.publish("order.created", `{"id":9007199254740993,"html":"<b>","é":"ü"}`)
	d, attempts := r.delivery(a.ID, s, engine.StateSucceeded)
	if d.Attempts != 1 || d.Status != 200 || len(attempts) != 1 || a.Matched != 1 {
		t.Errorf("%+v %+v", d, attempts)
	}
	at := attempts[0]
	if want := `{"type":"order.created","timestamp":"`; !strings.HasPrefix(string(at.Request.Body), want) || !strings.HasSuffix(string(at.Request.Body), `,"data":{"id":9007199254740993,"html":"<b>","é":"ü"}}`) {
		t.Errorf("body %s", at.Request.Body)
	}
	sent := r.sink.Requests()[0]
	if sent.Body != string(at.Request.Body) {
		t.Errorf("sent %s, noted %s", sent.Body, at.Request.Body)
	}
	h := sent.Header
	if h.Get("webhook-id") != a.ID.Format(engine.EventPrefix) || h.Get("X-Shop") != "7" || h.Get("Authorization") != "Bearer t" || h.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", h)
	}
	for _, noted := range at.Request.Headers {
		if noted.Name == "Authorization" && noted.Value != "[hidden]" {
			t.Error("the attempt shows a credential")
		}
	}
}

func TestDelivery_RetriedThenDead(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if body == `"never"` || r.sink.Times(body) < 3 {
			w.WriteHeader(500)
			io.WriteString(w, "no")
		}
	})
	third, never := r.publish("a", `"third"`), r.publish("a", `"never"`)
	if d, attempts := r.delivery(third.ID, s, engine.StateSucceeded); d.Attempts != 3 || len(attempts) != 3 || attempts[0].Response.Status != 500 || string(attempts[1].Response.Body) != "no" || attempts[2].Error != "" {
		t.Errorf("%+v", d)
	}
	if d, attempts := r.delivery(never.ID, s, engine.StateDead); d.Attempts != 4 || len(attempts) != 4 || !strings.Contains(d.Error, "500") {
		t.Errorf("%+v", d)
	}
	// A dead letter can be sent again by hand.
	r.sink.SetAnswer(func(http.ResponseWriter, *http.Request, string) {})
	if _, err := r.Retry(context.Background(), "", engine.DeliveryID{Event: never.ID, Subscription: s.ID}); err != nil {
		t.Fatal(err)
	}
	if d, _ := r.delivery(never.ID, s, engine.StateSucceeded); d.Attempts != 5 {
		t.Errorf("%+v", d)
	}
}

func TestSubscription_DeactivatedBy410(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(410) })
	a := r.publish("a", `1`)
	r.delivery(a.ID, s, engine.StateDead)
	testkit.WaitFor(t, "the subscription is off", func() bool {
		now, err := r.Subscription("", s.ID)
		return err == nil && !now.Active && strings.Contains(now.Reason, "410")
	})
	if b := r.publish("a", `2`); b.Matched != 0 {
		t.Error("a subscription that is off still matches")
	}
}

// patientTransport lets a handshake take as long as the attempt, however slow the machine.
func patientTransport(t *testing.T, g *target.Guard) *http.Transport {
	transport := target.Transport(g, 512)
	transport.TLSHandshakeTimeout = 0
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func TestAttempt_RecordsPhase(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) {
		c.Retries = engine.RetrySchedule{0}
		c.Transport = patientTransport(t, c.Guard)
	})
	dead := httptest.NewServer(nil)
	dead.Close()
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, _ string) {
		switch req.URL.Path {
		case "/hang":
			<-r.sink.Released
		case "/redirect":
			http.Redirect(w, req, "/elsewhere", http.StatusFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "short")
		case "/endless":
			for range 1000 {
				if _, err := io.WriteString(w, strings.Repeat("x", 10_000)); err != nil {
					return
				}
			}
		}
	})
	for _, c := range []struct {
		name   string
		change func(*engine.Subscription)
		phase  string
		err    string
		state  engine.State
	}{
		{"nobody listens", func(s *engine.Subscription) { s.TargetURL = dead.URL }, "connect", "refused", engine.StateDead},
		{"no answer", func(s *engine.Subscription) {
			s.TargetURL, s.Policy.Timeout = r.sink.URL+"/hang", 2*time.Second
		}, "wait", "no answer within 2s", engine.StateDead},
		{"a redirect", func(s *engine.Subscription) { s.TargetURL = r.sink.URL + "/redirect" }, "http", "redirects are not followed", engine.StateDead},
		{"a cut answer", func(s *engine.Subscription) { s.TargetURL = r.sink.URL + "/cut" }, "", "", engine.StateSucceeded},
		{"an endless answer", func(s *engine.Subscription) { s.TargetURL = r.sink.URL + "/endless" }, "", "", engine.StateSucceeded},
		{"an unknown authority", func(s *engine.Subscription) { s.TargetURL = secure.URL }, "tls", "certificate", engine.StateDead},
		{"a script that throws", func(s *engine.Subscription) {
			s.Transform = "function transform(event) {\n  return event.data.missing.name\n}"
		}, "transform", "line 2", engine.StateDead},
		{"a script with nothing", func(s *engine.Subscription) { s.Transform = "function transform(event) {}" }, "transform", "return", engine.StateDead},
		{"a script's bad header", func(s *engine.Subscription) {
			s.Transform = "function transform(event, request) { request.headers['webhook-id'] = 'x'; return 1 }"
		}, "transform", "set by the router", engine.StateDead},
		{"a script's bad path", func(s *engine.Subscription) {
			s.Transform = "function transform(event, request) { request.path = '//evil.example/'; return 1 }"
		}, "transform", "request.path", engine.StateDead},
		{"a script that drops", func(s *engine.Subscription) { s.Transform = "function transform(event) { return drop('not today') }" }, "", "not today", engine.StateDropped},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := r.subscribe(func(s *engine.Subscription) {
				s.Events = []string{"x.y"}
				c.change(s)
			})
			a := r.publish("x.y", `{"n":1}`)
			d, attempts := r.delivery(a.ID, s, engine.StateDead, engine.StateSucceeded, engine.StateDropped)
			if d.State != c.state || len(attempts) != 1 || attempts[0].Phase != c.phase || !strings.Contains(d.Error, c.err) {
				t.Errorf("%s, phase %q, error %q", d.State, attempts[0].Phase, d.Error)
			}
			if len(attempts[0].Response.Body) > 16<<10 || c.state == engine.StateSucceeded != attempts[0].Response.Truncated {
				t.Errorf("kept %d bytes of the answer, truncated %v", len(attempts[0].Response.Body), attempts[0].Response.Truncated)
			}
			if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTransform_FailureDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	bad := r.subscribe(func(s *engine.Subscription) { s.Transform = "function transform() { for (;;); }" })
	good := r.subscribe(func(s *engine.Subscription) { s.Transform = "export default (event) => ({n: event.data.n})" })
	plain := r.subscribe(func(s *engine.Subscription) { s.Filter = "data.n > 0" })
	broken := r.subscribe(func(s *engine.Subscription) { s.Filter = `data.n contains "x" || lower(data.n) == "x"` })
	a := r.publish("a.b", `{"n":1}`)
	if a.Matched != 3 {
		t.Errorf("matched %d", a.Matched)
	}
	r.delivery(a.ID, good, engine.StateSucceeded)
	r.delivery(a.ID, plain, engine.StateSucceeded)
	if _, attempts := r.delivery(a.ID, bad, engine.StateRetrying, engine.StateDead); !strings.Contains(attempts[0].Error, "timeout after 50 ms") {
		t.Errorf("%q", attempts[0].Error)
	}
	if n, last := r.FilterErrors(broken.ID); n == 0 || last == "" {
		t.Error("the filter's failure is not shown")
	}
}

func TestScheduler_SlowTargetDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.InFlight = 24 })
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-r.sink.Released }))
	defer slow.Close()
	defer r.sink.Release()
	r.subscribe(func(s *engine.Subscription) { s.TargetURL = slow.URL })
	r.subscribe(nil)
	const n = 500
	for i := range n {
		r.publish("a", strconv.Itoa(i))
	}
	testkit.WaitFor(t, "the healthy target has all", func() bool { distinct, _ := r.sink.Count(); return distinct == n })
}

func TestScheduler_SlowAccountDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.InFlight = 16 })
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-r.sink.Released }))
	defer slow.Close()
	defer r.sink.Release()
	for range 20 {
		r.subscribe(func(s *engine.Subscription) { s.TargetURL, s.Account = slow.URL, "rival" })
	}
	r.subscribe(nil)
	const n = 200
	for i := range n {
		in := event("a", "1")
		in.Account = "rival"
		if _, err := r.Publish(context.Background(), []engine.EventInput{in}); err != nil {
			t.Fatal(err)
		}
		r.publish("a", strconv.Itoa(i))
	}
	testkit.WaitFor(t, "the healthy account has all", func() bool { distinct, _ := r.sink.Count(); return distinct == n })
}

func TestDelivery_SwitchingProtocolsBlocksNoWorker(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		t.Cleanup(func() { conn.Close() })
	})
	s := r.subscribe(nil)
	a := r.publish("a", "1")
	if d, _ := r.delivery(a.ID, s, engine.StateDead); !strings.Contains(d.Error, "101") {
		t.Errorf("%q", d.Error)
	}
}

// A queue holds what fits in memory; the others wait in the database and keep their order, as far as
// one in flight at a time shows it.
func TestBacklog_OverflowWaitsInStore(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.SubscriptionInFlight, c.QueueEntries = 1, 1000 })
	r.sink.Hang()
	s := r.subscribe(nil)
	const n, size = 4000, 200
	for i := 0; i < n; i += size {
		batch := make([]engine.EventInput, size)
		for j := range batch {
			batch[j] = event("a", strconv.Itoa(i+j))
		}
		if _, err := r.Publish(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
	}
	r.sink.SetAnswer(func(http.ResponseWriter, *http.Request, string) {})
	r.sink.Release()
	testkit.WaitFor(t, "all have come", func() bool { distinct, _ := r.sink.Count(); return distinct == n })
	bodies := r.sink.Bodies()
	if len(bodies) != n {
		t.Errorf("%d deliveries of %d events", len(bodies), n)
	}
	for i, body := range bodies {
		if body != strconv.Itoa(i) {
			t.Fatalf("event %s came as number %d", body, i)
		}
	}
	_ = s
}

func TestSubscription_InactiveKeepsWaitingDeliveries(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.SubscriptionInFlight = 1 })
	r.sink.Hang()
	s := r.subscribe(nil)
	for i := range 20 {
		r.publish("a", strconv.Itoa(i))
	}
	testkit.WaitFor(t, "the first is on its way", func() bool { _, all := r.sink.Count(); return all == 1 })
	setActive := func(active bool) {
		if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
			s.Active = active
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	setActive(false)
	r.sink.SetAnswer(func(http.ResponseWriter, *http.Request, string) {})
	r.sink.Release()
	r.restart() // and it keeps it over a restart
	if _, all := r.sink.Count(); all != 1 {
		t.Errorf("%d came while the subscription was off", all)
	}
	setActive(true)
	testkit.WaitFor(t, "the rest has come", func() bool { distinct, _ := r.sink.Count(); return distinct == 20 })
}

func TestSubscription_NewTargetGetsWaitingDeliveries(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) {
		c.Retries = append(engine.RetrySchedule{0}, slices.Repeat(engine.RetrySchedule{50 * time.Millisecond}, 1000)...)
	})
	dead := httptest.NewServer(nil)
	dead.Close()
	s := r.subscribe(func(s *engine.Subscription) { s.TargetURL = dead.URL })
	a := r.publish("a", `1`)
	r.delivery(a.ID, s, engine.StateRetrying)
	if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		s.TargetURL = r.sink.URL
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.delivery(a.ID, s, engine.StateSucceeded)
}

func TestSubscription_DeleteMakesWaitingDeliveriesDead(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.SubscriptionInFlight = 1 })
	r.sink.Hang()
	s := r.subscribe(nil)
	var accepted []engine.Accepted
	for i := range 1500 { // more than a queue takes
		accepted = append(accepted, r.publish("a", strconv.Itoa(i)))
	}
	testkit.WaitFor(t, "the first is on its way", func() bool { _, all := r.sink.Count(); return all == 1 })
	if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Errorf("deleted twice: %v", err)
	}
	r.sink.Release()
	for _, a := range []engine.Accepted{accepted[1], accepted[700], accepted[1499]} {
		if d, _ := r.delivery(a.ID, s, engine.StateDead); !strings.Contains(d.Error, "deleted") {
			t.Errorf("%q", d.Error)
		}
	}
	r.delivery(accepted[0].ID, s, engine.StateSucceeded)
}

func TestPublish_RepeatIsNotDeliveredTwice(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.subscribe(nil)
	in := event("a", `{"n":1}`)
	in.ID = "mine-1"
	publish := func(in engine.EventInput) (engine.Accepted, error) {
		a, err := r.Publish(context.Background(), []engine.EventInput{in})
		if err != nil {
			return engine.Accepted{}, err
		}
		return a[0], nil
	}
	first, err := publish(in)
	if err != nil || first.PublicID != "mine-1" || first.Repeated {
		t.Fatal(first, err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if again, err := publish(in); err != nil || again.ID != first.ID || !again.Repeated || again.Matched != 1 {
				t.Errorf("%+v %v", again, err)
			}
		})
	}
	wg.Wait()
	other := in
	other.Data = event("a", `{"n":2}`).Data
	if _, err := publish(other); engine.ErrorCode(err) != engine.CodeConflict {
		t.Errorf("another body under the same id: %v", err)
	}
	last := r.publish("a", `"last"`)
	testkit.WaitFor(t, "the last one has come", func() bool { return r.sink.Times(`"last"`) == 1 })
	if r.sink.Times(`{"n":1}`) != 1 {
		t.Errorf("delivered %d times", r.sink.Times(`{"n":1}`))
	}
	if ev, err := r.FindEvent(context.Background(), "", "", last.PublicID); err != nil || string(ev.Data) != `"last"` {
		t.Error(ev, err)
	}
}

func TestEngine_RestartDeliversTheRest(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.SubscriptionInFlight = 2 })
	const n = 300
	r.sink.SetAnswer(func(http.ResponseWriter, *http.Request, string) { time.Sleep(time.Millisecond) })
	r.subscribe(nil)
	for i := range n {
		r.publish("a", strconv.Itoa(i))
	}
	for range 3 {
		r.restart()
	}
	testkit.WaitFor(t, "all have come", func() bool { distinct, _ := r.sink.Count(); return distinct == n })
	if _, all := r.sink.Count(); all != n {
		t.Errorf("%d deliveries of %d events: an orderly stop repeats nothing", all, n)
	}
	if _, err := r.Publish(context.Background(), nil); engine.ErrorCode(err) != engine.CodeInvalid {
		t.Errorf("no events: %v", err)
	}
}

func TestEngine_RejectsEventsAfterClose(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, err := r.Publish(context.Background(), []engine.EventInput{event("a", "1")})
	if engine.ErrorCode(err) != engine.CodeUnavailable || engine.ErrorCode(r.Ready(context.Background())) != engine.CodeUnavailable {
		t.Error(err)
	}
}

func TestSubscription_ConcurrentUpdatesAreNotLost(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			_, err := r.UpdateSubscription(context.Background(), "", s.ID, s.Version, func(s *engine.Subscription) error {
				s.Description = strconv.Itoa(i)
				return nil
			})
			switch {
			case err == nil:
				won.Add(1)
			case engine.ErrorCode(err) != engine.CodeStale:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d changes of version 1 went through", won.Load())
	}
	for range 20 { // without a version all go through, one after the other
		wg.Go(func() {
			if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now, _ := r.Subscription("", s.ID); now.Version != 22 {
		t.Errorf("version %d", now.Version)
	}
	_, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error { return errors.New("no") })
	if err == nil || err.Error() != "no" {
		t.Error(err)
	}
}
