package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"switchhook/engine"
	"switchhook/storage/vault"
)

func TestBackup_WhileWriting(t *testing.T) {
	t.Parallel()
	path, key := filepath.Join(t.TempDir(), "test.db"), vault.NewKey()
	s := openSealed(t, path, key)
	put(t, s, secretive(1, 1))
	var acknowledged, stop atomic.Int64
	var wait sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		wait.Go(func() {
			for stop.Load() == 0 {
				n := newEvent(int(next.Add(1)), 1)
				n.Event.Data = make([]byte, 4000)
				if _, err := s.Append(context.Background(), []engine.NewEvent{n}); err != nil {
					t.Error(err)
					return
				}
				s.Record(succeeded(n.Event.ID, 1), nil)
				acknowledged.Add(1)
			}
		})
	}
	defer wait.Wait()
	defer stop.Store(1)
	for round := range 4 {
		for target := int64(1000 * (round + 1)); acknowledged.Load() < target; {
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before := acknowledged.Load()
		dir := t.TempDir()
		to := filepath.Join(dir, "copy.db")
		c, err := Backup(t.Context(), path, to, false)
		if err != nil {
			t.Fatal(err)
		}
		during := acknowledged.Load() - before
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Fatalf("%v is left, %v", files, err)
		}
		if len(c.Keys) != 1 || c.Keys[0] != key.ID() || c.Bytes < before*4000 {
			t.Errorf("copy is %+v", c)
		}
		mustNotHold(t, dir, "hush!")
		copied := openSealed(t, to, key)
		integrity(t, copied)
		mustHold(t, copied, 1)
		list, _, err := copied.Events(t.Context(), engine.EventQuery{})
		if err != nil || int64(len(list)) < before {
			t.Fatalf("%d events are in the copy, %d were acknowledged before, %v", len(list), before, err)
		}
		deliveries, _, err := copied.Deliveries(t.Context(), engine.DeliveryQuery{State: engine.StateSucceeded})
		if err != nil || len(deliveries) > len(list) {
			t.Fatalf("%d deliveries of %d events, %v", len(deliveries), len(list), err)
		}
		t.Logf("%d acknowledged before, %d while it was copied, %d copied", before, during, len(list))
		closed(t, copied)
	}
}

func TestBackup_FailureLeavesNoFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(1)}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	there := filepath.Join(dir, "there.db")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		name     string
		ctx      context.Context
		from, to string
		replace  bool
		want     string
	}{
		{"to a file that is there", t.Context(), path, there, false, "exist"},
		{"of no database", t.Context(), path + ".nowhere", filepath.Join(dir, "new.db"), false, "there is no database"},
		{"of something else", t.Context(), there, filepath.Join(dir, "new.db"), false, "not a database"},
		{"over the database", t.Context(), path, path, true, "the database itself"},
		{"over its log", t.Context(), path, path + "-wal", true, "the database itself"},
		{"to no folder", t.Context(), path, filepath.Join(dir, "nowhere", "new.db"), false, "no such file"},
		{"that is ended", ended, path, there, true, "canceled"},
	} {
		if _, err := Backup(c.ctx, c.from, c.to, c.replace); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a backup %s: error is %v", c.name, err)
		}
	}
	if text, err := os.ReadFile(there); err != nil || string(text) != "mine" {
		t.Errorf("the file that was there is changed: %.20q, %v", text, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v is left, %v", files, err)
	}
	if _, err := Backup(t.Context(), path, there, true); err != nil {
		t.Error(err)
	}
	integrity(t, s)
}

func TestRestore_ReplacesDatabase(t *testing.T) {
	t.Parallel()
	path, key := filepath.Join(t.TempDir(), "test.db"), vault.NewKey()
	s := openSealed(t, path, key)
	put(t, s, secretive(1, 1))
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(1)}); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(t.TempDir(), "copy.db")
	if _, err := Backup(t.Context(), path, from, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(2)}); err != nil {
		t.Fatal(err)
	}

	if _, _, err := Restore(t.Context(), from, path, true); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("restored under a running router: %v", err)
	}
	// The log of a killed router: replayed into the restored database, it would damage it.
	wal, err := os.ReadFile(path + "-wal")
	if err != nil || len(wal) == 0 {
		t.Fatal(len(wal), err)
	}
	closed(t, s)
	if err := os.WriteFile(path+"-wal", wal, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Restore(t.Context(), from, path, false); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a database was replaced unasked: %v", err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 2; i < len(data); i++ {
		data[i] ^= byte(rand.N(255) + 1)
	}
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Restore(t.Context(), damaged, path, true); err == nil {
		t.Fatal("a damaged backup was restored")
	}

	left := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".partial-77") // left by a killed router
	if err := os.WriteFile(left, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, kept, err := Restore(t.Context(), from, path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half of a copy is still there: %v", err)
	}
	s = openSealed(t, path, key)
	integrity(t, s)
	mustHold(t, s, 1)
	if last, err := s.LastEventID(t.Context(), 0); err != nil || last != 1 {
		t.Fatalf("the last event is %d, %v", last, err)
	}
	closed(t, s)
	old := openSealed(t, kept, key)
	if last, err := old.LastEventID(t.Context(), 0); err != nil || last != 2 {
		t.Fatalf("in what was kept, the last event is %d, %v", last, err)
	}
	integrity(t, old)

	elsewhere := filepath.Join(t.TempDir(), "new", "test.db")
	if _, kept, err := Restore(t.Context(), from, elsewhere, false); err != nil || kept != "" {
		t.Fatal(kept, err)
	}
	mustHold(t, openSealed(t, elsewhere, key), 1)
}

func TestRestore_RefusesInvalidBackup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, path)
	if err := s.write(t.Context(), func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "test.db")
	if _, _, err := Restore(t.Context(), path, to, false); err == nil || !strings.Contains(err.Error(), "log beside it") {
		t.Errorf("a database in use: %v", err)
	}
	closed(t, s)
	if _, _, err := Restore(t.Context(), path, to, false); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a newer one: %v", err)
	}
	if _, _, err := Restore(t.Context(), path, path, true); err == nil || !strings.Contains(err.Error(), "the database itself") {
		t.Errorf("itself: %v", err)
	}
	for _, c := range []struct{ name, text string }{{"empty", ""}, {"text", strings.Repeat("no database. ", 1000)}} {
		other := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(other, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Restore(t.Context(), other, to, false); err == nil {
			t.Errorf("%s was restored", c.name)
		}
	}
	files, err := os.ReadDir(filepath.Dir(to))
	if err != nil || len(files) != 1 || files[0].Name() != "test.db.lock" {
		t.Errorf("%v is left, %v", files, err)
	}
}

// killed stores 20 events in s, whose file is live, and returns a copy as a kill would
// leave it: the events are only in the log.
func killed(t *testing.T, s *Store, live string) (path string) {
	t.Helper()
	for n := range 20 {
		if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(n + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(t.TempDir(), "test.db")
	copyFile(t, live, path)
	copyFile(t, live+"-wal", path+"-wal")
	return path
}

// TestBackup_WithoutRouter copies a database that a killed router left, part of which is
// only in the log.
func TestBackup_WithoutRouter(t *testing.T) {
	t.Parallel()
	live := filepath.Join(t.TempDir(), "live.db")
	s := open(t, live)
	path := killed(t, s, live)
	for n := range 2 { // the first run must not change it
		to := filepath.Join(t.TempDir(), fmt.Sprint(n))
		if _, err := Backup(t.Context(), path, to, false); err != nil {
			t.Fatal(err)
		}
		copied, err := Open(t.Context(), Options{Path: to, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if last, err := copied.LastEventID(t.Context(), 0); err != nil || last != 20 {
			t.Fatalf("the last event is %d, %v", last, err)
		}
		closed(t, copied)
	}
}

// TestRestore_ReplacedDatabaseIsWholeWithoutLog replaces a database that a killed router
// left: a restore that is killed too may leave it without its log.
func TestRestore_ReplacedDatabaseIsWholeWithoutLog(t *testing.T) {
	t.Parallel()
	live := filepath.Join(t.TempDir(), "live.db")
	s := open(t, live)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if _, err := Backup(t.Context(), live, backup, false); err != nil {
		t.Fatal(err)
	}
	path := killed(t, s, live)
	_, kept, err := Restore(t.Context(), backup, path, true)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(kept + "-wal"); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes of it are in a log", info.Size())
	}
	old, err := Open(t.Context(), Options{Path: kept, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, old)
	if last, err := old.LastEventID(t.Context(), 0); err != nil || last != 20 {
		t.Errorf("the last event of what was kept is %d, %v", last, err)
	}
}

// TestRestore_KeepsLogOfEmptyDatabase replaces a database that a damaged disk emptied: its
// log may be the only copy of the last events.
func TestRestore_KeepsLogOfEmptyDatabase(t *testing.T) {
	t.Parallel()
	live := filepath.Join(t.TempDir(), "live.db")
	s := open(t, live)
	backup := filepath.Join(t.TempDir(), "backup.db")
	if _, err := Backup(t.Context(), live, backup, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(1)}); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "data[1]") // looks like a pattern
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path, left := filepath.Join(folder, "test.db"), filepath.Join(folder, ".test.db.partial-77")
	for _, empty := range []string{path, left} {
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, live+"-wal", path+"-wal")
	log, err := os.ReadFile(path + "-wal")
	if err != nil || len(log) == 0 {
		t.Fatalf("a log of %d bytes, %v", len(log), err)
	}
	_, kept, err := Restore(t.Context(), backup, path, true)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(kept + "-wal"); err != nil || !bytes.Equal(got, log) {
		t.Errorf("%d of %d bytes of the log were kept, %v", len(got), len(log), err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half of a copy is still there: %v", err)
	}
}

func TestBackup_RefusesSpecialFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	open(t, path)
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ to, want string }{{folder, "is a folder"}, {pipe, "is not a regular file"}} {
		for _, replace := range []bool{false, true} {
			if _, err := Backup(t.Context(), path, c.to, replace); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error is %v", c.to, err)
			}
		}
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().IsRegular() {
		t.Errorf("the pipe was replaced: %v, %v", info, err)
	}
}

// TestRestore_RefusesOtherFiles restores files that are not backups. The message must name
// the given file and its fault; nothing may be left in the folder.
func TestRestore_RefusesOtherFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	good := filepath.Join(folder, "good.db")
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	if err := appendOne(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), s.path, good, false); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(pages)
	copy(damaged[9*pageBytes:], bytes.Repeat([]byte{0xff}, pageBytes))
	database := func(name, statements string) []byte {
		path := filepath.Join(folder, name+".tmp")
		db := sql.OpenDB(connector{path: path})
		_, err := db.Exec(statements)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "is empty"},
		{"text", []byte(strings.Repeat("hello", 1000)), "no database"},
		{"foreign", database("foreign", "CREATE TABLE event (id)"), "another program"},
		{"goose", database("goose", "CREATE TABLE goose_db_version (id, version_id, is_applied, tstamp); INSERT INTO goose_db_version VALUES (1, 7, 1, 0); CREATE TABLE t (x)"), "another program"},
		{"damaged", damaged, "damaged"},
		{"cut", pages[:len(pages)/2], "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := filepath.Join(folder, c.name), filepath.Join(t.TempDir(), "test.db")
			if err := os.WriteFile(from, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := Restore(t.Context(), from, to, false)
			if err == nil || !strings.Contains(err.Error(), from) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "partial") {
				t.Errorf("error is %v", err)
			}
			if left, err := filepath.Glob(to + "*"); err != nil || len(left) != 1 || left[0] != to+lockSuffix {
				t.Errorf("%v are left, %v", left, err)
			}
			open(t, to) // the lock file alone does not prove that there was a database
		})
	}
}

// TestOpen_BySymlink opens a database by a symbolic link to its file.
func TestOpen_BySymlink(t *testing.T) {
	t.Parallel()
	path, link := filepath.Join(t.TempDir(), "real.db"), filepath.Join(t.TempDir(), "switchhook.db")
	s := open(t, path)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: link}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice, by two names: %v", err)
	}
	closed(t, s)
	s = open(t, link)
	if err := appendOne(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if _, err := Backup(t.Context(), link, to, false); err != nil {
		t.Error(err)
	}
	closed(t, s)
	if _, _, err := Restore(t.Context(), to, link, true); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: link}); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("error is %v", err)
	}
}
