package sqlite

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/testkit"
	"switchhook/storage/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) (engine.Store, func() engine.Store) {
		path := filepath.Join(t.TempDir(), "test.db")
		current := open(t, path)
		return current, func() engine.Store {
			if err := current.Close(); err != nil {
				t.Fatal(err)
			}
			current = open(t, path)
			return current
		}
	})
}

// open opens a store and closes it at the end of the test.
// TestStore_ShortScans runs the suite with lists that end after few rows that they looked at.
func TestStore_ShortScans(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) (engine.Store, func() engine.Store) {
		path := filepath.Join(t.TempDir(), "test.db")
		shortened := func() *Store {
			s := open(t, path)
			s.scanTime, s.scanFirst = 0, 3
			return s
		}
		s := shortened()
		return s, func() engine.Store {
			closed(t, s)
			s = shortened()
			return s
		}
	})
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newEvent returns an event to append; n is its id.
func newEvent(n int, targets ...engine.ID) engine.NewEvent {
	return engine.NewEvent{Event: &engine.Event{
		ID: engine.ID(n), Account: "acme", Type: "order.created", Time: time.UnixMilli(1e12),
		Data: body, Targets: targets,
	}}
}

var body = []byte(`{"order":"` + strings.Repeat("x", 480) + `"}`)

// succeeded is the outcome of a succeeded delivery, the most common one.
func succeeded(event, subscription engine.ID) *engine.Outcome {
	return &engine.Outcome{
		ID: engine.DeliveryID{Event: event, Subscription: subscription}, State: engine.StateSucceeded, Attempts: 1, Limit: engine.StorageLimit{Account: "acme"},
		Attempt: &engine.Attempt{
			Number: 1, At: time.UnixMilli(1e12), Duration: 3 * time.Millisecond,
			Request: engine.AttemptRequest{
				Method: "POST", URL: "https://example.com/hooks/orders", Plain: engine.FormatStandard,
				Headers: []engine.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "Webhook-Id", Value: "evt_0123456789abc"}, {Name: "Webhook-Timestamp", Value: "1700000000"}, {Name: "Webhook-Signature", Value: "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}},
			},
			Response: engine.AttemptResponse{Status: 200, Headers: []engine.Header{{Name: "Content-Length", Value: "2"}}, Body: []byte("ok")},
		},
	}
}

func TestOpen_LockExcludesSecondProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	_, err := Open(context.Background(), Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), path+" is in use by another process") {
		t.Fatalf("error is %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestOpen_FileModes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data #1?a=b%20", "test.db")
	s := open(t, path)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want os.FileMode
	}{
		{filepath.Dir(path), 0o700}, {path, 0o600}, {path + "-wal", 0o600}, {path + "-shm", 0o600}, {path + ".lock", 0o600},
	} {
		info, err := os.Stat(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != c.want {
			t.Errorf("%s has mode %o, want %o", c.name, got, c.want)
		}
	}
}

func TestOpen_DirectoryPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	if _, err := os.Stat(filepath.Join(dir, defaultFile)); err != nil {
		t.Fatal(err)
	}
}

func TestWriter_Pragmas(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	want := map[string]driver.Value{
		"synchronous": int64(2), "journal_mode": "wal", "page_size": int64(8192), "auto_vacuum": int64(2),
		"wal_autocheckpoint": int64(0), "mmap_size": int64(0), "busy_timeout": int64(5000),
	}
	err := s.write(t.Context(), func(tx *tx) error {
		for pragma, want := range want {
			if got, err := pragmaValue(tx.w.conn, pragma); err != nil || got != want {
				t.Errorf("%s is %v, want %v (%v)", pragma, got, want, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReaders_AreReadOnly(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	if _, err := s.readers.Exec(`DELETE FROM event`); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Fatalf("error is %v", err)
	}
}

func TestClose_LeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		s := open(t, filepath.Join(t.TempDir(), "test.db"))
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	testkit.WaitFor(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

// TestClose_LeavesOneFile checks that the database file alone is a whole backup once the
// store is closed. An open statement would keep the log.
func TestClose_LeavesOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(1)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Fatalf("the write-ahead log is still there: %v", err)
	}
}

func TestDelete_WipesSecrets(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	u := &engine.Subscription{ID: 5, Secret: "whsec_x", Headers: map[string]string{"Authorization": "y"}, Version: 1}
	if err := s.PutSubscription(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteSubscription(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	var secret string
	var headers *string
	err := s.readers.QueryRow(`SELECT secret, headers FROM subscription WHERE id = 5 AND deleted_at > 0`).Scan(&secret, &headers)
	if err != nil || secret != "" || headers != nil {
		t.Fatalf("%q, %v, %v", secret, headers, err)
	}
	if n, err := s.StoredBytes(t.Context(), ""); err != nil || n.Total() != engine.RowBytes {
		t.Errorf("counted are %+v, %v", n, err)
	}
}
