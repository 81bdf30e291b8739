package server_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/server"
	"switchhook/server/dialect"
	"switchhook/storage/sqlite"
)

// pool runs the transforms of all tests: children are the only part that is dear to start.
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

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// setup is what a test may want different from the others.
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

	queryKeys bool
	dialects  string // their folder
	origins   []string
	log       *slog.Logger // of the server
	accessLog *slog.Logger
}

// router is a whole router on a listener and a database of its own.
type router struct {
	t      testing.TB
	url    string
	server *server.Server
	engine *engine.Engine

	admin *client // of the account "default"
	acme  *client
	rival *client // of another account
}

// start starts a router and stops it at the test's end.
func start(t testing.TB, with ...setup) *router {
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
	e, err := engine.New(ctx, engine.Config{
		Store: store, Transformer: pool, Guard: target.NewGuard(policy), Logger: log, Registerer: registry,
		Retries: s.retries, StrictTypes: s.strict, MinFreeDisk: minFree, UserAgent: "Switchhook/test", Now: s.now, Quota: s.quota, VerifyWait: 300 * time.Millisecond,
	})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &router{t: t, url: "http://" + listener.Addr().String(), engine: e}
	r.server = server.New(server.Config{Engine: e, Gatherer: registry, Registerer: registry, AccessLog: s.accessLog, Logger: cmp.Or(s.log, log), MaxBody: s.maxBody, Version: "test", Now: s.now, TrustedProxies: s.proxies, ReadTimeout: s.read, AllowQueryKey: s.queryKeys, Origins: s.origins})
	must(t, r.server.OpenDialects(s.dialects, dialect.BuiltIn()))
	must(t, e.Start(ctx))
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(listener) }()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
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

func (r *router) client(transport *http.Transport, k engine.Key) *client {
	stored, text, err := r.engine.CreateKey(context.Background(), k, "")
	must(r.t, err)
	return &client{t: r.t, url: r.url, key: text, keyID: stored.ID.Format(engine.KeyPrefix), http: &http.Client{Transport: transport, Timeout: patience}}
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

// client calls the API with one key.
type client struct {
	t          testing.TB
	url        string
	key, keyID string
	http       *http.Client
}

// with is the same client in a subtest, or with another key.
func (c *client) with(t testing.TB, key string) *client {
	other := *c
	other.t, other.key = t, key
	return &other
}

func (c *client) in(t testing.TB) *client { return c.with(t, c.key) }

func (c *client) get(path string, headers ...string) *answer {
	c.t.Helper()
	return c.do("GET", path, nil, headers...)
}

func (c *client) post(path string, body any, headers ...string) *answer {
	c.t.Helper()
	return c.do("POST", path, body, headers...)
}

// do makes a request: a body that is a string goes as it is, any other as JSON. headers are
// names and values in turn. Whatever comes back must be as openapi.json says.
func (c *client) do(method, path string, body any, headers ...string) *answer {
	c.t.Helper()
	var content []byte
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	default:
		var err error
		content, err = json.Marshal(b)
		must(c.t, err)
	}
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(content))
	must(c.t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %.100s: %v", method, path, err)
	}
	defer res.Body.Close()
	a := &answer{t: c.t, what: fmt.Sprintf("%s %.100s", method, path), status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(res.Body)
	must(c.t, err)
	conforms(c.t, method, path, a)
	return a
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// want fails the test where the status is another.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: want %d, got %d: %.500s", a.what, status, a.status, a.body)
	}
	return a
}

// refused wants a problem with this status, this field, and this text in its detail.
func (a *answer) refused(status int, field, detail string) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: want %d, got %d: %.500s", a.what, status, a.status, a.body)
		return a
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("%s: the error's Content-Type is %q", a.what, got)
	}
	if got, _ := a.at("field").(string); got != field {
		a.t.Errorf("%s: want field %q, got %q: %.500s", a.what, field, got, a.body)
	}
	if got := a.text("detail"); !strings.Contains(got, detail) {
		a.t.Errorf("%s: want %q in the detail, got %q", a.what, detail, got)
	}
	return a
}

// at looks into the body: "data.0.id". It gives nil where there is nothing.
func (a *answer) at(path string) any {
	a.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		a.t.Fatalf("%s: the body is not JSON: %v: %.500s", a.what, err, a.body)
	}
	for name := range strings.SplitSeq(path, ".") {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(parent) {
				return nil
			}
			v = parent[i]
		default:
			return nil
		}
	}
	return v
}

// text is at, for strings.
func (a *answer) text(path string) string {
	a.t.Helper()
	s, ok := a.at(path).(string)
	if !ok {
		a.t.Fatalf("%s: no string at %s: %.500s", a.what, path, a.body)
	}
	return s
}

// shows wants values at paths; each is compared as it is printed.
func (a *answer) shows(want map[string]any) *answer {
	a.t.Helper()
	for path, value := range want {
		if got := a.at(path); fmt.Sprint(got) != fmt.Sprint(value) {
			a.t.Errorf("%s: want %v at %s, got %v", a.what, value, path, got)
		}
	}
	return a
}

// column gives one member of each entry of a list.
func (a *answer) column(name string) []string {
	a.t.Helper()
	list, ok := a.at("data").([]any)
	if !ok {
		a.t.Fatalf("%s: no list: %.500s", a.what, a.body)
	}
	names := []string{}
	for i := range list {
		names = append(names, fmt.Sprint(a.at(fmt.Sprintf("data.%d.%s", i, name))))
	}
	return names
}

// pages reads a list to its end and gives one member of each entry; path has a query.
func (c *client) pages(path, name string) (all []string) {
	c.t.Helper()
	for cursor := ""; ; {
		a := c.get(path + cursor).want(200)
		all = append(all, a.column(name)...)
		next, more := a.at("next_cursor").(string)
		if !more {
			return all
		}
		if len(all) > 10_000 {
			c.t.Fatalf("%s never ends", path)
		}
		cursor = "&cursor=" + next
	}
}

// receiver is a target that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer http.HandlerFunc // 204 where nil
}

type received struct {
	method, uri string
	header      http.Header
	body        string
}

func receive(t testing.TB, answer http.HandlerFunc) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, received{req.Method, req.RequestURI, req.Header, string(body)})
		r.mu.Unlock()
		if r.answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		r.answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// wait gives what came, once it is at least n requests.
func (r *receiver) wait(t testing.TB, n int) []received {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests at the target", n), func() bool { return len(r.all()) >= n })
	return r.all()
}

// eventually asks until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// subscribe makes a subscription to a target and gives its id.
func (c *client) subscribe(event, url string, more ...map[string]any) string {
	c.t.Helper()
	body := map[string]any{"event": event, "target_url": url}
	for _, m := range more {
		for k, v := range m {
			body[k] = v
		}
	}
	return c.post("/api/v1/subscriptions?allow_duplicates=true", body).want(201).text("id")
}

// publish publishes an event and gives its id.
func (c *client) publish(event string, data any) string {
	c.t.Helper()
	return c.post("/api/v1/events", map[string]any{"type": event, "data": data}).want(202).text("id")
}

// stop lets the engine end while the server still answers.
func (r *router) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(r.t, r.engine.Close(ctx))
}
