package telemetry

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/fifo"
	"switchhook/engine/retry"
	"switchhook/scripts"
)

// maxTraces is the number of events whose traces are remembered; each takes about 100 bytes.
const maxTraces = 50_000

// Tracing creates the spans of an event: publish, with commit below it; for each attempt deliver,
// with transform and POST below it. A deliver span belongs to the trace of the publish span and
// links to it, as long as that is remembered. After a restart, or 50,000 events later, the attempts
// of an event share a trace whose id derives from the event's: traces are not stored.
//
// A nil Tracing creates no spans: all methods may be called, at almost no cost.
type Tracing struct {
	tracer trace.Tracer

	mu     sync.Mutex
	origin map[engine.ID]trace.SpanContext // of the publish span
	order  fifo.Queue[engine.ID]
}

// NewTracing returns a Tracing that creates spans with t; nil if t is nil.
func NewTracing(t trace.Tracer) *Tracing {
	if t == nil {
		return nil
	}
	return &Tracing{tracer: t, origin: map[engine.ID]trace.SpanContext{}}
}

// TraceparentHeader is the header of W3C Trace Context.
const TraceparentHeader = "traceparent"

// requestedTrace is the context key of a trace id, see RequestedTrace.
type requestedTrace struct{}

// RequestedTrace returns the id for a new trace that begins under ctx; ok is false if any will do.
// It is for the id generator of Config.Tracer.
func RequestedTrace(ctx context.Context) (id trace.TraceID, ok bool) {
	id, ok = ctx.Value(requestedTrace{}).(trace.TraceID)
	return id, ok
}

// EventTrace returns the trace id for attempts of an event whose publish span is no longer known.
func EventTrace(event engine.ID) (id trace.TraceID) {
	sum := sha256.Sum256([]byte("switchhook trace of " + event.Format(engine.EventPrefix)))
	copy(id[:], sum[:])
	return id
}

// Start starts a span below that of ctx; the span is nil if nothing is traced.
func (t *Tracing) Start(ctx context.Context, name string) (context.Context, trace.Span) {
	if t == nil {
		return ctx, nil
	}
	return t.tracer.Start(ctx, name)
}

// EndSpan ends a span that Start started. The problem is a single word: an error's text may quote a
// payload.
func EndSpan(span trace.Span, problem string) {
	if span == nil {
		return
	}
	if problem != "" {
		span.SetStatus(codes.Error, problem)
		span.SetAttributes(attribute.String("error.type", problem))
	}
	span.End()
}

// Publish starts the span of a Publish.
func (t *Tracing) Publish(ctx context.Context, inputs []engine.EventInput) (context.Context, trace.Span) {
	ctx, span := t.tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("switchhook.events", len(inputs)))
	}
	return ctx, span
}

// Published ends the span of a Publish.
func (t *Tracing) Published(span trace.Span, inputs []engine.EventInput, accepted []engine.Accepted, err error) {
	if span.IsRecording() {
		matched := 0
		for _, a := range accepted {
			matched += a.Matched
		}
		span.SetAttributes(attribute.Int("switchhook.matched", matched))
		if len(accepted) == 1 {
			span.SetAttributes(
				attribute.String("switchhook.event_id", accepted[0].ID.Format(engine.EventPrefix)),
				attribute.String("switchhook.event_type", inputs[0].Type), attribute.String("switchhook.account", inputs[0].Account),
				attribute.Bool("switchhook.repeated", accepted[0].Repeated),
			)
		}
	}
	EndSpan(span, TraceProblem(err))
}

// TraceProblem returns the word for an error.
func TraceProblem(err error) string {
	if err == nil {
		return ""
	}
	if code := engine.ErrorCode(err); code != "" {
		return string(code)
	}
	return "internal"
}

// ScriptProblem returns the phase in which a script failed.
func ScriptProblem(err error) string {
	var se *scripts.Error
	if errors.As(err, &se) {
		return string(se.Phase)
	}
	return TraceProblem(err)
}

// Remember stores the span under which an event was published.
func (t *Tracing) Remember(event engine.ID, ctx context.Context) {
	if t == nil {
		return
	}
	origin := trace.SpanContextFromContext(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.order.Len() == maxTraces {
		delete(t.origin, t.order.Pop())
	}
	t.origin[event] = origin
	t.order.Push(event)
}

func (t *Tracing) originOf(event engine.ID) trace.SpanContext {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.origin[event]
}

// Deliver starts the span of an attempt; number is that of the first delivery.
func (t *Tracing) Deliver(sub *engine.Subscription, p *dispatchqueue.Batch, number int) (context.Context, trace.Span) {
	ctx := context.Background()
	if t == nil {
		return ctx, nil
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
	for i := range p.Len() {
		if origin := t.originOf(p.At(i).Event); origin.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: origin}))
		}
	}
	if origin := t.originOf(p.First.Event); origin.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, origin)
	} else {
		ctx = context.WithValue(ctx, requestedTrace{}, EventTrace(p.First.Event))
	}
	ctx, span := t.tracer.Start(ctx, "deliver", options...)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("switchhook.delivery_id", engine.DeliveryID{Event: p.First.Event, Subscription: sub.ID}.String()),
			attribute.String("switchhook.event_id", p.First.Event.Format(engine.EventPrefix)),
			attribute.String("switchhook.subscription_id", sub.ID.Format(engine.SubscriptionPrefix)),
			attribute.String("switchhook.account", sub.Account),
			attribute.Int("switchhook.attempt", number), attribute.Int("switchhook.deliveries", p.Len()),
		)
	}
	return ctx, span
}

// Delivered ends the span of an attempt.
func (t *Tracing) Delivered(span trace.Span, a *engine.Attempt, result engine.State) {
	if t == nil {
		return
	}
	span.SetAttributes(attribute.String("switchhook.result", result.String()))
	problem := ""
	if result == engine.StateRetrying || result == engine.StateDead {
		problem = a.Phase
	}
	EndSpan(span, problem)
}

// Send starts the span of a request to a target, and sends its traceparent, unless the subscription
// or its transform sets one. It records only host and port of the URL: the rest may contain a
// secret.
func (t *Tracing) Send(ctx context.Context, method string, target *url.URL, headers http.Header) (context.Context, trace.Span) {
	if t == nil {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", method), attribute.String("server.address", target.Hostname()))
		if port, err := strconv.Atoi(target.Port()); err == nil {
			span.SetAttributes(attribute.Int("server.port", port))
		}
	}
	if !engine.HasHeader(headers, "Traceparent") {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		if value := carrier[TraceparentHeader]; value != "" {
			headers["Traceparent"] = []string{value}
		}
	}
	return ctx, span
}

// Sent ends the span of a request.
func (t *Tracing) Sent(span trace.Span, x retry.Result, a *engine.Attempt) {
	if t == nil {
		return
	}
	phase := a.Phase
	if a.Resent {
		span.SetAttributes(attribute.Int("http.request.resend_count", 1))
	}
	if x.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", x.Status))
		if x.Status >= 400 {
			phase = strconv.Itoa(x.Status)
		}
	}
	EndSpan(span, phase)
}
