package router

import (
	"bytes"
	"context"
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
)

// MaxBatch is how many events one Publish takes.
const MaxBatch = 1000

// Publish accepts events, all or none: when it returns without an error they are on disk
// and each will be delivered to the subscriptions that it matched. Errors: CodeInvalid
// with Field "events[i].…" (or just the field, for a single event), CodeConflict,
// CodeBusy, CodeUnavailable. The types that begin with "switchhook." are the router's own.
func (p *Publisher) Publish(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	if p.traces == nil {
		return p.publishExternal(ctx, inputs)
	}
	ctx, span := p.traces.publish(ctx, inputs)
	accepted, err := p.publishExternal(ctx, inputs)
	p.traces.published(span, inputs, accepted, err)
	return accepted, err
}

// advance publishes what users may.
func (p *Publisher) publishExternal(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	if !p.life.tasks.Add() {
		return nil, errStopping()
	}
	defer p.life.tasks.Done()
	if len(inputs) == 0 || len(inputs) > MaxBatch {
		return nil, engine.Invalid("events", "holds %d events, must hold 1 to %d", len(inputs), MaxBatch)
	}
	checking := newSchemaDeadline(ctx, p.life)
	for i := range inputs {
		if engine.Operational(inputs[i].Type) {
			return nil, withBatchIndex(engine.Invalid("type", "%.140q begins with %q: those events are published by the router only", inputs[i].Type, engine.OperationalPrefix), i, len(inputs))
		}
		if err := p.checkEvent(checking, &inputs[i]); err != nil {
			return nil, withBatchIndex(err, i, len(inputs))
		}
		if err := p.load.checkAdmission(inputs[i].Account); err != nil {
			return nil, err
		}
	}
	done, err := p.reserveQuota(ctx, inputs)
	if err != nil {
		return nil, err
	}
	defer done()
	return p.publish(ctx, inputs)
}

// publish accepts events that were checked.
func (publisher *Publisher) publish(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	began := time.Now()
	targets, err := publisher.catalog.findTargets(ctx, inputs)
	if err != nil {
		return nil, err
	}
	select {
	case publisher.publishSlots <- struct{}{}:
		defer func() { <-publisher.publishSlots }()
	default:
		return nil, &engine.Error{Code: engine.CodeBusy, Message: "too many events are waiting to be stored; send them again in a second"}
	}
	now := publisher.cfg.Now()
	batch := make([]preparedEvent, len(inputs))
	events := make([]engine.NewEvent, len(inputs))
	deadline := time.Now().Add(matchTimeout)
	for i := range inputs {
		var err error
		if batch[i], err = publisher.prepare(&inputs[i], now, deadline); err != nil {
			for _, p := range batch[:i] {
				publisher.dispatcher.abandonEvent(p.tracked)
			}
			publisher.dispatcher.releaseWaiting()
			return nil, err
		}
		if targets != nil {
			batch[i].Event.Targets = withTargets(batch[i].Event.Targets, targets[i])
		}
		events[i] = batch[i].NewEvent
	}
	committing, span := publisher.traces.start(ctx, "commit")
	appended, err := publisher.store.Append(committing, events)
	if engine.ErrorCode(err) == engine.CodeConflict && publisher.equateRepeats(committing, inputs, events) {
		appended, err = publisher.store.Append(committing, events)
	}
	endSpan(span, traceProblem(err))
	if err != nil {
		for _, p := range batch {
			publisher.dispatcher.abandonEvent(p.tracked)
		}
		publisher.dispatcher.releaseWaiting()
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
			publisher.dispatcher.abandonEvent(p.tracked)
			publisher.metrics.repeated.Inc()
			continue
		}
		p.Event.Sequences = a.Sequences
		publisher.dispatcher.eventStored(p.tracked, p.Event.Targets)
		publisher.metrics.accepted.Inc()
		publisher.quotas.stored(p.Event)
		publisher.metrics.accounts.accepted(inputs[i].Account)
		publisher.metrics.matched.Add(float64(a.Matched))
		publisher.traces.remember(p.Event.ID, ctx)
		if publisher.cfg.LogDeliveries {
			publisher.logEvent(accepted[i].PublicID, inputs[i].Type, a.Matched)
		}
		publisher.dispatcher.enqueueDeliveries(p)
		p.tracked.Queued()
	}
	publisher.dispatcher.releaseWaiting()
	publisher.metrics.publishing.Observe(time.Since(began).Seconds())
	return accepted, nil
}

// equateRepeats gives events whose data means the same as that of the event under one of
// their keys, and is only written in another way, that event's digest. It reports whether
// there was one. Digests are of the bytes, since a repeat is nearly always the same bytes.
func (p *Publisher) equateRepeats(ctx context.Context, inputs []engine.EventInput, events []engine.NewEvent) (changed bool) {
	first := map[engine.KeyHash]jsonindex.Value{} // in this call
	for i := range events {
		in := inputs[i]
		for _, key := range events[i].Keys {
			data, known := first[key]
			if id, err := p.store.EventByKey(ctx, key); err == nil {
				stored, err := p.store.Event(ctx, in.Account, id)
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

// checkEvent validates an event against the rules and against its type's schema.
func (p *Publisher) checkEvent(ctx context.Context, in *engine.EventInput) *engine.Error {
	if in.Account == "" {
		in.Account = engine.DefaultAccount
	}
	if err := in.Validate(); err != nil {
		return err
	}
	t := p.catalog.lookupEventType(in.Type)
	if t == nil {
		if p.cfg.StrictTypes {
			return engine.Invalid("type", "%q is not registered, and this router takes registered event types only; register it by POST /api/v1/event-types", in.Type)
		}
		return nil
	}
	switch {
	case t.broken != nil:
		return engine.Invalid("type", "%q has a schema that can't be used: it %s; change the schema by PUT /api/v1/event-types/%s", in.Type, t.broken, in.Type)
	case t.compiledSchema == nil:
		return nil
	}
	return follows(ctx, t.compiledSchema, in.Data.Raw(), "data", "of "+in.Type)
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

// prepare matches an event and gives it its id. The error says that the filters took too
// long.
func (publisher *Publisher) prepare(in *engine.EventInput, now, deadline time.Time) (preparedEvent, error) {
	at := in.Time
	if at.IsZero() {
		at = now
	}
	ev := &engine.Event{
		Key: in.ID, Account: in.Account, Type: in.Type, Time: at.UTC().Truncate(time.Millisecond),
		Headers: in.Headers, Data: in.Data.Raw(),
	}
	p := preparedEvent{NewEvent: engine.NewEvent{Event: ev}, tracked: publisher.dispatcher.beginEvent(now)}
	ev.ID = p.tracked.ID
	seen := scriptEvent(ev, in.Data)
	matched, err := publisher.match(publisher.catalog.candidates(ev.Account, ev.Type), seen, deadline)
	if err == nil {
		p.groups, err = publisher.dispatcher.groups(matched, ev.ID, seen, deadline)
	}
	if err != nil {
		publisher.dispatcher.abandonEvent(p.tracked)
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
