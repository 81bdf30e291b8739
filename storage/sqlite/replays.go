package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"switchhook/engine"
)

// History lists deliveries of a subscription that have a row, oldest event first.
func (s *Store) History(ctx context.Context, q engine.HistoryQuery) ([]*engine.Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	text, args := historyQuery(q)
	rows, err := s.readers.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("list a subscription's history: %w", err)
	}
	return collect(s, rows, scanDelivery)
}

func historyQuery(q engine.HistoryQuery) (text string, args []any) {
	index, where := "delivery_by_subscription", conditions{}
	where.add("d.subscription_id = ?", int64(q.Subscription))
	if q.State != 0 {
		where.add("d.state = ?", int64(q.State))
		if q.State != engine.StateSucceeded {
			index = "delivery_open_by_subscription"
			where.add("d.state <> 3") // allows the partial index
		}
	}
	where.addIf(q.Since != 0, "d.event_id >= ?", int64(q.Since))
	where.addIf(q.Until != 0, "d.event_id < ?", int64(q.Until))
	return `SELECT ` + deliveryColumns + ` FROM delivery d INDEXED BY ` + index + ` CROSS JOIN event e ON e.id = d.event_id` +
		where.text() + ` ORDER BY d.event_id LIMIT ?`, append(where.args, limitOf(q.Limit))
}

// replayJob holds the fields of a replay that no query filters by.
type replayJob struct {
	Subscriptions []engine.ID    `json:"subscriptions"`
	To            engine.ID      `json:"to,omitempty"`
	Since         time.Time      `json:"since,omitzero"`
	Until         time.Time      `json:"until"`
	EventTypes    []string       `json:"event_types,omitempty"`
	States        []engine.State `json:"states,omitempty"`
	Missing       bool           `json:"missing,omitempty"`
	Filter        string         `json:"filter,omitempty"`
	Rate          int            `json:"rate"`
	Error         string         `json:"error,omitempty"`
	Done          int            `json:"done"`
	After         engine.ID      `json:"after"`
	First         engine.ID      `json:"first"`
	Looked        int64          `json:"looked"`
	Queued        int64          `json:"queued"`
}

const (
	replayColumns = `id, account, status, job, created_at, updated_at, finished_at`
	replaysQuery  = `SELECT ` + replayColumns + ` FROM replay`
)

// Replay finds a replay.
func (s *Store) Replay(ctx context.Context, id engine.ID) (*engine.Replay, error) {
	r, err := scanReplay(s.readers.QueryRowContext(ctx, replaysQuery+` WHERE id = ?`, int64(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, engine.NotFound("replay", id.Format(engine.ReplayPrefix))
	}
	if err != nil {
		return nil, s.unreadable.one(err)
	}
	return r, nil
}

// Replays lists replays, newest first.
func (s *Store) Replays(ctx context.Context, q engine.ReplayQuery) (list []*engine.Replay, next engine.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	where := conditions{}
	where.addIf(q.Account != "", "account = ?", q.Account)
	where.addIf(q.Unfinished, "finished_at IS NULL")
	where.addIf(q.Before != 0, "id < ?", int64(q.Before))
	where.addIf(q.Since != 0, "id >= ?", int64(q.Since))
	p := &page[*engine.Replay]{store: s, limit: q.Limit, maxBytes: q.MaxBytes, scan: scanReplay}
	if err := p.read(ctx, s.readers, replaysQuery+where.text()+` ORDER BY id DESC`, where.args); err != nil {
		return nil, 0, fmt.Errorf("list replays: %w", err)
	}
	if p.full {
		next = p.list[len(p.list)-1].ID
	}
	return p.list, next, nil
}

func scanReplay(row scanner) (*engine.Replay, error) {
	r := &engine.Replay{}
	var text string
	var created, updated, finished *int64
	err := row.Scan(&r.ID, &r.Account, &r.Status, &text, &created, &updated, &finished)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	d := decoder{table: "replay", id: r.ID.Format(engine.ReplayPrefix)}
	d.scanned(err)
	r.CreatedAt, r.UpdatedAt, r.FinishedAt = columnTime(created), columnTime(updated), columnTime(finished)
	var j replayJob
	if err == nil {
		d.check("job", columnJSON(&text, &j))
	}
	r.Subscriptions, r.To, r.Since, r.Until, r.EventTypes, r.States, r.Missing = j.Subscriptions, j.To, j.Since, j.Until, j.EventTypes, j.States, j.Missing
	r.Filter, r.Rate, r.Error, r.Done, r.After, r.First, r.Looked, r.Queued = j.Filter, j.Rate, j.Error, j.Done, j.After, j.First, j.Looked, j.Queued
	if r.Unreadable = d.columns; r.Unreadable != nil {
		r.Error = "what is stored of it can't be read; cancel it and start another"
	}
	return r, d.err()
}

// PutReplay creates or replaces a replay. When it has finished, those of its account that have
// finished and are not among the newest engine.MaxReplays are deleted.
func (s *Store) PutReplay(ctx context.Context, r *engine.Replay) error {
	job := mustJSON(replayJob{
		r.Subscriptions, r.To, r.Since, r.Until, r.EventTypes, r.States, r.Missing, r.Filter, r.Rate, r.Error, r.Done, r.After, r.First, r.Looked, r.Queued,
	})
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.countedExec(rowsOf("replay", "id = ?", int64(r.ID)), insertInto("INSERT OR REPLACE", "replay", replayColumns),
			int64(r.ID), r.Account, string(r.Status), job, timeColumn(r.CreatedAt), timeColumn(r.UpdatedAt), timeColumn(r.FinishedAt))
		if err != nil || r.FinishedAt.IsZero() {
			return err
		}
		const surplus = `account = ?1 AND finished_at IS NOT NULL
			AND id <= (SELECT id FROM replay WHERE account = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`
		_, err = tx.countedExec(rowsOf("replay", surplus, r.Account, int64(engine.MaxReplays)), `DELETE FROM replay WHERE `+surplus, r.Account, int64(engine.MaxReplays))
		return err
	})
}
