package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"switchhook/engine"
)

const keyColumns = `id, name, account, admin, scopes, prefix, hash, created_at, expires_at, last_used_at, old_hash, old_until`

// Keys lists the API keys, oldest first.
func (s *Store) Keys(ctx context.Context) ([]*engine.Key, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT `+keyColumns+` FROM api_key ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return collect(s, rows, func(row scanner) (*engine.Key, error) {
		k := &engine.Key{}
		var hash, oldHash []byte
		var scopes *string
		var created, expires, used, oldUntil *int64
		err := row.Scan(&k.ID, &k.Name, &k.Account, &k.Admin, &scopes, &k.Prefix, &hash, &created, &expires, &used, &oldHash, &oldUntil)
		copy(k.Hash[:], hash)
		copy(k.OldHash[:], oldHash)
		k.CreatedAt, k.ExpiresAt, k.LastUsedAt, k.OldUntil = columnTime(created), columnTime(expires), columnTime(used), columnTime(oldUntil)
		if scopes == nil && !k.Admin {
			k.Scopes = slices.Clone(engine.DefaultScopes)
		}
		d := decoder{table: "api_key", id: k.ID.Format(engine.KeyPrefix)}
		d.scanned(err)
		d.check("scopes", columnJSON(scopes, &k.Scopes))
		if len(hash) != len(k.Hash) {
			d.check("hash", fmt.Errorf("%d bytes are no SHA-256", len(hash)))
		}
		if d.err() != nil { // an unreadable key must not grant more than was meant
			k.Admin, k.Scopes = false, nil
		}
		return k, d.err()
	})
}

// PutKey stores a new key.
func (s *Store) PutKey(ctx context.Context, k *engine.Key) error {
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.countedExec(rowsOf("api_key", "id = ?", int64(k.ID)), insertInto("INSERT", "api_key", keyColumns),
			int64(k.ID), k.Name, k.Account, k.Admin, jsonListColumn(k.Scopes), k.Prefix, k.Hash[:], timeColumn(k.CreatedAt),
			timeColumn(k.ExpiresAt), timeColumn(k.LastUsedAt), oldHashColumn(k), timeColumn(k.OldUntil))
		return takenKey(err)
	})
}

// ReplaceKey changes a stored key.
func (s *Store) ReplaceKey(ctx context.Context, k *engine.Key) error {
	return s.write(ctx, func(tx *tx) error {
		changed, err := tx.countedExec(rowsOf("api_key", "id = ?", int64(k.ID)), `
			UPDATE api_key SET name = ?, scopes = ?, prefix = ?, hash = ?, expires_at = ?, old_hash = ?, old_until = ? WHERE id = ?`,
			k.Name, jsonListColumn(k.Scopes), k.Prefix, k.Hash[:], timeColumn(k.ExpiresAt), oldHashColumn(k), timeColumn(k.OldUntil), int64(k.ID))
		if err == nil && changed == 0 {
			return engine.NotFound("key", k.ID.Format(engine.KeyPrefix))
		}
		return takenKey(err)
	})
}

func takenKey(err error) error {
	if isUnique(err) {
		return &engine.Error{Code: engine.CodeConflict, Message: "this key is stored already"}
	}
	return err
}

func oldHashColumn(k *engine.Key) driver.Value {
	if k.OldUntil.IsZero() {
		return nil
	}
	return k.OldHash[:]
}

// TouchKeys stores when keys were last used.
func (s *Store) TouchKeys(ctx context.Context, used map[engine.ID]time.Time) error {
	return s.write(ctx, func(tx *tx) error {
		for id, at := range used {
			if _, err := tx.exec(`UPDATE api_key SET last_used_at = ? WHERE id = ?`, timeColumn(at), int64(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteKey removes a key.
func (s *Store) DeleteKey(ctx context.Context, id engine.ID) error {
	return s.deleteOne(ctx, "key", id.Format(engine.KeyPrefix), rowsOf("api_key", "id = ?", int64(id)))
}
