package cmd

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestServe_MissingDatabase starts routers over folders that had a database.
func TestServe_MissingDatabase(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, data string){
		"deleted": func(t *testing.T, data string) { mustRemove(t, databaseFile(data)) },
		"emptied": func(t *testing.T, data string) { mustTruncate(t, databaseFile(data)) },
		"deleted, keys lie elsewhere": func(t *testing.T, data string) {
			mustRemove(t, databaseFile(data), filepath.Join(data, "encryption.key"))
		},
		"deleted, made by an earlier main": func(t *testing.T, data string) { mustRemove(t, databaseFile(data), databaseFile(data)+".lock") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			p := serve(t, data)
			if err := p.end(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			spoil(t, data)
			out := mustFail(t, "serve", "--listen", freeAddress(t), "--data", data)
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

// TestServe_DamagedDatabase damages the tables of a router that stopped, and starts it again.
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
	// The index of events by account is read by no start, and written by every publication.
	page := rootPage(t, databaseFile(data), "event_by_account")
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 8192), int64(page-1)*8192); err != nil {
		t.Fatal(err)
	}
	f.Close()

	log := &syncBuffer{}
	p = serveTo(t, log, data)
	if err := p.api.call(t.Context(), http.MethodPost, "/api/v1/events", event, nil); err == nil {
		t.Fatal("an event was accepted into a damaged database")
	}
	eventually(t, "the router is not ready", func() bool { return !p.ready() })
	res, err := http.Get(p.api.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !strings.Contains(string(text), "switchhook_store_damaged 1") {
		t.Errorf("the metrics don't tell: %v", err)
	}
	eventually(t, "the log tells", func() bool { return strings.Contains(log.String(), "switchhook restore --force --data "+data) })
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "the database is damaged: events are refused from now on"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log)
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

// mustFail runs a command that has to end by itself with an error, and gives what it printed.
func mustFail(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], args...)
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

// rootPage is the page of a table or an index in a database, from 1 on.
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

// syncBuffer is a log that a process writes to while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
