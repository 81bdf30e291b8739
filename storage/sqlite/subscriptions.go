package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"switchhook/engine"
)

// subscriptionColumns lists the columns in the order in which rows are read and written.
const subscriptionColumns = `id, account, events, target_url, active, reason, filter, transform, secret, headers,
	payload_format, description, metadata, version, created_at, updated_at,
	filter_script, filter_version, transform_script, transform_version, settings, old_secrets, verification_secret, expires_at, client`

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
			d.check(c.column, err)
			*c.value = plain
		}
		d.check("events", columnJSON(events, &u.Events))
		d.check("headers", columnJSON(headers, &u.Headers))
		d.check("metadata", columnJSON(metadata, &u.Metadata))
		d.check("settings", columnSettings(settings, u))
		d.check("old_secrets", columnJSON(oldSecrets, &u.OldSecrets))
		d.check("client", columnClient(client, &u.Client))
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
		_, err = tx.countedExec(rowsOf("subscription", "id = ?", id), insertInto("INSERT OR REPLACE", "subscription", subscriptionColumns),
			id, u.Account, jsonListColumn(u.Events), u.TargetURL, u.Active, u.Reason, u.Filter, u.Transform,
			seal("secret", u.Secret), seal("headers", jsonMapColumn(u.Headers)), string(u.PayloadFormat), u.Description, jsonMapColumn(u.Metadata),
			u.Version, timeColumn(u.CreatedAt), timeColumn(u.UpdatedAt),
			int64(u.FilterScript.Script), int64(u.FilterScript.Version), int64(u.TransformScript.Script), int64(u.TransformScript.Version),
			settingsColumn(u), seal("old_secrets", jsonListColumn(u.OldSecrets)), seal("verification_secret", textColumn(u.Verification.Secret)), timeColumn(u.ExpiresAt), seal("client", clientColumn(u.Client)))
		return err
	})
}

// DeleteSubscription removes a subscription, its secret, its health and its sequence. An empty
// row stays, so that its id is not used again.
func (s *Store) DeleteSubscription(ctx context.Context, id engine.ID) error {
	return s.write(ctx, func(tx *tx) error {
		changed, err := tx.countedExec(rowsOf("subscription", "id = ?", int64(id)), `
			UPDATE subscription SET deleted_at = ?, events = NULL, target_url = '', reason = '', filter = '', transform = '', secret = '',
				headers = NULL, payload_format = '', description = '', metadata = NULL, settings = NULL, old_secrets = NULL,
				verification_secret = NULL, client = NULL
			WHERE id = ? AND deleted_at IS NULL`, time.Now().UnixMicro(), int64(id))
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
