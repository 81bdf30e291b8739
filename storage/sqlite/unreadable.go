package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"switchhook/engine"
)

// A column whose content can't be decoded concerns its row alone. Where one row is asked
// for, that is an error. A list gives the row with what of it can be read, the log says
// which column it is, and those that must not go on without it find it in Unreadable.

// decoder gathers what can't be decoded of a row.
type decoder struct {
	table, id string
	columns   []string
	errs      []error
}

var errNoJSON = errors.New("it is no JSON")

// try notes a column that can't be decoded.
func (d *decoder) try(column string, err error) {
	if err != nil {
		d.columns = append(d.columns, column)
		d.errs = append(d.errs, fmt.Errorf("column %s: %w", column, err))
	}
}

// scanned notes an error of Scan, which names the column.
func (d *decoder) scanned(err error) {
	if err == nil {
		return
	}
	column := "unknown"
	if _, rest, ok := strings.Cut(err.Error(), `name "`); ok {
		column, _, _ = strings.Cut(rest, `"`)
	}
	d.try(column, err)
}

// targets decodes the targets of an event and its numbers in their sequences.
func (d *decoder) targets(targets, sequences []byte) ([]engine.ID, []int64) {
	if len(targets)%targetBytes != 0 {
		d.try("targets", fmt.Errorf("%d bytes are no list of ids", len(targets)))
	}
	if len(sequences) != 0 && len(sequences) != len(targets) {
		d.try("sequences", fmt.Errorf("%d bytes are no numbers of %d targets", len(sequences), len(targets)/targetBytes))
		sequences = nil
	}
	return columnTargets(targets), columnSequences(sequences)
}

// err is an *unreadableError where something can't be decoded.
func (d *decoder) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	return &unreadableError{d.table, d.id, d.columns, errors.Join(d.errs...)}
}

// unreadableError names the columns of a row that can't be decoded.
type unreadableError struct {
	table, id string
	columns   []string
	err       error
}

// Error implements error.
func (e *unreadableError) Error() string {
	return fmt.Sprintf("table %s, id %s, %s", e.table, e.id, strings.ReplaceAll(e.err.Error(), "\n", "; "))
}

// Unwrap gives the errors of the columns.
func (e *unreadableError) Unwrap() error { return e.err }

// unreadables are the rows that were found so.
type unreadables struct {
	log   *slog.Logger
	count atomic.Int64
	mu    sync.Mutex
	told  map[string]bool // table and id
}

// toldAtMost bounds what told remembers.
const toldAtMost = 10_000

// note logs a row, once.
func (u *unreadables) note(e *unreadableError) {
	u.mu.Lock()
	row := e.table + " " + e.id
	known := u.told[row]
	if u.told == nil || len(u.told) >= toldAtMost {
		u.told = map[string]bool{}
	}
	u.told[row] = true
	u.mu.Unlock()
	if known {
		return
	}
	u.count.Add(1)
	u.log.Error("a stored row can't be read in full: what it holds otherwise is used, the rest is not touched. If you did not change it yourself, the disk or the encryption key may be at fault: check them, and restore a backup",
		"table", e.table, "id", e.id, "columns", e.columns, "error", e.err)
}

// one makes an error for a caller who asked for one row of it.
func (u *unreadables) one(err error) error {
	e, ok := errors.AsType[*unreadableError](err)
	if !ok {
		return err
	}
	u.note(e)
	return &engine.Error{Code: engine.CodeUnreadable, Message: "what is stored can't be read: " + e.Error()}
}

// Unreadable counts the rows that were found to hold something that can't be decoded.
func (s *Store) Unreadable() int64 { return s.unreadable.count.Load() }
