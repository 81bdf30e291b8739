package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"

	"switchhook/engine"
)

// outcomePace is the shortest time from one commit to a next one that holds outcomes
// alone. Nobody waits for those, and they come in a trickle: without it, each would cost
// an fsync of its own.
const outcomePace = 5 * time.Millisecond

// writer makes every change to the database, in its one goroutine.
type writer struct {
	queue             *queue
	log               *slog.Logger
	pace              time.Duration
	onCommit          func(Commit)
	watermark         *atomic.Int64 // the store's
	savedMark         int64         // what of it is on disk
	checkpointPending atomic.Bool   // set by the checkpointer: its part is done, see checkpoint.go
	commits           atomic.Int64

	conn     *sqlite3.SQLiteConn
	preparer preparer // of conn; ends it
	stmts    statements
	rows     int              // written in this transaction
	stored   map[string]int64 // bytes of event data by account, likewise
	damage   *damage          // the store's
	failed   int              // commits since the last that did not
	// what was logged last
	commitComplaint, checkpointComplaint complaint
	// transaction control
	begin, commit, rollback        *statement
	savepoint, release, rollbackTo *statement
	saveMark                       *statement
}

func newWriter(s *Store, o Options) (_ *writer, err error) {
	w := &writer{queue: s.queue, log: s.log, pace: o.Pace, onCommit: o.OnCommit, watermark: &s.watermark, stored: map[string]int64{}, damage: &s.damage}
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
	return w, p.err
}

func (w *writer) close() error { return w.preparer.close() }

// run commits whatever has arrived, until the queue is closed and empty.
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

// wait returns true when it is time for the next commit, false when none will come. It
// batches by arrival and spaces the starts of commits: to wait after the first request
// instead halves throughput at 32 and at 256 callers.
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

// write commits a batch and answers it. Where one request can't be written, the others
// are not to suffer: the batch is written again, each request guarded by a savepoint.
func (w *writer) write(batch []request) {
	for i := range batch {
		// A caller whose context ended may have taken its call back.
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
	err = w.damage.note(err)
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

// report logs how a commit ended: that it failed, once for a cause and again every minute
// while it lasts, and that commits work again.
func (w *writer) report(requests int, err error) {
	if err == nil {
		if w.failed > 0 {
			w.log.Info("commits succeed again", "failed", w.failed)
			w.failed, w.commitComplaint = 0, complaint{}
		}
		return
	}
	w.failed++
	if w.commitComplaint.due(err) {
		w.log.Error("commit failed", "requests", requests, "failed", w.failed, "error", err)
	}
}

// complaint is what was logged last of something that fails again and again.
type complaint struct {
	cause string
	at    time.Time
}

// due tells whether err is to be logged: its cause is another one, or a minute is over.
func (c *complaint) due(err error) bool {
	cause := err.Error()
	if e, ok := errors.AsType[sqlite3.Error](err); ok { // without the row that met it first
		cause = e.Error()
	}
	if cause == c.cause && time.Since(c.at) < warnEvery {
		return false
	}
	c.cause, c.at = cause, time.Now()
	return true
}

// answer tells every caller how its request ended: err where all of them failed.
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
// outcomes that alone could not be written, which only careful can tell.
func (w *writer) transaction(batch []request, careful bool) (failed map[int]error, err error) {
	w.rows = 0
	clear(w.stored)
	if err := w.begin.exec(); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() {
		// SQLite has ended the transaction by itself after some errors.
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
		if careful || r.call != nil && r.call.do != nil {
			failure, err = w.withSavepoint(r)
		} else {
			failure, err = splitError(w.apply(r))
		}
		if err != nil {
			return nil, err
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
	for account, bytes := range w.stored {
		if err := w.stmts.addBytes.exec(account, bytes); err != nil {
			return nil, fmt.Errorf("count the bytes stored: %w", err)
		}
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
	return failed, nil
}

func (w *writer) apply(r request) error {
	switch {
	case r.o != nil:
		return w.record(r.o)
	case r.call.do != nil:
		return r.call.do(&tx{w})
	default:
		return w.append(r.call)
	}
}

// splitError tells a refusal, which concerns its request alone and was found before anything
// was written, from an error after which the transaction can't go on as it is.
func splitError(err error) (failure, fatal error) {
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return e, nil
	}
	return nil, err
}

// withSavepoint applies r so that nothing is left of it where it fails.
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

// isStorageFailure tells whether err speaks of the disk or the file, rather than of one row.
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
	if e, ok := errors.AsType[*engine.Error](err); ok { // it is damaged
		return e
	}
	message := "the database can't be written: " + err.Error()
	e, _ := errors.AsType[sqlite3.Error](err)
	switch {
	case isFull(err):
		message = "the disk that holds the database is full"
	case e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked:
		message = "another program has locked the database for longer than 5 seconds, such as an SQLite tool with a transaction open; try again once it has let go"
	}
	return &engine.Error{Code: engine.CodeUnavailable, Message: message}
}
