package evaluate

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"switchhook/engine/retry"
	"switchhook/engine/telemetry"
)

const (
	maxTestSends        = 16 // concurrent test events
	maxAccountTestSends = 4  // of one account
	testRate            = 1  // a second, for each account
	testBurst           = 10
	// testAccounts is the maximum number of accounts whose rates are stored.
	testAccounts = 10_000
)

// testSendLimiter limits the test events of accounts, which bypass the queues.
type testSendLimiter struct {
	mu       sync.Mutex
	total    int            // in flight
	inFlight map[string]int // by account
	limiters map[string]*rate.Limiter
}

// acquire acquires a slot for a test event and reports whether there was one.
func (t *testSendLimiter) acquire(account string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total == maxTestSends || t.inFlight[account] == maxAccountTestSends {
		return false
	}
	t.total++
	t.inFlight[account]++
	return true
}

func (t *testSendLimiter) release(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total--
	if t.inFlight[account]--; t.inFlight[account] == 0 {
		delete(t.inFlight, account)
	}
}

func (t *testSendLimiter) allow(account string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limiters[account] == nil {
		if len(t.limiters) >= testAccounts {
			clear(t.limiters)
		}
		t.limiters[account] = rate.NewLimiter(testRate, testBurst)
	}
	return t.limiters[account].AllowN(now, 1)
}

// TestSend sends a test event to one subscription, whether or not it is active or its filter
// matches, in one attempt at once: transformed, signed and guarded as any other, without its queue.
// t selects the event as for Preview. The result is the delivery with its attempt, as stored:
// succeeded, dropped, or dead. Errors: CodeInvalid, CodeNotFound; CodeConflict if its target has
// not confirmed or its transform is quarantined; CodeBusy if too many are in flight or the
// account's rate is used up; CodeQuotaExceeded; CodeUnavailable.
func (w *Evaluator) TestSend(ctx context.Context, t PreviewRequest) (*engine.Delivery, []*engine.Attempt, error) {
	s, err := w.catalog.Subscription(t.Account, t.Subscription)
	if err != nil {
		return nil, nil, err
	}
	t.Account = s.Account
	r := w.catalog.Compiled(s.ID)
	switch {
	case w.life.IsStopping():
		return nil, nil, lifecycle.ErrStopping()
	case s.Verification.Pending():
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Message: "the target of this subscription has not confirmed yet that it wants to be sent events"}
	case s.Unreadable != nil:
		return nil, nil, catalog.Unreadable(s)
	case r == nil || r.Quarantined.Load():
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Message: "the transform of this subscription is quarantined; give it a new one first"}
	}
	if err := w.pickSample(ctx, s, &t); err != nil {
		return nil, nil, err
	}
	ev, err := w.previewEvent(ctx, &t)
	if err != nil {
		return nil, nil, err
	}
	if err := w.load.CheckAdmission(s.Account); err != nil {
		return nil, nil, err
	}
	if !w.testSends.allow(s.Account, w.cfg.Now()) {
		return nil, nil, &engine.Error{Code: engine.CodeBusy, Message: "this account has sent too many test events; try again in a second"}
	}
	if !w.testSends.acquire(s.Account) {
		return nil, nil, &engine.Error{Code: engine.CodeBusy, Message: "too many test events are being sent; try again in a moment"}
	}
	defer w.testSends.release(s.Account)
	done, err := w.publisher.ReserveTestQuota(ctx, ev)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	return w.sendTest(ctx, r, ev)
}

// sendTest makes the attempt and stores the event with its outcome. The delivery exists only then:
// an aborted one leaves nothing that a restart would send.
func (w *Evaluator) sendTest(ctx context.Context, r *catalog.CompiledSubscription, like *engine.Event) (*engine.Delivery, []*engine.Attempt, error) {
	if !w.life.Begin() {
		return nil, nil, lifecycle.ErrStopping()
	}
	defer w.life.End()
	fresh := w.dispatcher.BeginEvent(w.cfg.Now())
	fresh.Queued() // it bypasses the queues: ordered queues must not wait for it
	w.dispatcher.ReleaseWaiting()
	ev := &engine.Event{
		ID: fresh.ID, Account: like.Account, Type: like.Type, Time: like.Time, Headers: map[string]string{},
		Data: like.Data, Targets: []engine.ID{r.Sub.ID},
	}
	maps.Copy(ev.Headers, like.Headers)
	ev.Headers[testHeader] = "true"

	memory := &dispatch.EventCache{} // not the cache of waiting events
	a := &engine.Attempt{Number: 1, At: w.life.Now()}
	began := time.Now()
	en := dispatchqueue.Entry{Event: ev.ID, Payload: memory.Add(ev, 1)}
	attempting, span := w.traces.Deliver(r.Sub, &dispatchqueue.Batch{First: en}, a)
	x, dropped := w.dispatcher.Attempt(attempting, r, en, a)
	a.Duration = time.Since(began)
	if why := w.resources.ShortageIn(x, a.Phase); why != nil {
		telemetry.EndSpan(span, "put back")
		w.resources.RecordShortage(why)
		w.dispatcher.AbandonEvent(fresh)
		return nil, nil, &engine.Error{Code: engine.CodeBusy, Message: why.Error()}
	}
	v := dispatch.DroppedVerdict(dropped)
	if dropped == "" {
		v = dispatch.VerdictFor(retry.Decide(engine.RetrySchedule{0}, time.Time{}, a.Number, x, w.cfg.Now(), 0)) // a single attempt
		if v.Reason != "" && a.Phase == "" {
			a.Phase = engine.PhaseHTTP
		}
	}
	a.Error = v.Reason
	w.traces.Delivered(span, a, v.State)
	if _, err := w.store.Append(ctx, []engine.NewEvent{{Event: ev}}); err != nil {
		w.dispatcher.AbandonEvent(fresh)
		return nil, nil, err
	}
	w.dispatcher.EventStored(fresh, ev.Targets)
	w.publisher.CountStored(ev)
	id := engine.DeliveryID{Event: ev.ID, Subscription: r.Sub.ID}
	recorded := make(chan struct{})
	w.dispatcher.RecordOutcome(&engine.Outcome{ID: id, State: v.State, Attempts: 1, Error: v.Reason, Attempt: a}, func() {
		w.dispatcher.DeliveryRecorded(fresh, 0)
		close(recorded)
	})
	select {
	case <-recorded:
		return w.dispatcher.Delivery(context.WithoutCancel(ctx), ev.Account, id)
	case <-w.life.Stopping():
		return nil, nil, &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping; the delivery is in the log"}
	}
}

// pickSample chooses the event if t names none: a sample of the event type that t names or, if it
// names none, of the only one of s. If the event type has no samples, it is the newest event of
// that type. Error: CodeInvalid if there is none.
func (w *Evaluator) pickSample(ctx context.Context, s *engine.Subscription, t *PreviewRequest) error {
	if t.EventID != "" || t.SampleType == "" && (t.Event.Type != "" || t.Event.Data.Exists()) {
		return nil
	}
	if t.SampleType == "" {
		if len(s.Events) != 1 || !engine.ValidEventType(s.Events[0]) {
			return engine.Invalid("sample", "is missing: this subscription does not name one event type alone, so name the type whose sample is to be sent")
		}
		t.SampleType = s.Events[0]
	}
	if entry := w.catalog.LookupEventType(t.SampleType); entry != nil && len(entry.Samples) > 0 {
		return nil
	}
	newest, err := w.store.Events(ctx, engine.EventQuery{Account: s.Account, Type: t.SampleType, Limit: 1})
	if err != nil {
		return err
	}
	if len(newest) == 0 {
		return engine.Invalid("sample", "can't be taken: the event type %.140q has no samples, and no event of it was published; give event", t.SampleType)
	}
	t.EventID = newest[0].ID.Format(engine.EventPrefix)
	return nil
}
