package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newHanging returns a target that does not answer before it is released.
func newHanging(t *testing.T) *testkit.Receiver {
	h := testkit.NewReceiver(t, nil)
	h.Hang()
	return h
}

// ids returns the webhook-id of each delivery.
func ids(h *testkit.Receiver) (ids []string) {
	for _, sent := range h.Requests() {
		ids = append(ids, sent.Header.Get("webhook-id"))
	}
	return ids
}

// hangingRouter starts a router with five events for a target that hangs, two of them in
// flight.
func hangingRouter(t *testing.T, data string, h *testkit.Receiver, flags ...string) (p *process, log *testkit.Buffer) {
	t.Helper()
	log = &testkit.Buffer{}
	p = serveTo(t, log, data, append([]string{withRace, "--log-level", "info", "--timeout", "5m", "--drain-time", "1m"}, flags...)...)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": h.URL, "policy": map[string]any{"in_flight": 2}}, nil)
	for i := range 5 {
		post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage(fmt.Sprint(i))}, nil)
	}
	testkit.WaitFor(t, "two attempts are on", func() bool { return len(ids(h)) == 2 })
	return p, log
}

func post(t *testing.T, p *process, path string, in, out any) {
	t.Helper()
	if err := p.api.call(context.Background(), http.MethodPost, path, in, out); err != nil {
		t.Fatal(err)
	}
}

func (p *process) endsWith(t *testing.T, log *testkit.Buffer) {
	t.Helper()
	select {
	case err := <-p.ends:
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
	case <-time.After(testkit.Timeout):
		t.Fatalf("the process does not end\n%s", log)
	}
}

func TestShutdown_WaitsForInFlight(t *testing.T) {
	data, h := t.TempDir(), newHanging(t)
	p, log := hangingRouter(t, data, h)
	p.Process.Signal(syscall.SIGTERM)
	testkit.WaitFor(t, "it says what it waits for", func() bool { return log.Contains(`"attempts":2,"unwritten_outcomes":0`) })
	if res, err := http.Get(p.api.URL + "/healthz"); err == nil {
		res.Body.Close()
		t.Errorf("a new connection was taken: %s", res.Status)
	}
	h.Release()
	p.endsWith(t, log)
	if !log.Contains(`"msg":"stopped"`) || log.Contains("cut off") {
		t.Errorf("\n%s", log)
	}
	if n := len(ids(h)); n != 2 {
		t.Errorf("%d attempts began, 2 of them before the stop", n)
	}

	// The others are delivered after the next start, and succeeded ones are not repeated.
	serve(t, data)
	testkit.WaitFor(t, "all have come", func() bool { return len(ids(h)) >= 5 })
	came := ids(h)
	slices.Sort(came)
	if got := slices.Compact(slices.Clone(came)); len(got) != 5 || len(came) != 5 {
		t.Errorf("%d deliveries of %d events, want 5 of 5", len(came), len(got))
	}
}

func TestShutdown_DrainTimeLimit(t *testing.T) {
	data, h := t.TempDir(), newHanging(t)
	p, log := hangingRouter(t, data, h, "--drain-time", "1s", "--timeout", "1m")
	// A client that never ends its request takes half of the drain time.
	slow, err := net.Dial("tcp", strings.TrimPrefix(p.api.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	io.WriteString(slow, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage("5")}, nil) // so that the connection has been accepted
	p.Process.Signal(syscall.SIGTERM)
	p.endsWith(t, log)
	if !log.Contains("requests that did not end are cut off") || !log.Contains(`the next start makes them again","attempts":2`) || !log.Contains(`"msg":"stopped"`) {
		t.Errorf("\n%s", log)
	}
	h.Release()
	serve(t, data)
	testkit.WaitFor(t, "the two attempts are made again, and the four others", func() bool { return len(ids(h)) >= 8 })
	if first, again := ids(h)[:2], ids(h)[2:]; !slices.Contains(again, first[0]) || !slices.Contains(again, first[1]) || len(again) != 6 {
		t.Errorf("%v, then %v", first, again)
	}
}

func TestShutdown_SecondSignalEndsAtOnce(t *testing.T) {
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		data, h := t.TempDir(), newHanging(t)
		p, log := hangingRouter(t, data, h)
		p.Process.Signal(syscall.SIGTERM)
		testkit.WaitFor(t, "it stops", func() bool { return log.Contains("a second signal ends at once") })
		p.Process.Signal(second)
		<-p.ends
		if status := p.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != second {
			t.Errorf("%v\n%s", p.ProcessState, log)
		}
		h.Release()
		serve(t, data)
		testkit.WaitFor(t, "the two attempts are made again, and the three others", func() bool { return len(ids(h)) >= 7 })
	}
}

// Requests on open connections during a stop may get no answer, but every accepted event
// counts.
func TestShutdown_DeliversAcceptedEvents(t *testing.T) {
	data, sink := t.TempDir(), testkit.NewReceiver(t, nil)
	p := serve(t, data, withRace)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": sink.URL, "payload_format": "data"}, nil)
	var mu sync.Mutex
	var accepted []string
	var senders sync.WaitGroup
	for s := range 8 {
		senders.Go(func() {
			for i := 0; ; i++ {
				body := fmt.Sprintf(`{"sender":%d,"i":%d}`, s, i)
				if p.api.call(context.Background(), http.MethodPost, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage(body)}, nil) != nil {
					return
				}
				mu.Lock()
				accepted = append(accepted, body)
				mu.Unlock()
			}
		})
	}
	testkit.WaitFor(t, "the load is on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(accepted) > 300
	})
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM under load: %v", err)
	}
	senders.Wait()
	serve(t, data)
	testkit.WaitFor(t, "every accepted event has arrived", func() bool { return sink.Missing(accepted) == 0 })
	if distinct, all := sink.Count(); distinct != all {
		t.Errorf("%d deliveries of %d events over a stop in order", all, distinct)
	}
}
