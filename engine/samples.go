package engine

import (
	"context"
	"time"

	"switchhook/engine/snowflake"
)

// testHeader marks an event that somebody made to try a subscription.
const testHeader = "switchhook-test"

const (
	samplesRead     = 200     // events that are looked at for samples
	samplesPage     = 20      // of them at a time
	maxSamplesBytes = 8 << 20 // of an answer
)

// likeHook is a subscription without a transform. Error: CodeInvalid.
func likeHook(format PayloadFormat) (*Subscription, error) {
	if format == "" {
		format = FormatStandard
	}
	like := &Subscription{PayloadFormat: format}
	return like, checkExtras(like)
}

// bodyFor is what a subscription without a transform is sent of an event.
func (e *Engine) bodyFor(like *Subscription, ev *Event) []byte {
	made := e.element(like, ev, e.cfg.Now())
	if made.shown != nil { // this is no way to a token
		return made.shown
	}
	return made.body
}

// Bodies shows what hooks without a transform send of events, each in a payload format.
// Error: CodeInvalid where the format is not known.
func (e *Engine) Bodies(format PayloadFormat, events []*Event) ([][]byte, error) {
	like, err := likeHook(format)
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, len(events))
	for i, ev := range events {
		like.Account = ev.Account
		bodies[i] = e.bodyFor(like, ev)
	}
	return bodies, nil
}

// Samples shows what a hook of an event type sends without a transform: the bodies of the
// account's newest events, each in a payload format, then of the catalogue's samples; limit
// at most. Errors: CodeInvalid where the format is not known; CodeNotFound where the type
// is neither in the catalogue nor that of an event.
func (e *Engine) Samples(ctx context.Context, account, eventType string, format PayloadFormat, limit int) ([][]byte, error) {
	like, err := likeHook(format)
	if err != nil {
		return nil, err
	}
	like.Account = account
	entry := e.registry.eventType(eventType)
	bodies, size := [][]byte{}, 0
	add := func(ev *Event) {
		if len(bodies) == limit || size > maxSamplesBytes {
			return
		}
		body := e.bodyFor(like, ev)
		bodies = append(bodies, body)
		size += len(body)
	}
	q := EventQuery{Account: account, Type: eventType, Limit: min(limit, samplesPage)}
	for looked := 0; looked < samplesRead && len(bodies) < limit && size <= maxSamplesBytes; {
		events, err := e.store.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, ev := range events {
			if q.Before = ev.ID; ev.Headers[testHeader] == "" {
				add(ev)
			}
		}
		if looked += len(events); len(events) < q.Limit {
			break
		}
	}
	if entry == nil && q.Before == 0 {
		return nil, NotFound("event type", eventType)
	}
	if entry != nil {
		now := e.cfg.Now().UTC().Truncate(time.Millisecond)
		for i, sample := range entry.Samples {
			// An id of that time, so that a format that shows ids shows one of their form.
			add(&Event{ID: snowflake.FirstAt(now) + ID(i), Account: account, Type: eventType, Time: now, Data: sample})
		}
	}
	return bodies, nil
}
