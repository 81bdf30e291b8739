package cmd

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"switchhook/engine/telemetry"
)

// spans sends the engine's spans to an OpenTelemetry collector. It never blocks the engine:
// spans that the collector does not accept in time are lost, which is logged. A nil spans
// traces nothing.
type spans struct{ provider *sdktrace.TracerProvider }

// startTracing starts tracing if an endpoint is given, by the flag or by the variables of
// the OpenTelemetry specification. It returns nil if there is none, or if the variables
// disable tracing.
func startTracing(ctx context.Context, endpoint string, log *slog.Logger) (*spans, error) {
	given := cmp.Or(endpoint, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if given == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	if protocol != "http/protobuf" {
		return nil, fmt.Errorf("the environment asks for OTLP by %q: this program speaks http/protobuf only, so set OTEL_EXPORTER_OTLP_PROTOCOL to that and the endpoint to the collector's HTTP port (4318 by default)", protocol)
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError("--otlp-endpoint, or OTEL_EXPORTER_OTLP_ENDPOINT: give a URL such as http://127.0.0.1:4318") // it may hold a credential
	}
	var options []otlptracehttp.Option // the exporter reads the environment itself
	if endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(u.JoinPath("v1/traces").String()))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("tracing", "error", withoutURL(err))
	}))
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", withoutURL(err))
	}
	// The environment's description of this process overrides ours.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "switchhook"), attribute.String("service.version", Version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	log.Info("tracing", "collector", u.Host)
	return &spans{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithIDGenerator(traceIDs{}),
	)}, nil
}

// withoutURL removes the URL from an HTTP client's error: its query may contain a key.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// tracer returns the tracer for the engine; nil if tracing is off.
func (s *spans) tracer() trace.Tracer {
	if s == nil {
		return nil
	}
	return s.provider.Tracer("switchhook", trace.WithInstrumentationVersion(Version))
}

// lastSpans bounds how long an unresponsive collector delays the exit.
const lastSpans = 5 * time.Second

// close sends the remaining spans until ctx ends.
func (s *spans) close(ctx context.Context, log *slog.Logger) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastSpans)
	defer cancel()
	if err := s.provider.Shutdown(ctx); err != nil { // not an error: no user data is lost
		log.Warn("spans lost", "error", withoutURL(err))
	}
}

// traceIDs generates random ids, except for traces whose id the engine sets.
type traceIDs struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g traceIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := telemetry.RequestedTrace(ctx)
	for !ok {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
		ok = id.IsValid()
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (traceIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
