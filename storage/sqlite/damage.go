package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"switchhook/engine"
)

// Damage to the database file is detected by the connection that reads it: the writer, a
// reader, the checkpointer. From then on the store is not ready until it is reopened: a
// file that is damaged in one place may be damaged in others, and new writes may be lost
// with it or destroy more.

// damage holds the first damage that was detected in a database file.
type damage struct {
	path  string
	log   *slog.Logger
	found atomic.Pointer[engine.Error]
}

// check inspects an error of SQLite, which may be nil, and returns it; if it reports
// damage, the result is a CodeUnavailable too.
func (d *damage) check(err error) error {
	if err == nil || !isDamage(err) {
		return err
	}
	found := &engine.Error{Code: engine.CodeUnavailable, Message: "the database is damaged (" + err.Error() + "): events are refused until the router's operator has restored a backup"}
	if d.found.CompareAndSwap(nil, found) {
		d.log.Error("the database is damaged: events are refused from now on. Stop the router and restore a backup",
			"file", d.path, "error", err, "command", restoreCommand(d.path))
	}
	return fmt.Errorf("%w: %w", d.found.Load(), err)
}

// err returns a CodeUnavailable error if damage was detected.
func (d *damage) err() error {
	if found := d.found.Load(); found != nil {
		return found
	}
	return nil
}

// restoreCommand returns the command line that replaces a database by a backup.
func restoreCommand(path string) string {
	return fmt.Sprintf("switchhook restore --force --data %s BACKUP", filepath.Dir(path))
}

// isDamage reports whether err means that the file's content cannot be read or is
// inconsistent. Write errors do not count: they leave the stored data unchanged.
func isDamage(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return true
	case sqlite3.ErrIoErr:
		return e.ExtendedCode == sqlite3.ErrIoErrRead || e.ExtendedCode == sqlite3.ErrIoErrShortRead ||
			e.ExtendedCode == ioErrData || e.ExtendedCode == ioErrCorruptFS
	}
	return false
}

// Codes that the driver does not name: a checksum of the VFS or of the file system that
// does not match.
var ioErrData, ioErrCorruptFS = sqlite3.ErrIoErr.Extend(32), sqlite3.ErrIoErr.Extend(33)

// explain adds the remedy to an error of opening a database.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[sqlite3.Error](err)
	switch {
	case !ok:
		return err
	case isFull(err):
		return fmt.Errorf("sqlite: the disk that holds %s is full, or its quota used up: make room, twice as much as %[1]s-wal has: %[2]w", path, err)
	case e.SystemErrno == syscall.EMFILE || e.SystemErrno == syscall.ENFILE:
		return fmt.Errorf("sqlite: %s can't be opened, for this process has too many files open: raise the limit (ulimit -n, LimitNOFILE=): %w", path, err)
	case isDamage(err):
		return fmt.Errorf("sqlite: %s is damaged, or no Switchhook database: restore a backup with \"%s\" (the file that is there is kept under another name): %w", path, restoreCommand(path), err)
	case e.Code == sqlite3.ErrCantOpen || e.Code == sqlite3.ErrReadonly || e.Code == sqlite3.ErrPerm || e.Code == sqlite3.ErrAuth:
		return fmt.Errorf("sqlite: %s, or %s-wal or -shm beside it, can't be opened for writing: they and their folder must belong to the user that runs the router, on a file system that is not mounted read-only: %w", path, filepath.Base(path), err)
	case e.Code == sqlite3.ErrIoErr && (e.ExtendedCode == sqlite3.ErrIoErrLock ||
		e.ExtendedCode >= sqlite3.ErrIoErrSHMOpen && e.ExtendedCode <= sqlite3.ErrIoErrSHMMap):
		return fmt.Errorf("sqlite: the file system of %s has no shared memory or locks, as network file systems often don't: use a local disk: %w", path, err)
	}
	return err
}

// isFull reports whether err means that space is exhausted: on the disk, in a quota, or
// under the limit for the size of a file.
func isFull(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return false
	}
	return e.Code == sqlite3.ErrFull ||
		e.Code == sqlite3.ErrIoErr && (e.SystemErrno == syscall.EDQUOT || e.SystemErrno == syscall.EFBIG || e.SystemErrno == syscall.ENOSPC)
}

// watchedConn is a reader's connection that records damage.
type watchedConn struct {
	*sqlite3.SQLiteConn
	damage *damage
}

// QueryContext implements driver.QueryerContext, which database/sql uses to read.
func (c watchedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.SQLiteConn.QueryContext(ctx, query, args)
	if err != nil {
		return nil, c.damage.check(err)
	}
	return watchedRows{rows, c.damage}, nil
}

type watchedRows struct {
	driver.Rows
	damage *damage
}

// Next implements driver.Rows.
func (r watchedRows) Next(dest []driver.Value) error { return r.damage.check(r.Rows.Next(dest)) }
