package cmd

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestBackup_RunningRouter makes a backup of another process while events are published to
// it, and starts a router on the restored one.
func TestBackup_RunningRouter(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	data, file := filepath.Join(folder, "data"), filepath.Join(folder, "backup.db")
	p := serve(t, data)
	secret := subscribe(t, p)
	var mu sync.Mutex
	var acknowledged []string
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	var stop atomic.Bool
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for !stop.Load() {
				var a struct{ ID string }
				if err := p.api.call(t.Context(), http.MethodPost, "/api/v1/events", map[string]any{"type": "a", "data": 1}, &a); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, a.ID)
				mu.Unlock()
			}
		})
	}
	testkit.WaitFor(t, "events are published", func() bool { return count() > 200 })
	before := count()
	out, err := run("backup", "--data", data, file)
	if err != nil || !strings.Contains(out, "checked") || !strings.Contains(out, "sealed with key") {
		t.Fatalf("%v\n%s", err, out)
	}
	testkit.WaitFor(t, "more events are published", func() bool { return count() > before+50 })
	if out, err := run("backup", "--data", data, file); err == nil || !strings.Contains(out, "--force") {
		t.Fatalf("a backup was overwritten: %v\n%s", err, out)
	}
	if out, err := run("backup", "--data", data, "--force", file+"2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run("restore", "--data", data, "--force", file); err == nil || !strings.Contains(out, "in use by another process") {
		t.Fatalf("restored under a running router: %v\n%s", err, out)
	}
	stop.Store(true)
	wait.Wait()
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	if out, err := run("restore", "--data", data, file); err == nil || !strings.Contains(out, "--force") {
		t.Fatalf("a database was overwritten: %v\n%s", err, out)
	}
	elsewhere := filepath.Join(folder, "elsewhere")
	out, err = run("restore", "--data", elsewhere, file)
	if err != nil || !strings.Contains(out, "put it there before you start") {
		t.Fatalf("%v\n%s", err, out)
	}
	key, err := os.ReadFile(filepath.Join(data, "encryption.key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(elsewhere, "encryption.key"), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err = run("restore", "--data", data, "--force", file)
	if err != nil || !strings.Contains(out, "before-restore") || strings.Contains(out, "put it there") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, folder := range []string{data, elsewhere} {
		p = serve(t, folder)
		for n, id := range acknowledged[:before] {
			if err := p.api.call(t.Context(), http.MethodGet, "/api/v1/events/"+id, nil, nil); err != nil {
				t.Fatalf("event %d of %d that were acknowledged before is not in the backup: %v", n, before, err)
			}
		}
		var list struct{ Data []struct{ ID string } }
		if err := p.api.call(t.Context(), http.MethodGet, "/api/v1/subscriptions", nil, &list); err != nil || len(list.Data) != 1 {
			t.Fatal(list, err)
		}
		var got struct{ Secret string }
		if err := p.api.call(t.Context(), http.MethodGet, fmt.Sprintf("/api/v1/subscriptions/%s/secret", list.Data[0].ID), nil, &got); err != nil || got.Secret != secret {
			t.Fatalf("%q, %v", got.Secret, err)
		}
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackup_MissingDatabaseMessage(t *testing.T) {
	c := backupCommand{File: filepath.Join(t.TempDir(), "b.db"), Data: t.TempDir()}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no database to copy") || !strings.Contains(err.Error(), "--data") {
		t.Error(err)
	}
}
