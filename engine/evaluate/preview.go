package evaluate

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/scripteval"
)

// PreviewRequest asks what would happen to one event.
type PreviewRequest struct {
	EventSource
	Account      string
	Caller       string    // identifies the client and what it previews: a newer request replaces one that waits
	Subscription engine.ID // provides the fields that are not given here; 0: none
	MaskURL      bool      // its URL is hidden from the script

	Filter    *ScriptSource // nil: the subscription's
	Transform *ScriptSource // nil: the subscription's
}

// PreviewResult is the result of a preview.
type PreviewResult struct {
	*Outcome
	Event       *engine.Event
	Diagnostics []scripts.Diagnostic // of both scripts
	Duration    time.Duration        // of filter and transform, elapsed time
}

// Preview evaluates one event; nothing is stored and nothing sent. Errors: CodeInvalid, CodeNotFound,
// CodeBusy, CodeSuperseded. Errors of scripts are part of the result.
func (e *Evaluator) Preview(ctx context.Context, p PreviewRequest) (*PreviewResult, error) {
	release, err := acquire(ctx, e.previews, "previews", p.Account, p.Caller)
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := e.subscription(ctx, p.Account, p.Subscription, p.Filter, p.Transform)
	if err != nil {
		return nil, err
	}
	ev, err := e.event(ctx, r.Sub.Account, p.EventSource)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	s, err := e.compile(ctx, r, p.MaskURL)
	if err != nil {
		return nil, err
	}
	s.explain = true
	began := time.Now()
	o, err := e.Evaluate(ctx, s, ev)
	if err != nil {
		return nil, err
	}
	res := &PreviewResult{Outcome: o, Event: ev, Duration: time.Since(began)}
	if s.scripts.Filter != nil {
		// It runs even if it does not suit the event type's schema, but could not be saved.
		_, err := e.catalog.CompileFilter(r.Filter.Source, e.catalog.Schemas([]string{ev.Type})...)
		unsuited, err := scripteval.Fault(err)
		if err != nil {
			return nil, err
		}
		res.Diagnostics = unsuited.Diagnostics("filter")
	}
	res.Diagnostics = append(res.Diagnostics, o.Diagnostics(r.Transform.Source)...)
	return res, nil
}
