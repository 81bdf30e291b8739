package sqlite

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"switchhook/engine"
	"switchhook/engine/testkit"
)

// TestDisk_Full fills a real file system: acknowledged events stay, others are refused with
// a clear error, and everything works again once space is freed.
func TestDisk_Full(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("a file system can't be mounted here (TestWrite_PageLimitReached does without): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast, more := filepath.Join(dir, "ballast"), filepath.Join(dir, "more")
	for _, c := range []struct {
		name string
		size int
	}{{ballast, 4 << 20}, {more, 4 << 20}} {
		if err := os.WriteFile(c.name, make([]byte, c.size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "test.db")
	s := open(t, path)
	stored := 0
	fill := func() (err error) {
		for range 10_000 {
			n := newEvent(stored+1, 1)
			n.Event.Data = make([]byte, 4000)
			if _, err := s.Append(t.Context(), []engine.NewEvent{n}); err != nil {
				return err
			}
			stored++
		}
		return nil
	}
	err := fill()
	if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "full") {
		t.Fatalf("after %d events the error is %v", stored, err)
	}
	done := make(chan error, 1)
	o := succeeded(1, 1)
	o.Attempt.Response.Body = make([]byte, 1<<20)
	s.Record(o, func(err error) { done <- err })
	if err := <-done; engine.ErrorCode(err) != engine.CodeUnavailable {
		t.Fatalf("error is %v", err)
	}
	if u, err := s.Room(t.Context()); err != nil || u.DiskFree > 1<<20 {
		t.Fatalf("usage is %+v, %v", u, err)
	}
	holds := func() {
		t.Helper()
		list, _, err := s.Events(t.Context(), engine.EventQuery{})
		if err != nil || len(list) != stored {
			t.Fatalf("%d events are stored, %d were acknowledged, %v", len(list), stored, err)
		}
	}
	holds()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	testkit.WaitFor(t, "the room is used", func() bool {
		before := stored
		err = fill()
		return stored > before+50
	})
	holds()
	// On a full disk the next start reports it; with little space it finds all stored
	// events.
	for err = nil; err == nil; {
		err = fill()
	}
	closed(t, s)
	switch full, err := Open(t.Context(), Options{Path: path}); {
	case err == nil: // the final checkpoint freed just enough space
		closed(t, full)
	case !strings.Contains(err.Error(), "is full"):
		t.Fatalf("error is %v", err)
	}
	if err := os.Remove(more); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	holds()
	integrity(t, s)
}

func TestDisk_FileDeletedOrReplaced(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		path, log := filepath.Join(t.TempDir(), "test.db"), &lockedBuffer{}
		s := open(t, path)
		s.log = slog.New(slog.NewTextHandler(log, nil))
		if _, err := s.Room(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+suffix, path+".away"); err != nil {
			t.Fatal(err)
		}
		_, err := s.Room(t.Context())
		if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "of the database was deleted") || s.Ping(t.Context()) == nil {
			t.Errorf("error is %v", err)
		}
		if err := os.WriteFile(path+suffix, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = s.Room(t.Context())
		if engine.ErrorCode(err) != engine.CodeUnavailable || !strings.Contains(err.Error(), "of the database was replaced") || s.Ping(t.Context()) == nil {
			t.Errorf("error is %v", err)
		}
		if err := os.Rename(path+".away", path+suffix); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Room(t.Context()); err != nil {
			t.Errorf("it is back, and still: %v", err)
		}
		if text := log.String(); strings.Count(text, "level=ERROR") != 2 || strings.Count(text, "file="+path+suffix+" ") < 2 || !strings.Contains(text, restoreCommand(path)) || strings.Count(text, "level=INFO") != 1 {
			t.Errorf("the log says\n%s", text)
		}
	}
}
