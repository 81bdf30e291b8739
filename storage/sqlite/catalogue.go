package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"switchhook/engine"
)

// The columns of each table are listed once, in the order in which rows are read and
// written.
const (
	subscriptionColumns = `id, account, events, target_url, active, reason, filter, transform, secret, headers,
		payload_format, description, metadata, version, created_at, updated_at,
		filter_script, filter_version, transform_script, transform_version, settings, old_secrets, verification_secret, expires_at, client`
	eventTypeColumns = `name, description, schema, samples, verify, version, created_at, updated_at`
)

// Subscriptions lists all subscriptions that are not deleted, oldest first.
func (s *Store) Subscriptions(ctx context.Context) ([]*engine.Subscription, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT `+subscriptionColumns+` FROM subscription WHERE deleted_at IS NULL ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return collect(s, rows, func(row scanner) (*engine.Subscription, error) {
		u := &engine.Subscription{}
		var events, secret, headers, metadata, settings, oldSecrets, verification, client *string
		var created, updated, expires *int64
		err := row.Scan(&u.ID, &u.Account, &events, &u.TargetURL, &u.Active, &u.Reason, &u.Filter, &u.Transform,
			&secret, &headers, &u.PayloadFormat, &u.Description, &metadata, &u.Version, &created, &updated,
			&u.FilterScript.Script, &u.FilterScript.Version, &u.TransformScript.Script, &u.TransformScript.Version,
			&settings, &oldSecrets, &verification, &expires, &client)
		d := decoder{table: "subscription", id: u.ID.Format(engine.SubscriptionPrefix)}
		d.scanned(err)
		u.CreatedAt, u.UpdatedAt, u.ExpiresAt = columnTime(created), columnTime(updated), columnTime(expires)
		sealed := [...]struct {
			column string
			value  **string
		}{{"secret", &secret}, {"old_secrets", &oldSecrets}, {"headers", &headers}, {"verification_secret", &verification}, {"client", &client}}
		for _, c := range sealed {
			plain, err := s.sealer.open("subscription", int64(u.ID), c.column, *c.value)
			d.try(c.column, err)
			*c.value = plain
		}
		d.try("events", columnJSON(events, &u.Events))
		d.try("headers", columnJSON(headers, &u.Headers))
		d.try("metadata", columnJSON(metadata, &u.Metadata))
		d.try("settings", columnSettings(settings, u))
		d.try("old_secrets", columnJSON(oldSecrets, &u.OldSecrets))
		d.try("client", columnClient(client, &u.Client))
		u.Secret, u.Verification.Secret = columnText(secret), columnText(verification)
		u.Unreadable = d.columns
		return u, d.err()
	})
}

// PutSubscription creates or replaces a subscription. A deleted one stays deleted.
func (s *Store) PutSubscription(ctx context.Context, u *engine.Subscription) error {
	id := int64(u.ID)
	seal := func(column string, value driver.Value) driver.Value {
		return s.sealer.seal("subscription", id, column, value)
	}
	return s.write(ctx, func(tx *tx) error {
		err := tx.checkVersion("subscription", u.ID.Format(engine.SubscriptionPrefix), u.Version,
			`SELECT iif(deleted_at IS NULL, version, -1) FROM subscription WHERE id = ?`, id)
		if err != nil {
			return err
		}
		_, err = tx.exec(insertInto("INSERT OR REPLACE", "subscription", subscriptionColumns),
			id, u.Account, jsonListColumn(u.Events), u.TargetURL, u.Active, u.Reason, u.Filter, u.Transform,
			seal("secret", u.Secret), seal("headers", jsonMapColumn(u.Headers)), string(u.PayloadFormat), u.Description, jsonMapColumn(u.Metadata),
			u.Version, timeColumn(u.CreatedAt), timeColumn(u.UpdatedAt),
			int64(u.FilterScript.Script), int64(u.FilterScript.Version), int64(u.TransformScript.Script), int64(u.TransformScript.Version),
			settingsColumn(u), seal("old_secrets", jsonListColumn(u.OldSecrets)), seal("verification_secret", textColumn(u.Verification.Secret)), timeColumn(u.ExpiresAt), seal("client", clientColumn(u.Client)))
		return err
	})
}

// DeleteSubscription removes a subscription, its secret, its health and its sequence. A
// tombstone row stays.
func (s *Store) DeleteSubscription(ctx context.Context, id engine.ID) error {
	return s.write(ctx, func(tx *tx) error {
		changed, err := tx.exec(`UPDATE subscription SET deleted_at = ?, secret = '', old_secrets = NULL, headers = NULL, verification_secret = NULL, client = NULL WHERE id = ? AND deleted_at IS NULL`,
			time.Now().UnixMicro(), int64(id))
		if err == nil && changed == 0 {
			return engine.NotFound("subscription", id.Format(engine.SubscriptionPrefix))
		}
		if err == nil {
			_, err = tx.exec(`DELETE FROM health WHERE subscription_id = ?`, int64(id))
		}
		if err == nil {
			_, err = tx.exec(`DELETE FROM sequence WHERE subscription_id = ?`, int64(id))
		}
		return err
	})
}

// EventTypes lists the event types by name.
func (s *Store) EventTypes(ctx context.Context) ([]*engine.EventType, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT `+eventTypeColumns+` FROM event_type ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list event types: %w", err)
	}
	return collect(s, rows, func(row scanner) (*engine.EventType, error) {
		t := &engine.EventType{}
		var samples *string
		var created, updated *int64
		err := row.Scan(&t.Name, &t.Description, &t.Schema, &samples, &t.Verify, &t.Version, &created, &updated)
		t.CreatedAt, t.UpdatedAt = columnTime(created), columnTime(updated)
		d := decoder{table: "event_type", id: t.Name}
		d.scanned(err)
		d.try("samples", columnJSON(samples, &t.Samples))
		if t.Schema != nil && !json.Valid(t.Schema) {
			d.try("schema", errNoJSON)
			t.Schema = nil
		}
		if slices.ContainsFunc(t.Samples, func(sample []byte) bool { return !json.Valid(sample) }) {
			d.try("samples", errNoJSON)
			t.Samples = nil
		}
		t.Unreadable = d.columns
		return t, d.err()
	})
}

// PutEventType creates or replaces an event type.
func (s *Store) PutEventType(ctx context.Context, t *engine.EventType) error {
	return s.write(ctx, func(tx *tx) error {
		err := tx.checkVersion("event type", t.Name, t.Version, `SELECT version FROM event_type WHERE name = ?`, t.Name)
		if err != nil {
			return err
		}
		_, err = tx.exec(insertInto("INSERT OR REPLACE", "event_type", eventTypeColumns),
			t.Name, t.Description, bytesColumn(t.Schema), jsonListColumn(t.Samples), string(t.Verify),
			t.Version, timeColumn(t.CreatedAt), timeColumn(t.UpdatedAt))
		return err
	})
}

// DeleteEventType removes an event type.
func (s *Store) DeleteEventType(ctx context.Context, name string) error {
	return s.deleteOne(ctx, "event type", name, `DELETE FROM event_type WHERE name = ?`, name)
}

// deleteOne runs a statement that changes one row. It returns NotFound if no row changed.
func (s *Store) deleteOne(ctx context.Context, kind, id, query string, args ...driver.Value) error {
	return s.write(ctx, func(tx *tx) error {
		changed, err := tx.exec(query, args...)
		if err == nil && changed == 0 {
			return engine.NotFound(kind, id)
		}
		return err
	})
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
