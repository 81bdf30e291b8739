package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// statement is a prepared statement of the writer's connection.
type statement struct {
	stmt *sqlite3.SQLiteStmt
	args []driver.NamedValue
	row  []driver.Value
}

// exec runs a statement that returns no rows. It uses the driver's query, which binds all
// arguments and steps in one call into C; the driver's exec makes one call for each.
func (s *statement) exec(args ...driver.Value) error { return s.query(nil, args...) }

// query calls each with every row; each must not retain the slice. The driver copies the
// arguments.
func (s *statement) query(each func(row []driver.Value) error, args ...driver.Value) error {
	for i, a := range args {
		s.args[i].Value = a
	}
	defer clearValues(s.args)
	rows, err := s.stmt.QueryContext(context.Background(), s.args)
	if err != nil {
		return err
	}
	if s.row == nil {
		s.row = make([]driver.Value, len(rows.Columns()))
	}
	return walk(rows, s.row, each)
}

// walk calls each with every row, reusing the slice row, and closes rows.
func walk(rows driver.Rows, row []driver.Value, each func([]driver.Value) error) (err error) {
	defer func() {
		if end := rows.Close(); err == nil {
			err = end
		}
	}()
	for {
		switch err := rows.Next(row); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case each == nil:
			continue
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// clearValues drops the references to the bodies that the arguments point to.
func clearValues(args []driver.NamedValue) {
	for i := range args {
		args[i].Value = nil
	}
}

// insertInto returns an INSERT of one row: verb is INSERT or INSERT OR REPLACE.
func insertInto(verb, table, columns string) string {
	return verb + " INTO " + table + " (" + columns + ") VALUES (?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")"
}

// preparer prepares statements and holds the first error.
type preparer struct {
	conn *sqlite3.SQLiteConn
	all  []*sqlite3.SQLiteStmt
	err  error
}

// close closes the statements and then the connection. SQLite keeps a connection half open,
// with its write-ahead log, until its last statement is closed.
func (p *preparer) close() error {
	var errs []error
	for _, stmt := range p.all {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, p.conn.Close())...)
}

func (p *preparer) prepare(query string) *statement {
	if p.err != nil {
		return nil
	}
	stmt, err := p.conn.Prepare(query)
	if err != nil {
		p.err = fmt.Errorf("sqlite: prepare %q: %w", query, err)
		return nil
	}
	s := &statement{stmt: stmt.(*sqlite3.SQLiteStmt), args: make([]driver.NamedValue, stmt.NumInput())}
	p.all = append(p.all, s.stmt)
	for i := range s.args {
		s.args[i].Ordinal = i + 1
	}
	return s
}

// tx is the writer's transaction for calls other than Append. They are rare, so their
// statements are prepared when they run.
type tx struct{ w *writer }

// exec runs a statement and returns the number of rows it changed.
func (t *tx) exec(query string, args ...driver.Value) (int64, error) {
	result, err := t.w.conn.Exec(query, args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query calls each with every row; each must not retain the slice.
func (t *tx) query(query string, args []driver.Value, each func(row []driver.Value) error) error {
	return queryConn(t.w.conn, query, args, each)
}

func queryConn(conn *sqlite3.SQLiteConn, query string, args []driver.Value, each func(row []driver.Value) error) error {
	rows, err := conn.Query(query, args)
	if err != nil {
		return err
	}
	return walk(rows, make([]driver.Value, len(rows.Columns())), each)
}
