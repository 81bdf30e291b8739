package router_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// replay starts a replay of the default account and waits until it is in a status.
func (r *rig) replay(job engine.Replay, want engine.ReplayStatus) *engine.Replay {
	r.t.Helper()
	job.Account = engine.DefaultAccount
	started, err := r.StartReplay(context.Background(), job)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.replayIs(started.ID, want)
}

func (r *rig) replayIs(id engine.ID, want engine.ReplayStatus) (job *engine.Replay) {
	r.t.Helper()
	testkit.WaitFor(r.t, "the replay is "+string(want), func() bool {
		var err error
		if job, err = r.Replay(context.Background(), engine.DefaultAccount, id); err != nil {
			r.t.Fatal(err)
		}
		return job.Status == want
	})
	return job
}

func TestReplay_DeadLetters(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	s, bystander := r.subscribe(nil), r.subscribe(func(s *engine.Subscription) { s.Events = []string{"other"} })
	r.delivery(r.publish("other", `"the host accepts deliveries"`).ID, bystander, engine.StateSucceeded)
	r.sink.SetAnswer(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(400) })
	const count = 250 // several pages
	var all []engine.ID
	for i := range count {
		all = append(all, r.publish([]string{"a", "b"}[i%2], fmt.Sprint(i)).ID)
	}
	other := r.publish("other", `"other"`).ID
	for _, id := range all {
		r.delivery(id, s, engine.StateDead)
	}
	r.delivery(other, bystander, engine.StateDead)
	r.sink.SetAnswer(func(http.ResponseWriter, *http.Request, string) {})

	job := r.replay(engine.Replay{Subscriptions: []engine.ID{s.ID}, EventTypes: []string{"a"}, Filter: "data >= 100", Rate: 10_000}, engine.ReplayCompleted)
	if job.Queued != 75 || job.Looked != count+1 || job.Progress() != 1 || job.FinishedAt.IsZero() {
		t.Errorf("%+v", job)
	}
	for i, id := range all {
		want := engine.StateDead
		if i%2 == 0 && i >= 100 {
			want = engine.StateSucceeded
		}
		r.delivery(id, s, want)
	}
	r.delivery(other, bystander, engine.StateDead)
}

func TestReplay_SubscriptionCreatedLater(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	first := r.publish("order.created", `1`).ID
	r.publish("order.deleted", `2`)
	filtered := r.publish("order.created", `3`).ID
	since := r.subscribe(func(s *engine.Subscription) { s.Events, s.Filter = []string{"order.created"}, "data != 3" })
	live := r.publish("order.created", `4`).ID
	r.delivery(live, since, engine.StateSucceeded)

	if job := r.replay(engine.Replay{Subscriptions: []engine.ID{since.ID}, Missing: true}, engine.ReplayCompleted); job.Queued != 1 {
		t.Errorf("%+v", job)
	}
	r.delivery(first, since, engine.StateSucceeded)
	if _, err := r.Delivery(context.Background(), "", engine.DeliveryID{Event: filtered, Subscription: since.ID}); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Errorf("the filter was passed over: %v", err)
	}
	if again := r.replay(engine.Replay{Subscriptions: []engine.ID{since.ID}, Missing: true}, engine.ReplayCompleted); again.Queued != 0 {
		t.Errorf("what is there is not missing: %+v", again)
	}
}

func TestReplay_ToAnotherSubscription(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(func(s *engine.Subscription) { s.Events = []string{"a"} })
	elsewhere := r.subscribe(func(s *engine.Subscription) { s.Events, s.TargetURL = []string{"none"}, s.TargetURL+"/elsewhere" })
	a := r.publish("a", `1`).ID
	r.delivery(a, s, engine.StateSucceeded)
	job := r.replay(engine.Replay{Subscriptions: []engine.ID{s.ID}, To: elsewhere.ID, States: []engine.State{engine.StateSucceeded}}, engine.ReplayCompleted)
	if job.Queued != 1 {
		t.Errorf("%+v", job)
	}
	r.delivery(a, elsewhere, engine.StateSucceeded)
	if d, _ := r.delivery(a, s, engine.StateSucceeded); d.Attempts != 1 {
		t.Errorf("its own got it again: %+v", d)
	}
}

func TestReplay_RestartPauseResumeCancel(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	for _, id := range r.publishMany(300, func(i int) string { return fmt.Sprint(i) }) { // at one a second: longer than this takes
		r.delivery(id, s, engine.StateSucceeded)
	}
	job, err := r.StartReplay(context.Background(), engine.Replay{Account: engine.DefaultAccount, Subscriptions: []engine.ID{s.ID}, States: []engine.State{engine.StateSucceeded}, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PauseReplay(context.Background(), engine.DefaultAccount, job.ID); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if got := r.replayIs(job.ID, engine.ReplayPaused); got.Rate != 1 || got.Subscriptions[0] != s.ID {
		t.Errorf("%+v", got)
	}
	if _, err := r.ResumeReplay(context.Background(), engine.DefaultAccount, job.ID); err != nil {
		t.Fatal(err)
	}
	r.restart() // while it runs
	r.replayIs(job.ID, engine.ReplayRunning)
	if _, err := r.CancelReplay(context.Background(), engine.DefaultAccount, job.ID); err != nil {
		t.Fatal(err)
	}
	r.replayIs(job.ID, engine.ReplayCancelled)
	if _, err := r.ResumeReplay(context.Background(), engine.DefaultAccount, job.ID); engine.ErrorCode(err) != engine.CodeConflict {
		t.Errorf("a cancelled replay goes on: %v", err)
	}
	if _, err := r.Replay(context.Background(), "other", job.ID); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Errorf("another account's: %v", err)
	}
}

func TestReplay_ProgressAndImmediatePause(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	const count = 60
	for i := range count {
		r.delivery(r.publish("a", fmt.Sprint(i)).ID, s, engine.StateSucceeded)
	}
	job, err := r.StartReplay(context.Background(), engine.Replay{Account: engine.DefaultAccount, Subscriptions: []engine.ID{s.ID}, States: []engine.State{engine.StateSucceeded}, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	looked := func(n int64) func() bool {
		return func() bool {
			job, err = r.Replay(context.Background(), "", job.ID)
			if err != nil {
				t.Fatal(err)
			}
			return job.Looked >= n
		}
	}
	testkit.WaitFor(t, "the first is through", looked(1))
	if job.Looked > 5 || job.Queued != job.Looked || job.Status != engine.ReplayRunning {
		t.Errorf("%+v", job)
	}
	r.restart()
	if _, err := r.PauseReplay(context.Background(), "", job.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ResumeReplay(context.Background(), "", job.ID); err != nil {
		t.Fatal(err)
	}
	testkit.WaitFor(t, "it goes on where it was", looked(job.Looked+1))
	if _, err := r.CancelReplay(context.Background(), "", job.ID); err != nil {
		t.Fatal(err)
	}
	r.restart() // what it had in hand is over
	if again := looked(0); !again() || job.Status != engine.ReplayCancelled || job.Looked > 10 || job.Queued != job.Looked {
		t.Errorf("%+v", job)
	}
	twice := 0
	deliveries, _, err := r.Deliveries(context.Background(), engine.DeliveryQuery{Subscription: s.ID, Limit: count})
	for _, d := range deliveries {
		if d.Attempts > 1 || d.State == engine.StatePending {
			twice++
		}
	}
	if err != nil || len(deliveries) != count || twice < int(job.Queued) || twice > int(job.Queued)+2 {
		t.Errorf("sent again: %d, %+v, %v", twice, job, err)
	}
}

func TestReplay_PausesIfSubscriptionIsInactive(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	a := r.publish("a", `1`).ID
	r.delivery(a, s, engine.StateSucceeded)
	active := func(on bool) {
		if _, err := r.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error { s.Active = on; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	active(false)
	job := r.replay(engine.Replay{Subscriptions: []engine.ID{s.ID}, States: []engine.State{engine.StateSucceeded}}, engine.ReplayPaused)
	if !strings.Contains(job.Error, "is not active") {
		t.Errorf("%+v", job)
	}
	active(true)
	if _, err := r.ResumeReplay(context.Background(), "", job.ID); err != nil {
		t.Fatal(err)
	}
	if job = r.replayIs(job.ID, engine.ReplayCompleted); job.Queued != 1 || job.Error != "" {
		t.Errorf("%+v", job)
	}
}

func TestReplay_RejectsInvalid(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	one := []engine.ID{s.ID}
	for _, c := range []struct {
		want string
		job  engine.Replay
	}{
		{"subscription_ids names 0", engine.Replay{}},
		{"subscription_ids[0]: there is no", engine.Replay{Subscriptions: []engine.ID{77}}},
		{"subscription_ids[1]: is named twice", engine.Replay{Subscriptions: []engine.ID{s.ID, s.ID}}},
		{"target_subscription_id: there is no", engine.Replay{Subscriptions: one, To: 77}},
		{"since: must be before", engine.Replay{Subscriptions: one, Since: time.Now().Add(time.Hour)}},
		{"delivery_status[0]", engine.Replay{Subscriptions: one, States: []engine.State{engine.StatePending}}},
		{"delivery_status[1]", engine.Replay{Subscriptions: one, States: []engine.State{engine.StateDead, engine.StateDead}}},
		{"event_types[0]", engine.Replay{Subscriptions: one, EventTypes: []string{"no type"}}},
		{"filter", engine.Replay{Subscriptions: one, Filter: "data.("}},
		{"rate", engine.Replay{Subscriptions: one, Rate: 1_000_000}},
	} {
		c.job.Account = engine.DefaultAccount
		_, err := r.StartReplay(context.Background(), c.job)
		if engine.ErrorCode(err) != engine.CodeInvalid || !strings.Contains(strings.Replace(err.Error(), ": names", " names", 1), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	stranger := engine.Replay{Account: "stranger", Subscriptions: one}
	if _, err := r.StartReplay(context.Background(), stranger); engine.ErrorCode(err) != engine.CodeInvalid {
		t.Errorf("another account's subscription: %v", err)
	}
}

// Commands that come while a replay runs neither lose a delivery nor send one twice.
func TestReplay_CommandsDuringRun(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	s := r.subscribe(nil)
	const count = 300
	ids := r.publishMany(count, func(i int) string { return fmt.Sprint(i) })
	for _, id := range ids {
		r.delivery(id, s, engine.StateSucceeded)
	}
	job, err := r.StartReplay(context.Background(), engine.Replay{Account: engine.DefaultAccount, Subscriptions: []engine.ID{s.ID}, States: []engine.State{engine.StateSucceeded}, Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for {
				_, err := r.PauseReplay(context.Background(), engine.DefaultAccount, job.ID)
				if err == nil {
					_, err = r.ResumeReplay(context.Background(), engine.DefaultAccount, job.ID)
				}
				if engine.ErrorCode(err) == engine.CodeConflict { // completed
					return
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	users.Wait()
	if done := r.replayIs(job.ID, engine.ReplayCompleted); done.Queued != count || done.Looked != count {
		t.Errorf("%+v", done)
	}
	for _, id := range ids {
		testkit.WaitFor(t, "the delivery was made again", func() bool {
			d, err := r.Delivery(context.Background(), "", engine.DeliveryID{Event: id, Subscription: s.ID})
			return err == nil && d.State == engine.StateSucceeded && d.Attempts == 2
		})
	}
}
