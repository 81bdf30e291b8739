package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"switchhook/engine"
)

// Queries of the engine for deliveries to attempt: after a start, and whenever its memory
// has space.

// query_test.go checks that each of these queries is answered by an index.
const (
	dueQuery = `
		SELECT event_id, subscription_id, attempts, renewed_at FROM delivery INDEXED BY delivery_by_due
		WHERE next_at IS NOT NULL AND next_at <= ? ORDER BY next_at LIMIT ?`

	nextDueQuery = `SELECT min(next_at) FROM delivery INDEXED BY delivery_by_due WHERE next_at IS NOT NULL`

	backlogQuery = `
		SELECT event_id, attempts, renewed_at FROM delivery INDEXED BY delivery_open_by_subscription
		WHERE subscription_id = ? AND state = 1 AND state <> 3 ORDER BY event_id LIMIT ?`

	// Two scans of one index, merged in the order of events, which is that of positions.
	outstandingQuery = `
		SELECT event_id, attempts, renewed_at, 0 FROM delivery INDEXED BY delivery_open_by_subscription
		WHERE subscription_id = ?1 AND state = 1 AND state <> 3 AND event_id >= ?2
		UNION ALL
		SELECT event_id, attempts, renewed_at, 1 FROM delivery INDEXED BY delivery_open_by_subscription
		WHERE subscription_id = ?1 AND state = 2 AND state <> 3 AND event_id >= ?2
		ORDER BY event_id LIMIT ?3`

	// openSubscriptions makes sub (id) of the subscriptions that have deliveries which have
	// not succeeded, and a null at the end: one seek in delivery_open_by_subscription for
	// each, however many deliveries it has.
	openSubscriptions = `
		WITH RECURSIVE sub (id) AS (
			SELECT min(subscription_id) FROM delivery INDEXED BY delivery_open_by_subscription WHERE state <> 3
			UNION ALL
			SELECT (SELECT min(subscription_id) FROM delivery INDEXED BY delivery_open_by_subscription
			        WHERE state <> 3 AND subscription_id > sub.id)
			FROM sub WHERE sub.id IS NOT NULL)`

	backlogSubscriptionsQuery = openSubscriptions + `
		SELECT id FROM sub WHERE EXISTS (
			SELECT 1 FROM delivery INDEXED BY delivery_open_by_subscription
			WHERE subscription_id = sub.id AND state = 1 AND state <> 3)`

	countQuery = `
		SELECT count(*), min(event_id) FROM (
			SELECT event_id FROM delivery INDEXED BY delivery_open_by_state
			WHERE state = ? AND state <> 3 ORDER BY event_id LIMIT ?)`

	unfinishedQuery = `
		SELECT id, account, type, key, time, targets, headers, ` + deliveryRows + ` FROM event
		WHERE id > ? ORDER BY id`

	// deliveryRows lists the subscriptions for which an event has delivery rows: "12,15".
	deliveryRows = `(SELECT group_concat(subscription_id) FROM delivery WHERE event_id = event.id)`

	markDeadUpdate = `
		UPDATE delivery SET state = 4, next_at = NULL, error = ?1
		WHERE subscription_id = ?2 AND event_id IN (
			SELECT event_id FROM delivery INDEXED BY delivery_open_by_subscription
			WHERE subscription_id = ?2 AND state = ?3 AND state <> 3 LIMIT ?4)`
)

// TakeDue changes retrying deliveries that are due to pending ones.
func (s *Store) TakeDue(ctx context.Context, now time.Time, limit int, taken func([]engine.Waiting)) ([]engine.Waiting, error) {
	var due []engine.Waiting
	err := s.write(ctx, func(tx *tx) error {
		due = nil // the writer may have to run this again
		// Read first, then changed one by one: RETURNING would return them in no order.
		err := tx.query(dueQuery, []driver.Value{now.UnixMicro(), limitOf(limit)}, func(row []driver.Value) error {
			event := engine.ID(row[0].(int64))
			w := engine.Waiting{
				ID:       engine.DeliveryID{Event: event, Subscription: engine.ID(row[1].(int64))},
				Position: engine.PositionOf(event),
				Attempts: int(row[2].(int64)),
			}
			if renewed, ok := row[3].(int64); ok {
				w.RenewedAt = columnTime(&renewed)
			}
			due = append(due, w)
			return nil
		})
		if err != nil {
			return err
		}
		for _, d := range due {
			_, err := tx.exec(`UPDATE delivery SET state = 1, next_at = NULL WHERE event_id = ? AND subscription_id = ?`,
				int64(d.ID.Event), int64(d.ID.Subscription))
			if err != nil {
				return err
			}
		}
		taken(due)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return due, nil
}

// NextDue returns when the next retrying delivery is due; the zero time if there is none.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	var next *int64
	err := s.readers.QueryRowContext(ctx, nextDueQuery).Scan(&next)
	return columnTime(next), err
}

// Backlog lists pending deliveries of a subscription that have a row, oldest event first.
func (s *Store) Backlog(ctx context.Context, subscription engine.ID, limit int) ([]engine.Waiting, error) {
	rows, err := s.readers.QueryContext(ctx, backlogQuery, int64(subscription), limitOf(limit))
	if err != nil {
		return nil, fmt.Errorf("list the backlog: %w", err)
	}
	return collect(s, rows, func(row scanner) (engine.Waiting, error) {
		w := engine.Waiting{ID: engine.DeliveryID{Subscription: subscription}}
		var renewed *int64
		err := row.Scan(&w.ID.Event, &w.Attempts, &renewed)
		w.Position, w.RenewedAt = engine.PositionOf(w.ID.Event), columnTime(renewed)
		return w, err
	})
}

// Outstanding lists deliveries of a subscription that are pending or retrying, by position.
func (s *Store) Outstanding(ctx context.Context, subscription engine.ID, from engine.Position, limit int) ([]engine.Waiting, error) {
	rows, err := s.readers.QueryContext(ctx, outstandingQuery, int64(subscription), int64(from), limitOf(limit))
	if err != nil {
		return nil, fmt.Errorf("list outstanding deliveries: %w", err)
	}
	return collect(s, rows, func(row scanner) (engine.Waiting, error) {
		w := engine.Waiting{ID: engine.DeliveryID{Subscription: subscription}}
		var renewed *int64
		err := row.Scan(&w.ID.Event, &w.Attempts, &renewed, &w.Failed)
		w.Position, w.RenewedAt = engine.PositionOf(w.ID.Event), columnTime(renewed)
		return w, err
	})
}

// BacklogSubscriptions lists the subscriptions that have pending deliveries with a row.
func (s *Store) BacklogSubscriptions(ctx context.Context) ([]engine.ID, error) {
	rows, err := s.readers.QueryContext(ctx, backlogSubscriptionsQuery)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions with a backlog: %w", err)
	}
	return collect(s, rows, func(row scanner) (id engine.ID, err error) {
		err = row.Scan(&id)
		return id, err
	})
}

// CountDeliveries counts the deliveries in a state, up to limit: of 10 million rows it
// reads at most limit entries of one index.
func (s *Store) CountDeliveries(ctx context.Context, state engine.State, limit int) (n int, oldest engine.ID, err error) {
	var least *int64
	if err := s.readers.QueryRowContext(ctx, countQuery, int64(state), limitOf(limit)).Scan(&n, &least); err != nil {
		return 0, 0, fmt.Errorf("count deliveries: %w", err)
	}
	if least != nil {
		oldest = engine.ID(*least)
	}
	return n, oldest, nil
}

// Unfinished lists events after an id that have targets without a row, oldest first.
func (s *Store) Unfinished(ctx context.Context, _ engine.NodeID, after engine.ID, limit int) ([]*engine.Event, error) {
	rows, err := s.readers.QueryContext(ctx, unfinishedQuery, int64(after))
	if err != nil {
		return nil, fmt.Errorf("list unfinished events: %w", err)
	}
	defer rows.Close()
	var events []*engine.Event
	for rows.Next() {
		e := &engine.Event{}
		var key, headers, have *string
		var ms int64
		var targets []byte
		if err := rows.Scan(&e.ID, &e.Account, &e.Type, &key, &ms, &targets, &headers, &have); err != nil {
			return nil, err
		}
		d := decoder{table: "event", id: e.ID.Format(engine.EventPrefix)}
		all, _ := d.targets(targets, nil)
		if u, ok := errors.AsType[*unreadableError](d.err()); ok {
			s.unreadable.record(u)
		}
		if e.Targets = without(all, columnText(have)); len(e.Targets) == 0 {
			continue
		}
		e.Key, e.Time = columnText(key), time.UnixMilli(ms).UTC()
		if err := columnJSON(headers, &e.Headers); err != nil {
			e.Headers = nil // reported when the event itself is read
		}
		if events = append(events, e); len(events) == limit {
			return events, nil
		}
	}
	return events, rows.Err()
}

// without returns the targets that are not among the ids that deliveryRows listed.
func without(targets []engine.ID, have string) []engine.ID {
	if have == "" {
		return targets
	}
	rows := make(map[engine.ID]bool)
	for text := range strings.SplitSeq(have, ",") {
		id, _ := strconv.ParseInt(text, 10, 64)
		rows[engine.ID(id)] = true
	}
	var left []engine.ID
	for _, id := range targets {
		if !rows[id] {
			left = append(left, id)
		}
	}
	return left
}

// loadWatermark reads the value that an earlier run wrote.
func (s *Store) loadWatermark(ctx context.Context) error {
	var mark int64
	if err := s.readers.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'watermark'`).Scan(&mark); err != nil {
		return fmt.Errorf("sqlite: read the watermark: %w", err)
	}
	s.watermark.Store(mark)
	return nil
}

// Watermark returns the id set last, 0 in a new store.
func (s *Store) Watermark(context.Context, engine.NodeID) (engine.ID, error) {
	return engine.ID(s.watermark.Load()), nil
}

// SetWatermark raises the watermark with the next commit, or when the store is closed.
func (s *Store) SetWatermark(_ engine.NodeID, id engine.ID) {
	for {
		mark := s.watermark.Load()
		if int64(id) <= mark || s.watermark.CompareAndSwap(mark, int64(id)) {
			return
		}
	}
}

// markDeadBatchSize bounds how long others wait for MarkOutstandingDead: a dead subscription may have a
// million rows, and a row scattered among 10 million took 80 to 97 µs to change.
const markDeadBatchSize = 1000

// MarkOutstandingDead changes the pending and retrying deliveries of a subscription to dead ones, one
// batch a commit. If ctx ends early, the batches committed until then stay.
func (s *Store) MarkOutstandingDead(ctx context.Context, subscription engine.ID, reason string) error {
	for _, state := range []engine.State{engine.StateRetrying, engine.StatePending} {
		for changed := int64(markDeadBatchSize); changed == markDeadBatchSize; {
			err := s.write(ctx, func(tx *tx) (err error) {
				changed, err = tx.exec(markDeadUpdate, reason, int64(subscription), int64(state), int64(markDeadBatchSize))
				return err
			})
			if err != nil {
				return fmt.Errorf("mark deliveries dead: %w", err)
			}
		}
	}
	return nil
}
