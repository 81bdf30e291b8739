package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/testkit"
)

func TestWrite_PageLimitReached(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	limit := func(pages string) {
		t.Helper()
		if err := s.write(t.Context(), func(tx *tx) error {
			_, err := tx.exec("PRAGMA max_page_count = " + pages)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	large := newEvent(1)
	large.Event.Data = make([]byte, 1<<20)
	limit("1") // SQLite raises that to the present size: the next page exceeds it

	_, err := s.Append(t.Context(), []engine.NewEvent{newEvent(2), large})
	if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "full") {
		t.Fatalf("error is %v", err)
	}
	done := make(chan error, 1)
	o := succeeded(1, 1)
	o.Attempt.Response.Body = large.Event.Data
	s.Record(o, func(err error) { done <- err })
	if err := <-done; engine.ErrorCode(err) != engine.CodeUnavailable {
		t.Fatalf("error is %v", err)
	}
	if last, err := s.LastEventID(t.Context(), 0); err != nil || last != 0 {
		t.Fatalf("event %d is stored, %v", last, err)
	}

	limit("1000000")
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(2), large}); err != nil {
		t.Fatal(err)
	}
	s.Record(o, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	integrity(t, s)
}

// block keeps the writer busy until the function it returns is called.
func block(s *Store) (release func()) {
	started, end := make(chan struct{}), make(chan struct{})
	go s.write(context.Background(), func(*tx) error {
		close(started)
		<-end
		return nil
	})
	<-started
	return func() { close(end) }
}

func TestQueue_CancelledCallIsWithdrawn(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	release := block(s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := s.Append(ctx, []engine.NewEvent{newEvent(1)})
	release()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Event(t.Context(), "", 1); engine.ErrorCode(err) != engine.CodeNotFound {
		t.Fatalf("the event is stored although its call was withdrawn: %v", err)
	}
}

func TestQueue_FullBlocksCallers(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	release := block(s)
	var wait sync.WaitGroup
	answered := make(chan error, queueCapacity+100)
	wait.Go(func() {
		for i := range queueCapacity + 100 {
			s.Record(succeeded(engine.ID(i+1), 1), func(err error) { answered <- err })
		}
	})
	testkit.WaitFor(t, "the queue is full", func() bool { return s.Waiting() >= queueCapacity })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v", err)
	}
	release()
	wait.Wait()
	for range queueCapacity + 100 {
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_RefusesNewerVersion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	err := s.write(t.Context(), func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), "has schema version 99") {
		t.Fatalf("error is %v", err)
	}
}

func TestOpen_RefusesForeignFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first attempt must have released the lock
		_, err := Open(context.Background(), Options{Path: path})
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "in use") {
			t.Fatalf("error is %v", err)
		}
	}
}

// TestMigration_FromVersion1 opens a dump of the first released schema. Later migrations
// must keep this passing; testdata/v1.sql must not change.
func TestMigration_FromVersion1(t *testing.T) {
	t.Parallel()
	dump, err := os.ReadFile("testdata/v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "test.db")
	old := sql.OpenDB(connector{path: path})
	_, err = old.Exec(string(dump))
	if err := errors.Join(err, old.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	e, err := s.Event(t.Context(), "acme", 2)
	if err != nil || e.Key != "order-2" || e.Headers["X-Shop"] != "ü" || len(e.Targets) != 2 {
		t.Fatalf("event is %+v, %v", e, err)
	}
	list, _, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Account: "acme"})
	if err != nil || len(list) != 4 {
		t.Fatalf("deliveries are %v, %v", list, err)
	}
	last, err := s.Attempt(t.Context(), engine.DeliveryID{Event: 1, Subscription: 5}, 2)
	if err != nil || string(last.Request.Body) != `{"n":1}` || last.Response.Headers[0].Value != "2" {
		t.Fatalf("the last attempt is %+v, %v", last, err)
	}
	subscriptions, err := s.Subscriptions(t.Context())
	if err != nil || len(subscriptions) != 1 || subscriptions[0].Secret != "whsec_x" {
		t.Fatalf("subscriptions are %v, %v", subscriptions, err)
	}
	if mark, err := s.Watermark(t.Context(), 0); err != nil || mark != 1 {
		t.Fatalf("watermark is %d, %v", mark, err)
	}
	integrity(t, s)
}

func TestOnCommit_ReportsCommits(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var requests, rows int
	s, err := Open(context.Background(), Options{
		Path: filepath.Join(t.TempDir(), "test.db"), Logger: slog.New(slog.DiscardHandler),
		OnCommit: func(c Commit) {
			mu.Lock()
			defer mu.Unlock()
			requests += c.Requests
			rows += c.Rows
			if c.Err != nil || c.Took <= 0 {
				t.Errorf("commit is %+v", c)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(1), newEvent(2)}); err != nil {
		t.Fatal(err)
	}
	s.Record(succeeded(1, 1), nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if requests != 2 || rows != 4 {
		t.Fatalf("%d requests, %d rows", requests, rows)
	}
}

// TestMigration_OutOfOrder opens a database that lacks a migration with a lower number than
// its own version.
func TestMigration_OutOfOrder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	err := s.write(t.Context(), func(tx *tx) error {
		_, err := tx.exec(`DROP INDEX idempotency_by_event; DROP TABLE encryption_key; ALTER TABLE subscription DROP COLUMN verification_secret;
			DELETE FROM goose_db_version WHERE version_id = 8`)
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	put(t, s, secretive(1, 1))
	mustHold(t, s, 1)
}

// TestWrite_DatabaseLocked holds a lock on the database, as an SQLite tool may.
func TestWrite_DatabaseLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	tool, err := openURL(path, "", "BEGIN EXCLUSIVE")
	if err != nil {
		t.Fatal(err)
	}
	err = appendOne(t.Context(), s, 1)
	if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "another program has locked") {
		t.Errorf("error is %v", err)
	}
	if s.Damaged() != nil {
		t.Error("that counts as damage")
	}
	if err := tool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(t.Context(), s, 1); err != nil {
		t.Error(err)
	}
}
