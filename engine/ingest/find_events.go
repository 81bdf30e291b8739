package ingest

import (
	"context"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// FindEvent finds an event of an account, or of any where account is empty, by the id
// that the router gave it or the one that its publisher gave it. The latter is looked up
// among the names of account, or of named where account is empty. Where several sources
// gave the same id, it finds the event that came first. Error: CodeNotFound.
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

// FindSourcedEvent finds an event by the id that its source gave it; account and named as
// in FindEvent. Error: CodeNotFound.
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

// Events lists events, newest first.
func (p *Publisher) Events(ctx context.Context, q engine.EventQuery) ([]*engine.Event, error) {
	return p.store.Events(ctx, q)
}
