package server_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/router"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/server"
	"switchhook/server/dialect"
	"switchhook/storage/sqlite"
)

// pool runs the transforms of all tests, since child processes are expensive to start.
var pool *sandbox.Pool

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	var err error
	if pool, err = sandbox.Start(sandbox.Config{Processes: 2, Limits: scripts.DefaultLimits(), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	pool.Close()
	os.Exit(code)
}

// waitTimeout limits how long a test waits for an expected result.
const waitTimeout = time.Minute

// setup holds the options of a test server.
type setup struct {
	maxBody int
	strict  bool
	closed  bool // loopback targets are refused, as they are without --dev
	retries engine.RetrySchedule
	now     func() time.Time // time.Now where nil
	quota   engine.Quota
	proxies []netip.Prefix // that are trusted
	read    time.Duration  // server.Config.ReadTimeout
	names   *net.Resolver  // of targets; the system's where nil
	full    bool           // the disk has less room than the router asks for
	conns   int            // server.Config.MaxConns
	prefix  string         // server.Config.PathPrefix
	tls     *tls.Config    // of the listener; nil: none

	queryKeys bool
	dialects  string // their folder
	origins   []string
	log       *slog.Logger // of the server
	accessLog *slog.Logger
}

// testServer is a complete router with its own listener and database.
type testServer struct {
	t      testing.TB
	url    string
	server *server.Server
	engine *router.Engine

	admin *client // of the account "default"
	acme  *client
	rival *client // of another account
}

// start starts a router and stops it when the test ends.
func start(t testing.TB, with ...setup) *testServer {
	t.Helper()
	s := setup{}
	if len(with) > 0 {
		s = with[0]
	}
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "test.db"), Logger: log, Pace: -1})
	must(t, err)
	policy := target.Policy{Allow: target.Loopback}
	if s.closed {
		policy = target.Policy{}
	}
	policy.Resolver = s.names
	if s.retries == nil {
		s.retries = engine.RetrySchedule{0, time.Hour}
	}
	minFree := int64(0)
	if s.full {
		minFree = 1 << 62
	}
	registry := prometheus.NewRegistry()
	e, err := router.New(ctx, settings.Config{
		Store: store, Transformer: pool, Guard: target.NewGuard(policy), Logger: log, Registerer: registry,
		Retries: s.retries, Timeout: 2 * waitTimeout, StrictTypes: s.strict, MinFreeDisk: minFree, UserAgent: "Switchhook/test", Now: s.now, Quota: s.quota, VerifyWait: 300 * time.Millisecond,
	})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &testServer{t: t, url: "http://" + listener.Addr().String(), engine: e}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	if s.tls != nil {
		listener, r.url = tls.NewListener(listener, s.tls), "https://"+listener.Addr().String()
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	r.server = server.New(server.Config{Engine: e, Gatherer: registry, Registerer: registry, AccessLog: s.accessLog, Logger: cmp.Or(s.log, log), MaxBody: s.maxBody, Version: "test", Now: s.now, TrustedProxies: s.proxies, ReadTimeout: s.read, MaxConns: s.conns, PathPrefix: s.prefix, TLS: s.tls != nil, AllowQueryKey: s.queryKeys, Origins: s.origins})
	must(t, r.server.OpenDialects(s.dialects, dialect.BuiltIn()))
	must(t, e.Start(ctx))
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(listener) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		check(t, r.server.Shutdown(ctx))
		check(t, <-served)
		check(t, e.Close(ctx))
		check(t, store.Close())
	})
	r.admin = r.client(transport, engine.Key{Account: "default", Admin: true, Name: "admin"})
	r.acme = r.client(transport, engine.Key{Account: "acme", Name: "acme"})
	r.rival = r.client(transport, engine.Key{Account: "rival", Name: "rival"})
	r.admin.get("/healthz").want(200)
	return r
}

func (r *testServer) client(transport *http.Transport, k engine.Key) *client {
	stored, text, err := r.engine.CreateKey(context.Background(), k, "")
	must(r.t, err)
	return &client{t: r.t, url: r.url, key: text, keyID: stored.ID.Format(engine.KeyPrefix), http: &http.Client{Transport: transport, Timeout: waitTimeout}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

// stop closes the engine while the server still runs.
func (r *testServer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	check(r.t, r.engine.Close(ctx))
}
