package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"switchhook/engine"
)

// querier is the pool of readers, or a transaction of one of them.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// page collects the rows of a list until one of its limits.
type page[T any] struct {
	store    *Store
	limit    int   // rows; 0: no limit
	maxBytes int64 // of all rows but the first; 0: no limit
	scan     func(scanner) (T, error)

	list  []T
	bytes int64
	full  bool // there are more rows
}

// read adds the rows of a query without its LIMIT, and one row beyond the limits at most.
func (p *page[T]) read(ctx context.Context, from querier, query string, args []any) error {
	rows, err := from.QueryContext(ctx, query+" LIMIT ?", append(args, p.left())...)
	if err != nil {
		return err
	}
	for rows.Next() {
		row := sizedRow{scanner: rows}
		item, err := p.scan(&row)
		if e, ok := errors.AsType[*unreadableError](err); ok {
			p.store.unreadable.record(e)
			err = nil
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		p.bytes += row.size
		over := p.maxBytes > 0 && p.bytes > p.maxBytes && len(p.list) > 0
		if p.full = over || p.limit > 0 && len(p.list) == p.limit; p.full {
			return rows.Close()
		}
		p.list = append(p.list, item)
	}
	return errors.Join(rows.Err(), rows.Close())
}

// left returns the LIMIT of the next query: one more than the page has room for; -1: none.
func (p *page[T]) left() int64 {
	if p.limit <= 0 || p.limit == math.MaxInt {
		return -1
	}
	return int64(p.limit-len(p.list)) + 1
}

// rowOverhead is what a row takes besides its texts and blobs.
const rowOverhead = 256

// sizedRow measures the row that it scans.
type sizedRow struct {
	scanner
	size int64
}

// Scan implements scanner.
func (r *sizedRow) Scan(into ...any) error {
	err := r.scanner.Scan(into...)
	r.size = rowOverhead
	for _, v := range into {
		switch v := v.(type) {
		case *[]byte:
			r.size += int64(len(*v))
		case *string:
			r.size += int64(len(*v))
		case **string:
			r.size += int64(len(columnText(*v)))
		}
	}
	return err
}

// A list whose query selects few of the rows that it looks at is read in windows: while a query
// runs, nothing tells how far it came. The limits are for a scan that other readers and the
// write-ahead log wait for.
const (
	scanTime  = 300 * time.Millisecond // after which a scan ends with a cursor
	scanFirst = 1000                   // rows in the first window
)

// source is what a list scans: rows of an index or a table in the order of event ids or other ids.
type source struct {
	table  string // with its index
	column string // the ids
	where  conditions
}

// scan calls read for windows of ids, the highest first: read reads those from lowest to below.
// It ends when full reports that the page is, or all was read: then next is 0; or when it took too
// long: then all ids from next on were read.
func (s *Store) scan(
	ctx context.Context, from querier, src source, below engine.ID, full func() bool, read func(lowest, below engine.ID) error,
) (next engine.ID, err error) {
	if below <= 0 {
		below = math.MaxInt64
	}
	began := time.Now()
	for rows := s.scanFirst; ; {
		window := time.Now()
		lowest, err := src.lowest(ctx, from, below, rows)
		if err == nil {
			err = read(lowest, below)
		}
		if err != nil || lowest == 0 || full() {
			return 0, err
		}
		if time.Since(began) >= s.scanTime {
			return lowest, nil
		}
		if time.Since(window) < s.scanTime/16 {
			rows *= 4
		}
		below = lowest
	}
}

// lowest returns the id at the end of a window of rows below an id; 0 if fewer are left.
func (src source) lowest(ctx context.Context, from querier, below engine.ID, rows int) (id engine.ID, err error) {
	where := src.where.clone()
	where.add(src.column+" < ?", int64(below))
	query := fmt.Sprintf("SELECT %[1]s FROM %[2]s%[3]s ORDER BY %[1]s DESC LIMIT 1 OFFSET ?", src.column, src.table, where.text())
	err = from.QueryRowContext(ctx, query, append(where.args, rows-1)...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return id, err
}
