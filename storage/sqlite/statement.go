package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/mattn/go-sqlite3"
)

// statement is a prepared statement of the writer's connection.
type statement struct {
	stmt *sqlite3.SQLiteStmt
	args []driver.NamedValue
	row  []driver.Value
}

// exec runs a statement that answers no rows. It goes through the driver's query, which
// binds all arguments and steps in one call into C; its exec makes one call for each.
func (s *statement) exec(args ...driver.Value) error { return s.query(nil, args...) }

// query hands each row to each, which must not keep the slice. The arguments are copied
// by the driver.
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

// walk hands each row to each, using row for all of them, and closes rows.
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

// clearValues lets go of the bodies that the arguments point to.
func clearValues(args []driver.NamedValue) {
	for i := range args {
		args[i].Value = nil
	}
}

// preparer prepares statements and keeps the first error.
type preparer struct {
	conn *sqlite3.SQLiteConn
	all  []*sqlite3.SQLiteStmt
	err  error
}

// close ends the statements and then the connection. SQLite keeps a connection half open,
// its write-ahead log with it, for as long as one statement of it is left.
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

// tx is the writer's transaction, as calls other than Append see it. They are rare, so
// their statements are prepared when they run.
type tx struct{ w *writer }

// exec runs a statement and tells how many rows it changed.
func (t *tx) exec(query string, args ...driver.Value) (int64, error) {
	result, err := t.w.conn.Exec(query, args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query hands each row to each, which must not keep the slice.
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
