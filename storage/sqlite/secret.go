package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/base64"
	"fmt"
)

// Secret returns the secret stored under a name. If there is none, it stores and returns
// fresh.
func (s *Store) Secret(ctx context.Context, name string, fresh []byte) (secret []byte, err error) {
	err = s.write(ctx, func(tx *tx) error {
		secret = nil // the writer may have to run this again
		var id int64
		var value string
		err := tx.query(`SELECT id, value FROM secret WHERE name = ?`, []driver.Value{name}, func(row []driver.Value) error {
			id, value = row[0].(int64), row[1].(string)
			return nil
		})
		if err != nil {
			return err
		}
		if id != 0 {
			d := decoder{table: "secret", id: name}
			plain, err := s.sealer.open("secret", id, "value", &value)
			if err == nil {
				secret, err = base64.StdEncoding.DecodeString(*plain)
			}
			d.check("value", err)
			return s.unreadable.one(d.err())
		}
		secret = fresh
		err = tx.query(`SELECT coalesce(max(id), 0) + 1 FROM secret`, nil, func(row []driver.Value) error {
			id = row[0].(int64)
			return nil
		})
		if err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO secret (id, name, value) VALUES (?, ?, ?)`,
			id, name, s.sealer.seal("secret", id, "value", base64.StdEncoding.EncodeToString(fresh)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get the secret %q: %w", name, err)
	}
	return secret, nil
}
