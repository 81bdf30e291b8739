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
func (s *Store) Audit(ctx context.Context, q engine.AuditQuery) (list []*engine.AuditEntry, next engine.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	src := auditSource(q)
	p := &page[*engine.AuditEntry]{store: s, limit: q.Limit, maxBytes: q.MaxBytes, scan: scanEntry}
	below := q.Before
	if below == 0 || q.Until != 0 && q.Until < below {
		below = q.Until
	}
	next, err = s.scan(ctx, s.readers, src, below, func() bool { return p.full }, func(lowest, below engine.ID) error {
		where := src.where.clone()
		where.add("id >= ? AND id < ?", int64(lowest), int64(below))
		where.addIf(q.Subject != "" && q.Account != "", "account = ?", q.Account)
		where.addIf(q.Kind != "", "kind = ?", q.Kind)
		where.addIf(q.Actor != 0 || q.Router, "actor_key = ?", int64(q.Actor))
		return p.read(ctx, s.readers, `SELECT `+auditColumns+` FROM `+src.table+where.text()+` ORDER BY id DESC`, where.args)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list the audit log: %w", err)
	}
	if p.full {
		next = p.list[len(p.list)-1].ID
	}
	return p.list, next, nil
}

// auditSource returns what a list of the audit log scans.
func auditSource(q engine.AuditQuery) source {
	src := source{table: "audit NOT INDEXED", column: "id"}
	switch {
	case q.Subject != "":
		src.table = "audit INDEXED BY audit_by_subject"
		src.where.add("subject = ?", q.Subject)
	case q.Account != "":
		src.table = "audit INDEXED BY audit_by_account"
		src.where.add("account = ?", q.Account)
	}
	src.where.addIf(q.Since != 0, "id >= ?", int64(q.Since))
	return src
}

func scanEntry(row scanner) (*engine.AuditEntry, error) {
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
}

// PruneAudit removes one batch of the oldest entries with ids below before.
func (s *Store) PruneAudit(ctx context.Context, before engine.ID) (more bool, err error) {
	if more, err = s.removeAged(ctx, agedAudit, before); err != nil {
		return false, fmt.Errorf("remove entries of the audit log: %w", err)
	}
	return more, nil
}
