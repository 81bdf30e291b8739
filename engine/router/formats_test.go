package router_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// ceReceiver is a target that reads what comes with the CloudEvents SDK.
func ceReceiver(t *testing.T) (*httptest.Server, chan ce.Event) {
	got := make(chan ce.Event, 64)
	protocol, err := cloudevents.NewHTTP()
	if err != nil {
		t.Fatal(err)
	}
	handler, err := cloudevents.NewHTTPReceiveHandler(t.Context(), protocol, func(e ce.Event) { got <- e })
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server, got
}

func TestCloudEvents_ReadableBySDK(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.CloudEventsSource = "https://router.example/" })
	server, got := ceReceiver(t)
	receive := func() ce.Event {
		t.Helper()
		select {
		case e := <-got:
			return e
		case <-time.After(testkit.Timeout):
			t.Fatal("no CloudEvent came")
			panic("")
		}
	}
	for _, format := range []engine.PayloadFormat{engine.FormatCloudEvents, engine.FormatCloudEventsBinary} {
		kind := "order." + strings.ReplaceAll(string(format), "-", "")
		s := r.subscribe(func(s *engine.Subscription) {
			s.Events, s.PayloadFormat, s.TargetURL = []string{kind}, format, server.URL
			s.Headers = map[string]string{"Content-Type": "text/plain", "Ce-Id": "forged", "Ce-Other": "forged", "X-Kept": "1"}
		})
		a := r.publish(kind, `{"n":9007199254740993,"é":"<ü>"}`)
		e := receive()
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if e.SpecVersion() != "1.0" || e.ID() != a.ID.Format("evt") || e.Source() != "https://router.example/accounts/default" || e.Type() != kind ||
			e.DataContentType() != "application/json" || string(e.Data()) != `{"n":9007199254740993,"é":"<ü>"}` || e.Time().IsZero() || len(e.Extensions()) != 0 || e.Subject() != "" {
			t.Errorf("%s: got %v", format, e)
		}
		// The same on every attempt: source and id are what a receiver tells repeats by.
		_, attempts := r.delivery(a.ID, s, engine.StateSucceeded)
		if _, err := r.Retry(context.Background(), "", engine.DeliveryID{Event: a.ID, Subscription: s.ID}); err != nil {
			t.Fatal(err)
		}
		if again := receive(); again.String() != e.String() {
			t.Errorf("%s: the second attempt brought %v", format, again)
		}
		// The body was not stored, and is shown as it went out.
		body := string(attempts[0].Request.Body)
		if format == engine.FormatCloudEvents && !strings.Contains(body, `"id":"`+e.ID()+`"`) || format == engine.FormatCloudEventsBinary && body != `{"n":9007199254740993,"é":"<ü>"}` {
			t.Errorf("%s: the attempt shows %s", format, body)
		}
	}
	// Attributes that it came with are those that it goes out with.
	r.subscribe(func(s *engine.Subscription) {
		s.Events, s.PayloadFormat, s.TargetURL = []string{"came.in"}, engine.FormatCloudEvents, server.URL
	})
	in := event("came.in", `"AP8="`)
	in.ID, in.Headers = "A1", map[string]string{"ce-source": "/crm", "ce-subject": "käufer", "ce-datacontenttype": "image/png", "ce-data-encoding": "base64", "ce-tenant": "t 1"}
	if _, err := r.Publish(context.Background(), []engine.EventInput{in}); err != nil {
		t.Fatal(err)
	}
	if e := receive(); e.ID() != "A1" || e.Source() != "/crm" || e.Subject() != "käufer" || e.Extensions()["tenant"] != "t 1" || string(e.Data()) != "\x00\xff" || e.DataContentType() != "image/png" {
		t.Errorf("got %v", e)
	}
}

func TestBatch_PayloadFormats(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	type batch struct {
		header http.Header
		body   []byte
		events []ce.Event
	}
	got := make(chan batch, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b := batch{header: req.Header}
		b.body, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(b.body))
		if strings.Contains(req.Header.Get("Content-Type"), "cloudevents") {
			var err error
			if b.events, err = cloudevents.NewEventsFromHTTPRequest(req); err != nil {
				t.Error(err)
			}
		}
		got <- b
	}))
	t.Cleanup(server.Close)
	for _, format := range []engine.PayloadFormat{engine.FormatCloudEvents, engine.FormatCloudEventsBinary, engine.FormatSkinny} {
		kind := "order." + strings.ReplaceAll(string(format), "-", "")
		s := r.subscribe(func(s *engine.Subscription) {
			s.Events, s.PayloadFormat, s.TargetURL, s.Numbered = []string{kind}, format, server.URL, true
			s.Batch = engine.Batch{Size: 3, Wait: 2 * testkit.Timeout}
		})
		accepted, err := r.Publish(context.Background(), []engine.EventInput{event(kind, "1"), event(kind, "2"), event(kind, "3")})
		if err != nil {
			t.Fatal(err)
		}
		var b batch
		select {
		case b = <-got:
		case <-time.After(testkit.Timeout):
			t.Fatalf("%s: no batch came", format)
		}
		if n := b.header.Get("webhook-sequence"); n != "1-3" {
			t.Errorf("%s: the numbers are %q", format, n)
		}
		_, attempts := r.delivery(accepted[1].ID, s, engine.StateSucceeded)
		shown := string(attempts[0].Request.Body)
		if format == engine.FormatSkinny {
			var list []struct{ Data struct{ ID, URL string } }
			if err := json.Unmarshal(b.body, &list); err != nil || len(list) != 3 || b.header.Get("Content-Type") != "application/json" {
				t.Fatalf("%v: %s", err, b.body)
			}
			_, token, _ := strings.Cut(list[1].Data.URL, "?token=")
			if _, err := r.EventByToken(context.Background(), list[1].Data.ID, token); err != nil || strings.Contains(shown, token) || !strings.Contains(shown, "[hidden]") {
				t.Errorf("%v: the attempt shows %s", err, shown)
			}
			continue
		}
		if b.header.Get("Content-Type") != "application/cloudevents-batch+json" || len(b.events) != 3 || b.header.Get("ce-id") != "" {
			t.Fatalf("%s: got %v %s", format, b.header, b.body)
		}
		for i, e := range b.events {
			if e.ID() != accepted[i].ID.Format("evt") || string(e.Data()) != string(rune('1'+i)) || e.Validate() != nil {
				t.Errorf("%s: got %v", format, e)
			}
		}
		if !strings.Contains(string(b.body), shown) || !strings.Contains(shown, accepted[1].ID.Format("evt")) {
			t.Errorf("%s: the attempt shows %s", format, shown)
		}
	}
}

func TestCloudEvents_StoredBodyHasTheSourceSent(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.PayloadFormat = engine.FormatCloudEvents })
	a := r.publish("a", "1")
	r.delivery(a.ID, s, engine.StateSucceeded)
	_, sent := last(r.sink)
	r.Config.CloudEventsSource = "/elsewhere"
	r.restart()
	if _, attempts := r.delivery(a.ID, s, engine.StateSucceeded); string(attempts[0].Request.Body) != sent || !strings.Contains(sent, `"/switchhook/accounts/default"`) {
		t.Errorf("sent %s, shown %s", sent, attempts[0].Request.Body)
	}
}

func TestSkinnyPayload_URLReturnsTheEvent(t *testing.T) {
	t.Parallel()
	var clock testkit.Clock
	r := start(t, func(c *settings.Config) {
		c.PublicURL, c.SkinnyTokenTTL = "https://hooks.example.com/router/", time.Minute
		c.Now = clock.Now
	})
	ctx := context.Background()
	s := r.subscribe(func(s *engine.Subscription) { s.PayloadFormat = engine.FormatSkinny })
	in := event("order.created", `{"secret":1}`)
	in.ID = "order-1"
	accepted, err := r.Publish(ctx, []engine.EventInput{in})
	if err != nil {
		t.Fatal(err)
	}
	id := accepted[0].ID.Format("evt")
	_, attempts := r.delivery(accepted[0].ID, s, engine.StateSucceeded)
	_, body := last(r.sink)
	var skinny struct {
		Type, Timestamp string
		Data            struct{ ID, URL string }
	}
	if err := json.Unmarshal([]byte(body), &skinny); err != nil || skinny.Type != "order.created" || skinny.Data.ID != "order-1" || strings.Contains(body, "secret") {
		t.Fatalf("%v: %s", err, body)
	}
	place, token, _ := strings.Cut(skinny.Data.URL, "?token=")
	if place != "https://hooks.example.com/router/api/v1/events/"+id || token == "" || url.QueryEscape(token) != token {
		t.Errorf("the URL is %s", skinny.Data.URL)
	}
	if shown := string(attempts[0].Request.Body); shown != strings.Replace(body, token, "[hidden]", 1) {
		t.Errorf("the attempt shows %s", shown)
	}
	ev, err := r.EventByToken(ctx, id, token)
	if err != nil || string(ev.Data) != `{"secret":1}` {
		t.Fatal(ev, err)
	}
	other := r.publish("b", "1").ID.Format("evt")
	gone := engine.ID(accepted[0].ID + 1).Format("evt")
	for _, tc := range []struct {
		what string
		c    [2]string
	}{
		{"another event", [2]string{other, token}}, {"an event that is not there", [2]string{gone, token}}, {"no token", [2]string{id, ""}}, {"nonsense", [2]string{id, "x"}}, {"the publisher's id", [2]string{"order-1", token}},
		{"a bit changed", [2]string{id, flip(token, 3)}}, {"the mac changed", [2]string{id, flip(token, 40)}}, {"cut", [2]string{id, token[:len(token)-2]}}, {"longer", [2]string{id, token + "AA"}},
	} {
		if _, err := r.EventByToken(ctx, tc.c[0], tc.c[1]); engine.ErrorCode(err) != engine.CodeUnauthorized || strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
	r.restart() // the key outlives the process
	if _, err := r.EventByToken(ctx, id, token); err != nil {
		t.Error(err)
	}
	clock.Advance(2 * time.Minute)
	if _, err := r.EventByToken(ctx, id, token); engine.ErrorCode(err) != engine.CodeUnauthorized || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its time: %v", err)
	}
}

func flip(token string, i int) string {
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

func TestSequenceNumber_SameOnEveryAttempt(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	numbers := make(chan string, 64)
	var fail atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		numbers <- req.Header.Get("webhook-sequence") + " " + string(body)
		if fail.CompareAndSwap(true, false) {
			w.WriteHeader(500)
		}
	}))
	t.Cleanup(server.Close)
	want := func(list ...string) {
		t.Helper()
		for _, want := range list {
			select {
			case got := <-numbers:
				if got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			case <-time.After(testkit.Timeout):
				t.Fatalf("%q did not come", want)
			}
		}
	}
	s := r.subscribe(func(s *engine.Subscription) {
		s.TargetURL, s.Numbered, s.Events, s.Filter = server.URL, true, []string{"a"}, "data != 3"
	})
	plain := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"a"} })
	fail.Store(true)
	first := r.publish("a", "1")
	want("1 1", "1 1") // the second is the retry
	if d, _ := r.delivery(first.ID, s, engine.StateSucceeded); d.Sequence != 1 {
		t.Errorf("the delivery shows %d", d.Sequence)
	}
	if d, attempts := r.delivery(first.ID, plain, engine.StateSucceeded); d.Sequence != 0 || hasHeader(attempts[0], "webhook-sequence") {
		t.Errorf("the other subscription's is numbered %d", d.Sequence)
	}
	r.publish("a", "2")
	want("2 2")
	r.publish("a", "3") // filtered out
	r.publish("b", "4") // of another type
	r.publish("a", "5")
	want("3 5")
	r.restart()
	r.publish("a", "6")
	want("4 6")
	// A retry by hand after a restart, when the event comes from the store.
	if _, err := r.Retry(context.Background(), "", engine.DeliveryID{Event: first.ID, Subscription: s.ID}); err != nil {
		t.Fatal(err)
	}
	want("1 1")
}

func hasHeader(a *engine.Attempt, name string) bool {
	for _, h := range a.Request.Headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}
