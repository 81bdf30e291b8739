package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"switchhook/engine"
)

// BeginRequest stores a request unless one exists under its key.
func (s *Store) BeginRequest(ctx context.Context, r *engine.IdempotentRequest, keep int) (stored *engine.IdempotentRequest, err error) {
	err = s.write(ctx, func(tx *tx) error {
		stored = nil // the writer may have to run this again
		var answer *string
		err := tx.query(`SELECT id, digest, answer FROM request WHERE key_hash = ?`, []driver.Value{r.Key[:]}, func(row []driver.Value) error {
			stored = &engine.IdempotentRequest{ID: engine.ID(row[0].(int64)), Account: r.Account, Key: r.Key}
			copy(stored.Digest[:], row[1].([]byte))
			if text, ok := row[2].(string); ok {
				answer = &text
			}
			return nil
		})
		if err != nil {
			return err
		}
		if stored != nil {
			plain, err := s.sealer.open("request", int64(stored.ID), "answer", answer)
			if err == nil && plain != nil {
				stored.Answer = []byte(*plain)
			}
			return err
		}
		if _, err = tx.countedExec(rowsOf("request", "id = ?", int64(r.ID)), `INSERT INTO request (id, account, key_hash, digest) VALUES (?, ?, ?, ?)`, int64(r.ID), r.Account, r.Key[:], r.Digest[:]); err != nil {
			return err
		}
		const surplus = `account = ?1 AND id <= (SELECT id FROM request WHERE account = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`
		_, err = tx.countedExec(rowsOf("request", surplus, r.Account, int64(keep)), `DELETE FROM request WHERE `+surplus, r.Account, int64(keep))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin an idempotent request: %w", err)
	}
	return stored, nil
}

// FinishRequest stores the answer of a request.
func (s *Store) FinishRequest(ctx context.Context, r *engine.IdempotentRequest) error {
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.countedExec(rowsOf("request", "id = ?", int64(r.ID)), `UPDATE request SET answer = ? WHERE id = ?`, s.sealer.seal("request", int64(r.ID), "answer", string(r.Answer)), int64(r.ID))
		return err
	})
}

// ForgetRequest removes a request.
func (s *Store) ForgetRequest(ctx context.Context, id engine.ID) error {
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.countedExec(rowsOf("request", "id = ?", int64(id)), `DELETE FROM request WHERE id = ?`, int64(id))
		return err
	})
}

// PruneRequests removes one batch of the oldest requests with ids below before.
func (s *Store) PruneRequests(ctx context.Context, before engine.ID) (more bool, err error) {
	if more, err = s.removeAged(ctx, agedRequests, before); err != nil {
		return false, fmt.Errorf("remove idempotent requests: %w", err)
	}
	return more, nil
}

var agedRequests = agedTable{
	name:   "request",
	oldest: `SELECT id, ifnull(length(answer), 0) FROM request WHERE id < ? ORDER BY id LIMIT ?`,
}
