package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

const defaultFile = "switchhook.db"

// prepareFile makes the database file and its directory, readable by nobody else: it
// holds secrets and payloads. SQLite gives -wal and -shm the mode of the database.
func prepareFile(path string) (string, error) {
	if path == "" {
		return "", errors.New("sqlite: no path given for the database")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, defaultFile)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("sqlite: make the data directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("sqlite: open the database: %w", err)
	}
	return path, f.Close()
}

// lockFile keeps a second process out. SQLite itself would let it in, and both would
// deliver the same events. A kernel lock dies with its process, so none is left behind.
func lockFile(path string) (*flock.Flock, error) {
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("sqlite: lock %s: %w", lock.Path(), err)
	case !ok:
		return nil, fmt.Errorf("sqlite: %s is in use by another process, which holds the lock on %s; if it is a running router, stop it first", path, lock.Path())
	}
	return lock, nil
}

// settings are what every connection is set to. Several of them are not SQLite's or the
// driver's defaults:
//   - synchronous: the driver sets NORMAL, which loses commits when power fails.
//   - page_size 8192: 12 to 15 % more inserts than 4096, for 40 % more bytes written.
//   - cache_size 8 MB: 2, 64 and 256 MB wrote as fast beside 10 million rows, since the
//     system caches the file as well; 64 MB took that much more memory.
//   - mmap_size 0: with 6 GB of data, reads through mmap were slower throughout.
//   - wal_autocheckpoint 0: checkpoint.go does it, with a p99 of 2.4 ms rather than 3.8.
//   - auto_vacuum and page_size only count before the first table is made.
const settings = `
PRAGMA page_size = 8192;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -8192;
PRAGMA mmap_size = 0;
PRAGMA temp_store = MEMORY;
PRAGMA busy_timeout = 5000;
`

const (
	readerCount    = 4
	readerSettings = `
PRAGMA cache_size = -4096;
PRAGMA query_only = ON;
`
)

// openConn opens a connection of the bare driver: at 256 rows a commit it costs 3.4 µs a
// row where database/sql costs 4.8.
func openConn(path, more string) (*sqlite3.SQLiteConn, error) {
	// As a URL, since a path may hold the "?" after which the driver's options begin.
	name := (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_synchronous=FULL&_stmt_cache_size=64"}).String()
	c, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	conn := c.(*sqlite3.SQLiteConn)
	if _, err := conn.Exec(settings+more, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: set up the connection to %s: %w", path, err), conn.Close())
	}
	return conn, nil
}

// connector lets database/sql open connections as openConn does.
type connector struct{ path, settings string }

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) { return openConn(c.path, c.settings) }

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func openReaders(path string) *sql.DB {
	db := sql.OpenDB(connector{path, readerSettings})
	db.SetMaxOpenConns(readerCount)
	db.SetMaxIdleConns(readerCount)
	return db
}

// migrate brings the schema up to date. There is no way back: a database that a newer
// version wrote is refused.
func migrate(ctx context.Context, path string) (err error) {
	db := sql.OpenDB(connector{path, ""})
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()

	files, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		return err
	}
	// The provider is not closed: that would close db, which is ours.
	// Versions may come late: files that were worked on at the same time are made part of
	// the program in another order than that of their numbers. They don't build on each other.
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithAllowOutofOrder(true))
	if err != nil {
		return fmt.Errorf("sqlite: read the embedded schema: %w", err)
	}
	newest, err := newestVersion()
	if err != nil {
		return err
	}
	current, err := provider.GetDBVersion(ctx)
	if isFull(err) {
		return fmt.Errorf("sqlite: the disk that holds %s is full: make room, twice as much as %[1]s-wal has: %[2]w", path, err)
	}
	if err != nil {
		return fmt.Errorf("sqlite: %s is no Switchhook database, or damaged: %w", path, err)
	}
	if current > newest {
		return tooNew(path, current, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("sqlite: bring the schema of %s from version %d to %d: %w", path, current, newest, err)
	}
	return nil
}

func tooNew(path string, version, newest int64) error {
	return fmt.Errorf("sqlite: %s has schema version %d, this program knows versions up to %d: run the newer Switchhook that wrote it", path, version, newest)
}

// newestVersion is the schema that this program brings databases to.
func newestVersion() (int64, error) {
	files, err := schemaFiles.ReadDir("schema") // by name, and so by number
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1].Name())
}

// verify makes sure that a commit on conn is on disk when it returns.
func verify(conn *sqlite3.SQLiteConn) error {
	for pragma, want := range map[string]driver.Value{"journal_mode": "wal", "synchronous": int64(2)} {
		got, err := pragmaValue(conn, pragma)
		if err != nil {
			return fmt.Errorf("sqlite: read %s: %w", pragma, err)
		}
		if got != want {
			return fmt.Errorf("sqlite: %s is %v, not %v: does the file system support shared memory?", pragma, got, want)
		}
	}
	return nil
}

func pragmaValue(conn *sqlite3.SQLiteConn, name string) (value driver.Value, err error) {
	err = queryConn(conn, "PRAGMA "+name, nil, func(row []driver.Value) error {
		value = row[0]
		return nil
	})
	return value, err
}
