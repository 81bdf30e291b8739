package router_test

import (
	"context"
	"fmt"
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
	"switchhook/engine/evaluate"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// script makes a script with these versions, the first of which is live.
func (r *rig) script(kind engine.ScriptKind, name string, sources ...string) *engine.Script {
	r.t.Helper()
	ctx := context.Background()
	s, err := r.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: name, Kind: kind}, sources[0], "tester", "")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, source := range sources[1:] {
		r.addVersion(s, source)
	}
	return s
}

func (r *rig) addVersion(s *engine.Script, source string) int {
	r.t.Helper()
	v, _, err := r.AddScriptVersion(context.Background(), "", s.ID.Format(engine.ScriptPrefix), source, nil, "tester", "")
	if err != nil {
		r.t.Fatal(err)
	}
	return v.Number
}

func (r *rig) goLive(s *engine.Script, version int) {
	r.t.Helper()
	if _, _, err := r.SetScriptLive(context.Background(), "", s.ID.Format(engine.ScriptPrefix), version, catalog.AnyVersion, false); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) update(s *engine.Subscription, change func(*engine.Subscription)) {
	r.t.Helper()
	if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		change(s)
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
}

func TestScriptLive_LosesAndDoublesNothing(t *testing.T) { // alone: it needs the sandbox for itself
	r := start(t, nil)
	ctx := context.Background()
	numbered := func(n int) string { return fmt.Sprintf("export default ({data}) => data + ' v%d'", n) }
	s := r.script(engine.KindTransform, "t", numbered(1))
	const versions = 10
	for n := 2; n <= versions; n++ {
		r.addVersion(s, numbered(n))
	}
	live := r.subscribe(func(s *engine.Subscription) { s.TransformScript.Script = r.mustScript("t").ID })
	pinned := httptest.NewServer(http.HandlerFunc(r.sink.Config.Handler.ServeHTTP))
	defer pinned.Close()
	r.subscribe(func(s *engine.Subscription) {
		s.TransformScript = engine.ScriptRef{Script: r.mustScript("t").ID, Version: 3}
		s.TargetURL = pinned.URL + "/pinned"
	})
	var came struct {
		sync.Mutex
		live, pinned map[string][]string // by event, the versions that came
	}
	came.live, came.pinned = map[string][]string{}, map[string][]string{}
	r.sink.SetAnswer(func(_ http.ResponseWriter, req *http.Request, body string) {
		n, version, _ := strings.Cut(body, " ")
		came.Lock()
		defer came.Unlock()
		to := came.live
		if req.URL.Path == "/pinned" {
			to = came.pinned
		}
		to[n] = append(to[n], version)
	})

	stop := make(chan struct{})
	var published atomic.Int64
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := r.Publish(ctx, []engine.EventInput{event("a", fmt.Sprintf("%q", strconv.FormatInt(published.Add(1), 10)))}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	ran := func() int {
		came.Lock()
		defer came.Unlock()
		seen := map[string]bool{}
		for _, versions := range came.live {
			seen[versions[0]] = true
		}
		return len(seen)
	}
	for i, deadline := 0, time.Now().Add(testkit.Timeout); i < 50 || ran() < 5 && time.Now().Before(deadline); i++ {
		r.goLive(s, 1+(i+1)%versions)
		time.Sleep(4 * time.Millisecond)
	}
	r.goLive(s, 7)
	switched := time.Now()
	last := r.publish("a", `"last"`)
	close(stop)
	publishers.Wait()
	if d, attempts := r.delivery(last.ID, live, engine.StateSucceeded); attempts[0].Script.Ref != (engine.ScriptRef{Script: s.ID, Version: 7}) || d.Attempts != 1 {
		t.Errorf("after going live version %+v ran", attempts[0].Script.Ref)
	}
	t.Logf("the last version was live within %s, with %d events around", time.Since(switched), published.Load())
	n := int(published.Load()) + 1
	testkit.WaitFor(t, "all have come", func() bool {
		came.Lock()
		defer came.Unlock()
		return len(came.live) == n && len(came.pinned) == n
	})
	came.Lock()
	defer came.Unlock()
	seen := map[string]bool{}
	for event, versions := range came.live {
		if len(versions) != 1 {
			t.Errorf("event %s came as %v", event, versions)
		}
		seen[versions[0]] = true
	}
	for event, versions := range came.pinned {
		if !slices.Equal(versions, []string{"v3"}) {
			t.Errorf("event %s came to the pinned subscription as %v", event, versions)
		}
	}
	if len(seen) < 5 || seen["v"] {
		t.Errorf("versions that ran: %v", seen)
	}
}

func (r *rig) mustScript(name string) *engine.Script {
	r.t.Helper()
	s, err := r.Script("", name)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// TestScripts_SubscriptionsShareTheProgram: a script's code is in memory once, however many subscriptions
// use it and whenever they compiled it.
func TestScripts_SubscriptionsShareTheProgram(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.script(engine.KindTransform, "t", "export default () => 'one'", "export default () => 'two'")
	var subs []*engine.Subscription
	for range 3 {
		subs = append(subs, r.subscribe(func(u *engine.Subscription) { u.TransformScript.Script = s.ID }))
	}
	same := func(when string) {
		t.Helper()
		ev := r.publish("order.created", "1")
		first := r.Compiled(subs[0].ID)
		for _, u := range subs {
			r.delivery(ev.ID, u, engine.StateSucceeded)
			if p := r.Compiled(u.ID).Transform.Program.Load(); p == nil || p != first.Transform.Program.Load() {
				t.Errorf("%s: a program of its own", when)
			}
		}
	}
	same("created")
	r.goLive(s, 2)
	same("another version is live")
	r.update(subs[1], func(u *engine.Subscription) { u.Description = "changed" })
	same("changed")
	r.restart()
	same("restarted")
}

func TestScripts_SurviveRestart(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	tr := r.script(engine.KindTransform, "t", "export default () => 'one'", "export default () => 'two'", "export default () => 'three'")
	f := r.script(engine.KindFilter, "f", "data.n > 1", "data.n > 0")
	r.goLive(tr, 2)
	r.goLive(f, 2)
	live := r.subscribe(func(s *engine.Subscription) {
		s.TransformScript.Script, s.FilterScript.Script = tr.ID, f.ID
	})
	pinned := r.subscribe(func(s *engine.Subscription) {
		s.TransformScript, s.FilterScript = engine.ScriptRef{Script: tr.ID, Version: 3}, engine.ScriptRef{Script: f.ID, Version: 1}
	})
	before := r.mustScript("t")
	r.restart()
	if after := r.mustScript("t"); after.Live != 2 || after.Version != before.Version || !after.UpdatedAt.Equal(before.UpdatedAt) || after.Kind != before.Kind || after.ID != before.ID {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if a := r.publish("a", `{"n":1}`); a.Matched != 1 {
		t.Errorf("matched %d", a.Matched)
	}
	a := r.publish("a", `{"n":2}`)
	for s, want := range map[*engine.Subscription]struct {
		body    string
		version int
	}{live: {"two", 2}, pinned: {"three", 3}} {
		_, attempts := r.delivery(a.ID, s, engine.StateSucceeded)
		if at := attempts[0]; string(at.Request.Body) != want.body || at.Script.Ref != (engine.ScriptRef{Script: tr.ID, Version: want.version}) || at.Script.CPU <= 0 {
			t.Errorf("sent %s with %+v", at.Request.Body, at.Script)
		}
	}
	versions, _, err := r.ScriptVersions(context.Background(), engine.ScriptVersionQuery{Script: tr.ID, Limit: 10})
	if err != nil || len(versions) != 3 || versions[0].Source != "export default () => 'three'" || versions[0].Author != "tester" {
		t.Errorf("%v %v", versions, err)
	}
	if users := r.ScriptUsers(tr.ID); len(users) != 2 {
		t.Errorf("%d users", len(users))
	}
	if err := r.DeleteScript(context.Background(), "", "t", catalog.AnyVersion); engine.ErrorCode(err) != engine.CodeConflict {
		t.Errorf("a script in use is deleted: %v", err)
	}
}

func TestScriptLive_FilterMustFitSchemas(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	if _, _, err := r.PutEventType(ctx, &engine.EventType{Name: "order.created", Schema: []byte(`{"type":"object","properties":{"total":{"type":"number"}},"additionalProperties":false}`)}, true, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	f := r.script(engine.KindFilter, "f", "data.total > 1", "data.totl > 1")
	s := r.subscribe(func(s *engine.Subscription) { s.Events, s.FilterScript.Script = []string{"order.created"}, f.ID })
	_, _, err := r.SetScriptLive(ctx, "", "f", 2, catalog.AnyVersion, true)
	if engine.ErrorCode(err) != engine.CodeInvalid || !strings.Contains(err.Error(), s.ID.Format(engine.SubscriptionPrefix)) {
		t.Errorf("an unfit version went live: %v", err)
	}
	if now := r.mustScript("f"); now.Live != 1 {
		t.Errorf("version %d is live", now.Live)
	}
	if a := r.publish("order.created", `{"total":2}`); a.Matched != 1 {
		t.Error("the old version does not run on")
	}
	r.update(s, func(s *engine.Subscription) { s.FilterScript.Version = 1 })
	r.goLive(f, 2)
}

// A change of a subscription that began before a version went live must not bring the
// old program back.
func TestScriptLive_ConcurrentUpdateGetsNewVersion(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	tr := r.script(engine.KindTransform, "t", "export default () => 'v1'", "export default () => 'v2'")
	s := r.subscribe(func(s *engine.Subscription) { s.TransformScript.Script = tr.ID })
	r.delivery(r.publish("a", "0").ID, s, engine.StateSucceeded) // its program is compiled
	if _, err := r.UpdateSubscription(ctx, "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
		s.Description = "changed"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { r.goLive(tr, 1+i%2) })
		wg.Go(func() { r.update(s, func(s *engine.Subscription) { s.Description = strconv.Itoa(i) }) })
		wg.Wait()
		live := r.mustScript("t").Live
		_, attempts := r.delivery(r.publish("a", "1").ID, s, engine.StateSucceeded)
		if got := string(attempts[0].Request.Body); got != fmt.Sprintf("v%d", live) || attempts[0].Script.Ref.Version != live {
			t.Fatalf("version %d is live, %s was sent as version %d", live, got, attempts[0].Script.Ref.Version)
		}
	}
}

const endless = "export default () => { for (;;); }"

func TestQuarantine_AppliesToSharedSourceUntilNewVersion(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) {
		c.Retries = engine.RetrySchedule{0, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}
	})
	ctx := context.Background()
	body := "export default ({data}) => data"
	tr := r.script(engine.KindTransform, "t", endless, body)
	typed := func(kind string, use func(*engine.Subscription)) *engine.Subscription {
		return r.subscribe(func(s *engine.Subscription) {
			s.Events, s.TargetURL = []string{kind, "all"}, r.sink.URL+"/"+kind
			use(s)
		})
	}
	bad := typed("bad", func(s *engine.Subscription) { s.TransformScript.Script = tr.ID })
	pinned := typed("pinned", func(s *engine.Subscription) { s.TransformScript = engine.ScriptRef{Script: tr.ID, Version: 1} })
	inline := typed("inline", func(s *engine.Subscription) { s.Transform = endless }) // the same source
	other := typed("other", func(s *engine.Subscription) { s.Transform = body })
	plain := typed("plain", func(*engine.Subscription) {})

	for _, s := range []*engine.Subscription{pinned, inline} { // both have been compiled, by a run each
		id := engine.DeliveryID{Event: r.publish(s.Events[0], "0").ID, Subscription: s.ID}
		testkit.WaitFor(t, "it was attempted", func() bool {
			d, err := r.Delivery(ctx, "", id)
			return err == nil && d.Attempts > 0
		})
	}
	first := r.publish("bad", "0")
	for i := range 30 {
		r.publish("all", strconv.Itoa(i))
	}
	for _, s := range []*engine.Subscription{bad, pinned, inline} {
		testkit.WaitFor(t, "all with that source are held", func() bool { return r.Quarantined(s.ID) != "" })
		if why := r.Quarantined(s.ID); !strings.Contains(why, "times in a row: timeout after 50 ms") {
			t.Errorf("the reason is %q", why)
		}
	}
	testkit.WaitFor(t, "the others have all", func() bool { return r.sink.Times("29") == 2 })
	if r.Quarantined(other.ID) != "" || r.Quarantined(plain.ID) != "" {
		t.Error("others are held too")
	}

	// Held back nothing runs, whatever comes.
	testkit.WaitFor(t, "attempts that had begun are over", func() bool { attempts, _ := r.InFlight(); return attempts == 0 })
	before := r.ScriptStats(tr.ID).Runs
	late := r.publish("bad", `"late"`)
	time.Sleep(200 * time.Millisecond)
	if after := r.ScriptStats(tr.ID).Runs; after != before {
		t.Errorf("%d runs in quarantine", after-before)
	}
	if d, attempts := r.delivery(late.ID, bad, engine.StatePending); len(attempts) != 0 {
		t.Errorf("%+v", d)
	}
	// A change that leaves the source alone is no way out.
	r.update(bad, func(s *engine.Subscription) { s.Description = "still bad" })
	if r.Quarantined(bad.ID) == "" {
		t.Error("another description ended the quarantine")
	}

	// A new version releases those that follow it, and what waits comes, each event once.
	r.goLive(tr, 2)
	if r.Quarantined(bad.ID) != "" || r.Quarantined(pinned.ID) == "" || r.Quarantined(inline.ID) == "" {
		t.Error("the wrong ones are released")
	}
	if d, attempts := r.delivery(late.ID, bad, engine.StateSucceeded); d.Attempts != 1 || attempts[0].Script.Ref.Version != 2 {
		t.Errorf("%+v", d)
	}
	r.delivery(first.ID, bad, engine.StateSucceeded)
	r.update(pinned, func(s *engine.Subscription) { s.TransformScript.Version = 2 })
	r.update(inline, func(s *engine.Subscription) { s.Transform = body })
	testkit.WaitFor(t, "all have come to all", func() bool { return r.sink.Times("29") == 5 })
	testkit.WaitFor(t, "nothing waits", func() bool {
		for _, state := range []engine.State{engine.StatePending, engine.StateRetrying} {
			if open, _, err := r.Deliveries(ctx, engine.DeliveryQuery{State: state, Limit: 1}); err != nil || len(open) > 0 {
				return false
			}
		}
		return true
	})
	if dead, _, err := r.Deliveries(ctx, engine.DeliveryQuery{State: engine.StateDead, Limit: 10}); err != nil || len(dead) > 0 {
		t.Errorf("dead: %d %v", len(dead), err)
	}
	for i := 1; i < 30; i++ {
		if n := r.sink.Times(strconv.Itoa(i)); n != 5 {
			t.Errorf("event %d came %d times, to 5 subscriptions", i, n)
		}
	}
	// Rolled back to the bad version it is held again at its first run.
	r.goLive(tr, 1)
	r.publish("bad", `"again"`)
	testkit.WaitFor(t, "it is held again", func() bool { return r.Quarantined(bad.ID) != "" })
}

func TestQuarantine_RestartLosesNothing(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.SubscriptionInFlight = 2 })
	tr := r.script(engine.KindTransform, "t", endless, "export default ({data}) => data")
	s := r.subscribe(func(s *engine.Subscription) { s.TransformScript.Script = tr.ID })
	const n = 12
	for i := range n {
		r.publish("a", strconv.Itoa(i))
	}
	testkit.WaitFor(t, "it is held", func() bool { return r.Quarantined(s.ID) != "" })
	r.restart()
	r.goLive(tr, 2)
	testkit.WaitFor(t, "all have arrived or are dead", func() bool {
		distinct, all := r.sink.Count()
		dead, _, err := r.Deliveries(context.Background(), engine.DeliveryQuery{State: engine.StateDead, Limit: n})
		return err == nil && distinct == all && distinct+len(dead) == n && distinct > 0
	})
}

func TestQuarantine_HostileTransformDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Timeout, c.SubscriptionInFlight = time.Minute, 2 })
	tr := r.script(engine.KindTransform, "healthy", "export default ({data}) => ({n: data})")
	good := r.subscribe(func(s *engine.Subscription) { s.TransformScript.Script = tr.ID })
	published := 0
	for _, c := range []struct{ name, source string }{
		{"an endless loop", endless},
		{"a list without end", "export default () => { const a = []; for (;;) a.push('x'.repeat(100000) + a.length) }"},
		{"a doubling text", "export default () => { let s = 'x'; for (;;) s += s }"},
		{"a pattern that explodes", "export default () => /(?=a)(a+)+$/.test('a'.repeat(40) + 'b')"},
	} {
		bad := r.subscribe(func(s *engine.Subscription) { s.Transform = c.source })
		for range 30 {
			r.publish("a", strconv.Itoa(published))
			published++
		}
		testkit.WaitFor(t, c.name+" is held", func() bool { return r.Quarantined(bad.ID) != "" })
		testkit.WaitFor(t, "all healthy deliveries have come beside "+c.name, func() bool {
			distinct, all := r.sink.Count()
			return distinct == published && all == published
		})
		if r.Quarantined(good.ID) != "" {
			t.Errorf("the healthy one is held: %s", r.Quarantined(good.ID))
		}
		r.update(bad, func(s *engine.Subscription) { s.Active = false })
	}
	if stats := r.ScriptStats(tr.ID); stats.Runs != int64(published) || stats.Errors != 0 {
		t.Errorf("%d events: %+v", published, stats)
	}
}

// With -race this finds data that is shared without a lock.
func TestEngine_ConcurrentChanges(t *testing.T) { // alone: it needs the sandbox for itself
	r := start(t, nil)
	ctx := context.Background()
	tr := r.script(engine.KindTransform, "t", "export default () => 1", "export default () => 2", "export default () => 3")
	f := r.script(engine.KindFilter, "f", "true", "data != 1", "data > 2")
	keep := r.subscribe(func(s *engine.Subscription) { s.TransformScript.Script, s.FilterScript.Script = tr.ID, f.ID })
	fits := func(err error) {
		if code := engine.ErrorCode(err); err != nil && code != engine.CodeNotFound && code != engine.CodeConflict && code != engine.CodeInvalid && code != engine.CodeBusy {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	const rounds = 30
	for i := range rounds {
		version := 1 + i%3
		wg.Go(func() {
			_, _, err := r.SetScriptLive(ctx, "", "t", version, catalog.AnyVersion, false)
			fits(err)
			_, _, err = r.SetScriptLive(ctx, "", "f", version, catalog.AnyVersion, false)
			fits(err)
		})
		wg.Go(func() {
			r.update(keep, func(s *engine.Subscription) {
				s.TransformScript.Version, s.Description = (i%2)*version, strconv.Itoa(i)
			})
		})
		wg.Go(func() {
			for j := range 20 {
				r.publish("a", strconv.Itoa(i*20+j))
			}
		})
		wg.Go(func() { // a script that comes and goes, with a user that may be faster or slower
			name := fmt.Sprintf("short %d", i)
			s, err := r.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: name, Kind: engine.KindTransform}, "export default () => 0", "", "")
			if err != nil {
				t.Error(err)
				return
			}
			var both sync.WaitGroup
			var sub *engine.Subscription
			var subErr, delErr error
			both.Go(func() {
				sub, subErr = r.CreateSubscription(ctx, &engine.Subscription{Account: engine.DefaultAccount, Events: []string{"b"}, TargetURL: r.sink.URL, Active: true, TransformScript: engine.ScriptRef{Script: s.ID}})
			})
			both.Go(func() { delErr = r.DeleteScript(ctx, "", name, catalog.AnyVersion) })
			both.Go(func() {
				_, _, err := r.AddScriptVersion(ctx, "", name, "export default () => 9", nil, "", "")
				fits(err)
			})
			both.Wait()
			if (subErr == nil) == (delErr == nil) {
				t.Errorf("a subscription was made (%v) of a script that was deleted (%v)", subErr, delErr)
			}
			if subErr == nil {
				fits(r.DeleteSubscription(ctx, "", sub.ID, catalog.AnyVersion))
			}
		})
		wg.Go(func() {
			_, err := r.Preview(ctx, evaluate.PreviewRequest{Subscription: keep.ID, EventSource: evaluate.EventSource{Event: event("a", "1")}})
			fits(err)
			_, err = r.StartShadow(ctx, "", "t", version, time.Minute)
			fits(err)
			_, err = r.Shadow("", "t")
			fits(err)
			if i%7 == 0 {
				fits(r.StopShadow("", "t"))
			}
			if run, err := r.StartComparison(ctx, evaluate.Comparison{Script: "t", Candidate: evaluate.ScriptSource{Ref: engine.ScriptRef{Script: tr.ID, Version: version}}, Last: 20}); err == nil {
				_, err = run.Run(ctx, func(evaluate.ComparedEvent) error { return nil }, func(evaluate.ComparisonTotals) error { return nil })
				fits(err)
			} else {
				fits(err)
			}
			r.ScriptStats(tr.ID)
			r.Scripts("", "", 0, 100)
		})
	}
	wg.Wait()
	last := r.publish("a", "1000")
	_, attempts := r.delivery(last.ID, keep, engine.StateSucceeded)
	want := r.mustScript("t").Live
	if now, err := r.Subscription("", keep.ID); err != nil {
		t.Error(err)
	} else if now.TransformScript.Version != 0 {
		want = now.TransformScript.Version
	}
	if got := string(attempts[0].Request.Body); got != strconv.Itoa(want) {
		t.Errorf("version %d, sent %s", want, got)
	}
}

// A transform that fails on some inputs keeps running on the others.
func TestQuarantine_NotForSomeInputs(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) {
		c.Retries = engine.RetrySchedule{0, time.Millisecond, time.Millisecond}
	})
	s := r.subscribe(func(s *engine.Subscription) {
		s.Transform = "export default ({data}) => { if (data.hang) for (;;); return data }"
	})
	hang := func(from, to int) {
		t.Helper()
		var ids []engine.ID
		for n := from; n < to; n++ {
			ids = append(ids, r.publish("a", fmt.Sprintf(`{"hang":true,"n":%d}`, n)).ID)
		}
		for _, id := range ids {
			if d, _ := r.delivery(id, s, engine.StateDead, engine.StateSucceeded); d.State != engine.StateDead || d.Attempts != 3 {
				t.Errorf("%+v", d)
			}
		}
	}
	works := func(data string) {
		t.Helper()
		r.delivery(r.publish("a", data).ID, s, engine.StateSucceeded)
		if why := r.Quarantined(s.ID); why != "" {
			t.Error(why)
		}
	}
	// One event, and others that are like it, in all their attempts.
	for range 5 {
		hang(0, 1)
	}
	if h := r.Health(s.ID); h.State() != engine.HealthFailing || h.Cause != engine.CauseTransform || !strings.Contains(h.LastError, "timeout after 50 ms") {
		t.Errorf("%+v", h)
	}
	works(`1`)
	hang(1, 7)
	works(`2`)
	r.restart() // which forgets that it works
	hang(7, 13)
	works(`3`)
	// From here on it can't stand anything.
	for n := range 40 {
		r.publish("a", fmt.Sprintf(`{"hang":true,"more":%d}`, n))
	}
	testkit.WaitFor(t, "it is held after all", func() bool { return r.Quarantined(s.ID) != "" })
}
