package router

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/watermark"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
)

// MaxBatch is how many events one Publish takes.
const MaxBatch = 1000

// Publish accepts events, all or none: when it returns without an error they are on disk
// and each will be delivered to the subscriptions that it matched. Errors: CodeInvalid
// with Field "events[i].…" (or just the field, for a single event), CodeConflict,
// CodeBusy, CodeUnavailable. The types that begin with "switchhook." are the router's own.
func (e *Engine) Publish(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	if e.traces == nil {
		return e.publishExternal(ctx, inputs)
	}
	ctx, span := e.traces.publish(ctx, inputs)
	accepted, err := e.publishExternal(ctx, inputs)
	e.traces.published(span, inputs, accepted, err)
	return accepted, err
}

// advance publishes what users may.
func (e *Engine) publishExternal(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	if !e.tasks.Add() {
		return nil, errStopping()
	}
	defer e.tasks.Done()
	if len(inputs) == 0 || len(inputs) > MaxBatch {
		return nil, engine.Invalid("events", "holds %d events, must hold 1 to %d", len(inputs), MaxBatch)
	}
	checking := e.schemaTime(ctx)
	for i := range inputs {
		if engine.Operational(inputs[i].Type) {
			return nil, withBatchIndex(engine.Invalid("type", "%.140q begins with %q: those events are published by the router only", inputs[i].Type, engine.OperationalPrefix), i, len(inputs))
		}
		if err := e.checkEvent(checking, &inputs[i]); err != nil {
			return nil, withBatchIndex(err, i, len(inputs))
		}
		if err := e.checkAdmission(inputs[i].Account); err != nil {
			return nil, err
		}
	}
	done, err := e.reserveQuota(ctx, inputs)
	if err != nil {
		return nil, err
	}
	defer done()
	return e.publish(ctx, inputs)
}

// publish accepts events that were checked.
func (e *Engine) publish(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	began := time.Now()
	targets, err := e.findTargets(ctx, inputs)
	if err != nil {
		return nil, err
	}
	select {
	case e.publishSlots <- struct{}{}:
		defer func() { <-e.publishSlots }()
	default:
		return nil, &engine.Error{Code: engine.CodeBusy, Message: "too many events are waiting to be stored; send them again in a second"}
	}
	now := e.cfg.Now()
	batch := make([]preparedEvent, len(inputs))
	events := make([]engine.NewEvent, len(inputs))
	deadline := time.Now().Add(matchTimeout)
	for i := range inputs {
		var err error
		if batch[i], err = e.prepare(&inputs[i], now, deadline); err != nil {
			for _, p := range batch[:i] {
				e.tracker.Abandon(p.tracked)
			}
			e.scheduler.releaseWaiting()
			return nil, err
		}
		if targets != nil {
			batch[i].Event.Targets = withTargets(batch[i].Event.Targets, targets[i])
		}
		events[i] = batch[i].NewEvent
	}
	committing, span := e.traces.start(ctx, "commit")
	appended, err := e.store.Append(committing, events)
	if engine.ErrorCode(err) == engine.CodeConflict && e.equateRepeats(committing, inputs, events) {
		appended, err = e.store.Append(committing, events)
	}
	endSpan(span, traceProblem(err))
	if err != nil {
		for _, p := range batch {
			e.tracker.Abandon(p.tracked)
		}
		e.scheduler.releaseWaiting()
		return nil, withoutBatchIndex(err, len(inputs))
	}
	accepted := make([]engine.Accepted, len(inputs))
	for i, a := range appended {
		p := &batch[i]
		accepted[i] = engine.Accepted{ID: a.ID, PublicID: publicID(inputs[i].ID, a.ID), Matched: a.Matched, Repeated: a.Repeated}
		if targets != nil {
			accepted[i].Targets = targets[i]
		}
		if a.Repeated {
			e.tracker.Abandon(p.tracked)
			e.metrics.repeated.Inc()
			continue
		}
		p.Event.Sequences = a.Sequences
		e.tracker.Stored(p.tracked, p.Event.Targets)
		e.metrics.accepted.Inc()
		e.quotas.stored(p.Event)
		e.metrics.accounts.accepted(inputs[i].Account)
		e.metrics.matched.Add(float64(a.Matched))
		e.traces.remember(p.Event.ID, ctx)
		if e.cfg.LogDeliveries {
			e.logEvent(accepted[i].PublicID, inputs[i].Type, a.Matched)
		}
		e.enqueueDeliveries(p)
		p.tracked.Queued()
	}
	e.scheduler.releaseWaiting()
	e.metrics.publishing.Observe(time.Since(began).Seconds())
	return accepted, nil
}

// equateRepeats gives events whose data means the same as that of the event under one of
// their keys, and is only written in another way, that event's digest. It reports whether
// there was one. Digests are of the bytes, since a repeat is nearly always the same bytes.
func (e *Engine) equateRepeats(ctx context.Context, inputs []engine.EventInput, events []engine.NewEvent) (changed bool) {
	first := map[engine.KeyHash]jsonindex.Value{} // in this call
	for i := range events {
		in := inputs[i]
		for _, key := range events[i].Keys {
			data, known := first[key]
			if id, err := e.store.EventByKey(ctx, key); err == nil {
				stored, err := e.store.Event(ctx, in.Account, id)
				if err != nil {
					continue
				}
				doc, err := jsonindex.Parse(stored.Data, jsonindex.Limits{})
				if err != nil {
					continue
				}
				data, known = doc.Root(), true
			}
			if !known {
				first[key] = in.Data
				continue
			}
			if bytes.Equal(data.Raw(), in.Data.Raw()) || !bytes.Equal(jsonindex.AppendCanonical(nil, data), jsonindex.AppendCanonical(nil, in.Data)) {
				continue
			}
			in.Data = data
			events[i].Digest, changed = in.Digest(), true
			break
		}
	}
	return changed
}

// withTargets adds the targets that an event names, each once, behind those that matched.
func withTargets(matched, named []engine.ID) []engine.ID {
	for i, id := range named {
		if !slices.Contains(named[:i], id) {
			matched = append(matched, id)
		}
	}
	return matched
}

func publicID(key string, id engine.ID) string {
	if key != "" {
		return key
	}
	return id.Format(engine.EventPrefix)
}

// preparedEvent is an event between its validation and its first delivery.
type preparedEvent struct {
	engine.NewEvent
	tracked *watermark.Event
	groups  []group // for each target that matched; nil where none has one
}

// group is where an event stands with a subscription that keeps order or debounces.
type group struct{ id, specHash uint64 }

// checkEvent validates an event against the rules and against its type's schema.
func (e *Engine) checkEvent(ctx context.Context, in *engine.EventInput) *engine.Error {
	if in.Account == "" {
		in.Account = engine.DefaultAccount
	}
	if err := in.Validate(); err != nil {
		return err
	}
	t := e.registry.eventType(in.Type)
	if t == nil {
		if e.cfg.StrictTypes {
			return engine.Invalid("type", "%q is not registered, and this router takes registered event types only; register it by POST /api/v1/event-types", in.Type)
		}
		return nil
	}
	switch {
	case t.broken != nil:
		return engine.Invalid("type", "%q has a schema that can't be used: it %s; change the schema by PUT /api/v1/event-types/%s", in.Type, t.broken, in.Type)
	case t.schema == nil:
		return nil
	}
	return follows(ctx, t.schema, in.Data.Raw(), "data", "of "+in.Type)
}

func withBatchIndex(err *engine.Error, i, n int) error {
	if n == 1 || err.Field == "" {
		return err
	}
	copied := *err
	copied.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
	return &copied
}

// withoutBatchIndex takes the "events[0]" of the store away where no list was published.
func withoutBatchIndex(err error, n int) error {
	if e, ok := err.(*engine.Error); ok && n == 1 && e.Field == "events[0]" {
		copied := *e
		copied.Field = ""
		return &copied
	}
	return err
}

// matchTimeout is how long the filters over all events of one Publish may take. One filter
// takes 5 ms at most, but an account may have many.
const matchTimeout = 5 * time.Second

// prepare matches an event and gives it its id. The error says that the filters took too
// long.
func (e *Engine) prepare(in *engine.EventInput, now, deadline time.Time) (preparedEvent, error) {
	at := in.Time
	if at.IsZero() {
		at = now
	}
	ev := &engine.Event{
		Key: in.ID, Account: in.Account, Type: in.Type, Time: at.UTC().Truncate(time.Millisecond),
		Headers: in.Headers, Data: in.Data.Raw(),
	}
	p := preparedEvent{NewEvent: engine.NewEvent{Event: ev}, tracked: e.tracker.Begin(now)}
	ev.ID = p.tracked.ID
	seen := scriptEvent(ev, in.Data)
	matched, err := e.match(e.index.candidates(ev.Account, ev.Type), seen, deadline)
	if err == nil {
		p.groups, err = e.groups(matched, ev.ID, seen, deadline)
	}
	if err != nil {
		e.tracker.Abandon(p.tracked)
		return p, err
	}
	ev.Targets = make([]engine.ID, len(matched))
	for i, r := range matched {
		ev.Targets[i] = r.sub.ID
		if r.sub.Numbered {
			p.Numbered = append(p.Numbered, i)
		}
	}
	p.Keys = in.Keys()
	if in.ID != "" && in.Source != "" {
		p.Names = []engine.KeyHash{engine.AnySourceKeyHash(in.Account, in.ID)}
	}
	if p.Keys != nil {
		p.Digest = in.Digest()
	}
	return p, nil
}

// scriptEvent is ev as filters and transforms see it; doc is its data, if somebody has read it.
func scriptEvent(ev *engine.Event, doc jsonindex.Value) *scripts.Event {
	return &scripts.Event{
		ID: ev.PublicID(), Type: ev.Type, Account: ev.Account, Time: ev.Time, Received: ev.Received(),
		Headers: ev.Headers, Data: ev.Data, Doc: doc,
	}
}

// enqueueDeliveries hands a stored event's deliveries to their queues.
func (e *Engine) enqueueDeliveries(p *preparedEvent) {
	h := e.eventCache.add(p.Event, len(p.Event.Targets))
	for slot, id := range p.Event.Targets {
		en := dispatchqueue.Entry{Event: p.Event.ID, Payload: h, Tracked: p.tracked, Slot: slot}
		if slot < len(p.groups) { // named targets stand behind what matched, and have none
			en.Group, en.SpecHash = p.groups[slot].id, p.groups[slot].specHash
		}
		place, q, list := e.scheduler.enqueue(id, en)
		switch place {
		case enqueueInStore:
			e.spillToStore(q, en)
		case enqueueNoSubscription:
			e.markDead(id, en, subscriptionDeleted)
		}
		e.settleDisplaced(q, list)
	}
}

// eventCache bounds the bytes of events that wait in memory; beyond it they are read
// from the store again when their turn comes.
type eventCache struct{ bytes atomic.Int64 }

const maxCachedBytes = 64 << 20

// quarantined is an event in memory, shared by its deliveries.
type cachedEvent struct {
	budget *eventCache
	ev     *engine.Event
	users  atomic.Int32
}

// add keeps ev in memory for so many users, while there is room; otherwise it gives nil.
func (b *eventCache) add(ev *engine.Event, users int) dispatchqueue.Payload {
	if users == 0 {
		return nil
	}
	if b.bytes.Add(ev.CachedSize()) > maxCachedBytes {
		b.bytes.Add(-ev.CachedSize())
		return nil
	}
	h := &cachedEvent{budget: b, ev: ev}
	h.users.Store(int32(users))
	return h
}

// Release says that one of the users has done with the event.
func (h *cachedEvent) Release() {
	if h.users.Add(-1) == 0 {
		h.budget.bytes.Add(-h.ev.CachedSize())
	}
}
