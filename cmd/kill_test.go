package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"sync"
	"syscall"
	"testing"
	"time"
)

// killEvent is the data of an event of these tests.
type killEvent struct {
	Round  int `json:"round"`
	Sender int `json:"sender"`
	N      int `json:"n"` // of the sender; grows over all rounds
}

// arrival records the deliveries of an event to one target.
type arrival struct {
	accepted  int    // number of attempts answered with 200
	refused   int    // number of other attempts
	position  int    // position of the first success among those of the target
	sequences string // received sequence numbers, each once
}

// recordingTarget is a receiver with a target for each path that records deliveries.
type recordingTarget struct {
	*httptest.Server
	mu      sync.Mutex
	targets map[string]map[killEvent]*arrival
	accepts int
}

// newRecordingTarget returns a receiver that answers 404 if fail returns true.
func newRecordingTarget(t *testing.T, fail func(path string, p killEvent, refused int) bool) *recordingTarget {
	w := &recordingTarget{targets: map[string]map[killEvent]*arrival{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil { // the router was killed during the request
			return
		}
		var list []killEvent
		if !strings.HasPrefix(string(body), "[") {
			body = []byte("[" + string(body) + "]")
		}
		if err := json.Unmarshal(body, &list); err != nil {
			t.Errorf("%s got %q: %v", r.URL.Path, body, err)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.targets[r.URL.Path]
		if at == nil {
			at = map[killEvent]*arrival{}
			w.targets[r.URL.Path] = at
		}
		refused, failed := 0, false
		for _, p := range list {
			if at[p] == nil {
				at[p] = &arrival{}
			}
			refused = max(refused, at[p].refused)
		}
		for _, p := range list { // one failing event of a batch must not make the others fail again and again
			failed = failed || fail(r.URL.Path, p, refused)
		}
		for _, p := range list {
			a := at[p]
			if number := r.Header.Get("webhook-sequence") + " "; !strings.Contains(a.sequences, number) {
				a.sequences += number
			}
			if failed {
				a.refused++
				continue
			}
			if a.accepted++; a.accepted == 1 {
				w.accepts++
				a.position = w.accepts
			}
		}
		if failed {
			rw.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

// missing counts the events that a target never accepted.
func (w *recordingTarget) missing(path string, events []killEvent) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range events {
		if a := w.targets[path][p]; a == nil || a.accepted == 0 {
			n++
		}
	}
	return n
}

// repeats counts the events that a target accepted more than once.
func (w *recordingTarget) repeats(path string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.targets[path] {
		n += max(0, a.accepted-1)
	}
	return n
}

// crashRounds returns the number of kills: CRASH_ROUNDS, or 5.
func crashRounds(t *testing.T) int {
	text := os.Getenv("CRASH_ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CRASH_ROUNDS is %q", text)
	}
	return n
}

// Every event answered with 202 reaches every matching target, in order if the subscription
// is ordered, although the router is killed repeatedly during work and start.
// CRASH_ROUNDS=20 kills it more often; CRASH_SEED repeats the moments of a run.
func TestKill_NothingAcceptedIsLost(t *testing.T) {
	rounds, seed := crashRounds(t), uint64(time.Now().UnixNano())
	if text := os.Getenv("CRASH_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CRASH_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sink := newRecordingTarget(t, func(path string, p killEvent, refused int) bool {
		switch path {
		case "/retried":
			return refused < 2
		case "/keyed", "/batch":
			return p.N%7 == 3 && refused < 1
		}
		return false
	})
	data := t.TempDir()
	flags := []string{"--retries", "0s,1s,1s,1s,1s,1s,1s,1s"}
	p := serve(t, data, flags...)
	for _, c := range []struct {
		path string
		more map[string]any
	}{
		{"/plain", map[string]any{}},
		{"/transform", map[string]any{"transform": "export default event => ({...event.data, by: 'transform'})"}},
		{"/keyed", map[string]any{"policy": map[string]any{"ordering": "key", "ordering_key": "data.sender"}}},
		{"/batch", map[string]any{"batch": map[string]any{"size": 20, "wait": "100ms"}}},
		{"/retried", map[string]any{}},
		{"/numbered", map[string]any{"numbered": true}},
	} {
		c.more["event"], c.more["target_url"], c.more["payload_format"] = "load.test", sink.URL+c.path, "data"
		post(t, p, "/api/v1/subscriptions", c.more, nil)
	}
	var changed struct{ ID string }
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "never.sent", "target_url": sink.URL}, &changed)

	const senders, most = 4, 120 // events of a sender in a round
	var mu sync.Mutex
	var accepted, before []killEvent
	numbers := [senders]int{}
	inRecovery := 0
	for round := range rounds {
		router := p.api
		// The events of the previous round are replayed to a new target.
		late := fmt.Sprintf("/late/%d", round-1)
		if round > 0 {
			var made struct{ ID string }
			post(t, p, "/api/v1/subscriptions", map[string]any{
				"event": "load.test", "target_url": sink.URL + late, "payload_format": "data", "filter": fmt.Sprintf("data.round == %d", round-1),
			}, &made)
			post(t, p, "/api/v1/replays", map[string]any{"subscription_ids": []string{made.ID}, "delivery_status": []string{"missing"}, "rate": 500}, nil)
		}
		var work sync.WaitGroup
		sent := 0
		for s := range senders {
			work.Go(func() {
				for range most {
					ev := killEvent{round, s, numbers[s]}
					numbers[s]++
					body, _ := json.Marshal(ev)
					if router.call(context.Background(), http.MethodPost, "/api/v1/events", api.PublishRequest{Type: "load.test", Data: json.RawMessage(body)}, nil) != nil {
						return
					}
					mu.Lock()
					accepted = append(accepted, ev)
					sent++
					mu.Unlock()
				}
			})
		}
		// Changes that were acknowledged right before the kill.
		description, keys := -1, []string{}
		work.Go(func() {
			for i := 0; ; i++ {
				var key struct{ Key string }
				if router.call(context.Background(), http.MethodPost, "/api/v1/keys", map[string]any{"name": "k", "account": "acme"}, &key) != nil {
					return
				}
				keys = append(keys, key.Key)
				if router.call(context.Background(), http.MethodPatch, "/api/v1/subscriptions/"+changed.ID, map[string]any{"description": strconv.Itoa(i)}, nil) != nil {
					return
				}
				description = i
				if len(keys) > 1 { // one is enough to show the last round's changes
					keys = keys[len(keys)-2:]
				}
			}
		})
		moment, rest := random.IntN(senders*most), time.Duration(random.IntN(30))*time.Millisecond
		testkit.WaitFor(t, "the load is on", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return sent > moment
		})
		time.Sleep(rest) // any moment is as good; commits come every few milliseconds
		p.end(syscall.SIGKILL)
		work.Wait()
		if random.IntN(2) == 0 || round == 0 { // and again, while it resumes its work
			again := launch(t, os.Stderr, data, flags...)
			time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
			again.end(syscall.SIGKILL)
			inRecovery++
		}
		p = serve(t, data, flags...)

		var now struct{ Description string }
		if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/subscriptions/"+changed.ID, nil, &now); err != nil {
			t.Fatal(err)
		}
		if got, _ := strconv.Atoi(now.Description); got != description && got != description+1 && description >= 0 {
			t.Errorf("round %d: the description is %q, %d was acknowledged", round, now.Description, description)
		}
		for _, key := range keys {
			if err := newClient(p.api.URL, key).call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, nil); err != nil {
				t.Errorf("round %d: a key that was acknowledged: %v", round, err)
			}
		}
		if round > 0 {
			testkit.WaitFor(t, "the replay has reached all of the round before", func() bool { return sink.missing(late, before) == 0 })
		}
		mu.Lock()
		before = nil
		for _, ev := range accepted {
			if ev.Round == round {
				before = append(before, ev)
			}
		}
		mu.Unlock()
	}
	targets := []string{"/plain", "/transform", "/keyed", "/batch", "/retried", "/numbered"}
	for _, path := range targets {
		// Each refused event delays those of its key until its retry, so /keyed takes long: it must go on.
		for left := sink.missing(path, accepted); left > 0; left = sink.missing(path, accepted) {
			testkit.WaitFor(t, "more of the accepted events arrive at "+path, func() bool { return sink.missing(path, accepted) < left })
		}
	}
	// Events that were stored although their sender never read the 202 arrive too, and keep
	// their position.
	testkit.WaitFor(t, "nothing waits any more", func() bool {
		for _, status := range []string{"retrying", "pending", "retrying"} { // a delivery that moves between the two states is seen in one of them
			var waiting struct{ Data []struct{} }
			if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/deliveries?limit=1&status="+status, nil, &waiting); err != nil {
				t.Fatal(err)
			}
			if len(waiting.Data) > 0 {
				return false
			}
		}
		return true
	})
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	sink.checkOrder(t, "/keyed")
	sink.checkNumbers(t, "/numbered")
	repeats := map[string]int{}
	sink.mu.Lock()
	paths := slices.Collect(maps.Keys(sink.targets))
	sink.mu.Unlock()
	for _, path := range paths {
		if strings.HasPrefix(path, "/late/") {
			repeats["/late"] += sink.repeats(path)
		} else {
			repeats[path] = sink.repeats(path)
		}
	}
	t.Logf("%d events accepted over %d kills and %d more during recovery, all delivered to %d targets; delivered more than once: %v", len(accepted), rounds, inRecovery, len(targets), repeats)
}

// checkOrder compares the first arrivals of each sender's events with the order in which
// they were published.
func (w *recordingTarget) checkOrder(t *testing.T, path string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, a := range w.targets[path] {
		if a.accepted == 0 {
			t.Errorf("%s: %+v was refused, and not sent again", path, p)
			continue
		}
		for n := p.N - 1; n >= 0; n-- { // the previous event that arrived: the last of a round may not have been stored
			var earlier *arrival
			for round := p.Round; round >= 0 && earlier == nil; round-- {
				earlier = w.targets[path][killEvent{round, p.Sender, n}]
			}
			if earlier == nil {
				continue
			}
			if earlier.position > a.position {
				t.Errorf("%s: %+v was taken before number %d", path, p, n)
			}
			break
		}
	}
}

// checkNumbers checks that each event has one permanent number, and that none is missing.
func (w *recordingTarget) checkNumbers(t *testing.T, path string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[int]killEvent{}
	for p, a := range w.targets[path] {
		n, err := strconv.Atoi(strings.TrimSpace(a.sequences))
		if err != nil {
			t.Errorf("%s: %+v came with the numbers %q", path, p, a.sequences)
			continue
		}
		if other, is := seen[n]; is {
			t.Errorf("%s: %+v and %+v are both number %d", path, p, other, n)
		}
		seen[n] = p
	}
	for n := 1; n <= len(w.targets[path]); n++ {
		if _, is := seen[n]; !is {
			t.Errorf("%s: no event has number %d of %d", path, n, len(w.targets[path]))
		}
	}
}
