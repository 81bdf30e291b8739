package ingest

import (
	"context"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// FindEvent returns an event of an account, or of any if account is empty, by the router's id or
// its publisher's. The latter is looked up among the ids of account, or of named if account is
// empty. If several sources used the same id, the result is the first event. Error: CodeNotFound.
func (p *Publisher) FindEvent(ctx context.Context, account, named, publicID string) (*engine.Event, error) {
	if id, ok := snowflake.Parse(engine.EventPrefix, publicID); ok {
		ev, err := p.store.Event(ctx, account, id)
		if engine.ErrorCode(err) != engine.CodeNotFound {
			return ev, err
		}
	}
	if account != "" {
		named = account
	}
	ev, err := p.eventByKey(ctx, account, publicID, engine.EventKeyHash(named, publicID))
	if engine.ErrorCode(err) == engine.CodeNotFound {
		return p.eventByKey(ctx, account, publicID, engine.AnySourceKeyHash(named, publicID))
	}
	return ev, err
}

// FindSourcedEvent returns an event by the id that its source gave it; account and named as in
// FindEvent. Error: CodeNotFound.
func (p *Publisher) FindSourcedEvent(ctx context.Context, account, named, source, id string) (*engine.Event, error) {
	if account != "" {
		named = account
	}
	return p.eventByKey(ctx, account, id, engine.SourcedKeyHash(named, source, id))
}

func (p *Publisher) eventByKey(ctx context.Context, account, publicID string, key engine.KeyHash) (*engine.Event, error) {
	id, err := p.store.EventByKey(ctx, key)
	if engine.ErrorCode(err) == engine.CodeNotFound {
		return nil, engine.NotFound("event", publicID)
	}
	if err != nil {
		return nil, err
	}
	return p.store.Event(ctx, account, id)
}

// Events lists events, newest first. next is the cursor of the rest.
func (p *Publisher) Events(ctx context.Context, q engine.EventQuery) (list []*engine.Event, next engine.ID, err error) {
	return p.store.Events(ctx, q)
}
