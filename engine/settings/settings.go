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

// Transformer compiles and runs transforms. Errors that are the script's own are
// *scripts.Error.
type Transformer interface {
	// Compile checks a source and makes of it what Run takes.
	Compile(ctx context.Context, source string) (*scripts.Program, error)
	// Run returns the request that a program makes of an event; req is what would be sent without it.
	Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error)
}

// Config is what an Engine works with. Zero fields take the default named.
type Config struct {
	Store       engine.Store          // required
	Transformer Transformer           // required
	Guard       *target.Guard         // checks target URLs; target.NewGuard of the zero Policy
	Transport   http.RoundTripper     // sends deliveries; target.Transport over Guard
	Logger      *slog.Logger          // slog.Default()
	Registerer  prometheus.Registerer // takes the metrics; a registry of its own

	Now  func() time.Time // time.Now
	Node int              // 0 to 255, part of every id made here

	Retries              engine.RetrySchedule // DefaultRetrySchedule
	Timeout              time.Duration        // of one attempt: connection, answer and its body; 15 s
	InFlight             int                  // attempts at the same time; 512
	SubscriptionInFlight int                  // attempts at the same time of one subscription; 16
	DeactivateAfter      time.Duration        // of nothing but failure a subscription is switched off; 0 is never
	LogDeliveries        bool                 // log every event and attempt in a short line, for development
	Retention            engine.Retention     // of accounts that have none of their own; zero: for ever
	PruneEvery           time.Duration        // between two looks for what retention may remove; 10 s
	KeepAudit            time.Duration        // of entries of the audit log; 0: for ever
	KeepBytes            int64                // most that the store may hold; 0: no limit
	MinFreeDisk          int64                // bytes; with less, events are refused; 0: none
	MaxBacklog           int64                // deliveries that wait; with more, events are refused; 0: no limit
	StrictTypes          bool                 // refuse events whose type is not in the catalog
	Quota                engine.Quota         // of each account that has none of its own; no limits
	UserAgent            string               // "Switchhook"
	MetricsAccounts      int                  // accounts with metrics of their own, the busiest; none
	Tracer               trace.Tracer         // makes spans, see tracing; none

	PublicURL         string        // under which receivers reach the API, for the URLs in skinny payloads; "http://localhost"
	SkinnyTokenTTL    time.Duration // how long such a URL is good, from the attempt on; 1 h
	CloudEventsSource string        // before "/accounts/…", of events that came in without one; cloudevents.DefaultSource
	Origin            string        // how targets that are asked for their consent know us; "switchhook"
	VerifyWithin      time.Duration // time that a target has to confirm; 1 h
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
