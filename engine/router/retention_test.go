package router_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

func (r *rig) gone(id engine.ID) bool {
	r.t.Helper()
	_, err := r.Store.Event(context.Background(), "", id)
	if err != nil && engine.ErrorCode(err) != engine.CodeNotFound {
		r.t.Fatal(err)
	}
	return err != nil
}

// prune removes what may go by now. What was just recorded may be a watermark away.
func (r *rig) prune() {
	r.t.Helper()
	testkit.WaitFor(r.t, "all that was published is through", func() bool {
		last, err := r.Store.LastEventID(context.Background(), 0)
		if err != nil {
			r.t.Fatal(err)
		}
		mark, err := r.Store.Watermark(context.Background(), 0)
		return err == nil && mark >= last
	})
	if err := r.Prune(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

func TestRetention_ByAccount(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.Retries = c.Now, engine.RetrySchedule{0}
		cfg.Retention = engine.Retention{Succeeded: 7 * 24 * time.Hour, Dead: 30 * 24 * time.Hour}
	})
	if _, err := r.PutAccount(context.Background(), &engine.Account{Name: "long", Retention: engine.Retention{Succeeded: 60 * 24 * time.Hour}}, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Contains(body, "dead") {
			w.WriteHeader(500)
		}
	})
	s := r.subscribe(nil)
	long := r.subscribe(func(s *engine.Subscription) { s.Account = "long" })
	good, dead, nobody := r.publish("a", `"good"`), r.publish("a", `"dead"`), engine.Accepted{}
	in := event("a", `"long"`)
	in.Account = "long"
	kept, err := r.Publish(context.Background(), []engine.EventInput{in})
	if err != nil {
		t.Fatal(err)
	}
	in = event("a", `"nobody"`)
	in.Account = "empty"
	none, err := r.Publish(context.Background(), []engine.EventInput{in})
	if err != nil {
		t.Fatal(err)
	}
	nobody = none[0]
	r.delivery(good.ID, s, engine.StateSucceeded)
	r.delivery(dead.ID, s, engine.StateDead)
	r.delivery(kept[0].ID, long, engine.StateSucceeded)

	for _, step := range []struct {
		after                        time.Duration
		good, nobody, dead, longGone bool
	}{
		{6 * 24 * time.Hour, false, false, false, false},
		{25 * time.Hour, true, true, false, false},
		{24 * 24 * time.Hour, true, true, true, false},
		{30 * 24 * time.Hour, true, true, true, true},
	} {
		c.Advance(step.after)
		r.prune()
		if r.gone(good.ID) != step.good || r.gone(nobody.ID) != step.nobody || r.gone(dead.ID) != step.dead || r.gone(kept[0].ID) != step.longGone {
			t.Errorf("after another %s: good %v, nobody %v, dead %v, long %v", step.after, r.gone(good.ID), r.gone(nobody.ID), r.gone(dead.ID), r.gone(kept[0].ID))
		}
	}
}

// TestRetention_AsTimePasses lets a running router remove events of accounts with various retentions:
// none goes early, and each has gone an hour and a bit after its time.
func TestRetention_AsTimePasses(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	const hour = time.Hour
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.Retries, cfg.PruneEvery = c.Now, engine.RetrySchedule{0}, 10*time.Millisecond
		cfg.Retention = engine.Retention{Succeeded: 7 * hour, Dead: 30 * hour}
	})
	keep := map[string]engine.Retention{"short": {Succeeded: 3 * hour, Dead: 5 * hour}, "long": {Succeeded: 20 * hour}, "usual": {}}
	for name, retention := range keep {
		if _, err := r.PutAccount(context.Background(), &engine.Account{Name: name, Retention: retention}, catalog.AnyVersion); err != nil {
			t.Fatal(err)
		}
		r.subscribe(func(s *engine.Subscription) { s.Account = name })
	}
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Contains(body, "dead") {
			w.WriteHeader(500)
		}
	})
	begin := c.Now()
	due := map[engine.ID]time.Duration{}
	for round := range 5 {
		for name, own := range keep {
			for data, keep := range map[string]time.Duration{`"good"`: cmp.Or(own.Succeeded, 7*hour), `"dead"`: cmp.Or(own.Dead, 30*hour)} {
				in := event("a", data)
				in.Account = name
				a, err := r.Publish(context.Background(), []engine.EventInput{in})
				if err != nil {
					t.Fatal(err)
				}
				due[a[0].ID] = time.Duration(round)*hour + keep
			}
		}
		c.Advance(hour)
	}
	for at := 5 * hour; len(due) > 0; at += hour / 2 {
		c.Advance(begin.Add(at).Sub(c.Now()))
		for id, d := range due {
			if at >= d+hour+5*time.Minute {
				testkit.WaitFor(t, "an event is removed "+(at-d).String()+" after its time", func() bool { return r.gone(id) })
				delete(due, id)
			} else if at < d && r.gone(id) {
				t.Fatalf("an event is gone %s before its time", d-at)
			}
		}
	}
}

func TestRetention_KeepsUnfinishedEvents(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.Retention = c.Now, engine.Retention{Succeeded: time.Minute, Dead: time.Minute}
	})
	r.sink.Hang()
	s := r.subscribe(nil)
	a := r.publish("a", `1`)
	testkit.WaitFor(t, "the attempt is on", func() bool { _, n := r.sink.Count(); return n > 0 })
	c.Advance(100 * time.Hour)
	r.prune()
	if r.gone(a.ID) {
		t.Fatal("an event was removed while it is delivered")
	}
	r.sink.Release()
	r.delivery(a.ID, s, engine.StateSucceeded)
	c.Advance(100 * time.Hour)
	r.prune()
	if !r.gone(a.ID) {
		t.Fatal("the event is still there")
	}
}

func TestRetention_AuditLog(t *testing.T) {
	t.Parallel()
	var c testkit.Clock
	r := start(t, func(cfg *settings.Config) {
		cfg.Now, cfg.KeepAudit = c.Now, 400*24*time.Hour
		cfg.Retention = engine.Retention{Succeeded: time.Minute, Dead: time.Minute}
	})
	subjects := func() (names []string) {
		list, _, err := r.Audit(context.Background(), engine.AuditQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Subject)
		}
		return names
	}
	account := func(name string) {
		if _, err := r.PutAccount(context.Background(), &engine.Account{Name: name}, catalog.AnyVersion); err != nil {
			t.Fatal(err)
		}
	}
	account("first")
	c.Advance(399 * 24 * time.Hour)
	account("second")
	r.prune()
	if got := subjects(); !slices.Equal(got, []string{"second", "first"}) {
		t.Fatalf("after 399 days: %q", got)
	}
	c.Advance(2 * 24 * time.Hour)
	r.prune()
	if got := subjects(); !slices.Equal(got, []string{"second"}) {
		t.Fatalf("after 401 days: %q", got)
	}
	r.stop()
	r.Config.KeepAudit = 0
	r.Open()
	c.Advance(10 * 365 * 24 * time.Hour)
	r.prune()
	if got := subjects(); !slices.Equal(got, []string{"second"}) {
		t.Fatalf("kept for ever: %q", got)
	}
}

func TestLoadShedding_DatabaseFullOfUnfinishedEvents(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) { cfg.KeepBytes = 8 << 20 })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	s := r.subscribe(nil)
	first := r.publish("a", `"first"`)
	big := `"` + strings.Repeat("x", 40_000) + `"`
	err := r.fill(engine.DefaultAccount, big)
	if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "limit of 8 MB") || !strings.Contains(err.Error(), "more than its share") || err.(*engine.Error).Wait < time.Second {
		t.Fatalf("error is %v", err)
	}
	if err := r.Ready(context.Background()); err != nil {
		t.Errorf("not ready although others are served: %v", err)
	}
	for i := 0; r.Ready(context.Background()) == nil; i++ { // many others, each with a little
		if i == 100 {
			t.Fatal("ready all the same")
		}
		name := fmt.Sprint("other", i)
		r.subscribe(func(s *engine.Subscription) { s.Account = name })
		_, _ = r.publishAs(name, big) // refused at the end
		r.Measure(context.Background())
	}
	if _, err = r.publishAs("newcomer", `1`); engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "limit of 8 MB") || err.(*engine.Error).Wait < time.Second {
		t.Errorf("error is %v", err)
	}
	if r.gone(first.ID) {
		t.Error("an event was removed that is not finished")
	}
	if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	testkit.WaitFor(t, "all its deliveries are dead", func() bool {
		open, err := r.Store.OpenDeliveries(context.Background())
		return err == nil && open[s.ID] == engine.BacklogCount{}
	})
	testkit.WaitFor(t, "there is room again", func() bool {
		if err := r.Prune(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.Measure(context.Background())
		_, err := r.publishAs(engine.DefaultAccount, `1`)
		return err == nil && r.Ready(context.Background()) == nil
	})
	if !r.gone(first.ID) {
		t.Error("the oldest event is still there")
	}
	if newest := r.publish("a", big); r.gone(newest.ID) {
		t.Error("the newest is gone")
	}
	u, err := r.Store.Room(context.Background())
	if err != nil || u.Bytes < 5<<20 {
		t.Errorf("more was removed than needed: %+v, %v", u, err)
	}
}

// publishAs publishes an event of type a of an account.
func (r *rig) publishAs(account, data string) (engine.ID, error) {
	in := event("a", data)
	in.Account = account
	a, err := r.Publish(context.Background(), []engine.EventInput{in})
	if err != nil {
		return 0, err
	}
	return a[0].ID, nil
}

// fill publishes events of an account until they are refused; finished ones may be removed as fast.
func (r *rig) fill(account, data string) (err error) {
	r.t.Helper()
	in := event("a", data)
	in.Account = account
	for range 80 {
		r.Measure(context.Background())
		if _, err = r.Publish(context.Background(), slices.Repeat([]engine.EventInput{in}, 5)); err != nil {
			return err
		}
	}
	return nil
}

// TestLoadShedding_RoomByAccount lets an account fill the database, with events that fail or that are
// finished: the others keep their history and are served.
func TestLoadShedding_RoomByAccount(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 40_000)
	for _, kind := range []string{"down", "fine"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(cfg *settings.Config) { cfg.KeepBytes = 8 << 20 })
			r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
				if strings.Contains(body, "down") {
					w.WriteHeader(500)
				}
			})
			var history []engine.ID
			subscriptions := map[string]*engine.Subscription{}
			for _, account := range []string{"small", "middle", "attacker"} {
				subscriptions[account] = r.subscribe(func(s *engine.Subscription) { s.Account = account })
			}
			for account, n := range map[string]int{"small": 3, "middle": 30} { // 0.1 and 1.2 MB
				for range n {
					id, err := r.publishAs(account, `"`+big+`"`)
					if err != nil {
						t.Fatal(err)
					}
					history = append(history, id)
					r.delivery(id, subscriptions[account], engine.StateSucceeded)
				}
			}
			oldest, err := r.publishAs("attacker", `"oldest"`)
			if err != nil {
				t.Fatal(err)
			}
			r.delivery(oldest, subscriptions["attacker"], engine.StateSucceeded)
			serve := func() {
				t.Helper()
				for _, account := range []string{"small", "middle", "new"} {
					id, err := r.publishAs(account, `1`)
					if err != nil {
						t.Fatalf("%s is refused: %v", account, err)
					}
					history = append(history, id)
				}
				if err := r.Ready(context.Background()); err != nil {
					t.Errorf("not ready: %v", err)
				}
			}
			for range 3 {
				err := r.fill("attacker", `"`+kind+big+`"`)
				if refused := engine.ErrorCode(err) == engine.CodeUnavailable && strings.Contains(err.Error(), "attacker stores more than its share"); !refused && (err != nil || kind == "down") {
					t.Fatalf("error is %v", err)
				}
				serve()
				r.prune()
				serve()
			}
			for _, id := range history {
				if r.gone(id) {
					t.Errorf("event %s of an account within its share is gone", id.Format(engine.EventPrefix))
				}
			}
			if kind == "fine" && !r.gone(oldest) {
				t.Error("the oldest event of the account above its share is still there")
			}
			u, err := r.Store.Room(context.Background())
			if err != nil || u.Bytes > 8<<20/100*110 {
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
}

// TestRetention_RoomByShare starts a router with a limit of 8 MB on a database that others filled:
// accounts of some sizes, in events of 100 KB, finished or not.
func TestRetention_RoomByShare(t *testing.T) {
	t.Parallel()
	type account struct {
		events     int
		unfinished bool
		from, to   int // how many are left
	}
	for _, c := range []struct {
		name     string
		accounts map[string]account
		refused  []string
	}{
		{"enough for all", map[string]account{"a": {events: 60, from: 60, to: 60}, "b": {events: 2, from: 2, to: 2}}, nil},
		{"one above its share", map[string]account{"a": {events: 58, from: 44, to: 53}, "b": {events: 15, from: 15, to: 15}, "c": {events: 2, from: 2, to: 2}}, nil},
		{"two above their share", map[string]account{"a": {events: 32, from: 26, to: 31}, "b": {events: 38, from: 26, to: 31}, "c": {events: 5, from: 5, to: 5}}, nil},
		{"nothing to remove of one", map[string]account{"a": {events: 58, unfinished: true, from: 58, to: 58}, "b": {events: 15, from: 15, to: 15}}, nil},
		{"its share is taken by one", map[string]account{"a": {events: 80, unfinished: true, from: 80, to: 80}, "b": {events: 1, from: 1, to: 1}}, []string{"a"}},
		{"others share what is left", map[string]account{"a": {events: 50, unfinished: true, from: 50, to: 50}, "b": {events: 34, from: 8, to: 20}, "c": {events: 2, from: 2, to: 2}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(cfg *settings.Config) { cfg.PruneEvery = time.Hour })
			r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
			for name, a := range c.accounts {
				if a.unfinished {
					r.subscribe(func(s *engine.Subscription) { s.Account = name })
				}
				for range a.events {
					if _, err := r.publishAs(name, `"`+strings.Repeat("x", 100_000)+`"`); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.prune() // all went through
			r.stop()
			r.Config.KeepBytes = 8 << 20
			r.Open()
			r.prune()
			r.Measure(context.Background())
			for name, a := range c.accounts {
				left, _, err := r.Store.Events(context.Background(), engine.EventQuery{Account: name})
				if err != nil || len(left) < a.from || len(left) > a.to {
					t.Errorf("%d events of %s are left, want %d to %d: %v", len(left), name, a.from, a.to, err)
				}
				if _, err := r.publishAs(name, `1`); (err != nil) != slices.Contains(c.refused, name) {
					t.Errorf("an event of %s: %v", name, err)
				}
			}
		})
	}
}

// TestLoadShedding_BurstOfOneAccount fills the database faster than it is measured.
func TestLoadShedding_BurstOfOneAccount(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) { cfg.KeepBytes = 16 << 20 })
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	r.subscribe(func(s *engine.Subscription) { s.Account = "attacker" })
	in := event("a", `"`+strings.Repeat("x", 400_000)+`"`)
	in.Account = "attacker"
	var burst sync.WaitGroup
	for range 4 {
		burst.Go(func() {
			for range 25 { // 40 MB in all
				if _, err := r.Publish(context.Background(), []engine.EventInput{in}); err != nil && engine.ErrorCode(err) != engine.CodeUnavailable {
					t.Error(err)
				}
			}
		})
	}
	burst.Wait()
	if _, err := r.publishAs("other", `1`); err != nil {
		t.Errorf("another account suffers: %v", err)
	}
	admitted := 0 // the burst may have left space for a few
	for ; admitted < 10; admitted++ {
		r.Measure(context.Background())
		if _, err := r.publishAs("attacker", string(in.Data.Raw())); engine.ErrorCode(err) == engine.CodeUnavailable {
			break
		}
	}
	if admitted == 10 {
		t.Error("the account above its share is not refused")
	}
	if err := r.Ready(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestRetention_FreesSpaceWhenNearlyFull(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) {
		cfg.KeepBytes = 8 << 20
		cfg.PruneEvery = time.Hour // it is not that which makes it
	})
	gone := r.publish("a", `"first"`) // nobody asked for it: it is finished
	big := `"` + strings.Repeat("x", 40_000) + `"`
	testkit.WaitFor(t, "the oldest has made room", func() bool {
		_, err := r.Publish(context.Background(), []engine.EventInput{event("a", big)})
		if err != nil && engine.ErrorCode(err) != engine.CodeUnavailable {
			t.Fatal(err)
		}
		return r.gone(gone.ID)
	})
	testkit.WaitFor(t, "events are accepted", func() bool { return r.Ready(context.Background()) == nil })
}

func TestLoadShedding_DiskNearlyFull(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	r.stop()
	r.Config.MinFreeDisk = 1 << 62
	r.Open()
	_, err := r.Publish(context.Background(), []engine.EventInput{event("a", "1")})
	if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "disk") {
		t.Fatalf("error is %v", err)
	}
	r.stop()
	r.Config.MinFreeDisk = 1
	r.Open()
	r.delivery(r.publish("a", "1").ID, s, engine.StateSucceeded)
}

func TestLoadShedding_DatabaseDeleted(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	if err := os.Rename(r.Path, r.Path+".away"); err != nil {
		t.Fatal(err)
	}
	testkit.WaitFor(t, "the router notices", func() bool {
		_, err := r.Publish(context.Background(), []engine.EventInput{event("a", "1")})
		return engine.ErrorCode(err) == engine.CodeUnavailable && strings.Contains(err.Error(), "was deleted")
	})
	if err := r.Ready(context.Background()); engine.ErrorCode(err) != engine.CodeUnavailable {
		t.Errorf("ready all the same: %v", err)
	}
	if err := os.Rename(r.Path+".away", r.Path); err != nil {
		t.Fatal(err)
	}
	testkit.WaitFor(t, "it is back", func() bool { return r.Ready(context.Background()) == nil })
}

func TestLoadShedding_BacklogByAccount(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) {
		cfg.MaxBacklog, cfg.Retries = 20, engine.RetrySchedule{0, time.Hour}
	})
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Contains(body, "down") {
			w.WriteHeader(500)
		}
	})
	s := r.subscribe(nil)
	r.subscribe(func(s *engine.Subscription) { s.Account = "other" })
	publish := r.publishAs
	// Some deliveries fail and are retried in an hour, others wait since the target fails.
	r.publishMany(25, func(int) string { return `"down"` }) // at once, or some would be refused
	if _, err := publish("other", `"down"`); err != nil {
		t.Fatal(err)
	}
	var err error
	testkit.WaitFor(t, "the account is refused", func() bool {
		r.MeasureBacklog(context.Background())
		_, err = publish(engine.DefaultAccount, `1`)
		return err != nil
	})
	if engine.ErrorCode(err) != engine.CodeBusy || !strings.Contains(err.Error(), "too many deliveries") {
		t.Fatalf("error is %v", err)
	}
	if _, err := publish("other", `1`); err != nil {
		t.Fatalf("another account suffers: %v", err)
	}
	if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	testkit.WaitFor(t, "the backlog is gone", func() bool {
		r.MeasureBacklog(context.Background())
		_, err := publish(engine.DefaultAccount, `1`)
		return err == nil
	})
}
