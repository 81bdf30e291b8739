// Package settings holds the configuration of the router with its defaults.
package settings

import (
	"cmp"
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

// MinRetryWait is the default of Config.MinRetryWait. With less, one failing event would become a
// flood: a schedule has up to 50 attempts.
const MinRetryWait = time.Second

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
	MinRetryWait         time.Duration        // shortest time between two attempts of a delivery; 1 s
	Timeout              time.Duration        // of one attempt: connection, response and its body; 15 s
	InFlight             int                  // concurrent attempts; 512
	SubscriptionInFlight int                  // concurrent attempts of one subscription; 16
	QueueEntries         int                  // deliveries that wait in memory, over all accounts; 200,000
	QueueBytes           int64                // bytes of their events; 64 MiB
	RequestBytes         int64                // bytes of requests in flight; 64 MiB
	HostInFlight         int                  // concurrent attempts of one account to one host; 256
	HostRate             int                  // attempts a second of one account to one host; 0: no limit
	DeactivateAfter      time.Duration        // a subscription that only failed for this time is deactivated; 0: never
	LogDeliveries        bool                 // log every event and attempt in a short line, for development
	Retention            engine.Retention     // of accounts without their own; zero: forever
	PruneEvery           time.Duration        // interval of retention; 10 s
	KeepAudit            time.Duration        // retention of audit entries; 0: forever
	MaxCatalogBytes      int64                // estimated memory of subscriptions, scripts and event types; one account gets a quarter; 0: no limit
	KeepBytes            int64                // maximum size of the store; 0: no limit
	MinFreeDisk          int64                // bytes; with less, events are rejected; 0: none
	MaxBacklog           int64                // waiting deliveries; with more, events are rejected; 0: no limit
	MaxHops              int                  // of an event, see engine.Event.Hops; with more, it is rejected; 5
	ChainedRate          int                  // events a second of one account that came through two or more deliveries; 0: no limit
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
	c.SubscriptionInFlight = cmp.Or(c.SubscriptionInFlight, 16)
	c.InFlight = cmp.Or(c.InFlight, 512)
	c.RequestBytes = cmp.Or(c.RequestBytes, 64<<20)
	c.HostInFlight = cmp.Or(c.HostInFlight, 256)
	c.MaxHops = cmp.Or(c.MaxHops, 5)
	c.QueueEntries = cmp.Or(c.QueueEntries, 200_000)
	c.QueueBytes = cmp.Or(c.QueueBytes, 64<<20)
	if c.Transport == nil {
		c.Transport = target.Transport(c.Guard, c.InFlight)
	}
	c.PruneEvery = cmp.Or(c.PruneEvery, 10*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Retries == nil {
		c.Retries = engine.DefaultRetrySchedule
	}
	c.MinRetryWait = cmp.Or(c.MinRetryWait, MinRetryWait)
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	c.UserAgent = cmp.Or(c.UserAgent, "Switchhook")
	c.PublicURL = cmp.Or(c.PublicURL, "http://localhost")
	c.SkinnyTokenTTL = cmp.Or(c.SkinnyTokenTTL, time.Hour)
	c.CloudEventsSource = strings.TrimRight(cmp.Or(c.CloudEventsSource, cloudevents.DefaultSource), "/")
	c.Origin = cmp.Or(c.Origin, "switchhook")
	c.VerifyWithin = cmp.Or(c.VerifyWithin, time.Hour)
	c.VerifyWait = cmp.Or(c.VerifyWait, 3*time.Second)
}
