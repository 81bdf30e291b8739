package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"switchhook/engine"
	"switchhook/storage/vault"
)

// restoreDump creates a database from a dump in testdata.
func restoreDump(t *testing.T, name string) (path string) {
	t.Helper()
	dump, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "test.db")
	old := sql.OpenDB(connector{path: path})
	_, err = old.Exec(string(dump))
	if err := errors.Join(err, old.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// v10Key sealed the secrets in testdata/v10.sql.
const v10Key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// TestMigration_FromVersion10 opens a database of schema 10 whose router was killed.
// testdata/v10.sh shows how it was made; later migrations must keep this passing.
func TestMigration_FromVersion10(t *testing.T) {
	t.Parallel()
	path := restoreDump(t, "v10.sql")
	for range 2 { // a second start migrates nothing
		mustOpenV10(t, path)
	}
}

// v10Options returns Options for a database of testdata/v10.sql.
func v10Options(path string) Options {
	return Options{Path: path, Logger: slog.New(slog.DiscardHandler), Vault: func([]string) (*vault.Vault, error) {
		keys, err := vault.ParseKeys(v10Key)
		if err != nil {
			return nil, err
		}
		return vault.New(keys...)
	}}
}

func mustOpenV10(t *testing.T, path string) {
	t.Helper()
	s, err := Open(context.Background(), v10Options(path))
	if err != nil {
		t.Fatal(err)
	}
	mustHoldV10(t, s)
	integrity(t, s)
	closed(t, s)
}

// TestMigration_Interrupted opens databases whose migration was ended after each of its
// steps.
func TestMigration_Interrupted(t *testing.T) {
	t.Parallel()
	files, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		version, err := goose.NumericComponent(entry.Name())
		if err != nil || version <= 10 {
			continue
		}
		path := restoreDump(t, "v10.sql")
		db := sql.OpenDB(connector{path: path})
		provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
		if err == nil {
			_, err = provider.UpTo(t.Context(), version)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		mustOpenV10(t, path)
	}
}

// migrateChild names the database for a child process that opens it until it is killed.
const migrateChild = "SWITCHHOOK_MIGRATE_CHILD"

// TestMigration_Killed kills processes while they migrate a database of schema 10.
func TestMigration_Killed(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	killed := 0
	for range rounds {
		old := restoreDump(t, "v10.sql")
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), migrateChild+"="+old)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// The version grows during the run: processes are killed at each of its steps, and
		// in between.
		time.Sleep(rand.N(60 * time.Millisecond))
		c.Process.Kill()
		if err := c.Wait(); err != nil {
			killed++
		}
		mustOpenV10(t, old)
	}
	t.Logf("%d of %d were killed before they were through", killed, rounds)
}

func mustHoldV10(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Unreadable(); n != 0 {
		t.Errorf("%d rows can't be read", n)
	}
	subscriptions, err := s.Subscriptions(ctx)
	must(err)
	kinds := map[string]*engine.Subscription{}
	for _, u := range subscriptions {
		kinds[u.Metadata["kind"]] = u
	}
	if len(subscriptions) != 3 || kinds["good"].Headers["Authorization"] != "Bearer hush" || kinds["dead"].Secret != "whsec_"+v10Key ||
		kinds["paused"].FilterScript.Script == 0 || kinds["paused"].Policy.Ordering != "fifo" {
		t.Errorf("subscriptions are %+v", kinds)
	}
	scripts, err := s.Scripts(ctx)
	must(err)
	const first, second = "", `[{"name":"second","event":{"type":"order.created","data":{"n":1}},"expect":{"body":{"n":1,"v":2}}}]`
	want := map[string][]string{ // cases, newest version first
		"shape": {second, second, first},
		"large": {"", ""},
		"draft": {},
	}
	for _, c := range scripts {
		versions, _, err := s.ScriptVersions(ctx, engine.ScriptVersionQuery{Script: c.ID})
		must(err)
		if len(versions) != len(want[c.Name]) {
			t.Errorf("%s has %d versions", c.Name, len(versions))
			continue
		}
		for i, v := range versions {
			if string(v.Cases) != want[c.Name][i] || v.LiveAt.IsZero() != (v.Number != c.Live) {
				t.Errorf("%s, version %d: cases %s, live at %s", c.Name, v.Number, v.Cases, v.LiveAt)
			}
		}
		cases, err := s.ScriptCases(ctx, c.ID)
		if err != nil || c.Name == "draft" && len(cases) == 0 || c.Name == "shape" && string(cases) != second {
			t.Errorf("%s has the cases %s, %v", c.Name, cases, err)
		}
	}
	if len(scripts) != len(want) {
		t.Errorf("%d scripts", len(scripts))
	}
	states := map[engine.State]int{}
	deliveries, _, err := s.Deliveries(ctx, engine.DeliveryQuery{Account: "acme"})
	must(err)
	for _, d := range deliveries {
		states[d.State]++
		attempts, _, err := s.Attempts(ctx, engine.AttemptQuery{Delivery: d.ID})
		must(err)
		if len(attempts) != d.Attempts {
			t.Errorf("%s has %d attempts, %d of them stored", d.ID, d.Attempts, len(attempts))
		}
	}
	if states[engine.StatePending] != 4 || states[engine.StateRetrying] != 3 || states[engine.StateSucceeded] != 2 || states[engine.StateDead] != 4 {
		t.Errorf("deliveries are %v", states)
	}
	unfinished, err := s.Unfinished(ctx, 0, 0, 0)
	must(err)
	if len(unfinished) != 1 || unfinished[0].Key != "order-6" || len(unfinished[0].Targets) != 2 {
		t.Errorf("unfinished are %+v", unfinished)
	}
	keys, err := s.Keys(ctx)
	must(err)
	accounts, err := s.Accounts(ctx)
	must(err)
	types, err := s.EventTypes(ctx)
	must(err)
	replays, _, err := s.Replays(ctx, engine.ReplayQuery{})
	must(err)
	audit, _, err := s.Audit(ctx, engine.AuditQuery{})
	must(err)
	if len(keys) != 3 || len(accounts) != 1 || accounts[0].Quota.Subscriptions != 7 || len(types) != 1 || len(replays) != 1 || len(audit) < 20 {
		t.Errorf("%d keys, %d accounts, %d types, %d replays, %d entries of the audit log", len(keys), len(accounts), len(types), len(replays), len(audit))
	}
}
