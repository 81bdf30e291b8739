// Package sqlite implements engine.Store in one SQLite file.
//
// One goroutine writes (writer.go): all requests since its last commit go into the next
// one, so that they share one fsync. Six connections read. schema/00001_init.sql describes
// the tables and the reasons for their form. The package knows nothing of HTTP, scripts or
// retry rules.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	lru "github.com/hashicorp/golang-lru/v2"

	"switchhook/engine"
	"switchhook/storage/vault"
)

var _ engine.Store = (*Store)(nil)

// Options configure a Store. Only Path is required.
type Options struct {
	// Path is the database file, created if it is missing; if it is an existing directory,
	// the file is switchhook.db in it.
	Path string
	// Pace is the minimum time from the start of one commit to that of the next. It trades
	// latency for fewer fsyncs: at 32 connections 1 ms won 30 % throughput of the whole
	// router, 2 ms lost again. It does not delay 64 or more waiting requests. 0 means
	// DefaultPace, a negative value no pace.
	Pace time.Duration
	// Logger receives the messages that have no caller to return to; slog.Default if nil.
	Logger *slog.Logger
	// OnCommit is called by the writer after each commit; it must not block. May be nil.
	OnCommit func(Commit)
	// Vault returns the vault that seals secrets. Its argument is the ids of the keys in
	// use, none in a new database or one with plain secrets. Before Open returns, it seals
	// plain secrets, and reseals those under a key other than the vault's first. If Vault
	// is nil, secrets are stored in plain text, which is for tests.
	Vault func(inUse []string) (*vault.Vault, error)
	// Traces are files that exist only if there was a database before. If one of them
	// exists, or another trace that Open finds by itself, a missing or empty database is an
	// *EmptyError, unless New is set: then a new one is created.
	Traces []string
	New    bool
}

// DefaultPace is the Pace if Options set none.
const DefaultPace = time.Millisecond

// Commit describes one commit, for metrics.
type Commit struct {
	Requests int           // calls and outcomes in it
	Rows     int           // events, deliveries and attempts written; 0 if it failed
	Took     time.Duration // from its first statement until it was on disk
	Err      error         // nil if it is on disk
}

// Store is an engine.Store in an SQLite file. Create it with Open.
type Store struct {
	path       string
	files      []openFile // the database and its log, as opened
	log        *slog.Logger
	lock       *flock.Flock // held while the store is open
	queue      *queue       // requests that wait for the writer
	writer     *writer
	readers    *sql.DB
	sealer     sealer // encrypts secrets
	damage     damage // detected since Open
	unreadable unreadables
	pruneCost  workCost                       // of removing events
	totals     *lru.Cache[string, byteCounts] // bytes stored, as committed

	scanTime  time.Duration // scanTime and scanFirst; tests set others
	scanFirst int

	missing   atomic.Pointer[string] // the last message logged about missing files
	watermark atomic.Int64           // set last; the writer persists it

	background sync.WaitGroup // the writer and the checkpointer
	stop       chan struct{}  // ends the checkpointer
	closeOnce  sync.Once
	closeErr   error
}

// Open opens the database, migrates its schema and starts the writer. It fails if another
// process has the database open, or if a newer version of Switchhook wrote it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	switch {
	case o.Pace == 0:
		o.Pace = DefaultPace
	case o.Pace < 0:
		o.Pace = 0
	}
	path, err := prepareFolder(o.Path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, log: o.Logger, queue: newQueue(), stop: make(chan struct{}), scanTime: scanTime, scanFirst: scanFirst}
	if s.lock, err = lockFile(path); err != nil {
		return nil, err
	}
	s.totals, _ = lru.New[string, byteCounts](cachedAccounts) // fails for sizes below 1
	s.damage.path, s.damage.log, s.unreadable.log = path, o.Logger, o.Logger
	err = prepareFile(path, o)
	if err == nil {
		err = s.start(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(explain(path, err), s.release())
	}
	return s, nil
}

func (s *Store) start(ctx context.Context, o Options) error {
	if err := migrate(ctx, s.path); err != nil {
		return err
	}
	if err := s.openVault(ctx, o.Vault); err != nil {
		return err
	}
	if err := recountBytes(s.path); err != nil {
		return err
	}
	w, err := newWriter(s, o)
	if err != nil {
		return err
	}
	s.writer, s.readers = w, openReaders(s.path, &s.damage)
	if err := connectReaders(ctx, s.readers); err != nil {
		return fmt.Errorf("sqlite: connect the readers: %w", err)
	}
	if err := s.loadWatermark(ctx); err != nil {
		return err
	}
	w.savedMark = s.watermark.Load()
	if s.files, err = openFiles(s.path, s.path+"-wal", s.path+"-shm"); err != nil {
		return err
	}
	checkpoints, err := openConn(s.path, "")
	if err != nil {
		return err
	}
	if err := markMade(s.path); err != nil {
		return errors.Join(err, checkpoints.Close())
	}
	s.background.Go(w.run)
	s.background.Go(func() { s.checkpoint(checkpoints, w) })
	return nil
}

// Damaged returns the damage that was detected in the database file since it was opened, or
// nil.
func (s *Store) Damaged() error { return s.damage.err() }

// Ping writes to the database and waits until the write is on disk. It fails if the file is
// known to be damaged or is missing.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.checkFiles(); err != nil {
		return err
	}
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.exec(`UPDATE meta SET value = value + 1 WHERE name = 'ping'`)
		return err
	})
}

// Waiting returns the number of requests that wait for the next commit.
func (s *Store) Waiting() int { return s.queue.len() }

// Close writes the requests that are queued, and ends the store. Later calls return
// CodeUnavailable.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.queue.close()
		close(s.stop)
		s.background.Wait()
		s.closeErr = s.release()
	})
	return s.closeErr
}

// release undoes start and Open. Closing the last connection moves the write-ahead log into
// the database, so that this one file is a complete copy.
func (s *Store) release() error {
	var err error
	if s.readers != nil { // waits for running queries
		err = s.readers.Close()
	}
	if s.writer != nil {
		err = errors.Join(err, s.writer.close())
	}
	if unlock := s.lock.Close(); unlock != nil {
		err = errors.Join(err, fmt.Errorf("unlock %s: %w", s.lock.Path(), unlock))
	}
	return err
}

var errClosed = &engine.Error{Code: engine.CodeUnavailable, Message: "the store is closing"}
