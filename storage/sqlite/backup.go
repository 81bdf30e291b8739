package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"switchhook/storage/vault"
)

// A backup is one file: the database at one moment. Copying the database and its log with
// cp gives that only while no process writes. If the log is copied last, a checkpoint may
// have emptied it into a database that was copied earlier; if the database is copied last,
// it has pages that are newer than the log, and the log replaces them by older ones. A file
// system snapshot that captures both at one instant is safe.

const (
	// backupPages is the number of pages copied in one step, 4 MiB.
	backupPages = 512
	// backupPause is the minimum pause between steps. The pause lasts as long as the step
	// if that took longer, which leaves disk and CPU to the router.
	backupPause = time.Millisecond
)

// BackupInfo describes a backup.
type BackupInfo struct {
	Bytes   int64
	Version int64    // of the schema
	Keys    []string // ids of the encryption keys that open its secrets; the backup does not contain the keys
}

// Backup copies the database at path to a file, also while a router writes to it. The copy
// is one consistent state and contains everything that was acknowledged before Backup
// began. The file exists whole and checked, or not at all. An existing file is left alone
// unless replace is set: the error is fs.ErrExist.
func Backup(ctx context.Context, path, to string, replace bool) (c BackupInfo, err error) {
	if _, err := os.Stat(path); err != nil {
		return c, fmt.Errorf("there is no database to copy: %w", err)
	}
	if path, err = resolveLink(path); err != nil {
		return c, err
	}
	if err := checkNotDatabase(path, to); err != nil {
		return c, err
	}
	switch info, err := os.Lstat(to); {
	case err != nil: // there is none, or writeAtomically reports the error
	case info.IsDir():
		return c, fmt.Errorf("%s is a folder: give the name of the file to write", to)
	case !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0:
		return c, fmt.Errorf("%s is not a regular file, so a backup does not replace it: give the name of the file to write", to)
	case !replace:
		return c, fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	err = writeAtomically(to, replace, func(temp string) error {
		if err := copyPages(ctx, path, temp); err != nil {
			return fmt.Errorf("copy %s: %w", path, explain(path, err))
		}
		if c, err = inspect(ctx, temp, "quick_check"); err != nil {
			return fmt.Errorf("the copy of %s, which is checked before it is put in place: %w", path, err)
		}
		return nil
	})
	return c, err
}

// checkNotDatabase refuses a target file that is the database itself or one of its side
// files.
func checkNotDatabase(path, to string) error {
	info, err := os.Stat(to)
	if err != nil {
		return nil
	}
	for _, suffix := range []string{"", "-wal", "-shm", lockSuffix} {
		if part, err := os.Stat(path + suffix); err == nil && os.SameFile(info, part) {
			return fmt.Errorf("%s is the database itself, or a part of it", to)
		}
	}
	return nil
}

// writeAtomically calls make with the name of a temporary file, syncs that to disk and
// moves it to the path to.
func writeAtomically(to string, replace bool, make func(temp string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".partial-*") // mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() {
		if remove := os.Remove(temp); err == nil && !errors.Is(remove, fs.ErrNotExist) {
			err = remove
		}
	}()
	if err := errors.Join(f.Close(), make(temp), syncFile(temp)); err != nil {
		return err
	}
	if replace {
		err = os.Rename(temp, to)
	} else {
		err = os.Link(temp, to) // unlike a rename, it replaces nothing
	}
	if err != nil {
		return err
	}
	return vault.SyncDir(filepath.Dir(to))
}

// removePartial removes temporary files that killed runs of writeAtomically left. No other
// process may be writing one.
func removePartial(to string) error {
	list, err := os.ReadDir(filepath.Dir(to)) // not filepath.Glob: the folder's name may contain pattern characters
	for _, left := range list {
		if strings.HasPrefix(left.Name(), "."+filepath.Base(to)+".partial-") {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(to), left.Name())))
		}
	}
	return err
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copyPages copies the pages of the database as one reader sees them. The read transaction
// lasts until the end: without it, SQLite would restart after every commit of the router.
// Meanwhile the router's log grows.
func copyPages(ctx context.Context, from, to string) (err error) {
	source, err := openURL(from, "mode=ro", "PRAGMA busy_timeout = 5000; PRAGMA cache_size = -4096")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := openURL(to, "", "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if _, err := source.Exec("BEGIN", nil); err != nil {
		return err
	}
	if err := queryConn(source, "SELECT count(*) FROM sqlite_schema", nil, nil); err != nil {
		return err
	}
	b, err := target.Backup("main", source, "main")
	if err != nil {
		return err
	}
	defer func() {
		if b != nil {
			err = errors.Join(err, b.Finish())
		}
	}()
	for {
		began := time.Now()
		done, err := b.Step(backupPages)
		if err != nil {
			return err
		}
		if done {
			finish := b.Finish()
			b = nil
			return finish
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(backupPause, time.Since(began))):
		}
	}
}

// openURL opens a connection with only the given query and pragmas.
func openURL(path, query, pragmas string) (*sqlite3.SQLiteConn, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c, err := (&sqlite3.SQLiteDriver{}).Open((&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query}).String())
	if err != nil {
		return nil, err
	}
	conn := c.(*sqlite3.SQLiteConn)
	if _, err := conn.Exec(pragmas, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// inspect checks a database that no process uses, with "quick_check" or "integrity_check",
// and verifies that this program supports its schema. It creates no file beside it.
func inspect(ctx context.Context, path, check string) (c BackupInfo, err error) {
	conn, err := openURL(path, "mode=ro&immutable=1", "PRAGMA cache_size = -65536")
	if err != nil {
		return c, fmt.Errorf("it is damaged, or no database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	switch c.Version, err = schemaVersion(conn); {
	case errors.Is(err, errForeign):
		return c, err
	case err != nil:
		return c, fmt.Errorf("it is damaged, or no database: %w", err)
	case c.Version == 0:
		return c, errors.New("it is empty: there is no Switchhook database in it")
	}
	if newest, err := newestVersion(); err != nil || c.Version > newest {
		return c, errors.Join(tooNew("it", c.Version, newest), err)
	}
	rows, err := conn.QueryContext(ctx, "PRAGMA "+check, nil) // takes long; ctx can cancel it
	if err != nil {
		return c, err
	}
	err = walk(rows, make([]driver.Value, 1), func(row []driver.Value) error {
		if text, _ := row[0].(string); text != "ok" {
			return fmt.Errorf("it is damaged: %.200s", text)
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return c, err
	}
	c.Bytes = info.Size()
	c.Keys, err = keysInUse(conn)
	return c, err
}

// keysInUse lists the encryption keys of a database of any version.
func keysInUse(conn *sqlite3.SQLiteConn) (ids []string, err error) {
	known := false
	err = queryConn(conn, "SELECT 1 FROM sqlite_schema WHERE name = 'encryption_key'", nil, func([]driver.Value) error {
		known = true
		return nil
	})
	if err != nil || !known {
		return nil, err
	}
	err = queryConn(conn, "SELECT id FROM encryption_key ORDER BY id", nil, func(row []driver.Value) error {
		ids = append(ids, row[0].(string))
		return nil
	})
	return ids, err
}

// Restore replaces the database at path by a backup. It fails if a router is running on it,
// if the backup is damaged or of a newer version, and, unless replace is set, if a database
// exists: the error is fs.ErrExist. A replaced database is kept under the name that Restore
// returns.
func Restore(ctx context.Context, from, path string, replace bool) (c BackupInfo, kept string, err error) {
	switch info, err := os.Stat(from); {
	case err != nil:
		return c, "", fmt.Errorf("there is no backup: %w", err)
	case !info.Mode().IsRegular():
		return c, "", fmt.Errorf("%s is not a regular file: give the backup file", from)
	}
	if path, err = resolveLink(path); err != nil {
		return c, "", err
	}
	if err := checkNotDatabase(path, from); err != nil {
		return c, "", err
	}
	if info, err := os.Stat(from + "-wal"); err == nil && info.Size() > 0 {
		return c, "", fmt.Errorf("%s has a write-ahead log beside it, so it is not a finished backup: make one with switchhook backup, or put both files in the data folder yourself", from)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return c, "", err
	}
	lock, err := lockFile(path)
	if err != nil {
		return c, "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := removePartial(path); err != nil {
		return c, "", err
	}
	there := false
	for _, suffix := range []string{"", "-wal"} {
		_, err := os.Lstat(path + suffix)
		there = there || err == nil
	}
	if there && !replace {
		return c, "", fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	err = writeAtomically(path, true, func(temp string) error {
		if err := copyBytes(ctx, from, temp); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
		if c, err = inspect(ctx, temp, "integrity_check"); err != nil {
			return fmt.Errorf("%s can't be restored, and nothing was changed: %w", from, err)
		}
		// The old database goes only now that the copy is verified, synced and beside it.
		if err := syncFile(temp); err != nil || !there {
			return err
		}
		kept, err = moveAside(path)
		return err
	})
	return c, kept, err
}

func copyBytes(ctx context.Context, from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { source.Close() })
	defer stop()
	_, err = io.Copy(target, source)
	return errors.Join(err, ctx.Err(), target.Close())
}

// mergeLog moves the log that a killed router left into the database, as its next start
// would: between the loss of the log's first name and the end of a restore, the file under
// the first name is then not older than it was. A database that is too damaged for that, or
// has no space left, stays as it is.
func mergeLog(path string) {
	for _, suffix := range []string{"", "-wal"} {
		// SQLite deletes the log of an empty file without reading it.
		if info, err := os.Stat(path + suffix); err != nil || info.Size() == 0 {
			return
		}
	}
	if conn, err := openURL(path, "mode=rw", "PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE)"); err == nil {
		conn.Close()
	}
}

// moveAside gives a database and its log second names and removes the log's first name:
// beside another database SQLite would replay the log into it. If it is interrupted, the
// old state is whole under the second names.
func moveAside(path string) (kept string, err error) {
	mergeLog(path)
	kept = path + ".before-restore-" + time.Now().UTC().Format("20060102T150405.000Z")
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Link(path+suffix, kept+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if err := vault.SyncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return kept, vault.SyncDir(filepath.Dir(path))
}
