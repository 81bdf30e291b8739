package server_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/router"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/testkit"
	"switchhook/server"
	"switchhook/server/dialect"
)

func TestMain(m *testing.M) { routertest.Main(m) }

// waitTimeout limits how long a test waits for an expected result.
const waitTimeout = testkit.Timeout

// setup holds the options of a test server.
type setup struct {
	maxBody      int
	strict       bool
	closed       bool // loopback targets are refused, as they are without --dev
	retries      engine.RetrySchedule
	now          func() time.Time // time.Now where nil
	quota        engine.Quota
	proxies      []netip.Prefix // that are trusted
	read         time.Duration  // server.Config.ReadTimeout
	names        *net.Resolver  // of targets; the system's where nil
	full         bool           // the disk has less room than the router asks for
	conns        int            // server.Config.MaxConns
	bodyWait     time.Duration  // server.Config.BodyWait
	readWait     time.Duration  // server.Config.ReadWait
	addressConns int            // server.Config.MaxAddressConns; 0: the default of MaxConns
	maxBodies    int64          // server.Config.MaxBodies
	prefix       string         // server.Config.PathPrefix
	tls          *tls.Config    // of the listener; nil: none

	chained int // settings.Config.ChainedRate

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
	store  engine.Store

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
	policy := target.Policy{Allow: target.Loopback}
	if s.closed {
		policy = target.Policy{}
	}
	policy.Resolver = s.names
	if s.retries == nil {
		s.retries = engine.RetrySchedule{0, time.Hour}
	}
	registry := prometheus.NewRegistry()
	rig := routertest.Start(t, func(c *settings.Config) {
		c.Guard, c.Registerer, c.Retries, c.Timeout = target.NewGuard(policy), registry, s.retries, 2*waitTimeout
		c.StrictTypes, c.UserAgent, c.Now, c.Quota, c.VerifyWait = s.strict, "Switchhook/test", s.now, s.quota, 300*time.Millisecond
		c.ChainedRate = s.chained
		if s.full {
			c.MinFreeDisk = 1 << 62
		}
	})
	e := rig.Engine
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &testServer{t: t, url: "http://" + listener.Addr().String(), engine: e, store: rig.Store}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	if s.tls != nil {
		listener, r.url = tls.NewListener(listener, s.tls), "https://"+listener.Addr().String()
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	r.server = server.New(server.Config{Engine: e, Gatherer: registry, Registerer: registry, AccessLog: s.accessLog, Logger: cmp.Or(s.log, routertest.Quiet), MaxBody: s.maxBody, Version: "test", Now: s.now, TrustedProxies: s.proxies, ReadTimeout: s.read, MaxConns: s.conns, MaxAddressConns: cmp.Or(s.addressConns, server.DefaultMaxConns), MaxBodies: s.maxBodies, BodyWait: s.bodyWait, ReadWait: s.readWait, PathPrefix: s.prefix, TLS: s.tls != nil, AllowQueryKey: s.queryKeys, Origins: s.origins})
	must(t, r.server.OpenDialects(s.dialects, dialect.BuiltIn()))
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(listener) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		check(t, r.server.Shutdown(ctx))
		check(t, <-served)
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
	testkit.WaitFor(t, what, holds)
}

// stop closes the engine while the server still runs.
func (r *testServer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	check(r.t, r.engine.Close(ctx))
}
