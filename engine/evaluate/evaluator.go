// Package evaluate answers what would happen to an event. Previews, samples and comparisons are
// views on Evaluate; a test send also sends the request.
package evaluate

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatch"
	"switchhook/engine/fairlimit"
	"switchhook/engine/ingest"
	"switchhook/engine/lifecycle"
	"switchhook/engine/outbound"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
	"switchhook/engine/signature"
	"switchhook/engine/telemetry"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/scripteval"
)

// The numbers of concurrent evaluations, of all accounts and of one. They share the sandbox with
// deliveries, and test sends the network.
const (
	maxPreviews, maxAccountPreviews       = 4, 3
	maxComparisons, maxAccountComparisons = 32, 1 // that are open, most of them waiting for the next
	maxComparisonPages                    = 4     // of events in memory, with what the scripts make of them
	maxTestSends, maxAccountTestSends     = 64, 4
)

const (
	placeWait   = 250 * time.Millisecond // of an evaluation that has its place for long
	previewWait = 2 * time.Second        // previews are short, so that a place will come
)

// Evaluator answers what would happen to an event: previews, samples, comparisons, test sends.
type Evaluator struct {
	cfg        settings.Config
	store      engine.Store
	traces     *telemetry.Tracing
	life       *lifecycle.Lifecycle
	catalog    *catalog.Catalog
	sender     *outbound.Sender
	dispatcher *dispatch.Dispatcher
	publisher  *ingest.Publisher
	resources  *resources.Tracker
	load       *ingest.LoadShedder

	previews, comparisons, comparisonPages, testSends *fairlimit.Limiter
	testRates                                         *fairlimit.Rates
}

// Parts are the parts of the router that an Evaluator uses.
type Parts struct {
	Traces      *telemetry.Tracing
	Lifecycle   *lifecycle.Lifecycle
	Catalog     *catalog.Catalog
	Sender      *outbound.Sender
	Dispatcher  *dispatch.Dispatcher
	Publisher   *ingest.Publisher
	LoadShedder *ingest.LoadShedder
	Resources   *resources.Tracker
}

// New returns an Evaluator.
func New(cfg settings.Config, p Parts) *Evaluator {
	e := &Evaluator{
		cfg: cfg, store: cfg.Store, traces: p.Traces, life: p.Lifecycle, catalog: p.Catalog,
		sender: p.Sender, dispatcher: p.Dispatcher, publisher: p.Publisher, load: p.LoadShedder, resources: p.Resources,
		previews:        fairlimit.New(fairlimit.Limits{Units: maxPreviews, PerAccount: maxAccountPreviews, Wait: previewWait}),
		comparisons:     fairlimit.New(fairlimit.Limits{Units: maxComparisons, PerAccount: maxAccountComparisons, Wait: placeWait}),
		comparisonPages: fairlimit.New(fairlimit.Limits{Units: maxComparisonPages, Wait: comparisonTimeout}),
		testSends:       fairlimit.New(fairlimit.Limits{Units: maxTestSends, PerAccount: maxAccountTestSends, Wait: placeWait}),
		testRates:       fairlimit.NewRates(testRate, testBurst),
	}
	cfg.Registerer.MustRegister(
		telemetry.NewPlacesCollector("previews", e.previews),
		telemetry.NewPlacesCollector("comparisons", e.comparisons),
		telemetry.NewPlacesCollector("comparison_pages", e.comparisonPages),
		telemetry.NewPlacesCollector("test_sends", e.testSends),
	)
	return e
}

// acquire waits for a place; what names the operations in the error. Errors: CodeBusy, CodeSuperseded.
func acquire(ctx context.Context, l *fairlimit.Limiter, what, account, caller string) (release func(), err error) {
	release, err = l.Acquire(ctx, account, caller, 1)
	switch {
	case err == nil:
		return release, nil
	case errors.Is(err, fairlimit.ErrSuperseded):
		return nil, &engine.Error{Code: engine.CodeSuperseded, Message: "not run: a newer request of this API key for the same thing took its place"}
	case errors.Is(err, fairlimit.ErrAccountFull):
		what += " of this account"
	}
	return nil, &engine.Error{Code: engine.CodeBusy, Message: "too many " + what + " are running; try again in a moment"}
}

// Subject is what an event is evaluated for: a subscription, stored or assumed, and its compiled
// scripts.
type Subject struct {
	sub     *catalog.CompiledSubscription
	scripts scripteval.Scripts
	assumed bool // there is no such subscription: it has a random secret
	mask    bool // the script does not see the target's URL
	explain bool // the values of the filter's parts are of interest
}

// Outcome is what would happen to an event.
type Outcome struct {
	*scripteval.Outcome
	Dropped string                 // the reason, if the transform drops the event
	Request *engine.AttemptRequest // nil if nothing would be sent
	Script  engine.AttemptScript   // the transform's run
}

// Evaluate returns what would happen to an event: the filter's result, and the request as the
// transform or the payload format makes it, signed. Nothing is stored, counted or sent. A script
// that does not compile does not hide what the other one does. The error is not the scripts'.
func (e *Evaluator) Evaluate(ctx context.Context, s *Subject, ev *engine.Event) (*Outcome, error) {
	r := s.sub
	ran, err := scripteval.Evaluate(ctx, &s.scripts, catalog.ScriptEvent(ev, jsonindex.Value{}), s.explain)
	if err != nil {
		return nil, catalog.ScriptError("transform", r.Redact.ScriptError(err))
	}
	o := &Outcome{Outcome: ran, Dropped: r.Redact.Text(ran.Result.DropMessage())}
	if ran.TransformError != nil {
		ran.TransformError, _ = scripteval.Fault(r.Redact.ScriptError(ran.TransformError))
	}
	if s.scripts.Transform != nil && ran.Matched {
		o.Script = engine.AttemptScript{
			Ref: r.Transform.Ref, Hash: s.scripts.Transform.Hash,
			CPU: ran.Result.CPU, Memory: ran.Result.Memory, Console: r.Redact.Lines(ran.Result.Console),
		}
	}
	if !ran.Matched || ran.TransformError != nil || ran.Result.Dropped {
		return o, nil
	}
	a := &engine.Attempt{Number: 1, At: e.life.Now()}
	out, err := e.request(s, ran, ev, a)
	if err != nil {
		ran.TransformError, err = scripteval.Fault(err)
		return o, err
	}
	e.sender.SignDelivery(out, r, ev, a)
	if outbound.IsPlain(a) {
		a.Request.Body = outbound.RenderPlain(a, ev)
	}
	if s.assumed {
		a.Request.Headers = slices.DeleteFunc(a.Request.Headers, func(h engine.Header) bool { return h.Name == signature.Header })
	}
	if s.mask {
		hideSignatures(r.Sub, a.Request.Headers)
	}
	o.Request = &a.Request
	return o, nil
}

// hideSignatures hides the signatures of a request from users who may not read the secret: they chose
// what was signed, so a target would take it for a delivery.
func hideSignatures(sub *engine.Subscription, headers []engine.Header) {
	signing := []string{signature.Header}
	for _, scheme := range sub.Signatures {
		signing = append(signing, scheme.HeaderName())
	}
	for i := range headers {
		if slices.ContainsFunc(signing, func(name string) bool { return strings.EqualFold(name, headers[i].Name) }) {
			headers[i].Value = engine.RedactedValue
		}
	}
}

// request builds the request, unsigned.
func (e *Evaluator) request(
	s *Subject, ran *scripteval.Outcome, ev *engine.Event, a *engine.Attempt,
) (*outbound.DeliveryRequest, error) {
	if s.scripts.Transform == nil {
		return e.sender.BuildPlain(s.sub, ev, a), nil
	}
	res := ran.Result
	if s.mask && res.Request != nil {
		res.Request = unmask(s.sub, res.Request, &s.scripts.Request)
	}
	return outbound.BuildTransformed(s.sub, &res, a)
}

// compile compiles the scripts of a subscription for Evaluate. Errors of the scripts are in the
// result.
func (e *Evaluator) compile(ctx context.Context, r *catalog.CompiledSubscription, mask bool) (_ *Subject, err error) {
	s := &Subject{sub: r, mask: mask, assumed: r.Sub.ID == 0}
	if s.scripts, err = e.catalog.CompileScripts(ctx, r.Sub.Account, r.Filter.Source, r.Transform.Source); err != nil {
		return nil, catalog.ScriptError("transform", err)
	}
	s.scripts.Request = requestSeen(r, mask)
	return s, nil
}

// requestSeen returns the request as a transform sees it at first, without hidden values: users who
// may preview a script need not know them. With mask the URL is hidden, too, from users who may not
// change the subscription.
func requestSeen(r *catalog.CompiledSubscription, mask bool) scripts.Request {
	req := catalog.RequestOf(r)
	req.Headers = r.Sub.ShownHeaders()
	if mask {
		req.Path = engine.MaskPath(req.Path)
		for name, values := range req.Query {
			req.Query[name] = slices.Repeat([]string{engine.RedactedValue}, len(values))
		}
	}
	return req
}

// unmask restores the parts of the URL whose masks a script left unchanged.
func unmask(r *catalog.CompiledSubscription, made, seen *scripts.Request) *scripts.Request {
	restored, own := *made, catalog.RequestOf(r)
	if made.Path == seen.Path {
		restored.Path = own.Path
	}
	restored.Query = maps.Clone(made.Query)
	for name, values := range made.Query {
		if slices.Equal(values, seen.Query[name]) {
			restored.Query[name] = own.Query[name]
		}
	}
	return &restored
}

// ScriptSource is a source, or a version of a script.
type ScriptSource struct {
	Source string
	Ref    engine.ScriptRef
}

// EventSource says which event is evaluated: one that is stored, a sample of an event type, or Event
// itself.
type EventSource struct {
	EventID    string
	SampleType string
	Event      engine.EventInput
}

// event returns the event, which is validated as when it is published. Errors: CodeInvalid,
// CodeNotFound.
func (e *Evaluator) event(ctx context.Context, account string, from EventSource) (*engine.Event, error) {
	if from.EventID != "" {
		return e.publisher.FindEvent(ctx, account, account, from.EventID)
	}
	in := from.Event
	if from.SampleType != "" {
		kind := e.catalog.LookupEventType(from.SampleType)
		if kind == nil {
			return nil, engine.NotFound("event type", from.SampleType)
		}
		if len(kind.Samples) == 0 {
			return nil, engine.Invalid("sample", "can't be taken: the event type %q has no samples", from.SampleType)
		}
		doc, err := jsonindex.Parse(kind.Samples[0], jsonindex.Limits{})
		if err != nil {
			return nil, err
		}
		in = engine.EventInput{Type: from.SampleType, Data: doc.Root()}
	}
	in.Account = account
	if err := e.publisher.CheckEvent(catalog.NewSchemaDeadline(ctx, e.life), &in); err != nil {
		return nil, engine.FieldsBelow(err, "event")
	}
	at := in.Time
	if at.IsZero() {
		at = e.cfg.Now()
	}
	return &engine.Event{
		ID: e.catalog.NewID(), Key: in.ID, Account: in.Account, Type: in.Type, Time: at.UTC().Truncate(time.Millisecond),
		Headers: in.Headers, Data: in.Data.Raw(),
	}, nil
}

// subscription returns the subscription that events are evaluated for: a stored one, or an assumed
// one, with its scripts replaced by those that are given. Errors: CodeInvalid, CodeNotFound.
func (e *Evaluator) subscription(
	ctx context.Context, account string, id engine.ID, filter, transform *ScriptSource,
) (*catalog.CompiledSubscription, error) {
	var s *engine.Subscription
	if id != 0 {
		stored, err := e.catalog.Subscription(account, id)
		if err != nil {
			return nil, err
		}
		s = stored.Clone()
	} else {
		secret, err := signature.NewSecret(signature.HMAC)
		if err != nil {
			return nil, err
		}
		if account == "" {
			account = engine.DefaultAccount
		}
		s = &engine.Subscription{
			Account: account, TargetURL: catalog.PreviewTarget, Secret: secret, Active: true, PayloadFormat: engine.FormatStandard,
		}
	}
	if filter != nil {
		s.Filter, s.FilterScript = strings.TrimSpace(filter.Source), filter.Ref
	}
	if transform != nil {
		s.Transform, s.TransformScript = transform.Source, transform.Ref
	}
	if _, err := e.catalog.CheckScriptUse(ctx, s, engine.KindFilter, s.Filter, s.FilterScript); err != nil {
		return nil, err
	}
	if _, err := e.catalog.CheckScriptUse(ctx, s, engine.KindTransform, s.Transform, s.TransformScript); err != nil {
		return nil, err
	}
	r := e.catalog.CompileSubscription(s)
	return r, errors.Join(r.Filter.Err, r.ConfigErr)
}
