package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/outbound"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// testHeader marks a test event.
const testHeader = "switchhook-test"

const (
	samplesRead     = 200     // events that are examined for samples
	samplesPage     = 20      // of them in one page
	maxSamplesBytes = 8 << 20 // of a response
)

// likeHook returns a subscription without a transform. Error: CodeInvalid.
func likeHook(format engine.PayloadFormat) (*engine.Subscription, error) {
	if format == "" {
		format = engine.FormatStandard
	}
	like := &engine.Subscription{PayloadFormat: format}
	return like, catalog.ValidateHeadersAndFormat(like)
}

// bodyFor returns the body of an event for a subscription without a transform.
func (w *Evaluator) bodyFor(like *engine.Subscription, ev *engine.Event) []byte {
	made := w.sender.BuildBatchElement(like, ev, w.cfg.Now())
	switch {
	case made.Shown != nil: // must not reveal a token
		return made.Shown
	case made.Plain == engine.FormatStandard && like.Batch.Size > 0:
		return outbound.WithEventID(made.Body, ev.ID)
	}
	return made.Body
}

// Bodies returns the bodies of events for subscriptions without a transform, in a payload format.
// Error: CodeInvalid if the format is unknown.
func (w *Evaluator) Bodies(format engine.PayloadFormat, events []*engine.Event) ([][]byte, error) {
	like, err := likeHook(format)
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, len(events))
	for i, ev := range events {
		like.Account = ev.Account
		bodies[i] = w.bodyFor(like, ev)
	}
	return bodies, nil
}

// SampleForm is the form of samples: that of a payload format, of a stored subscription, or of a
// transform. At most one is set; the default is FormatStandard.
type SampleForm struct {
	Format       engine.PayloadFormat
	Subscription engine.ID
	Transform    engine.ScriptRef
}

// sampleBuilder builds the body of a sample, as an element of a JSON array; nil if nothing would be
// sent.
type sampleBuilder func(ev *engine.Event) ([]byte, error)

// samplesIn returns the builder of an account's samples; done must be called after the last.
func (w *Evaluator) samplesIn(ctx context.Context, account string, form SampleForm) (_ sampleBuilder, done func(), err error) {
	if form.Subscription == 0 && form.Transform == (engine.ScriptRef{}) {
		like, err := likeHook(form.Format)
		if err != nil {
			return nil, nil, err
		}
		like.Account = account
		return func(ev *engine.Event) ([]byte, error) { return w.bodyFor(like, ev), nil }, func() {}, nil
	}
	t := PreviewRequest{Account: account, Subscription: form.Subscription}
	if form.Subscription == 0 {
		t.Transform = &ScriptSource{Ref: form.Transform}
	}
	if done, err = w.acquirePreviewSlot(); err != nil {
		return nil, nil, err
	}
	r, err := w.previewSubscription(ctx, &t)
	if err != nil {
		done()
		return nil, nil, err
	}
	var strikes catalog.Quarantine
	return func(ev *engine.Event) ([]byte, error) { return w.previewBody(ctx, r, ev, &strikes) }, done, nil
}

// previewBody builds the body of an event for a dry-run subscription. It is nil if the filter or
// the transform rejects the event, or the transform fails; but if the sandbox stopped the transform
// as often as quarantine allows, that is an error, since each time costs a process that others
// need.
func (w *Evaluator) previewBody(ctx context.Context, r *catalog.CompiledSubscription, ev *engine.Event, strikes *catalog.Quarantine) ([]byte, error) {
	if r.FilterSource != "" {
		f, err := w.catalog.CompileFilter(r.FilterSource)
		if err != nil {
			return nil, catalog.ScriptError("filter", err)
		}
		in := filter.NewInput(catalog.ScriptEvent(ev, jsonindex.Value{}))
		defer in.Release()
		if !f.Explain(in).Matched {
			return nil, nil
		}
	}
	if r.TransformSource == "" {
		return w.bodyFor(r.Sub, ev), nil
	}
	out, dropped, err := w.sender.BuildUnsigned(ctx, r, ev, &engine.Attempt{Number: 1, At: w.life.Now()}, w.sender.BuildBatchElement)
	var wrong *scripts.Error
	switch {
	case strikes.RecordStrike(r.QuarantineKey(), func() uint64 { return uint64(ev.ID) }, func() bool { return false }, err):
		return nil, catalog.ScriptError("transform", err)
	case errors.As(err, &wrong) && wrong.ScriptFault() || dropped != "":
		return nil, nil
	case err != nil:
		return nil, catalog.ScriptError("transform", err)
	case strings.HasPrefix(out.ContentType, "application/json") && json.Valid(out.Body):
		return out.Body, nil
	}
	return json.Marshal(string(out.Body))
}

// Samples returns bodies as a subscription to an event type receives them: of the account's newest
// events, then of the event type's samples; at most limit. Errors: CodeInvalid if the format is
// unknown, or the sandbox stopped the transform too often; CodeNotFound if the type is neither
// registered nor that of an event, or the account has no such subscription; CodeBusy if too many
// dry runs are running, of which a transform is one.
func (w *Evaluator) Samples(ctx context.Context, account, eventType string, form SampleForm, limit int) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	bodyOf, done, err := w.samplesIn(ctx, account, form)
	if err != nil {
		return nil, err
	}
	defer done()
	entry := w.catalog.LookupEventType(eventType)
	bodies, size := [][]byte{}, 0
	add := func(ev *engine.Event) error {
		if len(bodies) == limit || size > maxSamplesBytes {
			return nil
		}
		body, err := bodyOf(ev)
		if body != nil {
			bodies = append(bodies, body)
			size += len(body)
		}
		return err
	}
	q := engine.EventQuery{Account: account, Type: eventType, Limit: min(limit, samplesPage)}
	for looked := 0; looked < samplesRead && len(bodies) < limit && size <= maxSamplesBytes; {
		events, err := w.store.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, ev := range events {
			if q.Before = ev.ID; ev.Headers[testHeader] != "" {
				continue
			}
			if err := add(ev); err != nil {
				return nil, err
			}
		}
		if looked += len(events); len(events) < q.Limit {
			break
		}
	}
	if entry == nil && q.Before == 0 {
		return nil, engine.NotFound("event type", eventType)
	}
	if entry != nil {
		now := w.cfg.Now().UTC().Truncate(time.Millisecond)
		for i, sample := range entry.Samples {
			// An id with this time, so that formats that show ids show a realistic one.
			if err := add(&engine.Event{ID: snowflake.FirstAt(now) + engine.ID(i), Account: account, Type: eventType, Time: now, Data: sample}); err != nil {
				return nil, err
			}
		}
	}
	return bodies, nil
}
