package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/mattn/go-sqlite3"

	"switchhook/engine"
)

// outcomePace is the minimum time from one commit to the next that holds only outcomes.
// They have no waiting caller and arrive in a trickle: without it, each would cost its own
// fsync.
const outcomePace = 5 * time.Millisecond

// writer makes every change to the database, in a single goroutine.
type writer struct {
	queue             *queue
	log               *slog.Logger
	pace              time.Duration
	onCommit          func(Commit)
	watermark         *atomic.Int64 // shared with the Store
	savedMark         int64         // the value on disk
	checkpointPending atomic.Bool   // set by the checkpointer when its part is done, see checkpoint.go
	commits           atomic.Int64

	conn     *sqlite3.SQLiteConn
	preparer preparer // of conn; its close ends conn
	stmts    statements
	rows     int // written in this transaction
	bytes    byteCounter
	totals   *lru.Cache[string, byteCounts] // shared with the Store
	rowSizes map[string]string              // SQL by table, see readRowSizes
	damage   *damage                        // shared with the Store
	failed   int                            // consecutive failed commits
	// throttle repeated log lines
	commitErrors, checkpointErrors logThrottle
	// transaction control
	begin, commit, rollback        *statement
	savepoint, release, rollbackTo *statement
	saveMark                       *statement
}

func newWriter(s *Store, o Options) (_ *writer, err error) {
	w := &writer{queue: s.queue, log: s.log, pace: o.Pace, onCommit: o.OnCommit, watermark: &s.watermark, bytes: byteCounter{sums: map[string]byteCounts{}}, totals: s.totals, damage: &s.damage}
	if w.conn, err = openConn(s.path, ""); err != nil {
		return nil, err
	}
	p := &w.preparer
	p.conn = w.conn
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := verify(w.conn); err != nil {
		return nil, err
	}
	w.begin, w.commit, w.rollback = p.prepare("BEGIN IMMEDIATE"), p.prepare("COMMIT"), p.prepare("ROLLBACK")
	w.savepoint, w.release, w.rollbackTo = p.prepare("SAVEPOINT one"), p.prepare("RELEASE one"), p.prepare("ROLLBACK TO one")
	w.saveMark = p.prepare("UPDATE meta SET value = ? WHERE name = 'watermark'")
	w.stmts = p.statements()
	if p.err != nil {
		return w, p.err
	}
	w.rowSizes, err = readRowSizes(w.conn)
	return w, err
}

func (w *writer) close() error { return w.preparer.close() }

// run commits the queued requests until the queue is closed and empty.
func (w *writer) run() {
	var batch []request
	var started time.Time
	for w.wait(started) {
		started = time.Now()
		batch = w.queue.take(batch)
		w.write(batch)
		clear(batch)
	}
	if w.watermark.Load() > w.savedMark {
		w.write(nil)
	}
}

// wait returns true when the next commit is due, false when there will be none. It batches
// by arrival and spaces the starts of commits: waiting after the first request instead
// halves throughput at 32 and at 256 callers.
func (w *writer) wait(last time.Time) bool {
	for {
		items, calls, closed := w.queue.counts()
		var pause time.Duration
		switch {
		case closed:
			return items > 0
		case calls >= flushThreshold || items >= outcomeFlushThreshold:
			return true
		case items == 0:
			<-w.queue.wake
			continue
		case calls > 0:
			pause = w.pace - time.Since(last)
		default:
			pause = outcomePace - time.Since(last)
		}
		if pause <= 0 {
			return true
		}
		select {
		case <-w.queue.wake:
		case <-time.After(pause):
		}
	}
}

// write commits a batch and answers it. If one request cannot be written, the others must
// not fail: the batch is written again with a savepoint for each request.
func (w *writer) write(batch []request) {
	for i := range batch {
		// A caller whose context ended may have withdrawn its call.
		if c := batch[i].call; c != nil && !c.taken.CompareAndSwap(false, true) {
			batch[i] = request{}
		}
	}
	started := time.Now()
	failed, err := w.transaction(batch, false)
	if err != nil && !isStorageFailure(err) {
		failed, err = w.transaction(batch, true)
	}
	w.report(len(batch), err)
	err = w.damage.check(err)
	if err == nil {
		w.commits.Add(1)
	} else {
		err = unavailable(err)
	}
	if w.onCommit != nil {
		rows := w.rows
		if err != nil {
			rows = 0
		}
		w.onCommit(Commit{Requests: len(batch), Rows: rows, Took: time.Since(started), Err: err})
	}
	answer(batch, failed, err)
	if w.checkpointPending.CompareAndSwap(true, false) {
		w.finishCheckpoint()
	}
}

// report logs failed commits, once for a cause and again every minute while they continue,
// and the first success after them.
func (w *writer) report(requests int, err error) {
	if err == nil {
		if w.failed > 0 {
			w.log.Info("commits succeed again", "failed", w.failed)
			w.failed, w.commitErrors = 0, logThrottle{}
		}
		return
	}
	w.failed++
	if w.commitErrors.allow(err) {
		w.log.Error("commit failed", "requests", requests, "failed", w.failed, "error", err)
	}
}

// logThrottle holds the cause and time of the last logged error, to limit repeated log
// lines.
type logThrottle struct {
	cause string
	at    time.Time
}

// allow reports whether err may be logged: its cause is new, or a minute has passed.
func (c *logThrottle) allow(err error) bool {
	cause := err.Error()
	if e, ok := errors.AsType[sqlite3.Error](err); ok { // without the row that hit it first
		cause = e.Error()
	}
	if cause == c.cause && time.Since(c.at) < warnEvery {
		return false
	}
	c.cause, c.at = cause, time.Now()
	return true
}

// answer returns its result to every caller: err if the whole batch failed.
func answer(batch []request, failed map[int]error, err error) {
	for i, r := range batch {
		switch {
		case r.call != nil && err == nil:
			r.call.done <- r.call.err
		case r.call != nil:
			r.call.done <- err
		case r.done != nil && err == nil:
			r.done(failed[i])
		case r.done != nil:
			r.done(err)
		}
	}
}

// transaction writes a batch. err means that nothing of it is stored. failed holds the
// outcomes that could not be written, which only perRequestSavepoints can isolate.
func (w *writer) transaction(batch []request, perRequestSavepoints bool) (failed map[int]error, err error) {
	w.rows = 0
	clear(w.bytes.sums)
	if err := w.begin.exec(); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() {
		// SQLite has already ended the transaction after some errors.
		if err != nil && !w.conn.AutoCommit() {
			if rollback := w.rollback.exec(); rollback != nil {
				err = errors.Join(err, fmt.Errorf("rollback: %w", rollback))
			}
		}
	}()
	for i, r := range batch {
		if r.call == nil && r.o == nil {
			continue
		}
		var failure error
		if perRequestSavepoints || r.call != nil && r.call.do != nil {
			failure, err = w.withSavepoint(r)
		} else {
			failure, err = splitError(w.apply(r))
		}
		if err != nil {
			return nil, err
		}
		if failure != nil {
			w.bytes.undo()
		}
		if r.call != nil {
			r.call.err = failure
		} else if failure != nil {
			if failed == nil {
				failed = make(map[int]error)
			}
			failed[i] = failure
		}
	}
	changed, err := w.writeBytes()
	if err != nil {
		return nil, err
	}
	mark := w.watermark.Load()
	if mark > w.savedMark {
		if err := w.saveMark.exec(mark); err != nil {
			return nil, fmt.Errorf("save the watermark: %w", err)
		}
	}
	if err := w.commit.exec(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	w.savedMark = mark
	for account, figure := range changed {
		w.totals.Add(account, figure)
	}
	return failed, nil
}

func (w *writer) apply(r request) error {
	w.bytes.request = w.bytes.request[:0]
	switch {
	case r.o != nil:
		return w.record(r.o)
	case r.call.do != nil:
		return r.call.do(&tx{w})
	default:
		return w.append(r.call)
	}
}

// splitError separates a refusal, which concerns one request and was found before anything
// was written, from an error that spoils the transaction.
func splitError(err error) (failure, fatal error) {
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return e, nil
	}
	return nil, err
}

// withSavepoint applies r and rolls it back if it fails.
func (w *writer) withSavepoint(r request) (failure, fatal error) {
	if err := w.savepoint.exec(); err != nil {
		return nil, err
	}
	rows := w.rows
	failure = w.apply(r)
	if failure != nil {
		if isStorageFailure(failure) {
			return nil, failure
		}
		w.rows = rows
		if err := w.rollbackTo.exec(); err != nil {
			return nil, err
		}
	}
	return failure, w.release.exec()
}

// isStorageFailure reports whether err concerns the disk or the file rather than one row.
func isStorageFailure(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case sqlite3.ErrConstraint, sqlite3.ErrTooBig, sqlite3.ErrMismatch, sqlite3.ErrRange, sqlite3.ErrError:
		return false
	}
	return true
}

func unavailable(err error) error {
	if e, ok := errors.AsType[*engine.Error](err); ok { // the file is damaged
		return e
	}
	message := "the database can't be written: " + err.Error()
	e, _ := errors.AsType[sqlite3.Error](err)
	switch {
	case isFull(err):
		message = "the disk that holds the database is full"
	case e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked:
		message = "another program has locked the database for longer than 5 seconds, such as an SQLite tool with a transaction open; try again when it has released the lock"
	}
	return &engine.Error{Code: engine.CodeUnavailable, Message: message}
}
