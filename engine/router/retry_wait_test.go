package router_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// gap returns the shortest time between two attempts.
func gap(attempts []*engine.Attempt) time.Duration {
	shortest := time.Hour
	for i := 1; i < len(attempts); i++ {
		shortest = min(shortest, attempts[i].At.Sub(attempts[i-1].At))
	}
	return shortest
}

func TestRetryWait_ShorterOnesAreRefusedAndRaised(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.sink.SetAnswer(status(500))
	old := r.subscribe(func(s *engine.Subscription) { s.Policy.Retries = engine.RetrySchedule{0, 1, time.Millisecond, 1} })
	r.stop()
	r.Config.MinRetryWait = settings.MinRetryWait
	r.Open()
	r.sink.SetAnswer(status(500))
	raised, err := r.Subscription("", old.ID)
	if err != nil || !slices.Equal(raised.Policy.Retries, engine.RetrySchedule{0, time.Second, time.Second, time.Second}) {
		t.Errorf("a stored schedule became %v %v", raised.Policy.Retries, err)
	}
	for _, wait := range []time.Duration{0, time.Millisecond, 999 * time.Millisecond} {
		_, err := r.CreateSubscription(context.Background(), &engine.Subscription{
			Account: engine.DefaultAccount, Events: []string{"a"}, TargetURL: r.sink.URL, Active: true, Policy: engine.Policy{Retries: engine.RetrySchedule{0, wait}},
		})
		if engine.ErrorCode(err) != engine.CodeInvalid || !strings.Contains(err.Error(), "1s to 720h") {
			t.Errorf("a wait of %s: %v", wait, err)
		}
	}
	ev := r.publish("a", `1`)
	if _, attempts := r.delivery(ev.ID, old, engine.StateDead); len(attempts) != 4 || gap(attempts) < 800*time.Millisecond {
		t.Errorf("%d attempts, %s apart", len(attempts), gap(attempts))
	}
}

func TestRetryWait_ByHandAndReplay(t *testing.T) {
	t.Parallel()
	r := start(t, func(cfg *settings.Config) {
		cfg.MinRetryWait, cfg.Retries = settings.MinRetryWait, engine.RetrySchedule{0}
	})
	r.sink.SetAnswer(status(400))
	s := r.subscribe(nil)
	ev := r.publish("a", `1`)
	d, _ := r.delivery(ev.ID, s, engine.StateDead)
	began := time.Now()
	for made := 0; made < 2; {
		_, err := r.Retry(context.Background(), "", d.ID)
		switch engine.ErrorCode(err) {
		case "":
			made++
		case engine.CodeBusy:
			wait := err.(*engine.Error).Wait
			if wait <= 0 || wait > time.Second {
				t.Fatalf("told to wait %s", wait)
			}
		case engine.CodeConflict: // it waits already
		default:
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("two retries by hand took %s", took)
	}
	testkit.WaitFor(t, "the attempts", func() bool { _, attempts := r.delivery(ev.ID, s, engine.StateDead); return len(attempts) == 3 })
	for range 2 {
		r.replay(engine.Replay{Subscriptions: []engine.ID{s.ID}, Rate: 100}, engine.ReplayCompleted)
		r.delivery(ev.ID, s, engine.StateDead)
	}
	_, attempts := r.delivery(ev.ID, s, engine.StateDead)
	if gap(attempts) < time.Second || len(attempts) < 4 {
		t.Errorf("%d attempts, %s apart", len(attempts), gap(attempts))
	}
}
