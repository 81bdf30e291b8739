package evaluate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/outbound"
	"switchhook/engine/signature"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// PreviewRequest is a dry run of an event: nothing is stored and nothing sent.
type PreviewRequest struct {
	Account      string
	Subscription engine.ID // provides the fields that are not given here; 0: none
	MaskURL      bool      // its URL is hidden from the script

	Filter    *ScriptSource // nil: the subscription's
	Transform *ScriptSource // nil: the subscription's

	// The event: one that is stored, a sample of an event type, or Event itself.
	EventID    string
	SampleType string
	Event      engine.EventInput
}

// ScriptSource is a source, or a version of a script.
type ScriptSource struct {
	Source string
	Ref    engine.ScriptRef
}

// PreviewResult is the result of a preview.
type PreviewResult struct {
	Event    *engine.Event
	Filter   *filter.Explanation // nil if there is no filter
	Matched  bool
	Dropped  string                 // the reason, if the transform drops the event
	Request  *engine.AttemptRequest // what would be sent; nil if nothing
	Script   engine.AttemptScript
	Error    *scripts.Error // the transform's
	Duration time.Duration  // of filter and transform, elapsed time
}

// maxPreviews is the maximum number of concurrent dry runs: they share the sandbox with deliveries.
const maxPreviews = 4

// Preview makes a dry run. Errors: CodeInvalid, CodeNotFound, and CodeBusy if too many are running.
// Errors of scripts are part of the result.
func (w *Evaluator) Preview(ctx context.Context, t PreviewRequest) (*PreviewResult, error) {
	done, err := w.acquirePreviewSlot()
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := w.previewSubscription(ctx, &t)
	if err != nil {
		return nil, err
	}
	ev, err := w.previewEvent(ctx, &t)
	if err != nil {
		return nil, err
	}
	if r.FilterSource != "" { // as strict as when it is saved for this event type
		if err := w.catalog.Compiles(ctx, engine.KindFilter, r.FilterSource, w.catalog.Schemas([]string{ev.Type})); err != nil {
			return nil, renamed(err, "filter")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	began := time.Now()
	res := &PreviewResult{Event: ev, Matched: true}
	defer func() { res.Duration = time.Since(began) }()
	if r.FilterSource != "" {
		f, err := w.catalog.CompileFilter(r.FilterSource)
		if err != nil {
			return nil, catalog.ScriptError("filter", err)
		}
		in := filter.NewInput(catalog.ScriptEvent(ev, jsonindex.Value{}))
		explanation := f.Explain(in)
		in.Release()
		if res.Filter, res.Matched = &explanation, explanation.Matched; !res.Matched {
			return res, nil
		}
	}
	a := &engine.Attempt{Number: 1, At: w.life.Now()}
	_, res.Dropped, err = w.sender.BuildRequest(ctx, r, ev, a)
	res.Script = a.Script
	if err != nil {
		if !errors.As(err, &res.Error) {
			return nil, err
		}
		if !res.Error.ScriptFault() {
			return nil, catalog.ScriptError("transform", err)
		}
		return res, nil
	}
	if res.Dropped == "" {
		outbound.RenderPlain(a, ev)
		res.Request = &a.Request
		if t.Subscription == 0 { // signed with a random secret
			a.Request.Headers = slices.DeleteFunc(a.Request.Headers, func(h engine.Header) bool { return h.Name == signature.Header })
		}
	}
	return res, nil
}

// acquirePreviewSlot acquires a slot for a dry run. Error: CodeBusy.
func (w *Evaluator) acquirePreviewSlot() (done func(), err error) {
	select {
	case w.previewSlots <- struct{}{}:
		return func() { <-w.previewSlots }, nil
	default:
		return nil, &engine.Error{Code: engine.CodeBusy, Message: "too many dry runs are on; try again in a moment"}
	}
}

// previewSubscription compiles the subscription of a dry run, with its scripts replaced by those of
// t.
func (w *Evaluator) previewSubscription(ctx context.Context, t *PreviewRequest) (*catalog.CompiledSubscription, error) {
	secret, err := signature.NewSecret(signature.HMAC)
	if err != nil {
		return nil, err
	}
	s := &engine.Subscription{Account: t.Account, TargetURL: catalog.PreviewTarget, Secret: secret, Active: true, PayloadFormat: engine.FormatStandard}
	if t.Subscription != 0 {
		stored, err := w.catalog.Subscription(t.Account, t.Subscription)
		if err != nil {
			return nil, err
		}
		s = stored.Clone()
		t.Account = s.Account
	}
	if t.Account == "" {
		t.Account = engine.DefaultAccount
		s.Account = t.Account
	}
	if t.Filter != nil {
		s.Filter, s.FilterScript = strings.TrimSpace(t.Filter.Source), t.Filter.Ref
	}
	if t.Transform != nil {
		s.Transform, s.TransformScript = t.Transform.Source, t.Transform.Ref
	}
	if _, err := w.catalog.CheckScriptUse(ctx, s, engine.KindFilter, s.Filter, s.FilterScript); err != nil {
		return nil, err
	}
	if _, err := w.catalog.CheckScriptUse(ctx, s, engine.KindTransform, s.Transform, s.TransformScript); err != nil {
		return nil, err
	}
	r := w.catalog.CompileSubscription(s)
	r.DryRun, r.Masked = true, t.MaskURL
	if err := errors.Join(r.FilterErr, r.ConfigErr); err != nil {
		return nil, err
	}
	if r.TransformSource == "" {
		return r, nil
	}
	program, err := w.catalog.Transformer().Compile(ctx, r.TransformSource)
	if err != nil {
		return nil, catalog.ScriptError("transform", err)
	}
	r.Program.Store(program)
	return r, nil
}

// renamed returns err with another field.
func renamed(err error, field string) error {
	var e *engine.Error
	if !errors.As(err, &e) {
		return err
	}
	copied := *e
	copied.Field = field
	return &copied
}

func (w *Evaluator) previewEvent(ctx context.Context, t *PreviewRequest) (*engine.Event, error) {
	if t.EventID != "" {
		return w.publisher.FindEvent(ctx, t.Account, t.Account, t.EventID)
	}
	if t.SampleType != "" {
		kind := w.catalog.LookupEventType(t.SampleType)
		if kind == nil {
			return nil, engine.NotFound("event type", t.SampleType)
		}
		if len(kind.Samples) == 0 {
			return nil, engine.Invalid("sample", "can't be taken: the event type %q has no samples", t.SampleType)
		}
		doc, err := jsonindex.Parse(kind.Samples[0], jsonindex.Limits{})
		if err != nil {
			return nil, err
		}
		t.Event = engine.EventInput{Type: t.SampleType, Data: doc.Root()}
	}
	in := t.Event
	in.Account = t.Account
	if err := w.publisher.CheckEvent(catalog.NewSchemaDeadline(ctx, w.life), &in); err != nil {
		return nil, engine.FieldsBelow(err, "event")
	}
	now := w.cfg.Now()
	at := in.Time
	if at.IsZero() {
		at = now
	}
	return &engine.Event{
		ID: w.catalog.NewID(), Key: in.ID, Account: in.Account, Type: in.Type, Time: at.UTC().Truncate(time.Millisecond),
		Headers: in.Headers, Data: in.Data.Raw(),
	}, nil
}
