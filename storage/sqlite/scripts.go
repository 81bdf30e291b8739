package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"switchhook/engine"
)

// Scripts lists all scripts that are not deleted, oldest first, without their test cases.
func (s *Store) Scripts(ctx context.Context) ([]*engine.Script, error) {
	rows, err := s.readers.QueryContext(ctx, `
		SELECT id, account, name, kind, description, live, version, created_at, updated_at FROM script ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list scripts: %w", err)
	}
	return collect(s, rows, func(row scanner) (*engine.Script, error) {
		c := &engine.Script{}
		var created, updated *int64
		err := row.Scan(&c.ID, &c.Account, &c.Name, &c.Kind, &c.Description, &c.Live, &c.Version, &created, &updated)
		c.CreatedAt, c.UpdatedAt = columnTime(created), columnTime(updated)
		d := decoder{table: "script", id: c.ID.Format(engine.ScriptPrefix)}
		d.scanned(err)
		return c, d.err()
	})
}

// ScriptCases returns the test cases of a script's newest version or, before there is one, of the script.
func (s *Store) ScriptCases(ctx context.Context, id engine.ID) (cases []byte, err error) {
	row := s.readers.QueryRowContext(ctx, `
		SELECT iif(v.script_id IS NULL, s.cases, v.cases)
		FROM script s LEFT JOIN script_version v ON v.script_id = s.id AND v.number = (SELECT max(number) FROM script_version WHERE script_id = s.id)
		WHERE s.id = ?`, int64(id))
	switch err = row.Scan(&cases); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, engine.NotFound("script", id.Format(engine.ScriptPrefix))
	case err != nil:
		return nil, fmt.Errorf("read the cases of %s: %w", id.Format(engine.ScriptPrefix), err)
	}
	return cases, nil
}

// PutScript creates or replaces a script's record.
func (s *Store) PutScript(ctx context.Context, c *engine.Script) error {
	return s.write(ctx, func(tx *tx) error {
		wasLive := int64(0)
		err := tx.query(`SELECT live FROM script WHERE id = ?`, []driver.Value{int64(c.ID)}, func(row []driver.Value) error {
			wasLive = row[0].(int64)
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.checkVersion("script", c.ID.Format(engine.ScriptPrefix), c.Version,
			`SELECT version FROM script WHERE id = ?`, int64(c.ID))
		if err != nil {
			return err
		}
		_, err = tx.countedExec(rowsOf("script", "id = ?", int64(c.ID)), `
			INSERT INTO script (id, account, name, kind, description, cases, live, version, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, cases = excluded.cases,
				live = excluded.live, version = excluded.version, updated_at = excluded.updated_at`,
			int64(c.ID), c.Account, c.Name, string(c.Kind), c.Description, bytesColumn(c.Cases), int64(c.Live), c.Version,
			timeColumn(c.CreatedAt), timeColumn(c.UpdatedAt))
		if isUnique(err) {
			return &engine.Error{Code: engine.CodeConflict, Field: "name", Message: fmt.Sprintf("is taken: another script is called %q already", c.Name)}
		}
		if err == nil {
			newest := rowsOf("script_version", "script_id = ?1 AND number = (SELECT max(number) FROM script_version WHERE script_id = ?1)", int64(c.ID))
			_, err = tx.countedExec(newest, `UPDATE script_version SET cases = ?1 WHERE script_id = ?2 AND cases IS NOT ?1
				AND number = (SELECT max(number) FROM script_version WHERE script_id = ?2)`, bytesColumn(c.Cases), int64(c.ID))
		}
		if err == nil && int64(c.Live) != wasLive {
			_, err = tx.exec(`UPDATE script_version SET live_at = ? WHERE script_id = ? AND number = ?`, timeColumn(c.UpdatedAt), int64(c.ID), int64(c.Live))
		}
		return err
	})
}

// DeleteScript removes a script and its versions.
func (s *Store) DeleteScript(ctx context.Context, id engine.ID) error {
	return s.write(ctx, func(tx *tx) error {
		if _, err := tx.countedExec(rowsOf("script_version", "script_id = ?", int64(id)), `DELETE FROM script_version WHERE script_id = ?`, int64(id)); err != nil {
			return err
		}
		return tx.deleteOne("script", id.Format(engine.ScriptPrefix), rowsOf("script", "id = ?", int64(id)))
	})
}

// PutScriptVersion stores a new version.
func (s *Store) PutScriptVersion(ctx context.Context, v *engine.ScriptVersion) error {
	return s.write(ctx, func(tx *tx) error {
		_, err := tx.countedExec(rowsOf("script_version", "script_id = ? AND number = ?", int64(v.Script), int64(v.Number)), insertInto("INSERT", "script_version", versionColumns),
			int64(v.Script), int64(v.Number), v.Source, v.Hash, v.Author, v.Note, timeColumn(v.CreatedAt), bytesColumn(v.Cases), timeColumn(v.LiveAt))
		if isUnique(err) {
			return &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("there is a version %d already", v.Number)}
		}
		return err
	})
}

func isUnique(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && (e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey)
}

const (
	versionColumns = `script_id, number, source, hash, author, note, created_at, cases, live_at`
	versionsQuery  = `SELECT ` + versionColumns + ` FROM script_version`
)

func scanVersion(row scanner) (*engine.ScriptVersion, error) {
	v := &engine.ScriptVersion{}
	var created, live *int64
	err := row.Scan(&v.Script, &v.Number, &v.Source, &v.Hash, &v.Author, &v.Note, &created, &v.Cases, &live)
	v.CreatedAt, v.LiveAt = columnTime(created), columnTime(live)
	d := decoder{table: "script_version", id: fmt.Sprintf("%s, number %d", v.Script.Format(engine.ScriptPrefix), v.Number)}
	d.scanned(err)
	return v, d.err()
}

// ScriptVersion finds a version.
func (s *Store) ScriptVersion(ctx context.Context, script engine.ID, number int) (*engine.ScriptVersion, error) {
	rows, err := s.readers.QueryContext(ctx, versionsQuery+` WHERE script_id = ? AND number = ?`, int64(script), int64(number))
	if err != nil {
		return nil, fmt.Errorf("find version %d of %s: %w", number, script.Format(engine.ScriptPrefix), err)
	}
	found, err := collect(s, rows, scanVersion)
	if err == nil && len(found) == 0 {
		return nil, noVersion(script, number)
	}
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// ScriptSource returns the source of a version.
func (s *Store) ScriptSource(ctx context.Context, ref engine.ScriptRef) (source string, err error) {
	row := s.readers.QueryRowContext(ctx, `SELECT source FROM script_version WHERE script_id = ? AND number = ?`, int64(ref.Script), int64(ref.Version))
	switch err = row.Scan(&source); {
	case errors.Is(err, sql.ErrNoRows):
		return "", noVersion(ref.Script, ref.Version)
	case err != nil:
		return "", fmt.Errorf("read the source of version %d of %s: %w", ref.Version, ref.Script.Format(engine.ScriptPrefix), err)
	}
	return source, nil
}

func noVersion(script engine.ID, number int) error {
	return &engine.Error{Code: engine.CodeNotFound, Message: fmt.Sprintf("the script %s has no version %d", script.Format(engine.ScriptPrefix), number)}
}

// ScriptVersions lists versions, newest first.
func (s *Store) ScriptVersions(ctx context.Context, q engine.ScriptVersionQuery) (list []*engine.ScriptVersion, next int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	where := conditions{}
	where.add("script_id = ?", int64(q.Script))
	where.addIf(q.Before != 0, "number < ?", int64(q.Before))
	p := &page[*engine.ScriptVersion]{store: s, limit: q.Limit, maxBytes: q.MaxBytes, scan: scanVersion}
	if err := p.read(ctx, s.readers, versionsQuery+where.text()+` ORDER BY number DESC`, where.args); err != nil {
		return nil, 0, fmt.Errorf("list versions of %s: %w", q.Script.Format(engine.ScriptPrefix), err)
	}
	if p.full {
		next = p.list[len(p.list)-1].Number
	}
	return p.list, next, nil
}
