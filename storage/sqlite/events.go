package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchhook/engine"
)

// readLimit cancels a runaway query: while it reads, the write-ahead log cannot restart and
// grows.
const readLimit = 30 * time.Second

const eventColumns = `id, account, type, key, time, targets, headers, data, sequences, hops`

// Event finds an event.
func (s *Store) Event(ctx context.Context, account string, id engine.ID) (*engine.Event, error) {
	e, err := scanEvent(s.readers.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM event WHERE id = ?`, int64(id)))
	if errors.Is(err, sql.ErrNoRows) || err == nil && account != "" && e.Account != account {
		return nil, engine.NotFound("event", id.Format(engine.EventPrefix))
	}
	if err != nil {
		return nil, s.unreadable.one(err)
	}
	return e, nil
}

// EventsByID finds events by their ids.
func (s *Store) EventsByID(ctx context.Context, ids []engine.ID, bytes int64) (list []*engine.Event, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := s.readers.QueryContext(ctx, eventsByIDQuery(ids))
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		e, err := scanEvent(rows)
		if u, ok := errors.AsType[*unreadableError](err); ok {
			s.unreadable.record(u)
			continue
		}
		if err != nil {
			return nil, err
		}
		if bytes -= e.CachedSize(); bytes < 0 {
			return list, nil
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// eventsByIDQuery has the ids in its text: there may be more than parameters.
func eventsByIDQuery(ids []engine.ID) string {
	text := []byte(`SELECT ` + eventColumns + ` FROM event WHERE id IN (`)
	for i, id := range ids {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(id), 10)
	}
	return string(append(text, `) ORDER BY id`...))
}

// EventByKey finds the event that Append stored under an idempotency key.
func (s *Store) EventByKey(ctx context.Context, key engine.KeyHash) (engine.ID, error) {
	var id int64
	err := s.readers.QueryRowContext(ctx, `SELECT event_id FROM idempotency WHERE key_hash = ?`, key[:]).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, engine.NotFound("event under the key", hex.EncodeToString(key[:]))
	}
	return engine.ID(id), err
}

// LastEventID returns the highest event id stored, 0 in a new store.
func (s *Store) LastEventID(ctx context.Context, _ engine.NodeID) (engine.ID, error) {
	var id int64
	err := s.readers.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM event`).Scan(&id)
	return engine.ID(id), err
}

// Events lists events.
func (s *Store) Events(ctx context.Context, q engine.EventQuery) (list []*engine.Event, next engine.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	p := &page[*engine.Event]{store: s, limit: q.Limit, maxBytes: q.MaxBytes, scan: scanEvent}
	if q.Account != "" || q.Type == "" || q.Oldest {
		query, args := eventsQuery(q)
		err = p.read(ctx, s.readers, query, args)
	} else { // no index has the types of all accounts
		src := source{table: "event NOT INDEXED", column: "id"}
		src.where.addIf(q.Since != 0, "id >= ?", int64(q.Since))
		next, err = s.scan(ctx, s.readers, src, q.Before, func() bool { return p.full }, func(lowest, below engine.ID) error {
			window := q
			window.Since, window.Before = max(q.Since, lowest), below
			query, args := eventsQuery(window)
			return p.read(ctx, s.readers, query, args)
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list events: %w", err)
	}
	if p.full {
		next = p.list[len(p.list)-1].ID
	}
	return p.list, next, nil
}

// eventsQuery scans event_by_type, event_by_account or the table itself, each of which is
// in the order of ids.
func eventsQuery(q engine.EventQuery) (text string, args []any) {
	where := conditions{}
	index := "NOT INDEXED"
	switch {
	case q.Account != "" && q.Type != "":
		index = "INDEXED BY event_by_type"
	case q.Account != "":
		index = "INDEXED BY event_by_account"
	}
	where.addIf(q.Account != "", "account = ?", q.Account)
	where.addIf(q.Type != "", "type = ?", q.Type)
	where.addIf(q.Since != 0, "id >= ?", int64(q.Since))
	where.addIf(q.Before != 0, "id < ?", int64(q.Before))
	order := "DESC"
	if q.Oldest {
		order = "ASC"
	}
	return `SELECT ` + eventColumns + ` FROM event ` + index + where.text() + ` ORDER BY id ` + order, where.args
}

func scanEvent(row scanner) (*engine.Event, error) {
	e := &engine.Event{}
	var key, headers *string
	var ms int64
	var targets, sequences []byte
	var hops *int
	err := row.Scan(&e.ID, &e.Account, &e.Type, &key, &ms, &targets, &headers, &e.Data, &sequences, &hops)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	d := decoder{table: "event", id: e.ID.Format(engine.EventPrefix)}
	d.scanned(err)
	e.Key, e.Time = columnText(key), time.UnixMilli(ms).UTC()
	e.Targets, e.Sequences = d.targets(targets, sequences)
	d.check("headers", columnJSON(headers, &e.Headers))
	if hops != nil {
		e.Hops = *hops
	}
	e.Unreadable = d.columns
	return e, d.err()
}

// scanner is an sql.Row, or an sql.Rows positioned on a row.
type scanner interface{ Scan(...any) error }

// collect scans all rows and closes them. Rows that cannot be decoded in full are recorded,
// and listed as far as they can be read.
func collect[T any](s *Store, rows *sql.Rows, scan func(scanner) (T, error)) ([]T, error) {
	var list []T
	for rows.Next() {
		item, err := scan(rows)
		if e, ok := errors.AsType[*unreadableError](err); ok {
			s.unreadable.record(e)
			err = nil
		}
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		list = append(list, item)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// conditions collects the terms of a WHERE clause.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) add(part string, args ...any) {
	c.parts = append(c.parts, part)
	c.args = append(c.args, args...)
}

func (c *conditions) addIf(ok bool, part string, args ...any) {
	if ok {
		c.add(part, args...)
	}
}

func (c *conditions) clone() conditions {
	return conditions{slices.Clone(c.parts), slices.Clone(c.args)}
}

func (c *conditions) text() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

// limitOf returns the LIMIT argument; -1 means no limit.
func limitOf(limit int) int64 {
	if limit <= 0 {
		return -1
	}
	return int64(limit)
}
