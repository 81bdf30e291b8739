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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"

	_ "switchhook/storage/sqlite/needcgo" // fails with a message in a build without cgo
)

//go:embed schema/*.sql
var schemaFiles embed.FS

const defaultFile = "switchhook.db"

// prepareFolder creates the directory of the database with mode 0700: it holds secrets and
// payloads. It returns the path of the database.
func prepareFolder(path string) (string, error) {
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
	return resolveLink(path)
}

// resolveLink returns the file that a symbolic link points to. SQLite puts -wal and -shm
// beside that one, and a process that opens it by another name must find the lock.
func resolveLink(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return path, nil
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("sqlite: %s is a link that leads nowhere: %w", path, err)
	}
	return target, nil
}

// prepareFile creates the database file if it is missing; the caller holds the lock. SQLite
// gives -wal and -shm its mode. A file that is missing or empty although there was a
// database before is an error unless o allows it: after a start on the wrong disk, or after
// a truncation, the operator must be told instead of getting an empty router.
func prepareFile(path string, o Options) error {
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sqlite: open the database: %w", err)
	}
	if err != nil || info.Size() == 0 {
		if err := checkMayCreate(path, err == nil, o); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("sqlite: open the database: %w", err)
	}
	return f.Close()
}

// checkMayCreate returns an error if a new database must not be created. exists means that
// there is a file, which is empty.
func checkMayCreate(path string, exists bool, o Options) error {
	traces := slices.Clone(o.Traces)
	wal, err := os.Stat(path + "-wal")
	log := err == nil && wal.Size() > 0
	if log {
		traces = append(traces, path+"-wal")
	}
	if lock, err := os.Stat(path + lockSuffix); err == nil && lock.Size() > 0 {
		traces = append(traces, path+lockSuffix)
	}
	switch {
	case len(traces) == 0:
		return nil
	case !o.New:
		return &EmptyError{Path: path, Exists: exists, Traces: traces}
	case log: // SQLite would delete it
		return os.Rename(path+"-wal", path+"-wal.without-database-"+time.Now().UTC().Format("20060102T150405.000Z"))
	}
	return nil
}

// EmptyError reports that a database is missing where one existed before.
type EmptyError struct {
	Path   string
	Exists bool     // there is a file of 0 bytes
	Traces []string // files that prove that there was a database
}

// Error implements error.
func (e *EmptyError) Error() string {
	state := "is missing"
	if e.Exists {
		state = "is empty"
	}
	return fmt.Sprintf("the database %s %s, but %s shows that there was one", e.Path, state, strings.Join(e.Traces, ", "))
}

const (
	lockSuffix = ".lock"
	// lockText is written to the lock file once a database exists: from then on, its
	// absence is an error.
	lockText = "A Switchhook database was made beside this file, which keeps a second router out of it.\n"
)

// markMade records in the lock file that a database exists.
func markMade(path string) error {
	if info, err := os.Stat(path + lockSuffix); err != nil || info.Size() > 0 {
		return err
	}
	return os.WriteFile(path+lockSuffix, []byte(lockText), 0o600)
}

// lockFile keeps a second process out. SQLite itself would admit it, and both would deliver
// the same events. A kernel lock ends with its process, so that none is left behind.
func lockFile(path string) (*flock.Flock, error) {
	lock := flock.New(path+lockSuffix, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	switch {
	case errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP):
		return nil, fmt.Errorf("sqlite: the file system of %s has no file locks, as network file systems often don't: use a local disk: %w", lock.Path(), err)
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
	readerCount    = 6 // one more than the API uses, see package server
	readerSettings = `
PRAGMA cache_size = -4096;
PRAGMA query_only = ON;
`
)

// openConn opens a connection of the bare driver: at 256 rows a commit it costs 3.4 µs a
// row, database/sql 4.8.
func openConn(path, more string) (*sqlite3.SQLiteConn, error) {
	// As a URL, since a path may contain the "?" that starts the driver's options.
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
type connector struct {
	path, settings string
	damage         *damage // records detected damage; may be nil
}

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := openConn(c.path, c.settings)
	if c.damage == nil {
		return conn, err
	}
	if err != nil {
		return nil, c.damage.check(err)
	}
	return watchedConn{conn, c.damage}, nil
}

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func openReaders(path string, found *damage) *sql.DB {
	db := sql.OpenDB(connector{path, readerSettings, found})
	db.SetMaxOpenConns(readerCount)
	db.SetMaxIdleConns(readerCount)
	return db
}

// connectReaders opens all readers and their files at once: later the process may have no
// file descriptor left, and readers would fail.
func connectReaders(ctx context.Context, db *sql.DB) (err error) {
	for range readerCount {
		conn, open := db.Conn(ctx)
		if open != nil {
			return errors.Join(err, open)
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		var n int
		if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
			return err
		}
	}
	return nil
}

// migrate upgrades the schema. There is no downgrade: a database that a newer version wrote
// is refused.
func migrate(ctx context.Context, path string) (err error) {
	db := sql.OpenDB(connector{path: path})
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()

	newest, err := newestVersion()
	if err != nil {
		return err
	}
	current, err := versionOf(path)
	if err != nil {
		return err
	}
	if current > newest {
		return tooNew(path, current, newest)
	}
	steps, err := migrations()
	if err != nil {
		return err
	}
	// The provider is not closed: that would close db, which belongs to this package.
	// Versions may be applied out of order: migrations that were developed in parallel are
	// merged in another order than that of their numbers. They do not depend on each other.
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, nil, goose.WithGoMigrations(steps...), goose.WithAllowOutofOrder(true))
	if err != nil {
		return fmt.Errorf("sqlite: read the embedded schema: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("sqlite: bring the schema of %s from version %d to %d: %w", path, current, newest, err)
	}
	return nil
}

// migrations returns the files of the schema, each as one step that SQLite reads as a whole.
// goose's parser of SQL allocates 4 MB for each line, which took most of a first start.
func migrations() (steps []*goose.Migration, err error) {
	files, err := fs.Glob(schemaFiles, "schema/*.sql")
	for _, file := range files {
		text, readErr := schemaFiles.ReadFile(file)
		version, versionErr := goose.NumericComponent(file)
		err = errors.Join(err, readErr, versionErr)
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(text))
			return err
		}}, nil))
	}
	return steps, err
}

// versionOf returns the schema version of the database at path, 0 for an empty file. It
// writes nothing into a file that another program made.
func versionOf(path string) (version int64, err error) {
	conn, err := openURL(path, "mode=rw", "PRAGMA busy_timeout = 5000")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	version, err = schemaVersion(conn)
	switch {
	case errors.Is(err, errForeign):
		return 0, fmt.Errorf("%s: %w; name the folder of Switchhook's own with --data", path, err)
	case err != nil:
		return 0, fmt.Errorf("read the schema of %s: %w", path, err)
	}
	return version, nil
}

var errForeign = errors.New("it is the database of another program")

// schemaVersion reads the version on conn. A database that is not empty must have the
// tables that the first version creates.
func schemaVersion(conn *sqlite3.SQLiteConn) (version int64, err error) {
	var tables, ours int64
	err = queryConn(conn, `
		SELECT count(*), coalesce(sum(name IN ('goose_db_version', 'event', 'delivery', 'attempt', 'subscription', 'meta')), 0)
		FROM sqlite_schema WHERE type = 'table'`, nil, func(row []driver.Value) error {
		tables, ours = row[0].(int64), row[1].(int64)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if tables == 0 {
		return 0, nil
	}
	known := ours == 6
	if ours == 1 { // the first start ended before the first version was applied
		known, err = onlyVersionTable(conn)
	}
	if err == nil && !known {
		err = errForeign
	}
	if err != nil {
		return 0, err
	}
	err = queryConn(conn, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied", nil, func(row []driver.Value) error {
		version, _ = row[0].(int64)
		return nil
	})
	return version, err
}

// onlyVersionTable reports whether the version table is the only table and is empty.
func onlyVersionTable(conn *sqlite3.SQLiteConn) (only bool, err error) {
	err = queryConn(conn, `SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE tbl_name NOT IN ('goose_db_version', 'sqlite_sequence'))`, nil, func(row []driver.Value) error {
		only = row[0] == int64(1)
		return nil
	})
	return only, err
}

func tooNew(path string, version, newest int64) error {
	return fmt.Errorf("sqlite: %s has schema version %d, this program knows versions up to %d: run the newer Switchhook that wrote it", path, version, newest)
}

// newestVersion returns the schema version that this program migrates databases to.
func newestVersion() (int64, error) {
	files, err := schemaFiles.ReadDir("schema") // sorted by name, and so by number
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1].Name())
}

// verify returns an error unless a commit on conn is on disk when it returns.
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
