package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lmittmann/tint"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/cloudevents"
	"switchhook/engine/outbound"
	"switchhook/engine/router"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/server"
	"switchhook/server/dialect"
)

type serveCommand struct {
	Listen string `help:"Address to listen on." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	Data   string `help:"Folder of the database; created if it is missing." default:"switchhook-data" type:"path" placeholder:"DIR"`
	Dev    bool   `help:"For development: targets on this machine are allowed, logs are readable, sample event types are registered, and the admin key is printed."`

	NewDatabase bool `env:"-" help:"Start with an empty database in a data folder that had one before. Without this flag a missing or empty database is an error there."`

	AdminKey        secret `help:"Admin API key to accept. By default the first start makes one and writes it to admin.key in the data folder." placeholder:"KEY"`
	encryptionFlags `embed:""`

	StrictTypes  bool          `help:"Refuse events whose type is not registered."`
	MaxBody      int           `help:"Maximum body of a request in bytes." default:"1048576" placeholder:"BYTES" min:"1024" max:"1073741824"`
	MaxBodies    int64         `help:"Maximum memory for the bodies of all requests in progress, in bytes; an account may use an eighth. Bodies up to 16 KiB are not counted." default:"67108864" placeholder:"BYTES" min:"1048576" max:"1099511627776"`
	MaxResponses int64         `name:"max-response-bytes" help:"Maximum memory for the responses to requests that read, in bytes; an account may use a quarter." default:"67108864" placeholder:"BYTES" min:"16777216" max:"1099511627776"`
	MaxConns     int           `name:"max-connections" help:"Maximum concurrent connections to the API; at the limit the longest idle ones are closed. 0 is half the limit of open files, at most 4096." default:"0" placeholder:"N" min:"0" max:"1000000"`
	AddressConns int           `name:"max-connections-per-address" help:"Maximum concurrent connections of one client address, or /64 for IPv6; proxies in --trusted-proxies have no such limit. 0 is half of --max-connections." default:"0" placeholder:"N" min:"0" max:"1000000"`
	MaxHops      int           `help:"Maximum deliveries, one after the other, that lead to an event: beyond it, publishing is refused as a loop." default:"5" placeholder:"N" min:"1" max:"1000"`
	ChainedRate  int           `help:"Maximum events a second of one account that came through two or more deliveries, as in a loop or a chain of routers; 0 is no limit." default:"100" placeholder:"N" min:"0" max:"1000000"`
	CommitPace   time.Duration `help:"Minimum time between two commits: 0s gives the lowest latency, a longer time more events a second." default:"1ms" min:"0s" max:"1s"`

	targetFlags `embed:""`
	accessFlags `embed:""`

	AllowQueryKey bool     `help:"Also accept API keys in ?api_key=. URLs end up in proxy logs: use it only for clients that can't send a header."`
	CORSOrigins   []string `name:"cors-origins" help:"Origins whose pages may call the API (CORS), such as https://app.example.com or https://*.example.com; '*' for all." placeholder:"ORIGIN"`

	Dialects        string   `help:"Folder with dialects: the subscription APIs of other services, one YAML file each. Changed files are reloaded." type:"path" placeholder:"DIR"`
	DialectsBuiltin []string `help:"Built-in dialects to serve; 'none' for none." default:"express-demo,django-rest-hooks" placeholder:"NAME"`

	Timeout              time.Duration   `help:"Timeout of an attempt: transform, connection and response." default:"15s" min:"100ms" max:"1h"`
	Retries              []time.Duration `help:"Wait before each attempt; the first is 0s. After the last one the delivery is dead." default:"0s,5s,5m,30m,2h,5h,10h,14h,20h,24h" placeholder:"DURATION" min:"0s" max:"8760h"`
	InFlight             int             `help:"Maximum concurrent attempts; 0 is a quarter of the limit of open files, at most 2048." default:"0" placeholder:"N" min:"0" max:"100000"`
	RequestBytes         int64           `help:"Maximum bytes of the requests of concurrent attempts; attempts beyond it wait." default:"67108864" placeholder:"BYTES" min:"4194304" max:"1125899906842624"`
	SubscriptionInFlight int             `help:"Maximum concurrent attempts of one subscription." default:"16" placeholder:"N" min:"1" max:"10000"`
	QueueEntries         int             `help:"Maximum deliveries that wait in memory, over all accounts; the rest waits in the database." default:"200000" placeholder:"N" min:"1000" max:"100000000"`
	QueueBytes           int64           `help:"Maximum bytes of the events that wait in memory; those of the rest are read from the database when their turn comes." default:"67108864" placeholder:"BYTES" min:"1048576" max:"1125899906842624"`
	HostInFlight         int             `help:"Maximum concurrent attempts of one account to one host, over all its subscriptions." default:"256" placeholder:"N" min:"1" max:"100000"`
	HostRate             int             `help:"Maximum attempts a second of one account to one host; 0 is no limit." default:"0" placeholder:"N" min:"0" max:"1000000"`
	DeactivateAfter      time.Duration   `help:"Deactivate a subscription whose target has failed for this time without a success; 0s is never." default:"120h" placeholder:"DURATION" min:"0s" max:"87600h"`
	SandboxProcesses     int             `help:"Processes that run transforms; 0 is the number of CPUs plus one." default:"0" placeholder:"N" min:"0" max:"1024"`
	DrainTime            time.Duration   `help:"Maximum time that a shutdown waits for requests and attempts in flight." default:"25s" min:"1ms" max:"24h"`

	KeepSucceeded   time.Duration `help:"Retention of events whose deliveries all succeeded or were dropped; 0s is forever. Accounts can have their own." default:"168h" min:"0s" max:"876000h"`
	KeepDead        time.Duration `help:"Retention of events with a dead letter; 0s is forever." default:"720h" min:"0s" max:"876000h"`
	KeepAudit       time.Duration `help:"Retention of the audit log; 0s is forever." default:"9600h" min:"0s" max:"876000h"`
	KeepBytes       int64         `help:"Maximum size of the database in bytes: near the limit, finished events of the accounts that store the most are removed early; at it, these accounts are refused. 0 is no limit." default:"0" placeholder:"BYTES" min:"0" max:"1125899906842624"`
	MinFreeDisk     int64         `help:"Refuse events of the accounts that store the most while the disk of the database has fewer free bytes, and all events below half of it." default:"268435456" placeholder:"BYTES" min:"0" max:"1125899906842624"`
	MaxCatalogBytes int64         `help:"Maximum memory of subscriptions, scripts with their test cases, and event types, as the router estimates it; one account gets a quarter of it. 0 is no limit." default:"134217728" placeholder:"BYTES" min:"0" max:"1125899906842624"`
	MaxBacklog      int64         `help:"Maximum waiting deliveries: above it, events of the accounts with the largest backlog are refused. 0 is no limit." default:"10000000" placeholder:"N" min:"0" max:"1000000000000"`

	PublicURL         string        `help:"URL under which receivers and clients reach this router, for the URLs in skinny payloads and the paths in answers; by default the address it listens on." placeholder:"URL"`
	SkinnyTokenTTL    time.Duration `name:"skinny-token-ttl" help:"How long the URL in a skinny payload is valid after its attempt." default:"1h" min:"1s" max:"8760h"`
	CloudEventsSource string        `name:"cloudevents-source" help:"Beginning of the source of CloudEvents that go out; \"/accounts/\" and the account follow." default:"/switchhook" placeholder:"URI"`
	WebhookOrigin     string        `help:"Name of this router in verification requests of CloudEvents targets (WebHook-Request-Origin), such as its host name." default:"switchhook" placeholder:"NAME"`

	LogLevel  slog.Level `help:"Minimum log level: debug, info, warn or error." default:"info"`
	LogFormat string     `help:"Log format: json, text (name=value) or console (for terminals); by default json, with --dev console." enum:"json,text,console," default:"" placeholder:"FORMAT"`
	AccessLog bool       `help:"Log every request: method, path, status, duration, the key's id."`

	MetricsListen   string `help:"Address to serve /metrics on, without a key; the API's own /metrics then needs an admin key." default:"" placeholder:"HOST:PORT"`
	OTLPEndpoint    string `name:"otlp-endpoint" help:"Trace events, and send the spans to this OpenTelemetry collector by OTLP over HTTP; OTEL_EXPORTER_OTLP_ENDPOINT does the same." default:"" placeholder:"URL"`
	MetricsAccounts int    `help:"Number of accounts, the busiest, with metrics of their own; the API's /metrics then needs an admin key." default:"0" placeholder:"N" min:"0" max:"1000"`

	unknown []string // unknown environment variables, described
}

// Run serves until a signal arrives.
func (c *serveCommand) Run(ctx context.Context) error {
	// Messages of libraries to the standard logger are dropped: net/http quotes there what
	// targets send unasked.
	stdlog.SetOutput(io.Discard)
	cfg, err := c.config()
	if err != nil {
		return &statusError{usageStatus, err}
	}
	out := newLogWriter(os.Stderr, c.logHandler)
	defer out.flush()
	cfg.log = slog.New(c.logHandler(out))
	for i, variable := range c.unknown {
		if i == mostUnknown {
			cfg.log.Warn("more environment variables without effect", "variables", len(c.unknown)-i)
			break
		}
		cfg.log.Warn("environment variable without effect: no flag has this name", "variable", variable)
	}
	reload := make(chan func())
	ctx, end := catchSignals(ctx, cfg.log, reload)
	defer end(nil)
	r, err := startRouter(ctx, cfg)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, r, out); err != nil {
		return errors.Join(err, r.close())
	}
	r.serve()
	select {
	case reload <- r.reload:
	case <-ctx.Done():
	}
	r.log.Info("listening", "url", r.url(), "data", c.Data, "version", Version)
	select {
	case <-ctx.Done():
		r.log.Info("stopping: waiting for requests and attempts in flight; a second signal ends at once", "why", context.Cause(ctx).Error())
	case err = <-r.served:
	}
	err = errors.Join(err, r.close())
	if err == nil {
		r.log.Info("stopped")
	}
	return err
}

// config validates the flags; errors name them.
func (c *serveCommand) config() (cfg processConfig, err error) {
	cfg = processConfig{
		folder: c.Data, newDatabase: c.NewDatabase, secrets: c.encryptionFlags, listen: c.Listen,
		pace: c.CommitPace, children: c.SandboxProcesses, drain: c.DrainTime,
		metricsListen: c.MetricsListen, accessLog: c.AccessLog, otlpEndpoint: c.OTLPEndpoint,
	}
	if cfg.policy, err = c.policy(c.Dev); err != nil {
		return cfg, err
	}
	if cfg.server.TrustedProxies, err = prefixes("--trusted-proxies", c.TrustedProxies); err != nil {
		return cfg, err
	}
	if cfg.certificate, err = c.certificate(); err != nil {
		return cfg, err
	}
	if err := server.CheckOrigins(c.CORSOrigins, c.AllowQueryKey); err != nil {
		return cfg, fmt.Errorf("--cors-origins: %w", err)
	}
	if cfg.dialects, cfg.builtIn = c.Dialects, c.DialectsBuiltin; slices.Equal(cfg.builtIn, []string{"none"}) {
		cfg.builtIn = nil
	}
	for _, name := range cfg.builtIn {
		if !slices.Contains(dialect.BuiltIn(), name) {
			return cfg, fmt.Errorf("--dialects-builtin: %.60q is not a built-in dialect; use %s, or none", name, strings.Join(dialect.BuiltIn(), ", "))
		}
	}
	cfg.server.AllowQueryKey, cfg.server.Origins, cfg.server.MaxBody = c.AllowQueryKey, c.CORSOrigins, c.MaxBody
	cfg.server.MaxBodies, cfg.server.MaxAddressConns, cfg.server.MaxResponses = c.MaxBodies, c.AddressConns, c.MaxResponses
	if cfg.server.MaxConns = c.MaxConns; c.MaxConns == 0 {
		cfg.server.MaxConns = maxConns(openFilesLimit())
	}
	if c.PublicURL != "" {
		if err := outbound.CheckPublicURL(c.PublicURL); err != nil {
			return cfg, fmt.Errorf("--public-url: %w", err)
		}
		if u, err := url.Parse(c.PublicURL); err == nil {
			cfg.server.PathPrefix = strings.TrimRight(u.EscapedPath(), "/")
		}
		if !c.AllowPublic {
			if cfg.policy.Public, err = target.Parse(c.PublicURL); err != nil {
				return cfg, fmt.Errorf("--public-url: %w", err)
			}
		}
	}
	if err := cloudevents.CheckSource(c.CloudEventsSource); err != nil {
		return cfg, fmt.Errorf("--cloudevents-source: %w", err)
	}
	if len(c.Retries) > mostRetries {
		return cfg, fmt.Errorf("--retries has %d entries, must have %d at most", len(c.Retries), mostRetries)
	}
	if c.Retries[0] != 0 {
		return cfg, fmt.Errorf("--retries begins with %s: the first attempt is made at once, so begin with 0s", c.Retries[0])
	}
	for i, wait := range c.Retries[1:] {
		if wait < settings.MinRetryWait {
			return cfg, fmt.Errorf("--retries waits %s before attempt %d, must wait %s at least", wait, i+2, settings.MinRetryWait)
		}
	}
	if c.KeepBytes > 0 && c.KeepBytes < leastKeepBytes {
		return cfg, fmt.Errorf("--keep-bytes is %d, must be 0 (no limit) or %d at least", c.KeepBytes, leastKeepBytes)
	}
	if c.WebhookOrigin == "" || strings.ContainsFunc(c.WebhookOrigin, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return cfg, fmt.Errorf("--webhook-origin is %q, must be a name without spaces, such as hooks.example.com", c.WebhookOrigin)
	}
	cfg.engine = settings.Config{
		Retries: c.Retries, Timeout: c.Timeout, DeactivateAfter: c.DeactivateAfter,
		InFlight: cmp.Or(c.InFlight, defaultInFlight(openFilesLimit())), SubscriptionInFlight: c.SubscriptionInFlight,
		RequestBytes: c.RequestBytes,
		QueueEntries: c.QueueEntries, QueueBytes: c.QueueBytes, HostInFlight: c.HostInFlight, HostRate: c.HostRate,
		MaxHops: c.MaxHops, ChainedRate: c.ChainedRate, StrictTypes: c.StrictTypes, LogDeliveries: c.Dev, Origin: c.WebhookOrigin,
		Retention: engine.Retention{Succeeded: c.KeepSucceeded, Dead: c.KeepDead}, KeepAudit: c.KeepAudit,
		KeepBytes: c.KeepBytes, MaxCatalogBytes: c.MaxCatalogBytes, MinFreeDisk: c.MinFreeDisk, MaxBacklog: c.MaxBacklog, Quota: c.quota(),
		PublicURL: c.PublicURL, SkinnyTokenTTL: c.SkinnyTokenTTL, CloudEventsSource: c.CloudEventsSource,
		MetricsAccounts: c.MetricsAccounts,
	}
	return cfg, err
}

// mostInFlight is the largest default of --in-flight. More helps only accounts with very many slow
// targets.
const mostInFlight = 2048

// defaultInFlight returns the maximum number of attempts in flight, such that files are left for
// the API, idle connections to targets, the database and the sandbox.
func defaultInFlight(openFiles uint64) int {
	if openFiles == 0 || openFiles > 4*mostInFlight {
		return mostInFlight
	}
	return max(1, int(openFiles/4))
}

// maxConns returns the maximum number of connections to the API, such that files are left
// for deliveries, the database and the sandbox.
func maxConns(openFiles uint64) int {
	if openFiles == 0 || openFiles > 2*server.DefaultMaxConns {
		return server.DefaultMaxConns
	}
	return max(1, int(openFiles/2))
}

// Limits other than a simple range; those are tags of the flags.
const (
	mostRetries    = 50
	mostUnknown    = 20 // environment variables named in the log
	leastKeepBytes = 1 << 20
)

// logHandler returns the handler for the log format that the flags select.
func (c *serveCommand) logHandler(out io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	switch {
	case c.LogFormat == "console" || c.LogFormat == "" && c.Dev:
		return tint.NewTextHandler(out, &tint.Options{Level: c.LogLevel, TimeFormat: time.TimeOnly, NoColor: !coloursOn(os.Stderr)})
	case c.LogFormat == "text":
		return slog.NewTextHandler(out, options)
	}
	return slog.NewJSONHandler(out, options)
}

// prepare ensures that there is an admin key and, in development, the sample event types.
func (c *serveCommand) prepare(ctx context.Context, r *routerProcess, out io.Writer) error {
	key, err := adminKey(ctx, r.engine, c.Data, string(c.AdminKey))
	if err != nil {
		return err
	}
	switch {
	case c.AdminKey != "":
	case key != "":
		r.log.Info("admin key", "file", keyFile(c.Data))
	default:
		r.log.Warn("the admin key is unknown: the file does not hold one of this database; --admin-key adds another", "file", keyFile(c.Data))
	}
	if !c.Dev {
		return nil
	}
	if err := registerSamples(ctx, r.engine); err != nil {
		return err
	}
	if key == "" {
		key = "unknown: it was made before, and is not in " + keyFile(c.Data) + "; SWITCHHOOK_ADMIN_KEY adds another"
	}
	fmt.Fprintf(out, "\n  Switchhook %s\n  page       %s\n  API        %s/api/v1\n  admin key  %s\n\n", Version, r.url(), r.url(), key)
	return nil
}

func keyFile(folder string) string { return filepath.Join(folder, "admin.key") }

const adminKeyName = "admin" // its name

// adminKey returns the text of an admin key: the given one, which is stored if it is new,
// the one in the data folder, or a new one on the first start. It is empty if keys exist
// and none of them is known on this machine.
func adminKey(ctx context.Context, e *router.Engine, folder, given string) (string, error) {
	if given != "" {
		known, err := e.Authenticate(given)
		switch {
		case err == nil && !known.Admin:
			return "", errors.New("--admin-key: this key exists, but is not an admin key")
		case err == nil:
			return given, nil
		case engine.ErrorCode(err) != engine.CodeUnknownKey:
			return "", fmt.Errorf("--admin-key: %w", err)
		}
		name := adminKeyName
		if len(e.Keys()) > 0 {
			name = "admin (given at start)"
		}
		_, _, err = e.CreateKey(ctx, engine.Key{Name: name, Account: engine.DefaultAccount, Admin: true}, given)
		if err != nil {
			return "", fmt.Errorf("--admin-key: %w", err)
		}
		return given, nil
	}
	file := keyFile(folder)
	text, err := os.ReadFile(file)
	key := strings.TrimSpace(string(text))
	if err == nil {
		if _, err := e.Authenticate(key); err == nil {
			return key, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(e.Keys()) > 0 {
		return "", nil
	}
	if key != "" { // of a database that was recreated: holders of the key may continue to use it
		if _, _, err := e.CreateKey(ctx, engine.Key{Name: adminKeyName, Account: engine.DefaultAccount, Admin: true}, key); err != nil {
			return "", fmt.Errorf("the key in %s: %w", file, err)
		}
		return key, nil
	}
	// The file first: a key that is stored but never written to a file would lock everyone
	// out.
	key = catalog.NewKeyText()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		return "", err
	}
	_, _, err = e.CreateKey(ctx, engine.Key{Name: adminKeyName, Account: engine.DefaultAccount, Admin: true}, key)
	return key, err
}

// samples are the event types of development mode.
var samples = []engine.EventType{
	{
		Name: "order.created", Description: "A customer placed an order.",
		Schema: []byte(`{"type":"object","required":["id","total"],"properties":{"id":{"type":"integer"},"total":{"type":"number"},"currency":{"type":"string"},"test":{"type":"boolean"},` +
			`"customer":{"type":"object","properties":{"id":{"type":"integer"},"name":{"type":"string"},"country":{"type":"string"}}}}}`),
		Samples: [][]byte{[]byte(`{"id":1001,"total":129.5,"currency":"EUR","customer":{"name":"Ada","country":"GB"}}`)},
	},
	{Name: "order.paid", Description: "An order was paid.", Samples: [][]byte{[]byte(`{"id":1001,"paid":129.5}`)}},
	{Name: "customer.created", Description: "A customer signed up.", Samples: [][]byte{[]byte(`{"id":7,"name":"Ada","country":"GB"}`)}},
}

// registerSamples adds the sample event types that are missing.
func registerSamples(ctx context.Context, e *router.Engine) error {
	for _, t := range samples {
		_, _, err := e.PutEventType(ctx, &t, true, catalog.AnyVersion)
		if err != nil && engine.ErrorCode(err) != engine.CodeConflict {
			return err
		}
	}
	return nil
}
