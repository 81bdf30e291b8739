package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
)

// pageBytes is the page size that settings set for a new database.
const pageBytes = 8192

// Types of b-tree pages, https://sqlite.org/fileformat2.html#b_tree_pages.
const (
	interiorTable, leafTable = 5, 13
)

// TestDamage_IsReported overwrites one page of a database, of each kind in turn. The store
// must not open, or must report the damage once a query has hit it; its errors and its log
// name the remedy.
func TestDamage_IsReported(t *testing.T) {
	t.Parallel()
	template := filepath.Join(t.TempDir(), "template.db")
	roots := fillForDamage(t, template)
	pages, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	freelist := int(binary.BigEndian.Uint32(pages[32:]))
	cases := []struct {
		name string
		page int // the first is 1
	}{
		{"schema", 1},
		{"root of event", roots["event"]},
		{"leaf of event", pageOfType(t, pages, leafTable, roots["event"])},
		{"root of subscription", roots["subscription"]},
		{"root of delivery", roots["delivery"]},
		{"root of attempt", roots["attempt"]},
		{"root of index event_by_account", roots["event_by_account"]},
		{"root of index delivery_by_due", roots["delivery_by_due"]},
		{"root of index delivery_open_by_subscription", roots["delivery_open_by_subscription"]},
		{"root of meta", roots["meta"]},
		{"root of goose_db_version", roots["goose_db_version"]},
		{"freelist trunk", freelist},
	}
	contents := map[string]func([]byte){
		"zeros":  func(b []byte) { clear(b) },
		"ones":   func(b []byte) { copy(b, bytes.Repeat([]byte{0xff}, len(b))) },
		"random": func(b []byte) { rand.NewChaCha8([32]byte{7}).Read(b) },
	}
	for _, c := range cases {
		for name, overwrite := range contents {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				if c.page == 0 {
					t.Fatal("there is no such page")
				}
				path := filepath.Join(t.TempDir(), "test.db")
				damaged := bytes.Clone(pages)
				overwrite(damaged[(c.page-1)*pageBytes:][:pageBytes])
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				mustReportDamage(t, path)
			})
		}
	}
}

// mustReportDamage opens a damaged database and uses all of it.
func mustReportDamage(t *testing.T, path string) {
	t.Helper()
	log := &lockedBuffer{}
	s, err := Open(t.Context(), Options{Path: path, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		if !strings.Contains(err.Error(), path+" is damaged") || !strings.Contains(err.Error(), restoreCommand(path)) {
			t.Fatalf("does not open, and the error does not say what to do: %v", err)
		}
		return
	}
	defer s.Close()
	ctx := t.Context()
	errs := useAll(ctx, s)
	if len(errs) == 0 {
		t.Fatal("nothing was found")
	}
	if s.Damaged() == nil {
		t.Fatalf("the damage is not noted: %v", errs)
	}
	for _, c := range []struct {
		name string
		err  error
	}{{"Ping", s.Ping(ctx)}, {"Room", func() error { _, err := s.Room(ctx); return err }()}, {"Append", appendOne(ctx, s, 900)}} {
		if engine.ErrorCode(c.err) != engine.CodeUnavailable || !strings.Contains(c.err.Error(), "damaged") {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	if n := strings.Count(log.String(), "the database is damaged"); n != 1 || !strings.Contains(log.String(), restoreCommand(path)) {
		t.Errorf("reported %d times:\n%s", n, log)
	}
	if _, err := Backup(ctx, path, filepath.Join(t.TempDir(), "copy.db"), false); err == nil {
		t.Error("a backup of it was made without an error")
	}
}

func appendOne(ctx context.Context, s *Store, id int) error {
	n := newEvent(id, 1)
	n.Event.Data = make([]byte, 64<<10)
	_, err := s.Append(ctx, []engine.NewEvent{n})
	return err
}

// useAll calls the methods that read and write every table, and returns the errors.
func useAll(ctx context.Context, s *Store) (errs []error) {
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	_, err := s.Subscriptions(ctx)
	add(err)
	_, err = s.Unfinished(ctx, 0, 0, 0)
	add(err)
	_, _, err = s.Events(ctx, engine.EventQuery{})
	add(err)
	_, _, err = s.Events(ctx, engine.EventQuery{Account: "acme"})
	add(err)
	_, _, err = s.Deliveries(ctx, engine.DeliveryQuery{Account: "acme"})
	add(err)
	_, _, err = s.Attempts(ctx, engine.AttemptQuery{Delivery: engine.DeliveryID{Event: 7, Subscription: 1}})
	add(err)
	_, err = s.OpenDeliveries(ctx)
	add(err)
	_, err = s.NextDue(ctx)
	add(err)
	_, err = s.TakeDue(ctx, time.Now(), 10, func([]engine.Waiting) {})
	add(err)
	for id := 500; id < 540; id++ { // takes pages of the freelist
		add(appendOne(ctx, s, id))
		done := make(chan error, 1)
		o := succeeded(engine.ID(id), 1)
		o.State, o.NextAt = engine.StateRetrying, time.Now()
		s.Record(o, func(err error) { done <- err })
		add(<-done)
	}
	return errs
}

// fillForDamage creates a database with pages of every kind, and returns the root pages of
// its tables and indexes.
func fillForDamage(t *testing.T, path string) map[string]int {
	t.Helper()
	s := open(t, path)
	put(t, s, secretive(1, 1))
	for id := 1; id <= 120; id++ {
		if err := appendOne(t.Context(), s, id); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		o := succeeded(engine.ID(id), 1)
		if id%3 == 0 {
			o.State, o.NextAt = engine.StateRetrying, time.Now().Add(-time.Second)
		}
		s.Record(o, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	roots := map[string]int{}
	rows, err := s.readers.Query(`SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var name string
		var page int
		if err := rows.Scan(&name, &page); err != nil {
			t.Fatal(err)
		}
		roots[name] = page
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	err = s.write(t.Context(), func(tx *tx) error { // leaves free pages
		_, err := tx.exec(`DELETE FROM event WHERE id BETWEEN 40 AND 60`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return roots
}

// pageOfType returns a page of a type below the root of a tree.
func pageOfType(t *testing.T, pages []byte, kind byte, root int) int {
	t.Helper()
	page := pages[(root-1)*pageBytes:][:pageBytes]
	if page[0] != interiorTable {
		t.Fatalf("page %d has type %d", root, page[0])
	}
	child := int(binary.BigEndian.Uint32(page[binary.BigEndian.Uint16(page[12:]):]))
	if got := pages[(child-1)*pageBytes]; got != kind {
		t.Fatalf("page %d has type %d", child, got)
	}
	return child
}

// lockedBuffer is a log buffer that is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
