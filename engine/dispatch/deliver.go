package dispatch

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/telemetry"
)

// deliver makes one attempt: transform, sign, send, decide, record.
func (d *Dispatcher) deliver(q *queue, r *catalog.CompiledSubscription, p dispatchqueue.Batch) {
	if r.Sub.Batch.Size > 0 {
		d.deliverBatch(q, r, p)
		return
	}
	en := p.First
	giveUpAt := r.GiveUpAt(&en, p.ResumedAt)
	if d.cfg.Now().After(giveUpAt) {
		if p.Queue != nil {
			d.completeOrdered(q, &p, []*verdict{{State: engine.StateDead}})
		}
		d.scheduler.finish(q, r, p, retry.Decision{})
		d.markExpired(q, r, en)
		return
	}
	a := &engine.Attempt{Number: en.Attempts + 1, At: d.life.Now()}
	began := time.Now()
	ctx, span := d.traces.Deliver(r.Sub, &p, a)
	x, dropped := d.Attempt(ctx, r, en, a)
	a.Duration = time.Since(began)
	if why := d.resources.ShortageIn(x, a.Phase); why != nil { // nothing was attempted
		telemetry.EndSpan(span, "put back")
		d.requeue(q, p, why)
		return
	}
	en.Release()

	v := DroppedVerdict(dropped)
	if dropped == "" {
		v = d.decide(r, giveUpAt, a, x)
	}
	a.Error = v.Reason
	d.traces.Delivered(span, a, v.State)
	d.metrics.Duration.Observe(a.Duration.Seconds())
	d.metrics.Attempted(r.Sub.Account, en, a, v.State)
	d.logAttempt(r, en, a, v)
	d.recordPreparation(r, en, a, v, x.Err)
	reason := deadReason(a, v)
	if p.Queue != nil {
		d.completeOrdered(q, &p, []*verdict{&v})
	}
	n := d.scheduler.finish(q, r, p, v.Decision)
	if v.State == engine.StateDead {
		d.reportDeadLetter(r, en, reason)
	}
	if v.Deactivate || n.failingTooLong || n.recovered {
		d.applyTransition(r, v.Decision, n, d.isOperationalEvent(r, en))
	}
	d.recordAttempt(q, r, en, a, v)
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

// decide returns the verdict of an attempt, and sets the phase in a if it failed.
func (d *Dispatcher) decide(r *catalog.CompiledSubscription, giveUpAt time.Time, a *engine.Attempt, x retry.Result) verdict {
	v := VerdictFor(retry.Decide(r.Policy.Retries, giveUpAt, a.Number, x, d.cfg.Now(), jitter()))
	if v.Reason != "" && a.Phase == "" {
		a.Phase = engine.PhaseHTTP
	}
	return v
}

// recordAttempt hands an attempt and its outcome to the store.
func (d *Dispatcher) recordAttempt(q *queue, r *catalog.CompiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict) {
	d.RecordOutcome(&engine.Outcome{
		ID: engine.DeliveryID{Event: en.Event, Subscription: r.Sub.ID}, State: v.State, Attempts: a.Number, NextAt: v.NextAt, Error: v.Reason, Attempt: a,
	}, func() {
		d.scheduler.committed(q, en.Event)
		d.markRecorded(en)
		if v.State == engine.StateRetrying {
			d.wakeRetries(v.NextAt)
		}
	})
}

// deadReason returns the reason that the operational event of a dead letter gives. The error of a
// script may hold the event's data, which is only stored with the attempt.
func deadReason(a *engine.Attempt, v verdict) string {
	if a.Phase == engine.PhaseTransform {
		return "the transform failed; see the delivery's attempts"
	}
	return v.Reason
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
func (d *Dispatcher) completeOrdered(q *queue, p *dispatchqueue.Batch, verdicts []*verdict) {
	list := d.scheduler.completeOrdered(q, p, func(i int) dispatchqueue.Disposition { return dispositionOf(verdicts[i].State) })
	for i := range p.Len() {
		for j, a := range list {
			if a.SupersededBy != 0 && a.Entry.Event == p.At(i).Event {
				v := verdicts[i]
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

// Attempt builds the request, sends it and records both in a. dropped is the reason if the
// transform dropped the delivery.
func (d *Dispatcher) Attempt(ctx context.Context, r *catalog.CompiledSubscription, en dispatchqueue.Entry, a *engine.Attempt) (x retry.Result, dropped string) {
	if r.ConfigErr != nil {
		a.Phase = engine.PhaseRefused
		return retry.Result{Err: r.ConfigErr}, ""
	}
	ctx, cancel := context.WithTimeout(ctx, r.Policy.Timeout)
	defer cancel()
	ev, err := d.loadEvent(ctx, en)
	if err != nil {
		a.Phase = engine.PhaseEvent
		return retry.Result{Err: err}, ""
	}
	out, dropped, err := d.sender.BuildRequest(ctx, r, ev, a)
	if r.Transform.Source != "" {
		d.monitor.RecordRun(r, ev, a, dropped, err)
	}
	if err != nil {
		a.Phase = engine.PhaseTransform
		return retry.Result{Err: err}, ""
	}
	if dropped != "" {
		return retry.Result{}, dropped
	}
	sending, span := d.traces.Send(ctx, out.Method, out.TargetURL, out.Headers, out.Redact, a)
	x = d.sender.Send(sending, r.Policy.Timeout, out, a)
	d.traces.Sent(span, x, a)
	return x, ""
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
