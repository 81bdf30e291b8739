package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// addBytes counts the bytes that a commit inserted, once for each account in it; a trigger
// on event subtracts what is deleted.
const addBytes = `
	INSERT INTO stored_bytes (account, bytes) VALUES (?, ?)
	ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes`

// StoredBytes returns the size of the data of an account's stored events, in bytes.
func (s *Store) StoredBytes(ctx context.Context, account string) (n int64, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT bytes FROM stored_bytes WHERE account = ?`, account).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the bytes stored: %w", err)
	}
	return n, nil
}
