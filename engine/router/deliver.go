package router

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/retry"
	"switchhook/engine/target"
)

const subscriptionDeleted = "the subscription was deleted"

// The phases in which an attempt can fail, as Attempt.Phase names them, besides those of
// package target.
const (
	phaseEvent     = "event"     // the event could not be read
	phaseTransform = "transform" // the script failed
	phaseRefused   = string(target.PhaseRefused)
	phaseConnect   = string(target.PhaseConnect)
	phaseHTTP      = "http" // an answer other than 2xx
)

// deliver makes one attempt: transform, sign, send, judge, record.
func (e *Engine) deliver(q *queue, r *compiledSubscription, p dispatchqueue.Batch) {
	if r.sub.Batch.Size > 0 {
		e.deliverBatch(q, r, p)
		return
	}
	en := p.First
	giveUpAt := r.giveUpAt(&en, p.ResumedAt)
	if e.cfg.Now().After(giveUpAt) {
		if p.Queue != nil {
			e.completeOrdered(q, &p, []*verdict{{state: engine.StateDead}})
		}
		e.scheduler.finish(q, r, p, retry.Decision{})
		e.markExpired(q, r, en)
		return
	}
	a := &engine.Attempt{Number: en.Attempts + 1, At: e.now()}
	began := time.Now()
	ctx, span := e.traces.deliver(r, &p, a)
	x, dropped := e.attempt(ctx, r, en, a)
	a.Duration = time.Since(began)
	if why := e.shortageIn(x, a.Phase); why != nil { // nothing was attempted
		endSpan(span, "put back")
		e.requeue(q, p, why)
		return
	}
	en.Release()

	v := droppedVerdict(dropped)
	if dropped == "" {
		v = e.decide(r, giveUpAt, a, x)
	}
	a.Error = v.Reason
	e.traces.delivered(span, a, v.state)
	e.metrics.duration.Observe(a.Duration.Seconds())
	e.metrics.attempted(r.sub.Account, en, a, v.state)
	e.logAttempt(r, en, a, v)
	e.noteOwn(r, en, a, v, x.Err)
	reason := deadReason(a, v)
	if p.Queue != nil {
		e.completeOrdered(q, &p, []*verdict{&v})
	}
	n := e.scheduler.finish(q, r, p, v.Decision)
	if v.state == engine.StateDead {
		e.countDeadLetter(r, en, reason)
	}
	if v.Deactivate || n.failingTooLong || n.recovered {
		e.applyTransition(r, v.Decision, n, e.isOperationalEvent(r, en))
	}
	e.recordAttempt(q, r, en, a, v)
}

// verdict is what follows from an attempt, and the state in which it leaves the delivery.
type verdict struct {
	retry.Decision
	state engine.State
}

func verdictFor(v retry.Decision) verdict {
	switch v.Action {
	case retry.ActionSucceed:
		return verdict{v, engine.StateSucceeded}
	case retry.ActionRetry:
		return verdict{v, engine.StateRetrying}
	}
	return verdict{v, engine.StateDead}
}

// droppedVerdict is the verdict where the transform wants nothing sent.
func droppedVerdict(reason string) verdict {
	return verdict{retry.Decision{Reason: reason}, engine.StateDropped}
}

// decide decides what follows from an attempt, and notes in a where it failed.
func (e *Engine) decide(r *compiledSubscription, giveUpAt time.Time, a *engine.Attempt, x retry.Result) verdict {
	v := verdictFor(retry.Decide(r.policy.retries, giveUpAt, a.Number, x, e.cfg.Now(), jitter()))
	if v.Reason != "" && a.Phase == "" {
		a.Phase = phaseHTTP
	}
	return v
}

// recordAttempt hands an attempt and what follows from it to the store.
func (e *Engine) recordAttempt(q *queue, r *compiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict) {
	e.recordOutcome(&engine.Outcome{
		ID: engine.DeliveryID{Event: en.Event, Subscription: r.sub.ID}, State: v.state, Attempts: a.Number, NextAt: v.NextAt, Error: v.Reason, Attempt: a,
	}, func() {
		e.scheduler.committed(q, en.Event)
		e.markRecorded(en)
		if v.state == engine.StateRetrying {
			e.wakeRetries(v.NextAt)
		}
	})
}

// deadReason is what the account is told of a dead letter. What a script says may hold the
// event's data, which goes no further than the attempt.
func deadReason(a *engine.Attempt, v verdict) string {
	if a.Phase == phaseTransform {
		return "the transform failed; see the delivery's attempts"
	}
	return v.Reason
}

func (e *Engine) afterRequeue(q *queue, p dispatchqueue.Batch, known bool, list []dispatchqueue.Displaced) {
	if known {
		e.settleDisplaced(q, list)
		return
	}
	for i := range p.Len() {
		e.markDead(q.id, *p.At(i), subscriptionDeleted)
	}
}

// completeOrdered tells a line that sorts what its deliveries have become. One that has been
// superseded meanwhile is not tried again.
func (e *Engine) completeOrdered(q *queue, p *dispatchqueue.Batch, verdicts []*verdict) {
	list := e.scheduler.completeOrdered(q, p, func(i int) dispatchqueue.Disposition { return dispositionOf(verdicts[i].state) })
	for i := range p.Len() {
		for j, a := range list {
			if a.SupersededBy != 0 && a.Entry.Event == p.At(i).Event {
				v := verdicts[i]
				v.state, v.NextAt, v.Reason = engine.StateDropped, time.Time{}, supersededBy(a.SupersededBy)
				list = append(list[:j], list[j+1:]...)
				break
			}
		}
	}
	e.settleDisplaced(q, list)
}

// logAttempt writes an attempt down where somebody asked for so much, without the error's
// text: it may quote what a target answered or a script threw, which is payload.
func (e *Engine) logAttempt(r *compiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict) {
	if e.cfg.LogDeliveries {
		e.logOutcome(r, en, a, v)
		return
	}
	ctx := context.Background()
	if !e.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attributes := []slog.Attr{
		slog.String("delivery_id", engine.DeliveryID{Event: en.Event, Subscription: r.sub.ID}.String()), slog.String("event_id", en.Event.Format(engine.EventPrefix)),
		slog.String("subscription_id", r.sub.ID.Format(engine.SubscriptionPrefix)), slog.String("account", r.sub.Account),
		slog.Int("attempt", a.Number), slog.String("state", v.state.String()), slog.Int("status", a.Response.Status), slog.Duration("duration", a.Duration),
	}
	if a.Resent {
		attributes = append(attributes, slog.Bool("resent", true))
	}
	text := "attempt made"
	if v.state == engine.StateRetrying || v.state == engine.StateDead {
		text = "attempt failed"
		attributes = append(attributes, slog.String("phase", a.Phase))
	}
	if v.state == engine.StateRetrying {
		attributes = append(attributes, slog.Time("next_at", v.NextAt))
	}
	e.log.LogAttrs(ctx, slog.LevelDebug, text, attributes...)
}

// markRecorded notes that a delivery has a row now.
func (e *Engine) markRecorded(en dispatchqueue.Entry) {
	if en.Tracked != nil {
		e.tracker.Record(en.Tracked, en.Slot)
	}
}

// attempt makes the request and sends it, and notes in a what it did. dropped is the
// reason where the transform wants nothing sent.
func (e *Engine) attempt(ctx context.Context, r *compiledSubscription, en dispatchqueue.Entry, a *engine.Attempt) (x retry.Result, dropped string) {
	if r.configErr != nil {
		a.Phase = phaseRefused
		return retry.Result{Err: r.configErr}, ""
	}
	ctx, cancel := context.WithTimeout(ctx, r.policy.timeout)
	defer cancel()
	ev, err := e.loadEvent(ctx, en)
	if err != nil {
		a.Phase = phaseEvent
		return retry.Result{Err: err}, ""
	}
	out, dropped, err := e.buildRequest(ctx, r, ev, a)
	if r.transformSource != "" {
		e.recordRun(r, ev, a, dropped, err)
	}
	if err != nil {
		a.Phase = phaseTransform
		return retry.Result{Err: err}, ""
	}
	if dropped != "" {
		return retry.Result{}, dropped
	}
	sending, span := e.traces.send(ctx, out, a)
	x = e.send(sending, r.policy.timeout, out, a)
	e.traces.sent(span, x, a)
	return x, ""
}

func (e *Engine) loadEvent(ctx context.Context, en dispatchqueue.Entry) (*engine.Event, error) {
	if h, ok := en.Payload.(*cachedEvent); ok {
		return h.ev, nil
	}
	ev, err := e.store.Event(ctx, "", en.Event)
	if err == nil && !json.Valid(ev.Data) { // it was when it was accepted
		return nil, &engine.Error{Code: engine.CodeUnreadable, Message: "what is stored as the data of " + ev.ID.Format(engine.EventPrefix) + " is no JSON any more"}
	}
	return ev, err
}
