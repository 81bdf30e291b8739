package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"

	"switchhook/engine"
)

// agedAudit reads the lengths without reading the JSON.
var agedAudit = agedTable{
	name: "audit",
	oldest: `
		SELECT id, ifnull(length(before), 0) + ifnull(length(after), 0) FROM audit
		WHERE id < ? ORDER BY id LIMIT ?`,
}

const auditColumns = `id, at, actor_key, actor_name, actor_account, actor_address, action, kind, subject, account, changed, before, after`

// withEntry returns a function that runs do and, if do succeeds, stores an entry of the
// audit log.
func withEntry(do func(*tx) error, e *engine.AuditEntry) func(*tx) error {
	return func(tx *tx) error {
		if err := do(tx); err != nil {
			return err
		}
		columns := []driver.Value{
			int64(e.ID), timeColumn(e.At), int64(e.Actor.Key), e.Actor.Name, e.Actor.Account, e.Actor.Address,
			string(e.Action), e.Kind, e.Subject, e.Account, jsonListColumn(e.Changed), bytesColumn(e.Before), bytesColumn(e.After),
		}
		_, err := tx.exec(insertInto("INSERT", "audit", auditColumns), columns...)
		tx.w.bytes.add(e.Account, auditBytes, rowBytes(columns))
		if err != nil {
			return fmt.Errorf("insert the entry of the audit log: %w", err)
		}
		return nil
	}
}

// Audit lists entries of the audit log, newest first.
func (s *Store) Audit(ctx context.Context, q engine.AuditQuery) ([]*engine.AuditEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	where := conditions{}
	where.addIf(q.Account != "", "account = ?", q.Account)
	where.addIf(q.Kind != "", "kind = ?", q.Kind)
	where.addIf(q.Subject != "", "subject = ?", q.Subject)
	where.addIf(q.Actor != 0 || q.Router, "actor_key = ?", int64(q.Actor))
	where.addIf(q.Since != 0, "id >= ?", int64(q.Since))
	where.addIf(q.Until != 0, "id < ?", int64(q.Until))
	where.addIf(q.Before != 0, "id < ?", int64(q.Before))
	rows, err := s.readers.QueryContext(ctx, `SELECT `+auditColumns+` FROM audit`+where.text()+` ORDER BY id DESC LIMIT ?`, append(where.args, limitOf(q.Limit))...)
	if err != nil {
		return nil, fmt.Errorf("list the audit log: %w", err)
	}
	return collect(s, rows, func(row scanner) (*engine.AuditEntry, error) {
		e := &engine.AuditEntry{}
		var at *int64
		var changed *string
		err := row.Scan(&e.ID, &at, &e.Actor.Key, &e.Actor.Name, &e.Actor.Account, &e.Actor.Address,
			&e.Action, &e.Kind, &e.Subject, &e.Account, &changed, &e.Before, &e.After)
		e.At = columnTime(at)
		d := decoder{table: "audit", id: strconv.FormatInt(int64(e.ID), 10)}
		d.scanned(err)
		d.check("changed", columnJSON(changed, &e.Changed))
		return e, d.err()
	})
}

// PruneAudit removes one batch of the oldest entries with ids below before.
func (s *Store) PruneAudit(ctx context.Context, before engine.ID) (more bool, err error) {
	if more, err = s.removeAged(ctx, agedAudit, before); err != nil {
		return false, fmt.Errorf("remove entries of the audit log: %w", err)
	}
	return more, nil
}
