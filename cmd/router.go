package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"switchhook/engine/router"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/server"
	"switchhook/storage/sqlite"

	"github.com/prometheus/client_golang/prometheus"
)

// processConfig configures a router process.
type processConfig struct {
	folder string // of the database
	// newDatabase allows a new database in a folder that had one.
	newDatabase bool
	secrets     encryptionFlags
	listen      string
	policy      target.Policy
	engine      settings.Config // without its components
	pace        time.Duration   // between commits
	children    int             // sandbox processes
	drain       time.Duration   // maximum duration of close; drainTime if 0
	server      server.Config   // without its components
	dialects    string          // folder of the dialect files; empty for none
	builtIn     []string        // names of the enabled built-in dialects

	certificate *certificate // nil: without TLS
	log         *slog.Logger

	metricsListen string // address that serves /metrics apart from the API; "" for none
	accessLog     bool   // log every request
	otlpEndpoint  string // endpoint for spans; "" for that of the environment
}

// routerProcess is a running router: its parts, and the order in which they stop.
type routerProcess struct {
	log      *slog.Logger
	store    *sqlite.Store
	pool     *sandbox.Pool
	engine   *router.Engine
	server   *server.Server
	listener net.Listener
	served   chan error // the result of Serve
	scheme   string
	metrics  *metricsListener // nil if there is none
	spans    *spans           // nil if tracing is off
	drain    time.Duration

	certificate *certificate // nil: without TLS
	dialects    string       // folder of the dialect files; empty for none
}

const (
	drainTime   = 25 * time.Second // under the 30 s that most supervisors wait
	drainReport = 2 * time.Second  // interval of the reports while close waits
)

// startRouter opens the store, starts the sandbox, resumes unfinished work and listens;
// requests are answered once serve is called.
func startRouter(ctx context.Context, cfg processConfig) (_ *routerProcess, err error) {
	r := &routerProcess{log: cfg.log, served: make(chan error, 1), scheme: "http", drain: cfg.drain, dialects: cfg.dialects}
	if r.drain == 0 {
		r.drain = drainTime
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	// First, so that a port in use is reported before anything else happens.
	if r.listener, err = listen("--listen", cfg.listen, "a router"); err != nil {
		return nil, err
	}
	cfg.policy.Own = append(cfg.policy.Own, r.listener.Addr().(*net.TCPAddr).AddrPort())
	if cfg.certificate != nil {
		cfg.certificate.log = cfg.log
		r.listener, r.scheme = cfg.certificate.listen(r.listener), "https"
		r.certificate = cfg.certificate
	}
	metrics := newRegistry()
	if cfg.metricsListen != "" {
		if r.metrics, err = listenForMetrics(cfg.metricsListen, metrics, cfg.log); err != nil {
			return nil, err
		}
		cfg.policy.Own = append(cfg.policy.Own, r.metrics.listener.Addr().(*net.TCPAddr).AddrPort())
	}
	if r.spans, err = startTracing(ctx, cfg.otlpEndpoint, cfg.log); err != nil {
		return nil, err
	}
	if r.store, err = cfg.openStore(ctx, metrics); err != nil {
		return nil, err
	}
	if r.pool, err = sandbox.Start(sandbox.Config{Processes: cfg.children, Limits: scripts.DefaultLimits(), Logger: cfg.log}); err != nil {
		return nil, fmt.Errorf("start the script sandbox: %w", err)
	}
	metrics.MustRegister(&componentCollector{r.store, r.pool, cfg.log})
	e := cfg.engine
	e.Store, e.Transformer, e.Guard, e.Logger, e.Registerer = r.store, r.pool, target.NewGuard(cfg.policy), cfg.log, metrics
	e.UserAgent = "Switchhook/" + Version
	if e.PublicURL == "" {
		e.PublicURL = r.scheme + "://" + localURLHost(r.listener)
	}
	e.Tracer = r.spans.tracer()
	if r.engine, err = router.New(ctx, e); err != nil {
		return nil, err
	}
	r.server = server.New(cfg.serverConfig(r.engine, metrics))
	if err = r.server.OpenDialects(cfg.dialects, cfg.builtIn); err != nil {
		return nil, fmt.Errorf("--dialects: %w", err)
	}
	// After the dialects: they define the format of deliveries.
	if err = r.engine.Start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// openStore opens the database in the data folder.
func (cfg *processConfig) openStore(ctx context.Context, metrics *prometheus.Registry) (*sqlite.Store, error) {
	store, err := sqlite.Open(ctx, sqlite.Options{
		Path: databaseFile(cfg.folder), Logger: cfg.log, Pace: cfg.pace, Vault: cfg.secrets.vault(cfg.folder, cfg.log),
		OnCommit: watchCommits(metrics), Traces: databaseTraces(cfg.folder), New: cfg.newDatabase,
	})
	if err == nil {
		return store, nil
	}
	if _, isPath := errors.AsType[*fs.PathError](err); isPath {
		err = fmt.Errorf("--data: %w", err)
	}
	return nil, missingDatabase(err, cfg.folder)
}

// serverConfig returns the configuration of the server for an engine.
func (cfg *processConfig) serverConfig(engine *router.Engine, metrics *prometheus.Registry) server.Config {
	api := cfg.server
	api.Engine, api.Gatherer, api.Registerer, api.Logger, api.Version = engine, metrics, metrics, cfg.log, Version
	api.TLS = cfg.certificate != nil
	// An operator who sets a separate address for metrics, or adds account names to them,
	// does not want to expose them to every client of the API.
	api.MetricsKeys = cfg.metricsListen != "" || cfg.engine.MetricsAccounts > 0
	if cfg.accessLog {
		api.AccessLog = cfg.log
	}
	return api
}

// serve starts to answer requests.
func (r *routerProcess) serve() {
	if r.metrics != nil {
		r.metrics.serve(r.log)
	}
	go func() { r.served <- r.server.Serve(r.listener) }()
}

// reload reloads the files that may change while the router runs, and logs the result.
func (r *routerProcess) reload() {
	what := []string{}
	if r.certificate != nil {
		what = append(what, "TLS certificate")
		r.certificate.forceReload()
	}
	if r.dialects != "" {
		what = append(what, "dialects")
		r.server.ReloadDialects()
	}
	if len(what) == 0 {
		r.log.Info("SIGHUP: there is nothing to reload; --tls-cert and --dialects name files that can be, flags need a restart")
		return
	}
	r.log.Info("SIGHUP: reloaded", "what", what)
}

// url returns the base URL of the API.
func (r *routerProcess) url() string { return r.scheme + "://" + r.listener.Addr().String() }

// close stops accepting requests, lets those in flight end and stores their results. It
// follows the path of an event: nothing is closed before its producers. At the end of the
// time limit the remaining work is aborted, which loses nothing: an unanswered request was
// not accepted, and an attempt whose outcome is not on disk is repeated after the next
// start.
func (r *routerProcess) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.drain)
	defer cancel()
	var problems []error
	note := func(what string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
		}
	}
	if r.server != nil {
		// A client that never ends its request must not use up the time of the deliveries.
		part, cancel := context.WithTimeout(ctx, r.drain/2)
		err := r.server.Shutdown(part)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			r.log.Warn("requests that did not end are cut off")
			err = nil
		}
		note("close the API", err)
	} else if r.listener != nil {
		r.listener.Close()
	}
	if r.engine != nil {
		err := r.drainEngine(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			attempts, outcomes := r.engine.InFlight()
			r.log.Warn("attempts that did not end are cut off; the next start makes them again", "attempts", attempts, "unwritten_outcomes", outcomes)
			err = nil
		}
		note("finish deliveries", err)
	}
	if r.metrics != nil {
		if err := r.metrics.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			note("close the metrics", err)
		}
	}
	if r.pool != nil {
		note("stop the script sandbox", r.pool.Close())
	}
	if r.store != nil {
		note("close the database", r.store.Close())
	}
	r.spans.close(ctx, r.log)
	return errors.Join(problems...)
}

// drainEngine closes the engine, and reports what it waits for.
func (r *routerProcess) drainEngine(ctx context.Context) error {
	closed := make(chan error, 1)
	go func() { closed <- r.engine.Close(ctx) }()
	ticker := time.NewTicker(drainReport)
	defer ticker.Stop()
	for {
		select {
		case err := <-closed:
			return err
		case <-ticker.C:
			attempts, outcomes := r.engine.InFlight()
			r.log.Info("stopping: waiting for attempts in flight", "attempts", attempts, "unwritten_outcomes", outcomes)
		}
	}
}
