package cmd

import (
	"fmt"
	"time"

	"switchhook/engine/snowflake"
	"switchhook/engine/testkit"

	"bytes"
	"context"
	"database/sql"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestServe_MissingDatabase starts routers on folders that had a database.
func TestServe_MissingDatabase(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, data string)
	}{
		{"deleted", func(t *testing.T, data string) { mustRemove(t, databaseFile(data)) }},
		{"emptied", func(t *testing.T, data string) { mustTruncate(t, databaseFile(data)) }},
		{"deleted, keys lie elsewhere", func(t *testing.T, data string) {
			mustRemove(t, databaseFile(data), filepath.Join(data, "encryption.key"))
		}},
		{"deleted, made by an earlier main", func(t *testing.T, data string) { mustRemove(t, databaseFile(data), databaseFile(data)+".lock") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			p := serve(t, data)
			if err := p.end(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, data)
			out := mustFail(t, "serve", "--listen", testkit.FreeAddress(t), "--data", data)
			for _, want := range []string{"switchhook restore ", "--data " + data, "--new-database"} {
				if !strings.Contains(out, want) {
					t.Errorf("the error does not name %q:\n%s", want, out)
				}
			}
			if info, err := os.Stat(databaseFile(data)); err == nil && info.Size() > 0 {
				t.Error("a database was begun")
			}
			serve(t, data, "--new-database")
		})
	}
}

// TestServe_DamagedDatabase damages the tables of a stopped router, and restarts it.
func TestServe_DamagedDatabase(t *testing.T) {
	data := t.TempDir()
	p := serve(t, data)
	event := map[string]any{"type": "order.created", "data": strings.Repeat("x", 20_000)}
	if err := p.api.call(t.Context(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": "http://127.0.0.1:9/"}, nil); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := p.api.call(t.Context(), http.MethodPost, "/api/v1/events", event, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(databaseFile(data), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The index of events by account is not read at a start, and is written by every
	// publish.
	page := rootPage(t, databaseFile(data), "event_by_account")
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 8192), int64(page-1)*8192); err != nil {
		t.Fatal(err)
	}
	f.Close()

	log := &testkit.Buffer{}
	p = serveTo(t, log, data)
	if err := p.publishes(); err == nil { // the client would wait and repeat it
		t.Fatal("an event was accepted into a damaged database")
	}
	testkit.WaitFor(t, "the router is not ready", func() bool { return !p.ready() })
	res, err := http.Get(p.api.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !strings.Contains(string(text), "switchhook_store_damaged 1") {
		t.Errorf("the metrics don't tell: %v", err)
	}
	testkit.WaitFor(t, "the log tells", func() bool { return strings.Contains(log.String(), "switchhook restore --force --data "+data) })
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "the database is damaged: events are refused from now on"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, log)
	}
}

// TestServe_UnreadableRows starts a router on a database in which rows of several tables
// cannot be decoded.
func TestServe_UnreadableRows(t *testing.T) {
	data, target := t.TempDir(), testkit.NewReceiver(t, nil)
	p := serve(t, data)
	ctx := t.Context()
	call := func(method, path string, body, answer any) {
		t.Helper()
		if err := p.api.call(ctx, method, path, body, answer); err != nil {
			t.Fatal(err)
		}
	}
	var spoilt, other struct{ ID string }
	call("POST", "/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": target.URL + "/spoilt", "active": false, "metadata": map[string]string{"n": "1"}}, &spoilt)
	call("POST", "/api/v1/subscriptions", map[string]any{"event": "order.created", "target_url": target.URL}, &other)
	call("POST", "/api/v1/event-types", map[string]any{"name": "order.created", "samples": []any{1}}, nil)
	call("POST", "/api/v1/keys", map[string]any{"name": "reader", "scopes": []string{"read"}}, nil)
	call("PATCH", "/api/v1/subscriptions/"+spoilt.ID, map[string]any{"active": true}, nil)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+databaseFile(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE subscription SET secret = 'sealed:1:0:x' WHERE metadata LIKE '%1%'`,
		`UPDATE event_type SET schema = x'7b', samples = '{'`,
		`UPDATE api_key SET scopes = '"read"' WHERE name = 'reader'`,
		`UPDATE secret SET value = 'x'`,
		`INSERT INTO account VALUES ('default', '[', 1, 1, 1)`,
		`INSERT INTO replay VALUES (1, 'default', 'running', '[', 1, 1, NULL)`,
		fmt.Sprintf(`INSERT INTO event VALUES (%d, 'default', 'order.created', NULL, 1, x'0000000000000007', '{', x'31', NULL, NULL)`, snowflake.FirstAt(time.Now())),
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	log := &testkit.Buffer{}
	p = serveTo(t, log, data)
	for _, table := range []string{"subscription", "event_type", "api_key", "secret", "account", "replay"} {
		if !strings.Contains(log.String(), `"table":"`+table+`"`) {
			t.Errorf("the log does not name %s", table)
		}
	}
	var accepted struct{ Matched int }
	call("POST", "/api/v1/events", map[string]any{"type": "order.created", "data": "first"}, &accepted)
	if accepted.Matched != 2 {
		t.Fatalf("%d subscriptions matched", accepted.Matched)
	}
	testkit.WaitFor(t, "the other subscription gets it", func() bool { return len(target.Bodies()) == 1 })
	for _, path := range []string{"/subscriptions", "/events", "/deliveries", "/event-types", "/keys", "/accounts", "/replays"} {
		call("GET", "/api/v1"+path, nil, nil)
	}
	var seen struct {
		Active     bool
		Unreadable []string
	}
	call("GET", "/api/v1/subscriptions/"+spoilt.ID, nil, &seen)
	if !seen.Active || len(seen.Unreadable) != 1 || seen.Unreadable[0] != "secret" {
		t.Errorf("the subscription is shown as %+v", seen)
	}
	if err := p.api.call(ctx, "PATCH", "/api/v1/subscriptions/"+spoilt.ID, map[string]any{"description": "x"}, nil); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("changed, and what could not be read is lost: %v", err)
	}
	call("PATCH", "/api/v1/subscriptions/"+spoilt.ID, map[string]any{"secret": "whsec_" + strings.Repeat("QUJD", 8)}, nil)
	testkit.WaitFor(t, "the mended subscription gets it", func() bool { return len(target.Bodies()) == 2 })
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func mustRemove(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

func mustTruncate(t *testing.T, file string) {
	t.Helper()
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
}

// mustFail runs a command that must end by itself with an error, and returns its output.
func mustFail(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Timeout)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Env = append(os.Environ(), asSwitchhook+"=1")
	out, err := c.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Fatalf("%v ended with %v, %v:\n%s", args, err, ctx.Err(), out)
	}
	if bytes.Contains(out, []byte("goroutine ")) {
		t.Fatalf("%v panicked:\n%s", args, out)
	}
	return string(out)
}

// rootPage returns the root page of a table or an index in a database, starting at 1.
func rootPage(t *testing.T, path, name string) (page int) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = ?", name).Scan(&page); err != nil {
		t.Fatal(err)
	}
	return page
}
