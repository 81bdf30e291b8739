package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-sqlite3"

	"switchhook/storage/vault"
)

// secretColumns are the columns that are sealed. Each is TEXT; an empty one, which holds no
// secret, stays empty.
var secretColumns = []struct {
	table, key string // key is the table's primary key column
	columns    []string
}{
	{"subscription", "id", []string{"secret", "old_secrets", "headers", "verification_secret", "client"}},
	{"secret", "id", []string{"value"}},
	{"request", "id", []string{"answer"}},
}

// sealer encrypts the values of secretColumns. Without a vault it returns them unchanged.
type sealer struct{ vault *vault.Vault }

func vaultPlace(table string, row int64, column string) vault.Place {
	return vault.Place{Table: table, Row: strconv.FormatInt(row, 10), Column: column}
}

// seal takes and returns a column value: text or nil.
func (s sealer) seal(table string, row int64, column string, value driver.Value) driver.Value {
	if text, _ := value.(string); s.vault != nil && text != "" {
		return s.vault.Seal(vaultPlace(table, row, column), text)
	}
	return value
}

// open decrypts a sealed value. A plain secret is refused: all of them were sealed when the
// store was opened, so it was written by another program since.
func (s sealer) open(table string, row int64, column string, value *string) (*string, error) {
	if value == nil || *value == "" || s.vault == nil {
		return value, nil
	}
	plain, err := s.vault.Open(vaultPlace(table, row, column), *value)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return &plain, nil
}

// openVault gets the vault and ensures that all secrets are sealed with its current key. If
// a key is missing, the database is left unchanged.
func (s *Store) openVault(ctx context.Context, find func(inUse []string) (*vault.Vault, error)) (err error) {
	conn, err := openConn(s.path, "PRAGMA secure_delete = ON;")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var inUse []string
	clean := false
	err = queryConn(conn, "SELECT id, clean FROM encryption_key ORDER BY id", nil, func(row []driver.Value) error {
		inUse = append(inUse, row[0].(string))
		clean = row[1].(int64) == 1
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlite: read the encryption keys in use: %w", err)
	}
	if find == nil {
		if len(inUse) > 0 {
			return missingKey(s.path, inUse)
		}
		return nil
	}
	v, err := find(slices.Clone(inUse))
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(inUse), v.Knows)
	if len(missing) > 0 {
		return missingKey(s.path, missing)
	}
	s.sealer = sealer{v}
	if clean && len(inUse) == 1 && inUse[0] == v.KeyID() {
		return nil
	}
	if err := s.sealAll(ctx, conn); err != nil {
		return fmt.Errorf("sqlite: seal the secrets of %s: %w", s.path, err)
	}
	return nil
}

func missingKey(path string, ids []string) error {
	return fmt.Errorf("the secrets in %s are sealed with the encryption key %s, which is not among the keys given; nothing was changed", path, strings.Join(ids, " and "))
}

// sealBatchSize is the number of rows sealed in one transaction.
const sealBatchSize = 500

// sealAll seals, in batches, the values that are plain or sealed with an older key. Each
// value names its key, so that the next start continues where an interrupted one stopped.
func (s *Store) sealAll(ctx context.Context, conn *sqlite3.SQLiteConn) error {
	// Sealed values are longer.
	if _, err := conn.Exec("UPDATE meta SET value = 0 WHERE name = 'bytes_counted'", nil); err != nil {
		return err
	}
	// The key is listed before the first value that uses it is written.
	if _, err := conn.Exec("INSERT INTO encryption_key (id, clean) VALUES (?, 0) ON CONFLICT DO UPDATE SET clean = 0", []driver.Value{s.sealer.vault.KeyID()}); err != nil {
		return err
	}
	changed := 0
	for _, t := range secretColumns {
		for after, more := int64(-1<<63), true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := inTransaction(conn, func() (err error) {
				var n int
				n, after, more, err = s.sealBatch(conn, t.table, t.key, t.columns, after)
				changed += n
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	if err := scrub(conn); err != nil {
		return err
	}
	err := inTransaction(conn, func() error {
		if _, err := conn.Exec("DELETE FROM encryption_key WHERE id <> ?", []driver.Value{s.sealer.vault.KeyID()}); err != nil {
			return err
		}
		_, err := conn.Exec("UPDATE encryption_key SET clean = 1", nil)
		return err
	})
	if err == nil && changed > 0 {
		s.log.Info("secrets sealed", "rows", changed, "key_id", s.sealer.vault.KeyID())
	}
	return err
}

// sealBatch seals the secrets of one batch of rows. It returns the number of changed rows,
// the last key, and whether there may be more.
func (s *Store) sealBatch(conn *sqlite3.SQLiteConn, table, key string, columns []string, after int64) (changed int, last int64, more bool, err error) {
	var rows [][]driver.Value
	query := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %[1]s > ? ORDER BY %[1]s LIMIT ?", key, strings.Join(columns, ", "), table)
	err = queryConn(conn, query, []driver.Value{after, int64(sealBatchSize)}, func(row []driver.Value) error {
		rows = append(rows, slices.Clone(row))
		return nil
	})
	if err != nil {
		return 0, 0, false, err
	}
	update := fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s = ?", table, strings.Join(columns, " = ?, "), key)
	for _, row := range rows {
		id := row[0].(int64)
		last = id
		old := slices.Clone(row)
		for i, column := range columns {
			if row[i+1], err = s.reseal(table, id, column, row[i+1]); err != nil {
				return 0, 0, false, err
			}
		}
		if slices.Equal(old, row) {
			continue
		}
		changed++
		if _, err := conn.Exec(update, append(row[1:], id)); err != nil {
			return 0, 0, false, err
		}
	}
	return changed, last, len(rows) == sealBatchSize, nil
}

func (s *Store) reseal(table string, row int64, column string, value driver.Value) (driver.Value, error) {
	text, _ := value.(string)
	id, sealed := vault.SealedWith(text)
	switch {
	case sealed && id == s.sealer.vault.KeyID():
		return value, nil
	case sealed:
		plain, err := s.sealer.open(table, row, column, &text)
		if err != nil {
			return nil, err
		}
		value = *plain
	}
	return s.sealer.seal(table, row, column, value), nil
}

// scrub removes remains of replaced values: in the rows' pages, in freed pages and in the
// write-ahead log. conn must have secure_delete on, with which SQLite overwrites what it
// frees; pages that were freed before are removed from the file.
func scrub(conn *sqlite3.SQLiteConn) error {
	for _, t := range secretColumns {
		err := inTransaction(conn, func() error {
			_, err := conn.Exec(fmt.Sprintf(`
				CREATE TABLE scrubbed AS SELECT * FROM %[1]s;
				DELETE FROM %[1]s;
				INSERT INTO %[1]s SELECT * FROM scrubbed;
				DROP TABLE scrubbed`, t.table), nil)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := queryConn(conn, "PRAGMA incremental_vacuum", nil, nil); err != nil {
		return err
	}
	busy := int64(0)
	err := queryConn(conn, "PRAGMA wal_checkpoint(TRUNCATE)", nil, func(row []driver.Value) error {
		busy, _ = row[0].(int64)
		return nil
	})
	if err == nil && busy != 0 {
		err = errors.New("another process reads the database, so plain secrets can't be removed from its log: end that process, and start again")
	}
	return err
}

func inTransaction(conn *sqlite3.SQLiteConn, do func() error) error {
	if _, err := conn.Exec("BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	err := do()
	if err == nil {
		if _, err = conn.Exec("COMMIT", nil); err == nil {
			return nil
		}
	}
	if !conn.AutoCommit() {
		_, rollback := conn.Exec("ROLLBACK", nil)
		err = errors.Join(err, rollback)
	}
	return err
}
