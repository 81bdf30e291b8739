package dispatch

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/telemetry"
)

// deliver makes one attempt of a batch, which holds one delivery unless its subscription is batched:
// prepare (load, transform), send (sign, POST), decide, record. Deliveries that can't be sent together
// with the first return to the queue.
func (d *Dispatcher) deliver(f flight) {
	q, r, p := f.queue, f.compiled, &f.batch
	memory, ok := d.holdMemory(&f)
	if !ok {
		d.requeue(&f, nil)
		return
	}
	if memory != nil {
		defer memory.Release()
	}
	began := time.Now()
	traced, span := d.traces.Deliver(r.Sub, p, p.First.Attempts+1)
	ctx, cancel := context.WithTimeout(traced, r.Policy.Timeout)
	defer cancel()
	b := d.prepareBatch(ctx, r, p)
	if memory != nil {
		memory.Shrink(b.memory())
	}
	n := len(b.attempts)
	if n == 0 { // nothing was attempted
		telemetry.EndSpan(span, "put back")
		d.requeue(&f, b.why)
		return
	}
	if n < p.Len() {
		rest := dispatchqueue.Batch{First: *p.At(n), Rest: p.Rest[n:], Queue: p.Queue}
		p.Rest = p.Rest[:n-1]
		known, list := d.scheduler.requeueRest(q, rest)
		d.afterRequeue(q, rest, known, list)
	}
	x := d.send(ctx, r, &b)
	if x.Status == http.StatusRequestEntityTooLarge && b.sent > 1 {
		d.log.Info("batch refused as too large, to be sent in halves",
			"subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "events", b.sent)
		telemetry.EndSpan(span, "too large")
		d.scheduler.batchTooLarge(q, b.sent)
		d.requeue(&f, nil)
		return
	}
	if why := d.resources.ShortageIn(x, b.lead().record.Phase); why != nil {
		telemetry.EndSpan(span, "put back")
		d.requeue(&f, why)
		return
	}
	d.decideBatch(r, &b, x, time.Since(began))
	lead := b.lead()
	d.traces.Delivered(span, lead.record, lead.verdict.State)
	outcome := lead.verdict.Decision // of the POST, for the circuit breaker
	if b.sent > 1 && lead.verdict.State == engine.StateSucceeded {
		d.scheduler.batchAccepted(q)
	}
	if p.Queue != nil {
		d.completeOrdered(q, p, b.attempts)
	}
	change := d.scheduler.finish(&f, outcome)
	if outcome.Deactivate || change.failingTooLong || change.recovered {
		d.applyTransition(r, outcome, change, d.isOperationalEvent(r, p.First))
	}
	for i := range b.attempts {
		at := &b.attempts[i]
		if at.expired {
			d.markExpired(q, r, at.entry)
			continue
		}
		if at.verdict.State == engine.StateDead {
			d.reportDeadLetter(r, at.entry, at.deadReason())
		}
		d.recordAttempt(q, r, at)
	}
}

// decideBatch decides the outcome of each delivery of a batch, by its own retry schedule. x is the
// answer to the POST.
func (d *Dispatcher) decideBatch(r *catalog.CompiledSubscription, b *batch, x retry.Result, took time.Duration) {
	lead := b.lead()
	if !lead.expired {
		d.metrics.Duration.Observe(took.Seconds())
	}
	for i := range b.attempts {
		at := &b.attempts[i]
		if at.expired { // markExpired does the rest
			continue
		}
		at.entry.Release()
		at.record.Duration = took
		if at.request != nil {
			at.result = x
			if at != lead {
				at.record.Phase, at.record.TimedOut, at.record.Resent = lead.record.Phase, lead.record.TimedOut, lead.record.Resent
				at.record.Response = lead.record.Response.TruncatedFor(b.sent)
			}
		}
		if at.verdict.State != engine.StateDropped {
			schedule := retry.Schedule{Waits: r.Policy.Retries, Least: d.cfg.MinRetryWait, GiveUpAt: at.giveUpAt}
			at.verdict = VerdictFor(retry.Decide(schedule, at.record.Number, at.result, d.cfg.Now(), jitter()))
			if at.verdict.Reason != "" && at.record.Phase == "" {
				at.record.Phase = engine.PhaseHTTP
			}
		}
		at.record.Error = at.verdict.Reason
		d.metrics.Attempted(r.Sub.Account, at.entry, at.record, at.verdict.State)
		d.logAttempt(r, at.entry, at.record, at.verdict)
		d.recordPreparation(r, at.entry, at.record, at.verdict, at.result.Err)
	}
}

// verdict is the decision after an attempt, and the state in which it leaves the delivery.
type verdict struct {
	retry.Decision
	State engine.State
}

// VerdictFor returns the decision with the state in which it leaves the delivery.
func VerdictFor(v retry.Decision) verdict {
	switch v.Action {
	case retry.ActionSucceed:
		return verdict{v, engine.StateSucceeded}
	case retry.ActionRetry:
		return verdict{v, engine.StateRetrying}
	}
	return verdict{v, engine.StateDead}
}

// DroppedVerdict returns the verdict of a delivery that its transform dropped.
func DroppedVerdict(reason string) verdict {
	return verdict{retry.Decision{Reason: reason}, engine.StateDropped}
}

// recordAttempt hands an attempt and its outcome to the store.
func (d *Dispatcher) recordAttempt(q *queue, r *catalog.CompiledSubscription, at *attempt) {
	en, v := at.entry, at.verdict
	d.RecordOutcome(&engine.Outcome{
		ID: engine.DeliveryID{Event: en.Event, Subscription: r.Sub.ID}, State: v.State,
		Attempts: at.record.Number, NextAt: v.NextAt, Error: v.Reason, Attempt: at.record, Limit: d.catalog.StorageLimit(r.Sub.Account),
	}, func() {
		d.scheduler.committed(q, en.Event)
		d.markRecorded(en)
		if v.State == engine.StateRetrying {
			d.wakeRetries(v.NextAt)
		}
	})
}

// afterRequeue completes a requeue: it spills the displaced deliveries, or makes the batch dead if
// the subscription was deleted.
func (d *Dispatcher) afterRequeue(q *queue, p dispatchqueue.Batch, known bool, list []dispatchqueue.Displaced) {
	if known {
		d.settleDisplaced(q, list)
		return
	}
	for i := range p.Len() {
		d.markDead(q.id, *p.At(i), engine.SubscriptionDeleted)
	}
}

// completeOrdered reports the outcome of each delivery to the ordered queue it came from. One that
// has been superseded meanwhile is dropped instead of retried.
func (d *Dispatcher) completeOrdered(q *queue, p *dispatchqueue.Batch, attempts []attempt) {
	list := d.scheduler.completeOrdered(q, p, func(i int) dispatchqueue.Disposition { return dispositionOf(attempts[i].verdict.State) })
	for i := range attempts {
		for j, a := range list {
			if a.SupersededBy != 0 && a.Entry.Event == attempts[i].entry.Event {
				v := &attempts[i].verdict
				v.State, v.NextAt, v.Reason = engine.StateDropped, time.Time{}, supersededBy(a.SupersededBy)
				list = append(list[:j], list[j+1:]...)
				break
			}
		}
	}
	d.settleDisplaced(q, list)
}

// logAttempt logs an attempt at debug level, without the error's text: it may quote the target's
// answer or a script's exception, which is payload.
func (d *Dispatcher) logAttempt(r *catalog.CompiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict) {
	if d.cfg.LogDeliveries {
		d.logOutcome(r, en, a, v)
		return
	}
	ctx := context.Background()
	if !d.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attributes := []slog.Attr{
		slog.String("delivery_id", engine.DeliveryID{Event: en.Event, Subscription: r.Sub.ID}.String()), slog.String("event_id", en.Event.Format(engine.EventPrefix)),
		slog.String("subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix)), slog.String("account", r.Sub.Account),
		slog.Int("attempt", a.Number), slog.String("state", v.State.String()), slog.Int("status", a.Response.Status), slog.Duration("duration", a.Duration),
	}
	if a.Resent {
		attributes = append(attributes, slog.Bool("resent", true))
	}
	text := "attempt made"
	if v.State == engine.StateRetrying || v.State == engine.StateDead {
		text = "attempt failed"
		attributes = append(attributes, slog.String("phase", a.Phase))
	}
	if v.State == engine.StateRetrying {
		attributes = append(attributes, slog.Time("next_at", v.NextAt))
	}
	d.log.LogAttrs(ctx, slog.LevelDebug, text, attributes...)
}

// markRecorded records that a delivery has a row now.
func (d *Dispatcher) markRecorded(en dispatchqueue.Entry) {
	if en.Tracked != nil {
		d.tracker.Record(en.Tracked, en.Slot)
	}
}

// Attempt builds the request of a delivery that waits in no queue, sends it and records both in a.
// dropped is the reason if the transform dropped the delivery.
func (d *Dispatcher) Attempt(ctx context.Context, r *catalog.CompiledSubscription, en dispatchqueue.Entry, a *engine.Attempt) (x retry.Result, dropped string) {
	ctx, cancel := context.WithTimeout(ctx, r.Policy.Timeout)
	defer cancel()
	b := batch{attempts: []attempt{{entry: en, record: a}}, single: true}
	at := b.lead()
	if d.prepare(ctx, r, at, false); at.request == nil {
		return at.result, at.verdict.Reason
	}
	return d.send(ctx, r, &b), ""
}

func (d *Dispatcher) loadEvent(ctx context.Context, en dispatchqueue.Entry) (*engine.Event, error) {
	if h, ok := en.Payload.(*cachedEvent); ok {
		return h.ev, nil
	}
	ev, err := d.store.Event(ctx, "", en.Event)
	if err == nil && !json.Valid(ev.Data) { // it was when it was accepted
		return nil, &engine.Error{Code: engine.CodeUnreadable, Message: "the stored data of " + ev.ID.Format(engine.EventPrefix) + " is not valid JSON"}
	}
	return ev, err
}
