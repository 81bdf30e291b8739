// Package routertest starts routers over real databases, for tests.
package routertest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/router"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/testkit"
	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/storage/sqlite"
)

// Quiet is a logger that drops everything.
var Quiet = slog.New(slog.DiscardHandler)

// Pool returns the sandbox that all tests of a package share: it keeps nothing between
// runs, and its processes are expensive to start.
var Pool = sync.OnceValue(func() *sandbox.Pool {
	p, err := sandbox.Start(sandbox.Config{Limits: scripts.DefaultLimits(), Logger: Quiet})
	if err != nil {
		panic(err)
	}
	return p
})

// Main runs the tests of a package that starts routers. Its TestMain calls it.
func Main(m *testing.M) {
	sandbox.RunIfChild()
	os.Exit(m.Run())
}

// emptyDatabase returns the bytes of a database with the newest schema and nothing in it.
// A copy costs a tenth of making it again.
var emptyDatabase = sync.OnceValues(func() ([]byte, error) {
	folder, err := os.MkdirTemp("", "switchhook-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "empty.db")
	store, err := sqlite.Open(context.Background(), sqlite.Options{Path: path, Logger: Quiet})
	if err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// Router is a running router and what it was made of.
type Router struct {
	*router.Engine
	Store  *sqlite.Store
	Path   string          // of the database
	Config settings.Config // without Store
	t      testing.TB
}

// Start starts a router over an empty database and stops it when the test ends. Targets on
// loopback are allowed.
func Start(t testing.TB, change func(*settings.Config)) *Router {
	t.Helper()
	r := &Router{t: t, Path: filepath.Join(t.TempDir(), "test.db")}
	empty, err := emptyDatabase()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Path, empty, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Config = settings.Config{
		Transformer: Pool(), Logger: Quiet, Guard: target.NewGuard(target.Policy{Allow: target.Loopback}),
		Retries:      engine.RetrySchedule{0, 10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond},
		MinRetryWait: time.Nanosecond,
		Timeout:      5 * time.Minute, // a target that hangs does so until the test releases it
	}
	if change != nil {
		change(&r.Config)
	}
	r.Open()
	t.Cleanup(r.Stop)
	return r
}

// Open starts the router over its database.
func (r *Router) Open() {
	r.t.Helper()
	var err error
	if r.Store, err = sqlite.Open(context.Background(), sqlite.Options{Path: r.Path, Logger: Quiet}); err != nil {
		r.t.Fatal(err)
	}
	r.run(r.Store)
}

// Wrap starts the router again with another store around its own.
func (r *Router) Wrap(store engine.Store) {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	r.run(store)
}

func (r *Router) run(store engine.Store) {
	r.t.Helper()
	cfg := r.Config
	cfg.Store = store
	var err error
	if r.Engine, err = router.New(context.Background(), cfg); err != nil {
		r.t.Fatal(err)
	}
	if err := r.Start(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// Stop closes the router and its store.
func (r *Router) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Timeout)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		r.t.Error(err)
	}
	if err := r.Store.Close(); err != nil {
		r.t.Error(err)
	}
}
