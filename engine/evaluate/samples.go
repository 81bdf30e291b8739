package evaluate

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/outbound"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
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
func (e *Evaluator) bodyFor(like *engine.Subscription, ev *engine.Event) []byte {
	made := e.sender.BuildBatchElement(like, ev, e.cfg.Now())
	switch {
	case made.Shown != nil: // must not reveal a token
		return made.Shown
	case made.Plain == engine.FormatStandard && like.Batch.Size > 0:
		return outbound.WithEventID(made.Body, ev.ID)
	}
	return made.Body
}

// BodyIn returns a function that returns the body of an event for subscriptions without a transform,
// in a payload format. Error: CodeInvalid if the format is unknown.
func (e *Evaluator) BodyIn(format engine.PayloadFormat) (func(*engine.Event) []byte, error) {
	like, err := likeHook(format)
	if err != nil {
		return nil, err
	}
	return func(ev *engine.Event) []byte {
		like.Account = ev.Account
		return e.bodyFor(like, ev)
	}, nil
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

// samplesIn returns the builder of an account's samples.
func (e *Evaluator) samplesIn(ctx context.Context, account string, form SampleForm) (sampleBuilder, error) {
	if form.Subscription == 0 && form.Transform == (engine.ScriptRef{}) {
		like, err := likeHook(form.Format)
		if err != nil {
			return nil, err
		}
		like.Account = account
		return func(ev *engine.Event) ([]byte, error) { return e.bodyFor(like, ev), nil }, nil
	}
	var transform *ScriptSource
	if form.Subscription == 0 {
		transform = &ScriptSource{Ref: form.Transform}
	}
	r, err := e.subscription(ctx, account, form.Subscription, nil, transform)
	if err != nil {
		return nil, err
	}
	s, err := e.compile(ctx, r, false)
	if err != nil {
		return nil, err
	}
	if failed, source := s.scripts.Error(); failed != nil {
		return nil, catalog.ScriptError(source, failed)
	}
	stopped := 0
	return func(ev *engine.Event) ([]byte, error) { return e.sampleBody(ctx, s, ev, &stopped) }, nil
}

// maxStoppedSamples is the number of runs stopped in a row by the sandbox after which no more start: each
// costs a process that others need.
const maxStoppedSamples = 3

// wasStopped reports whether the sandbox stopped a run, and did not only fail.
func wasStopped(failed *scripts.Error) bool {
	return failed != nil && failed.Phase != scripts.PhaseRun && failed.Phase != scripts.PhaseOutput
}

// sampleBody builds the body of an event for a subscription. It is nil if the filter or the
// transform rejects the event, or the transform fails. It takes the place of a preview. stopped counts
// the runs that the sandbox stopped; too many of them are an error.
func (e *Evaluator) sampleBody(ctx context.Context, s *Subject, ev *engine.Event, stopped *int) ([]byte, error) {
	release, err := acquire(ctx, e.previews, "previews", s.sub.Sub.Account, "")
	if err != nil {
		return nil, err
	}
	defer release()
	o, err := e.Evaluate(ctx, s, ev)
	if err != nil {
		return nil, err
	}
	if !wasStopped(o.TransformError) {
		*stopped = 0
	} else if *stopped++; *stopped == maxStoppedSamples {
		return nil, catalog.ScriptError("transform", o.TransformError)
	}
	switch {
	case o.Request == nil:
		return nil, nil
	case !o.Ran:
		return e.bodyFor(s.sub.Sub, ev), nil
	case strings.HasPrefix(o.Result.ContentType, "application/json") && json.Valid(o.Result.Body):
		return o.Result.Body, nil
	}
	return json.Marshal(string(o.Result.Body))
}

// Samples returns bodies as a subscription to an event type receives them: of the account's newest
// events, then of the event type's samples; at most limit. Errors: CodeInvalid if the format is
// unknown, or the sandbox stopped the transform too often; CodeNotFound if the type is neither
// registered nor that of an event, or the account has no such subscription; CodeBusy if too many
// previews are running, of which a transform's samples are one.
func (e *Evaluator) Samples(ctx context.Context, account, eventType string, form SampleForm, limit int) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	bodyOf, err := e.samplesIn(ctx, account, form)
	if err != nil {
		return nil, err
	}
	entry := e.catalog.LookupEventType(eventType)
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
	q := engine.EventQuery{Account: account, Type: eventType, Limit: min(limit, samplesPage), MaxBytes: engine.PageBytes}
	for looked := 0; looked < samplesRead && len(bodies) < limit && size <= maxSamplesBytes; {
		events, next, err := e.store.Events(ctx, q)
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
		if looked += len(events); next == 0 {
			break
		}
	}
	if entry == nil && q.Before == 0 {
		return nil, engine.NotFound("event type", eventType)
	}
	if entry != nil {
		now := e.cfg.Now().UTC().Truncate(time.Millisecond)
		for i, sample := range entry.Samples {
			// An id with this time, so that formats that show ids show a realistic one.
			if err := add(&engine.Event{ID: snowflake.FirstAt(now) + engine.ID(i), Account: account, Type: eventType, Time: now, Data: sample}); err != nil {
				return nil, err
			}
		}
	}
	return bodies, nil
}
