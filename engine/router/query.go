package router

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// FindEvent finds an event of an account, or of any where account is empty, by the id
// that the router gave it or the one that its publisher gave it. The latter is looked up
// among the names of account, or of named where account is empty. Where several sources
// gave the same id, it finds the event that came first. Error: CodeNotFound.
func (e *Engine) FindEvent(ctx context.Context, account, named, publicID string) (*engine.Event, error) {
	if id, ok := snowflake.Parse(engine.EventPrefix, publicID); ok {
		ev, err := e.store.Event(ctx, account, id)
		if engine.ErrorCode(err) != engine.CodeNotFound {
			return ev, err
		}
	}
	if account != "" {
		named = account
	}
	ev, err := e.eventByKey(ctx, account, publicID, engine.EventKeyHash(named, publicID))
	if engine.ErrorCode(err) == engine.CodeNotFound {
		return e.eventByKey(ctx, account, publicID, engine.AnySourceKeyHash(named, publicID))
	}
	return ev, err
}

// FindSourcedEvent finds an event by the id that its source gave it; account and named as
// in FindEvent. Error: CodeNotFound.
func (e *Engine) FindSourcedEvent(ctx context.Context, account, named, source, id string) (*engine.Event, error) {
	if account != "" {
		named = account
	}
	return e.eventByKey(ctx, account, id, engine.SourcedKeyHash(named, source, id))
}

func (e *Engine) eventByKey(ctx context.Context, account, publicID string, key engine.KeyHash) (*engine.Event, error) {
	id, err := e.store.EventByKey(ctx, key)
	if engine.ErrorCode(err) == engine.CodeNotFound {
		return nil, engine.NotFound("event", publicID)
	}
	if err != nil {
		return nil, err
	}
	return e.store.Event(ctx, account, id)
}

// Events lists events, newest first.
func (e *Engine) Events(ctx context.Context, q engine.EventQuery) ([]*engine.Event, error) {
	return e.store.Events(ctx, q)
}

// Deliveries lists deliveries, those of the newest event first.
func (e *Engine) Deliveries(ctx context.Context, q engine.DeliveryQuery) ([]*engine.Delivery, error) {
	return e.store.Deliveries(ctx, q)
}

// Delivery finds a delivery of an account, or of any where account is empty, with its
// attempts, oldest first. Error: CodeNotFound.
func (e *Engine) Delivery(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, []*engine.Attempt, error) {
	d, err := e.store.Delivery(ctx, account, id)
	if err != nil {
		return nil, nil, err
	}
	attempts, err := e.store.Attempts(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	ev, err := e.store.Event(ctx, account, id.Event)
	if err != nil {
		return nil, nil, err
	}
	var redact *engine.Redactor
	if r := e.registry.compiledSubscription(id.Subscription); r != nil {
		redact = r.redact
	}
	for _, a := range attempts {
		renderPlain(a, ev)
		redact.Stored(a)
	}
	return d, attempts, nil
}

// Retry makes another attempt of a delivery at once, whatever its state; the retries that
// follow a failure go on where they were. Errors: CodeNotFound; CodeConflict where an
// attempt is waiting already, or its subscription is gone or inactive.
func (e *Engine) Retry(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, error) {
	d, err := e.store.Delivery(ctx, account, id)
	if err != nil {
		return nil, err
	}
	s := e.registry.subscription("", id.Subscription)
	switch {
	case s == nil:
		return nil, &engine.Error{Code: engine.CodeConflict, Message: "the subscription of this delivery was deleted"}
	case !s.Active:
		return nil, &engine.Error{Code: engine.CodeConflict, Message: "the subscription of this delivery is not active; activate it first"}
	case d.State == engine.StatePending:
		return nil, &engine.Error{Code: engine.CodeConflict, Message: "this delivery is waiting for its attempt already"}
	}
	if err := e.waitForReplay(ctx, id, d.Attempts, d.Error); err != nil {
		return nil, err
	}
	d.State, d.NextAt = engine.StatePending, time.Time{}
	return d, nil
}
