// Package settings holds the configuration of the router with its defaults.
package settings

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"switchhook/engine"
	"switchhook/engine/cloudevents"
	"switchhook/engine/target"
	"switchhook/scripts"
)

// Transformer compiles and runs transforms. Errors of the script are *scripts.Error.
type Transformer interface {
	// Compile compiles a source for Run.
	Compile(ctx context.Context, source string) (*scripts.Program, error)
	// Run runs a program on an event and returns the request; req is what would be sent without it.
	Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error)
}

// Config is the configuration of an Engine. Zero fields take the default in their comment.
type Config struct {
	Store       engine.Store          // required
	Transformer Transformer           // required
	Guard       *target.Guard         // checks target URLs; target.NewGuard of the zero Policy
	Transport   http.RoundTripper     // sends deliveries; target.Transport over Guard
	Logger      *slog.Logger          // slog.Default()
	Registerer  prometheus.Registerer // registers the metrics; a registry of its own

	Now  func() time.Time // time.Now
	Node engine.NodeID    // part of every id made here; 0

	Retries              engine.RetrySchedule // DefaultRetrySchedule
	Timeout              time.Duration        // of one attempt: connection, response and its body; 15 s
	InFlight             int                  // concurrent attempts; 512
	SubscriptionInFlight int                  // concurrent attempts of one subscription; 16
	DeactivateAfter      time.Duration        // a subscription that only failed for this time is deactivated; 0: never
	LogDeliveries        bool                 // log every event and attempt in a short line, for development
	Retention            engine.Retention     // of accounts without their own; zero: forever
	PruneEvery           time.Duration        // interval of retention; 10 s
	KeepAudit            time.Duration        // retention of audit entries; 0: forever
	KeepBytes            int64                // maximum size of the store; 0: no limit
	MinFreeDisk          int64                // bytes; with less, events are rejected; 0: none
	MaxBacklog           int64                // waiting deliveries; with more, events are rejected; 0: no limit
	StrictTypes          bool                 // reject events whose type is not registered
	Quota                engine.Quota         // of accounts without their own; no limits
	UserAgent            string               // "Switchhook"
	MetricsAccounts      int                  // number of accounts with their own metrics, the busiest; none
	Tracer               trace.Tracer         // creates spans, see telemetry.Tracing; none

	PublicURL         string        // base of the URLs in skinny payloads, under which receivers reach the API; "http://localhost"
	SkinnyTokenTTL    time.Duration // validity of such a URL, from the attempt on; 1 h
	CloudEventsSource string        // before "/accounts/…", for events published without one; cloudevents.DefaultSource
	Origin            string        // the router's name in verification requests; "switchhook"
	VerifyWithin      time.Duration // time limit for a target to confirm; 1 h
	VerifyWait        time.Duration // how long a change waits for a target to confirm; 3 s
}

// Defaults fills zero fields with their defaults.
func (c *Config) Defaults() {
	if c.Guard == nil {
		c.Guard = target.NewGuard(target.Policy{})
	}
	if c.SubscriptionInFlight == 0 {
		c.SubscriptionInFlight = 16
	}
	if c.InFlight == 0 {
		c.InFlight = 512
	}
	if c.Transport == nil {
		c.Transport = target.Transport(c.Guard, c.InFlight)
	}
	if c.PruneEvery == 0 {
		c.PruneEvery = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Retries == nil {
		c.Retries = engine.DefaultRetrySchedule
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.UserAgent == "" {
		c.UserAgent = "Switchhook"
	}
	if c.PublicURL == "" {
		c.PublicURL = "http://localhost"
	}
	if c.SkinnyTokenTTL == 0 {
		c.SkinnyTokenTTL = time.Hour
	}
	if c.CloudEventsSource == "" {
		c.CloudEventsSource = cloudevents.DefaultSource
	}
	c.CloudEventsSource = strings.TrimRight(c.CloudEventsSource, "/")
	if c.Origin == "" {
		c.Origin = "switchhook"
	}
	if c.VerifyWithin == 0 {
		c.VerifyWithin = time.Hour
	}
	if c.VerifyWait == 0 {
		c.VerifyWait = 3 * time.Second
	}
}
