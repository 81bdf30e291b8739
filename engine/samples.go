package engine

import (
	"context"
	"time"
)

// testHeader marks an event that somebody made to try a subscription.
const testHeader = "switchhook-test"

const (
	samplesRead     = 200     // events that are looked at for samples
	samplesPage     = 20      // of them at a time
	maxSamplesBytes = 8 << 20 // of an answer
)

// Samples shows what a hook of an event type sends without a transform: the bodies of the
// account's newest events, each in a payload format, then of the catalogue's samples; limit
// at most. Errors: CodeInvalid where the format is not known; CodeNotFound where the type
// is neither in the catalogue nor that of an event.
func (e *Engine) Samples(ctx context.Context, account, eventType string, format PayloadFormat, limit int) ([][]byte, error) {
	if format == "" {
		format = FormatStandard
	}
	like := &Subscription{Account: account, PayloadFormat: format}
	if err := checkExtras(like); err != nil {
		return nil, err
	}
	entry := e.registry.eventType(eventType)
	bodies, size := [][]byte{}, 0
	add := func(ev *Event) {
		if len(bodies) == limit || size > maxSamplesBytes {
			return
		}
		made := e.element(like, ev, e.cfg.Now())
		body := made.body
		if made.shown != nil { // a sample is no way to a token
			body = made.shown
		}
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
			add(&Event{ID: FirstIDAt(now) + ID(i), Account: account, Type: eventType, Time: now, Data: sample})
		}
	}
	return bodies, nil
}
