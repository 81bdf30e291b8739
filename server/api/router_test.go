package api_test

import (
	"context"
	"log"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/router"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/server"
	"switchhook/server/api"
	"switchhook/storage/sqlite"
)

// The table of docs/go-client.md names every example, and none that is gone.
func TestGoClientPage_NamesTheExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/go-client.md")
	check(err)
	source, err := os.ReadFile("example_test.go")
	check(err)
	var named, written []string
	for _, m := range regexp.MustCompile("`(Example\\w*)` \\|").FindAllSubmatch(page, -1) {
		named = append(named, string(m[1]))
	}
	for _, m := range regexp.MustCompile(`(?m)^func (Example\w*)\(`).FindAllSubmatch(source, -1) {
		written = append(written, string(m[1]))
	}
	slices.Sort(named)
	slices.Sort(written)
	if len(written) == 0 || !slices.Equal(named, written) {
		t.Errorf("the page names %v, there are %v", named, written)
	}
}

func TestMain(m *testing.M) { routertest.Main(m) }

// startRouter starts a router for an example. The client has an admin key.
func startRouter() (*api.Client, func()) {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "switchhook-example-")
	check(err)
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(folder, "example.db"), Logger: routertest.Quiet, Pace: -1})
	check(err)
	e, err := router.New(ctx, settings.Config{
		Store: store, Transformer: routertest.Pool(), Guard: target.NewGuard(target.Policy{Allow: target.Loopback}), Logger: routertest.Quiet,
		Retries: engine.RetrySchedule{0, time.Hour},
	})
	check(err)
	_, key, err := e.CreateKey(ctx, engine.Key{Account: engine.DefaultAccount, Admin: true, Name: "example"}, "")
	check(err)
	check(e.Start(ctx))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	s := server.New(server.Config{Engine: e, Logger: routertest.Quiet, Version: "example"})
	go s.Serve(listener)
	return api.NewClient("http://"+listener.Addr().String(), key), func() {
		check(s.Shutdown(ctx))
		check(e.Close(ctx))
		check(store.Close())
		check(os.RemoveAll(folder))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
