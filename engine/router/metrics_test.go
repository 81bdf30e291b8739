package router_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

func TestMetrics_OpenDeliveriesByState(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	began := time.Now()
	var later atomic.Int64
	r := start(t, func(c *settings.Config) {
		c.Registerer, c.SubscriptionInFlight, c.Retries = reg, 1, engine.RetrySchedule{0, 100 * time.Hour}
		c.Now = func() time.Time { return began.Add(time.Duration(later.Load())) } // it stands still in between
	})
	count := func(state string) float64 { return testkit.Figure(t, reg, "switchhook_deliveries", state) }
	age := func(state string) float64 {
		return testkit.Figure(t, reg, "switchhook_deliveries_oldest_age_seconds", state)
	}
	for _, state := range []string{"queued", "held", "pending", "retrying", "dead"} {
		if count(state) != 0 || age(state) != 0 {
			t.Errorf("at first: %v %s, the oldest %v s old", count(state), state, age(state))
		}
	}
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	failing := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"failing"} })
	gone := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"gone"} })
	r.delivery(r.publish("failing", `1`).ID, failing, engine.StateRetrying)
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(410) })
	r.delivery(r.publish("gone", `1`).ID, gone, engine.StateDead)
	if count("dead") != 0 {
		t.Error("the store was asked again at once")
	}
	later.Store(int64(time.Hour))
	r.MeasureBacklog(context.Background())
	for _, state := range []string{"retrying", "dead"} {
		if a := age(state); count(state) != 1 || a < 3600 || a > 3700 {
			t.Errorf("%v %s, the oldest %v s old", count(state), state, a)
		}
	}

	r.sink.Hang()
	slow := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"slow"} })
	for range 3 {
		r.publish("slow", `1`)
	}
	testkit.WaitFor(t, "one is in flight, two wait", func() bool { return count("queued") == 2 })
	later.Add(int64(time.Hour))
	if a := age("queued"); a < 3600 || a > 3700 {
		t.Errorf("the oldest that waits is %v s old", a)
	}
	if _, err := r.UpdateSubscription(context.Background(), "", slow.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		s.Active = false
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if count("queued") != 0 || count("held") != 2 {
		t.Errorf("after the pause %v are queued and %v held", count("queued"), count("held"))
	}
	if err := r.DeleteSubscription(context.Background(), "", slow.ID, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if n := testkit.Figure(t, reg, "switchhook_deliveries_given_up_total"); n != 2 || count("held") != 0 {
		t.Errorf("%v dead, %v held", n, count("held"))
	}
	for _, c := range []struct {
		name string
		want float64
	}{
		{"switchhook_publish_seconds", 5}, {"switchhook_delivery_first_attempt_delay_seconds", 2}, {"switchhook_delivery_attempt_seconds", 2},
	} {
		if n := testkit.Figure(t, reg, c.name); n != c.want {
			t.Errorf("%s counted %v, not %v", c.name, n, c.want)
		}
	}
}

// The number of accounts with their own series is bounded: the busiest.
func TestMetrics_OnlyBusiestAccountsHaveSeries(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	var later atomic.Int64
	r := start(t, func(c *settings.Config) {
		c.Registerer, c.MetricsAccounts = reg, 2
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	publish := func(account string, n int) {
		t.Helper()
		for range n {
			in := event("a", `1`)
			in.Account = account
			if _, err := r.Publish(context.Background(), []engine.EventInput{in}); err != nil {
				t.Fatal(err)
			}
		}
	}
	accepted := func(account string) float64 {
		return testkit.Figure(t, reg, "switchhook_account_events_accepted_total", account)
	}
	is := func(when string, want map[string]float64) {
		t.Helper()
		for account, n := range want {
			if got := accepted(account); got != n {
				t.Errorf("%s: %s has %v, not %v", when, account, got, n)
			}
		}
	}
	publish("early", 1)
	publish("steady", 8)
	publish("late", 20)
	for i := range 30 {
		publish(fmt.Sprintf("small-%d", i), 1)
	}
	is("first come", map[string]float64{"early": 1, "steady": 8, "late": -1, "(other)": 50})
	later.Add(int64(61 * time.Minute))
	is("after an hour", map[string]float64{"early": -1, "steady": 8, "late": 0, "(other)": 50})
	publish("late", 3)
	publish("early", 1)
	is("from then on", map[string]float64{"early": -1, "steady": 8, "late": 3, "(other)": 51})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "switchhook_account_events") && len(f.Metric) != 3 {
			t.Errorf("%s has %d series", f.GetName(), len(f.Metric))
		}
	}

	off := prometheus.NewRegistry()
	start(t, func(c *settings.Config) { c.Registerer = off }).publish("a", `1`)
	if n := testkit.Figure(t, off, "switchhook_account_events_accepted_total", "(other)"); n != -1 {
		t.Error("accounts are counted though nobody asked for it")
	}
}

// In an ordered queue, a delivery that waits for its retry stays in memory but is not counted as queued.
func TestMetrics_OrderedRetryIsNotQueued(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	r := start(t, func(c *settings.Config) {
		c.Registerer, c.Retries = reg, engine.RetrySchedule{0, 100 * time.Hour}
	})
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(400) })
	for _, c := range []struct {
		kind   string
		change func(*engine.Subscription)
	}{
		{"fifo", func(s *engine.Subscription) { s.Policy.Ordering = engine.OrderingFIFO }},
		{"keyed", func(s *engine.Subscription) { s.Policy.Ordering, s.Policy.OrderingKey = engine.OrderingKeyed, "data" }},
		{"debounce", func(s *engine.Subscription) { s.Debounce.Within = 100 * time.Millisecond }},
	} {
		s := r.subscribe(func(s *engine.Subscription) { s.Events = []string{c.kind}; c.change(s) })
		r.delivery(r.publish(c.kind, `1`).ID, s, engine.StateRetrying)
		testkit.WaitFor(t, c.kind+": what is written down is put back", func() bool { return testkit.Figure(t, reg, "switchhook_deliveries", "queued") == 0 })
	}
}
