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

// A column that cannot be decoded affects only its row. Reading that one row is an error. A
// list returns the row with its readable columns, the log names the others, and code that
// must not continue without them finds them in Unreadable.

// decoder collects the columns of a row that cannot be decoded.
type decoder struct {
	table, id string
	columns   []string
	errs      []error
}

var errNoJSON = errors.New("it is not valid JSON")

// check records a column that cannot be decoded.
func (d *decoder) check(column string, err error) {
	if err != nil {
		d.columns = append(d.columns, column)
		d.errs = append(d.errs, fmt.Errorf("column %s: %w", column, err))
	}
}

// scanned records an error of Scan, which names the column.
func (d *decoder) scanned(err error) {
	if err == nil {
		return
	}
	column := "unknown"
	if _, rest, ok := strings.Cut(err.Error(), `name "`); ok {
		column, _, _ = strings.Cut(rest, `"`)
	}
	d.check(column, err)
}

// targets decodes the targets of an event and its numbers in their sequences.
func (d *decoder) targets(targets, sequences []byte) ([]engine.ID, []int64) {
	if len(targets)%targetBytes != 0 {
		d.check("targets", fmt.Errorf("%d bytes are no list of ids", len(targets)))
	}
	if len(sequences) != 0 && len(sequences) != len(targets) {
		d.check("sequences", fmt.Errorf("%d bytes are no numbers of %d targets", len(sequences), len(targets)/targetBytes))
		sequences = nil
	}
	return columnTargets(targets), columnSequences(sequences)
}

// err returns an *unreadableError if a column cannot be decoded.
func (d *decoder) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	return &unreadableError{d.table, d.id, d.columns, errors.Join(d.errs...)}
}

// unreadableError names the columns of a row that cannot be decoded.
type unreadableError struct {
	table, id string
	columns   []string
	err       error
}

// Error implements error.
func (e *unreadableError) Error() string {
	return fmt.Sprintf("table %s, id %s, %s", e.table, e.id, strings.ReplaceAll(e.err.Error(), "\n", "; "))
}

// Unwrap returns the errors of the columns.
func (e *unreadableError) Unwrap() error { return e.err }

// unreadables records the rows that have such columns.
type unreadables struct {
	log    *slog.Logger
	count  atomic.Int64
	mu     sync.Mutex
	logged map[string]bool // table and id
}

// maxLogged bounds the size of logged.
const maxLogged = 10_000

// record counts and logs a row, once.
func (u *unreadables) record(e *unreadableError) {
	u.mu.Lock()
	row := e.table + " " + e.id
	known := u.logged[row]
	if u.logged == nil || len(u.logged) >= maxLogged {
		u.logged = map[string]bool{}
	}
	u.logged[row] = true
	u.mu.Unlock()
	if known {
		return
	}
	u.count.Add(1)
	u.log.Error("a stored row can't be read in full: its readable columns are used, the others are left unchanged. If you did not change it yourself, the disk or the encryption key may be at fault: check them, and restore a backup",
		"table", e.table, "id", e.id, "columns", e.columns, "error", e.err)
}

// one converts the error for a caller who asked for that one row.
func (u *unreadables) one(err error) error {
	e, ok := errors.AsType[*unreadableError](err)
	if !ok {
		return err
	}
	u.record(e)
	return &engine.Error{Code: engine.CodeUnreadable, Message: "what is stored can't be read: " + e.Error()}
}

// Unreadable returns the number of rows found to hold a column that cannot be decoded.
func (s *Store) Unreadable() int64 { return s.unreadable.count.Load() }
