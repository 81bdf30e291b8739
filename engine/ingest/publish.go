package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/lifecycle"
	"switchhook/engine/telemetry"
	"switchhook/scripts/jsonindex"
)

// MaxBatch is the maximum number of events of one Publish.
const MaxBatch = 1000

// Publish accepts events, all or none: when it returns without an error they are on disk, and each
// will be delivered to the subscriptions that it matched. Errors: CodeInvalid with Field
// "events[i].…" (or just the field, for a single event), CodeConflict, CodeBusy, CodeUnavailable.
// Types that begin with "switchhook." are reserved for the router.
func (p *Publisher) Publish(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	if p.traces == nil {
		return p.publishExternal(ctx, inputs)
	}
	ctx, span := p.traces.Publish(ctx, inputs)
	accepted, err := p.publishExternal(ctx, inputs)
	p.traces.Published(span, inputs, accepted, err)
	return accepted, err
}

// publishExternal validates, admits and publishes events of users.
func (p *Publisher) publishExternal(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	if !p.life.Begin() {
		return nil, lifecycle.ErrStopping()
	}
	defer p.life.End()
	if len(inputs) == 0 || len(inputs) > MaxBatch {
		return nil, engine.InvalidField("events", engine.FieldOutOfRange, "holds %d events, must hold 1 to %d", len(inputs), MaxBatch)
	}
	if err := validateEvents(inputs); err != nil {
		return nil, err
	}
	if err := p.checkHops(inputs); err != nil {
		return nil, err
	}
	checking, admitted := catalog.NewSchemaDeadline(ctx, p.life), int64(0)
	defer func() { p.load.Settle(admitted) }()
	for i := range inputs {
		if err := p.checkType(checking, &inputs[i]); err != nil { // the first only: schemas may be costly
			return nil, engine.FieldsInBatch(err, i, len(inputs))
		}
		n, err := p.load.Admit(inputs[i].Account, len(inputs[i].Data.Raw()))
		if err != nil {
			return nil, err
		}
		admitted += n
	}
	done, err := p.reserveQuota(ctx, inputs)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := p.dispatcher.AdmitEvents(ctx, inputs[0].Account, len(inputs)); err != nil {
		return nil, err
	}
	return p.publish(ctx, inputs)
}

// publish publishes validated events: match, commit, enqueue.
func (p *Publisher) publish(ctx context.Context, inputs []engine.EventInput) ([]engine.Accepted, error) {
	began := time.Now()
	targets, err := p.catalog.FindTargets(ctx, inputs)
	if err != nil {
		return nil, err
	}
	if !p.slots.TryAcquire(1) {
		return nil, &engine.Error{Code: engine.CodeBusy, Message: "too many events are waiting to be stored; send them again in a second"}
	}
	defer p.slots.Release(1)
	defer p.dispatcher.ReleaseWaiting()
	fan := fanOut{places: p.fanOut}
	defer fan.end()
	batch, err := p.prepareAll(inputs, targets, &fan)
	if errors.Is(err, errManyDeliveries) {
		p.dispatcher.ReleaseWaiting() // what waits for the ids that were given up must not wait any longer
		if err = fan.acquire(p.life.StopContext(), inputs[0].Account); err == nil {
			batch, err = p.prepareAll(inputs, targets, &fan)
		}
	}
	if err != nil {
		return nil, err
	}
	done, err := p.reserveTargets(ctx, batch)
	if err != nil {
		p.abandon(batch)
		return nil, err
	}
	defer done()
	appended, err := p.commit(ctx, inputs, batch)
	if err != nil {
		p.abandon(batch)
		return nil, withoutBatchIndex(err, len(inputs))
	}
	accepted := make([]engine.Accepted, len(inputs))
	for i, a := range appended {
		accepted[i] = engine.Accepted{ID: a.ID, PublicID: publicID(inputs[i].ID, a.ID), Matched: a.Matched, Repeated: a.Repeated}
		if targets != nil {
			accepted[i].Targets = targets[i]
		}
		p.enqueue(ctx, &batch[i], &appended[i])
	}
	p.metrics.Publishing.Observe(time.Since(began).Seconds())
	return accepted, nil
}

// prepareAll prepares all events or none. Error: that of fanOut.add, too.
func (p *Publisher) prepareAll(inputs []engine.EventInput, targets [][]engine.ID, fan *fanOut) ([]dispatch.PreparedEvent, error) {
	now := p.cfg.Now()
	ctx := p.life.StopContext()
	if engine.Operational(inputs[0].Type) { // they are published when the router stops, too
		ctx = context.Background()
	}
	spent := p.catalog.BeginMatching(ctx, inputs[0].Account)
	defer spent.End()
	batch := make([]dispatch.PreparedEvent, len(inputs))
	fan.deliveries = 0
	for i := range inputs {
		var err error
		if batch[i], err = p.prepare(&inputs[i], now, &spent); err != nil {
			p.abandon(batch[:i])
			return nil, err
		}
		if targets != nil {
			batch[i].Event.Targets = withTargets(batch[i].Event.Targets, targets[i])
		}
		if err := fan.add(batch[i].Event, len(inputs)); err != nil {
			p.abandon(batch[:i+1])
			return nil, err
		}
	}
	return batch, nil
}

func (p *Publisher) abandon(batch []dispatch.PreparedEvent) {
	for _, prepared := range batch {
		p.dispatcher.AbandonEvent(prepared.Tracked)
	}
}

// commit stores events. When it returns without an error they are on disk.
func (p *Publisher) commit(ctx context.Context, inputs []engine.EventInput, batch []dispatch.PreparedEvent) ([]engine.Appended, error) {
	events := make([]engine.NewEvent, len(batch))
	for i := range batch {
		events[i] = batch[i].NewEvent
	}
	ctx, span := p.traces.Start(ctx, "commit")
	appended, err := p.store.Append(ctx, events)
	if engine.ErrorCode(err) == engine.CodeConflict && p.equateRepeats(ctx, inputs, events) {
		appended, err = p.store.Append(ctx, events)
	}
	telemetry.EndSpan(span, telemetry.TraceProblem(err))
	return appended, err
}

// enqueue enqueues the deliveries of a stored event. A repeated event was enqueued before.
func (p *Publisher) enqueue(ctx context.Context, prepared *dispatch.PreparedEvent, a *engine.Appended) {
	if a.Repeated {
		p.dispatcher.AbandonEvent(prepared.Tracked)
		p.metrics.Repeated.Inc()
		return
	}
	ev := prepared.Event
	ev.Sequences = a.Sequences
	p.dispatcher.EventStored(prepared.Tracked, ev.Targets)
	p.metrics.Accepted.Inc()
	p.metrics.Accounts.Accepted(ev.Account)
	p.metrics.Matched.Add(float64(a.Matched))
	p.traces.Remember(ev.ID, ctx)
	if p.cfg.LogDeliveries {
		p.log.Info("event", "id", ev.PublicID(), "type", ev.Type, "matched", a.Matched)
	}
	p.dispatcher.EnqueueDeliveries(prepared, a)
	prepared.Tracked.Queued()
}

// equateRepeats gives an event the digest of the earlier event with the same key if their data
// means the same but is written differently. It reports whether there was one. Digests are of the
// bytes, since a repeat nearly always has the same bytes.
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

// withTargets appends the targets that an event names, each once, to the matched subscriptions.
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

// validateEvents validates the events of users, and fills in their accounts. Error: CodeInvalid with
// the fields of all events.
func validateEvents(inputs []engine.EventInput) error {
	var errs engine.FieldErrors
	for i := range inputs {
		in := &inputs[i]
		found := validateEvent(in)
		if engine.Operational(in.Type) {
			found.Add("type", engine.FieldNotAllowed, "%.140q begins with %q: those events are published by the router only", in.Type, engine.OperationalPrefix)
		}
		if found != nil {
			errs.Take(engine.FieldsInBatch(found.Err(), i, len(inputs)))
		}
	}
	return errs.Err()
}

func validateEvent(in *engine.EventInput) engine.FieldErrors {
	if in.Account == "" {
		in.Account = engine.DefaultAccount
	}
	return in.Validate()
}

// checkHops rejects events that came through too many deliveries: targets that publish what they are
// sent would go on for ever, with more events each time if there are several.
func (p *Publisher) checkHops(inputs []engine.EventInput) error {
	if !slices.ContainsFunc(inputs, func(in engine.EventInput) bool { return in.Hops > p.cfg.MaxHops }) {
		return p.checkChained(inputs)
	}
	p.metrics.Loops.Add(float64(len(inputs)))
	return &engine.Error{Code: engine.CodeLoop, Message: fmt.Sprintf("the event came through more than %d deliveries, one after the other, which is a loop: "+
		"a target publishes what it is sent, so that it is sent again; end that, or raise --max-hops", p.cfg.MaxHops)}
}

// checkChained rejects events that came through two or more deliveries if their account publishes too
// many of them: k subscriptions that loop make k² events of one within two hops, and then k³. One hop
// is usual, from one router to another.
func (p *Publisher) checkChained(inputs []engine.EventInput) error {
	in := &inputs[0]
	if p.chained == nil || in.Hops < 2 {
		return nil
	}
	_, wait := p.chained.Take(in.Account, len(inputs), p.cfg.Now())
	if wait == 0 {
		return nil
	}
	p.metrics.Chained.Add(float64(len(inputs)))
	return &engine.Error{Code: engine.CodeBusy, Wait: max(wait, time.Second), Message: fmt.Sprintf(
		"account %q publishes more than %d events a second that came through two or more deliveries, such as those of a loop; nothing was stored: "+
			"send them again later, end the loop, or raise --chained-rate", in.Account, p.cfg.ChainedRate)}
}

// CheckEvent validates an event and checks its data against its type's schema.
func (p *Publisher) CheckEvent(ctx context.Context, in *engine.EventInput) error {
	if errs := validateEvent(in); errs != nil {
		return errs.Err()
	}
	return p.checkType(ctx, in)
}

// checkType checks the data of a valid event against its type's schema.
func (p *Publisher) checkType(ctx context.Context, in *engine.EventInput) error {
	t := p.catalog.LookupEventType(in.Type)
	if t == nil {
		if p.cfg.StrictTypes {
			return engine.InvalidField("type", engine.FieldUnknown, "%q is not registered, and this router takes registered event types only; register it by POST /api/v1/event-types", in.Type)
		}
		return nil
	}
	switch {
	case t.Broken != nil:
		return engine.Invalid("type", "%q has a schema that can't be used: it %s; change the schema by PUT /api/v1/event-types/%s", in.Type, t.Broken, in.Type)
	case t.CompiledSchema == nil:
		return nil
	}
	return catalog.Follows(ctx, t.CompiledSchema, in.Data.Raw(), "data", "of "+in.Type)
}

// withoutBatchIndex removes the store's "events[0]" from an error if a single event was published.
func withoutBatchIndex(err error, n int) error {
	if e, ok := err.(*engine.Error); ok && n == 1 && e.Field == "events[0]" {
		copied := *e
		copied.Field = ""
		return &copied
	}
	return err
}

// prepare gives an event its id and matches it. The error says that the filters took too long.
func (p *Publisher) prepare(in *engine.EventInput, now time.Time, spent *catalog.MatchTime) (dispatch.PreparedEvent, error) {
	at := in.Time
	if at.IsZero() {
		at = now
	}
	ev := &engine.Event{
		Key: in.ID, Account: in.Account, Type: in.Type, Time: at.UTC().Truncate(time.Millisecond),
		Headers: in.Headers, Data: in.Data.Raw(), Hops: in.Hops,
	}
	prepared := dispatch.PreparedEvent{NewEvent: engine.NewEvent{Event: ev}, Tracked: p.dispatcher.BeginEvent(ev.Account, now)}
	ev.ID = prepared.Tracked.ID
	seen := catalog.ScriptEvent(ev, in.Data)
	spent.For(ev.Account)
	matched, err := p.match(p.catalog.Candidates(ev.Account, ev.Type), seen, spent)
	if err == nil {
		prepared.Groups, err = p.dispatcher.Groups(matched, ev.ID, seen, spent)
	}
	if err != nil {
		p.dispatcher.AbandonEvent(prepared.Tracked)
		return prepared, err
	}
	ev.Targets = make([]engine.ID, len(matched))
	for i, r := range matched {
		ev.Targets[i] = r.Sub.ID
		if r.Sub.Numbered {
			prepared.Numbered = append(prepared.Numbered, i)
		}
	}
	prepared.Keys = in.Keys()
	if in.ID != "" && in.Source != "" {
		prepared.Names = []engine.KeyHash{engine.AnySourceKeyHash(in.Account, in.ID)}
	}
	if prepared.Keys != nil {
		prepared.Digest = in.Digest()
	}
	return prepared, nil
}
