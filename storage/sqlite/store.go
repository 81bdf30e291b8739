// Package sqlite keeps an engine.Store in one SQLite file.
//
// One goroutine writes (writer.go): whatever callers handed in since its last commit goes
// into the next one, so that an fsync is shared by all of them. Four connections read.
// What is stored, and why it looks that way, stands in schema/00001_init.sql. The package
// knows nothing of HTTP, scripts or retry rules.
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

	"switchhook/engine"
	"switchhook/storage/vault"
)

var _ engine.Store = (*Store)(nil)

// Options say where and how a Store works. Only Path is required.
type Options struct {
	// Path is the database file, made where there is none; in a directory that exists,
	// it is the file switchhook.db there.
	Path string
	// Pace is the shortest time from the start of one commit to that of the next. It
	// trades latency for fewer fsyncs: at 32 connections 1 ms won 30 % throughput of the
	// whole router, 2 ms lost again. It does not hold back 64 or more waiting requests.
	// 0 means DefaultPace, a negative value none at all.
	Pace time.Duration
	// Logger gets what nobody is there to be told of; slog.Default where nil.
	Logger *slog.Logger
	// OnCommit is called from the writer after each commit; it must not block. May be nil.
	OnCommit func(Commit)
	// Vault finds what secrets are sealed with; it is told the ids of the keys that are in
	// use, none in a new database or one that holds secrets in clear. Those are sealed
	// before Open returns, and so are those that are sealed with a key other than the
	// vault's first. Where Vault is nil, secrets are stored in clear, which is for tests.
	Vault func(inUse []string) (*vault.Vault, error)
	// Traces are files that are there only where there was a database before. Where there
	// is one of them, or another trace that Open finds by itself, a database that is missing
	// or empty is an *EmptyError, unless New is set: then a new one is begun.
	Traces []string
	New    bool
}

// DefaultPace is the Pace where Options give none.
const DefaultPace = time.Millisecond

// Commit tells of one commit, for metrics.
type Commit struct {
	Requests int           // calls and outcomes it was made for
	Rows     int           // events, deliveries and attempts written; 0 where it failed
	Took     time.Duration // from its first statement until it was on disk
	Err      error         // nil where it is on disk
}

// Store is an engine.Store in an SQLite file. Make it with Open.
type Store struct {
	path       string
	files      []openFile // the database and its log, as they were opened
	log        *slog.Logger
	lock       *flock.Flock // held while the store is open
	queue      *queue       // what waits for the writer
	writer     *writer
	readers    *sql.DB
	sealer     sealer // of secrets
	damage     damage // that was found since
	unreadable unreadables

	missing   atomic.Pointer[string] // what was logged last of files that are not where they were
	watermark atomic.Int64           // set last; the writer brings it to disk

	background sync.WaitGroup // the writer and the checkpointer
	stop       chan struct{}  // ends the checkpointer
	closeOnce  sync.Once
	closeErr   error
}

// Open opens the database, brings its schema up to date and starts the writer. It fails
// where another process has the database open, or a newer version of Switchhook wrote it.
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
	s := &Store{path: path, log: o.Logger, queue: newQueue(), stop: make(chan struct{})}
	if s.lock, err = lockFile(path); err != nil {
		return nil, err
	}
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

// Damaged says what was found wrong with the database file since it was opened; nil where
// nothing was.
func (s *Store) Damaged() error { return s.damage.err() }

// Ping writes to the database and waits until that is on disk. It fails where the file is
// known to be damaged, or is not where it was.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.intact(); err != nil {
		return err
	}
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.exec(`UPDATE meta SET value = value + 1 WHERE name = 'ping'`)
		return err
	})
}

// Waiting is how many requests wait for the next commit.
func (s *Store) Waiting() int { return s.queue.len() }

// Close writes what was handed in before, and ends. Calls that come later, or had not
// been handed in yet, are answered with CodeUnavailable.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.queue.close()
		close(s.stop)
		s.background.Wait()
		s.closeErr = s.release()
	})
	return s.closeErr
}

// release gives back what start and Open took. The last connection to go moves the
// write-ahead log into the database, so that this one file is all there is to copy.
func (s *Store) release() error {
	var err error
	if s.readers != nil { // waits for queries that are under way
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
