package evaluate

import (
	"context"
	"maps"
	"math"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"switchhook/engine/retry"
	"switchhook/engine/telemetry"
)

const (
	testRate  = 1 // test events a second, for each account
	testBurst = 10
)

// checkTestRate checks the rate of an account's test events, which bypass the queues. Error:
// CodeBusy.
func (e *Evaluator) checkTestRate(account string) error {
	_, wait := e.testRates.Take(account, 1, e.cfg.Now())
	if wait == 0 {
		return nil
	}
	return &engine.Error{Code: engine.CodeBusy, Wait: wait, Message: "this account has sent too many test events; try again in a second"}
}

// TestSend sends a test event to one subscription, whether or not it is active or its filter
// matches, in one attempt at once: transformed, signed and guarded as any other, without its queue.
// t selects the event as for Preview. The result is the delivery with its attempt, as stored:
// succeeded, dropped, or dead. Errors: CodeInvalid, CodeNotFound; CodeConflict if its target has
// not confirmed or its transform is quarantined; CodeBusy if too many are in flight or the
// account's rate is used up; CodeStorageFull; CodeUnavailable.
func (e *Evaluator) TestSend(ctx context.Context, t PreviewRequest) (*engine.Delivery, *engine.Attempt, error) {
	s, err := e.catalog.Subscription(t.Account, t.Subscription)
	if err != nil {
		return nil, nil, err
	}
	r := e.catalog.Compiled(s.ID)
	switch {
	case e.life.IsStopping():
		return nil, nil, lifecycle.ErrStopping()
	case s.Verification.Pending():
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Message: "the target of this subscription has not confirmed yet that it wants to be sent events"}
	case s.Unreadable != nil:
		return nil, nil, catalog.Unreadable(s)
	case r == nil || r.Transform.Quarantined.Load():
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Message: "the transform of this subscription is quarantined; give it a new one first"}
	}
	if err := e.pickSample(ctx, s, &t.EventSource); err != nil {
		return nil, nil, err
	}
	ev, err := e.event(ctx, s.Account, t.EventSource)
	if err != nil {
		return nil, nil, err
	}
	admitted, err := e.load.Admit(s.Account, len(ev.Data))
	if err != nil {
		return nil, nil, err
	}
	defer e.load.Settle(admitted)
	if err := e.checkTestRate(s.Account); err != nil {
		return nil, nil, err
	}
	release, err := acquire(ctx, e.testSends, "test events", s.Account, "")
	if err != nil {
		return nil, nil, err
	}
	defer release()
	done, err := e.publisher.ReserveTestQuota(ctx, ev)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	return e.sendTest(ctx, r, ev)
}

// sendTest makes the attempt and stores the event with its outcome. The delivery exists only then:
// an aborted one leaves nothing that a restart would send.
func (e *Evaluator) sendTest(ctx context.Context, r *catalog.CompiledSubscription, like *engine.Event) (*engine.Delivery, *engine.Attempt, error) {
	if !e.life.Begin() {
		return nil, nil, lifecycle.ErrStopping()
	}
	defer e.life.End()
	fresh := e.dispatcher.BeginEvent(like.Account, e.cfg.Now())
	fresh.Queued() // it bypasses the queues: ordered queues must not wait for it
	e.dispatcher.ReleaseWaiting()
	ev := &engine.Event{
		ID: fresh.ID, Account: like.Account, Type: like.Type, Time: like.Time, Headers: map[string]string{},
		Data: like.Data, Targets: []engine.ID{r.Sub.ID}, Hops: like.Hops,
	}
	maps.Copy(ev.Headers, like.Headers)
	ev.Headers[testHeader] = "true"

	memory := dispatch.NewEventCache(math.MaxInt64) // not the cache of waiting events
	a := &engine.Attempt{Number: 1, At: e.life.Now()}
	began := time.Now()
	en := dispatchqueue.Entry{Event: ev.ID, Payload: memory.Add(ev, 1)}
	attempting, span := e.traces.Deliver(r.Sub, &dispatchqueue.Batch{First: en}, a.Number)
	x, dropped := e.dispatcher.Attempt(attempting, r, en, a)
	a.Duration = time.Since(began)
	if why := e.resources.ShortageIn(x, a.Phase); why != nil {
		telemetry.EndSpan(span, "put back")
		e.resources.RecordShortage(why)
		e.dispatcher.AbandonEvent(fresh)
		return nil, nil, &engine.Error{Code: engine.CodeBusy, Message: why.Error()}
	}
	v := dispatch.DroppedVerdict(dropped)
	if dropped == "" {
		v = dispatch.VerdictFor(retry.Decide(retry.Schedule{Waits: engine.RetrySchedule{0}}, a.Number, x, e.cfg.Now(), 0)) // a single attempt
		if v.Reason != "" && a.Phase == "" {
			a.Phase = engine.PhaseHTTP
		}
	}
	a.Error = v.Reason
	e.traces.Delivered(span, a, v.State)
	if _, err := e.store.Append(ctx, []engine.NewEvent{{Event: ev}}); err != nil {
		e.dispatcher.AbandonEvent(fresh)
		return nil, nil, err
	}
	e.dispatcher.EventStored(fresh, ev.Targets)
	id := engine.DeliveryID{Event: ev.ID, Subscription: r.Sub.ID}
	recorded := make(chan struct{})
	e.dispatcher.RecordOutcome(&engine.Outcome{ID: id, State: v.State, Attempts: 1, Error: v.Reason, Attempt: a, Limit: e.catalog.StorageLimit(ev.Account)}, func() {
		e.dispatcher.DeliveryRecorded(fresh, 0)
		close(recorded)
	})
	select {
	case <-recorded:
		ctx := context.WithoutCancel(ctx)
		d, err := e.dispatcher.Delivery(ctx, ev.Account, id)
		if err != nil {
			return nil, nil, err
		}
		a, err := e.dispatcher.StoredAttempt(ctx, ev.Account, id, 1)
		return d, a, err
	case <-e.life.Stopping():
		return nil, nil, &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping; the delivery is in the log"}
	}
}

// pickSample chooses the event if t names none: a sample of the event type that t names or, if it
// names none, of the only one of s. If the event type has no samples, it is the newest event of
// that type. Error: CodeInvalid if there is none.
func (e *Evaluator) pickSample(ctx context.Context, s *engine.Subscription, t *EventSource) error {
	if t.EventID != "" || t.SampleType == "" && (t.Event.Type != "" || t.Event.Data.Exists()) {
		return nil
	}
	if t.SampleType == "" {
		if len(s.Events) != 1 || !engine.ValidEventType(s.Events[0]) {
			return engine.Invalid("sample", "is missing: this subscription does not name one event type alone, so name the type whose sample is sent")
		}
		t.SampleType = s.Events[0]
	}
	if entry := e.catalog.LookupEventType(t.SampleType); entry != nil && len(entry.Samples) > 0 {
		return nil
	}
	newest, _, err := e.store.Events(ctx, engine.EventQuery{Account: s.Account, Type: t.SampleType, Limit: 1})
	if err != nil {
		return err
	}
	if len(newest) == 0 {
		return engine.Invalid("sample", "can't be taken: the event type %.140q has no samples, and no event of it was published; give event", t.SampleType)
	}
	t.EventID = newest[0].ID.Format(engine.EventPrefix)
	return nil
}
