package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"sync/atomic"
	"testing"
	"time"
)

// broken is a target that fails until it is repaired, and counts what it accepts after
// that.
type broken struct {
	*httptest.Server
	mended atomic.Bool
	taken  atomic.Int64
}

func newBroken(t *testing.T) *broken {
	b := &broken{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if !b.mended.Load() {
			http.Error(w, "out of \x1b[31morder", http.StatusInternalServerError)
			return
		}
		b.taken.Add(1)
	}))
	t.Cleanup(b.Close)
	return b
}

// deadLetters creates a subscription to a broken target, and n dead letters of it.
func deadLetters(t *testing.T, p *process, target *broken, n int) (id string) {
	t.Helper()
	var made api.Subscription
	body := map[string]any{"event": "order.created", "target_url": target.URL, "policy": map[string]any{"retries": []string{"0s"}}}
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", body, &made); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		p.publish(t, fmt.Sprintf(`{"n": %d}`, i))
	}
	testkit.WaitFor(t, "all are dead", func() bool {
		dead, err := api.Collect(p.api.ListDeliveries(context.Background(), api.ListDeliveriesParams{SubscriptionID: made.ID, Status: api.DeliveryDead}))
		return err == nil && len(dead) == n
	})
	return made.ID
}

func (p *process) publish(t *testing.T, data string) {
	t.Helper()
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/events", api.PublishRequest{Type: "order.created", Data: json.RawMessage(data)}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestReplays_DeadLetters(t *testing.T) {
	t.Parallel()
	p, target := serve(t, t.TempDir()), newBroken(t)
	id := deadLetters(t, p, target, 3)
	p.expect(0, []string{id, "yes", "failing", "500"}, "subscriptions", "list", "--failing")
	if out := p.expect(0, nil, "subscriptions", "list"); strings.Contains(out, "\x1b") {
		t.Errorf("what a target answers reaches the terminal: %q", out)
	}
	target.mended.Store(true)
	out := p.expect(0, []string{"rpl_", "running"}, "replays", "start", id, "--since", "1h", "--filter", "data.n > 0")
	replay, _, _ := strings.Cut(out, "\n")
	testkit.WaitFor(t, "the dead letters that the filter lets through arrive", func() bool { return target.taken.Load() == 2 })
	testkit.WaitFor(t, "the replay is through", func() bool {
		out, _ := p.switchhook("replays", "show", replay)
		return strings.Contains(out, "completed")
	})
	p.expect(0, []string{"progress       100 %", "queued         2", "sent to        their own subscriptions", "deliveries     dead", "filter         data.n > 0", "rate           100 a second"}, "replays", "show", replay)
	p.expect(0, []string{"ID ", replay, "completed", "100 %", id}, "replays", "list")
	p.expect(1, []string{"409", "the replay is completed"}, "replays", "pause", replay)

	var shown struct {
		ID, Status string
		Rate       int
		CreatedAt  string `json:"created_at"`
		UpdatedAt  string `json:"updated_at"`
	}
	if err := json.Unmarshal([]byte(p.expect(0, nil, "replays", "show", replay, "--json")), &shown); err != nil || shown.ID != replay || shown.Rate != 100 || shown.UpdatedAt == "" {
		t.Errorf("%v: %+v", err, shown)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(p.expect(0, nil, "replays", "--json", "list")), &list); err != nil || len(list) != 1 || list[0]["id"] != replay {
		t.Errorf("%v: %v", err, list)
	}
	if err := json.Unmarshal([]byte(p.expect(0, nil, "subscriptions", "list", "--json")), &list); err != nil || len(list) != 1 || list[0]["health"] == nil || list[0]["policy"] == nil {
		t.Errorf("%v: %v", err, list)
	}
	if out := p.expect(0, nil, "subscriptions", "list", "--json", "--inactive"); strings.TrimSpace(out) != "[]" {
		t.Errorf("%q is no empty list", out)
	}
	p.expect(0, []string{id}, "subscriptions", "list", "--event", "order.created")
	if out := p.expect(0, nil, "subscriptions", "list", "--event", "order.paid"); strings.Contains(out, id) {
		t.Error(out)
	}
}

func TestReplays_PauseResumeCancel(t *testing.T) {
	t.Parallel()
	p, target := serve(t, t.TempDir()), newBroken(t)
	for i := range 60 {
		p.publish(t, fmt.Sprint(i))
	}
	target.mended.Store(true)
	id := deadLetters(t, p, target, 0)                                                                     // its events are older than it
	out := p.expect(0, nil, "replays", "start", id, "--rate", "1", "--status", "dead,missing", "--to", id) // takes a minute
	replay, _, _ := strings.Cut(out, "\n")
	p.expect(0, []string{"status         paused", "dead, missing", "sent to        " + id}, "replays", "pause", replay)
	p.expect(0, []string{"paused"}, "replays", "list")
	p.expect(0, []string{"status         running"}, "replays", "resume", replay)
	p.expect(0, []string{"status         cancelled", "finished"}, "replays", "cancel", replay)
	p.expect(1, []string{"409"}, "replays", "resume", replay)
	var shown map[string]any
	if err := json.Unmarshal([]byte(p.expect(0, nil, "replays", "show", replay, "--json")), &shown); err != nil || shown["status"] != "cancelled" {
		t.Errorf("%v: %v", err, shown)
	}
}

func TestReplays_Errors(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no subscription", []string{"start"}, 2, "<subscription>"},
		{"a subscription of nowhere", []string{"start", "sub_0000000000001"}, 1, "422"},
		{"no id", []string{"start", "chat"}, 1, "is not an id of a subscription"},
		{"no time", []string{"start", "sub_1", "--since", "yesterday"}, 2, `--since: "yesterday" is neither a time such as`},
		{"a time to come", []string{"start", "sub_1", "--until=-2h"}, 2, `--until: "-2h" is neither`},
		{"a replay of nowhere", []string{"show", "rpl_0000000000001"}, 1, "404"},
		{"a way out", []string{"cancel", "../keys"}, 1, "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.expect(c.status, []string{c.want}, append([]string{"replays"}, c.args...)...)
		})
	}
	p.expect(1, []string{"401"}, "replays", "list", "--key", "wrong")
	p.expect(1, []string{"401"}, "subscriptions", "list", "--key", "wrong")

	// Another account's replay is not found.
	target := newBroken(t)
	id := deadLetters(t, p, target, 1)
	replay, _, _ := strings.Cut(p.expect(0, nil, "replays", "start", id), "\n")
	made, _ := p.switchhook("keys", "create", "team", "--account", "acme")
	key, _, _ := strings.Cut(made, "\n")
	p.expect(1, []string{"404"}, "replays", "show", replay, "--key", key)
	p.expect(1, []string{"404"}, "replays", "cancel", replay, "--key", key)
	if out := p.expect(0, nil, "replays", "list", "--key", key); strings.Contains(out, replay) {
		t.Error(out)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ text, want string }{{"2h", "2026-01-31T10:00:00Z"}, {"90m", "2026-01-31T10:30:00Z"}, {"2026-01-30T09:30:00+01:00", "2026-01-30T08:30:00Z"}, {"0s", ""}, {"-1h", ""}, {"2026-01-30", ""}, {"", ""}} {
		at, err := parseTime(c.text, now)
		if (err == nil) != (c.want != "") || err == nil && at.UTC().Format(time.RFC3339) != c.want {
			t.Errorf("%q: %v, %v", c.text, at, err)
		}
	}
}
