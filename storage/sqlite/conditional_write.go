package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"switchhook/engine"
)

// deleteOne deletes a row. It returns NotFound if there is none.
func (s *Store) deleteOne(ctx context.Context, kind, id string, row countedRows) error {
	return s.write(ctx, func(tx *tx) error { return tx.deleteOne(kind, id, row) })
}

func (t *tx) deleteOne(kind, id string, row countedRows) error {
	changed, err := t.countedExec(row, "DELETE FROM "+row.table+" WHERE "+row.where, row.args...)
	if err == nil && changed == 0 {
		return engine.NotFound(kind, id)
	}
	return err
}

// checkVersion returns an error unless version follows the stored one, which is 0 if
// nothing is stored, so that an update cannot restore a row that was deleted meanwhile. A
// negative stored version marks a deleted row, whose id may not be reused.
func (t *tx) checkVersion(kind, id string, version int64, query string, args ...driver.Value) error {
	stored := int64(0)
	err := t.query(query, args, func(row []driver.Value) error {
		stored = row[0].(int64)
		return nil
	})
	switch {
	case err != nil:
		return err
	case stored < 0 || stored == 0 && version != 1:
		return &engine.Error{Code: engine.CodeStale, Message: fmt.Sprintf("%s %q was deleted", kind, id)}
	case version != stored+1:
		return &engine.Error{
			Code:    engine.CodeStale,
			Message: fmt.Sprintf("%s %q has changed: its version is %d, not %d", kind, id, stored, version-1),
		}
	}
	return nil
}
