package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"switchhook/engine/judge"
	"switchhook/engine/order"
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
func (e *Engine) deliver(q *queue, r *route, p order.Parcel) {
	if r.sub.Batch.Size > 0 {
		e.deliverBatch(q, r, p)
		return
	}
	en := p.First
	giveUpAt := r.giveUpAt(&en, p.Resumed)
	if e.cfg.Now().After(giveUpAt) {
		if p.From != nil {
			e.arrived(q, &p, []*verdict{{state: StateDead}})
		}
		e.scheduler.finish(q, r, p, judge.Verdict{})
		e.giveUpOld(q, r, en)
		return
	}
	a := &Attempt{Number: en.Attempts + 1, At: e.now()}
	began := time.Now()
	ctx, span := e.traces.deliver(r, &p, a)
	x, dropped := e.attempt(ctx, r, en, a)
	a.Duration = time.Since(began)
	if why := e.shortageIn(x, a.Phase); why != nil { // nothing was attempted
		end(span, "put back")
		e.putBack(q, p, why)
		return
	}
	en.Release()

	v := droppedFor(dropped)
	if dropped == "" {
		v = e.judge(r, giveUpAt, a, x)
	}
	a.Error = v.Reason
	e.traces.delivered(span, a, v.state)
	e.metrics.duration.Observe(a.Duration.Seconds())
	e.metrics.attempted(r.sub.Account, en, a, v.state)
	e.logAttempt(r, en, a, v)
	e.noteOwn(r, en, a, v, x.Err)
	reason := deadReason(a, v)
	if p.From != nil {
		e.arrived(q, &p, []*verdict{&v})
	}
	n := e.scheduler.finish(q, r, p, v.Verdict)
	if v.state == StateDead {
		e.noteDead(r, en, reason)
	}
	if v.Deactivate || n.hopeless || n.recovered {
		e.heed(r, v.Verdict, n, e.aboutOperational(r, en))
	}
	e.recordAttempt(q, r, en, a, v)
}

// verdict is what follows from an attempt, and the state in which it leaves the delivery.
type verdict struct {
	judge.Verdict
	state State
}

func judged(v judge.Verdict) verdict {
	switch v.Decision {
	case judge.Accept:
		return verdict{v, StateSucceeded}
	case judge.TryAgain:
		return verdict{v, StateFailed}
	}
	return verdict{v, StateDead}
}

// droppedFor is the verdict where the transform wants nothing sent.
func droppedFor(reason string) verdict {
	return verdict{judge.Verdict{Reason: reason}, StateDropped}
}

// judge decides what follows from an attempt, and notes in a where it failed.
func (e *Engine) judge(r *route, giveUpAt time.Time, a *Attempt, x judge.Exchange) verdict {
	v := judged(judge.Attempt(r.terms.retries, giveUpAt, a.Number, x, e.cfg.Now(), jitter()))
	if v.Reason != "" && a.Phase == "" {
		a.Phase = phaseHTTP
	}
	return v
}

// recordAttempt hands an attempt and what follows from it to the store.
func (e *Engine) recordAttempt(q *queue, r *route, en order.Entry, a *Attempt, v verdict) {
	e.record(&Outcome{
		ID: DeliveryID{en.Event, r.sub.ID}, State: v.state, Attempts: a.Number, NextAt: v.NextAt, Error: v.Reason, Attempt: a,
	}, func() {
		e.scheduler.settle(q, en.Event)
		e.recorded(en)
		if v.state == StateFailed {
			e.wakeRetries(v.NextAt)
		}
	})
}

// deadReason is what the account is told of a dead letter. What a script says may hold the
// event's data, which goes no further than the attempt.
func deadReason(a *Attempt, v verdict) string {
	if a.Phase == phaseTransform {
		return "the transform failed; see the delivery's attempts"
	}
	return v.Reason
}

func (e *Engine) afterPutBack(q *queue, p order.Parcel, known bool, list []order.Aside) {
	if known {
		e.setAside(q, list)
		return
	}
	for i := range p.Len() {
		e.giveUp(q.id, *p.At(i), subscriptionDeleted)
	}
}

// arrived tells a line that sorts what its deliveries have become. One that has been
// superseded meanwhile is not tried again.
func (e *Engine) arrived(q *queue, p *order.Parcel, verdicts []*verdict) {
	list := e.scheduler.arrived(q, p, func(i int) order.Fate { return verdicts[i].state.fate() })
	for i := range p.Len() {
		for j, a := range list {
			if a.By != 0 && a.Entry.Event == p.At(i).Event {
				v := verdicts[i]
				v.state, v.NextAt, v.Reason = StateDropped, time.Time{}, supersededBy(a.By)
				list = append(list[:j], list[j+1:]...)
				break
			}
		}
	}
	e.setAside(q, list)
}

// logAttempt writes an attempt down where somebody asked for so much, without the error's
// text: it may quote what a target answered or a script threw, which is payload.
func (e *Engine) logAttempt(r *route, en order.Entry, a *Attempt, v verdict) {
	if e.cfg.LogDeliveries {
		e.logOutcome(r, en, a, v)
		return
	}
	ctx := context.Background()
	if !e.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attributes := []slog.Attr{
		slog.String("delivery_id", DeliveryID{en.Event, r.sub.ID}.String()), slog.String("event_id", en.Event.Format(EventPrefix)),
		slog.String("subscription_id", r.sub.ID.Format(SubscriptionPrefix)), slog.String("account", r.sub.Account),
		slog.Int("attempt", a.Number), slog.String("state", v.state.String()), slog.Int("status", a.Response.Status), slog.Duration("duration", a.Duration),
	}
	if a.Resent {
		attributes = append(attributes, slog.Bool("resent", true))
	}
	text := "attempt made"
	if v.state == StateFailed || v.state == StateDead {
		text = "attempt failed"
		attributes = append(attributes, slog.String("phase", a.Phase))
	}
	if v.state == StateFailed {
		attributes = append(attributes, slog.Time("next_at", v.NextAt))
	}
	e.log.LogAttrs(ctx, slog.LevelDebug, text, attributes...)
}

// recorded notes that a delivery has a row now.
func (e *Engine) recorded(en order.Entry) {
	if en.Fresh != nil {
		e.tracker.Record(en.Fresh, en.Slot)
	}
}

// attempt makes the request and sends it, and notes in a what it did. dropped is the
// reason where the transform wants nothing sent.
func (e *Engine) attempt(ctx context.Context, r *route, en order.Entry, a *Attempt) (x judge.Exchange, dropped string) {
	if r.broken != nil {
		a.Phase = phaseRefused
		return judge.Exchange{Err: r.broken}, ""
	}
	ctx, cancel := context.WithTimeout(ctx, r.terms.timeout)
	defer cancel()
	ev, err := e.eventOf(ctx, en)
	if err != nil {
		a.Phase = phaseEvent
		return judge.Exchange{Err: err}, ""
	}
	out, dropped, err := e.compose(ctx, r, ev, a)
	if r.transformSource != "" {
		e.noteRun(r, ev, a, dropped, err)
	}
	if err != nil {
		a.Phase = phaseTransform
		return judge.Exchange{Err: err}, ""
	}
	if dropped != "" {
		return judge.Exchange{}, dropped
	}
	sending, span := e.traces.send(ctx, out, a)
	x = e.send(sending, r.terms.timeout, out, a)
	e.traces.sent(span, x, a)
	return x, ""
}

func (e *Engine) eventOf(ctx context.Context, en order.Entry) (*Event, error) {
	if h, ok := en.Held.(*held); ok {
		return h.ev, nil
	}
	ev, err := e.store.Event(ctx, "", en.Event)
	if err == nil && !json.Valid(ev.Data) { // it was when it was accepted
		return nil, &Error{Code: CodeUnreadable, Message: "what is stored as the data of " + ev.ID.Format(EventPrefix) + " is no JSON any more"}
	}
	return ev, err
}
