package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"

	"switchhook/engine"
	"switchhook/engine/signature"
)

// subscriptionSettings holds the fields of a subscription that no query filters by.
type subscriptionSettings struct {
	Policy       engine.Policy       `json:"policy,omitzero"`
	Batch        engine.Batch        `json:"batch,omitzero"`
	Debounce     engine.Debounce     `json:"debounce,omitzero"`
	Numbered     bool                `json:"numbered,omitempty"`
	Signatures   []signature.Scheme  `json:"signatures,omitempty"`
	Verification engine.Verification `json:"verification,omitzero"`
	Inline       bool                `json:"inline,omitempty"`
	TargetKey    string              `json:"target_key,omitempty"`
	Dialect      string              `json:"dialect,omitempty"`
	Names        map[string]string   `json:"names,omitempty"`
	Visible      []string            `json:"visible_headers,omitempty"`
}

// settingsColumn is NULL if nothing is set. The verification secret has a column of its
// own, where it is sealed.
func settingsColumn(u *engine.Subscription) driver.Value {
	verification := u.Verification
	verification.Secret = ""
	text := mustJSON(subscriptionSettings{
		Policy: u.Policy, Batch: u.Batch, Debounce: u.Debounce, Numbered: u.Numbered, Signatures: u.Signatures,
		Verification: verification, Inline: u.Inline, TargetKey: u.TargetKey, Dialect: u.Dialect, Names: u.Names, Visible: u.VisibleHeaders,
	})
	if text == "{}" {
		return nil
	}
	return text
}

func columnSettings(text *string, u *engine.Subscription) error {
	var s subscriptionSettings
	err := columnJSON(text, &s)
	u.Policy, u.Batch, u.Debounce, u.Numbered, u.Signatures = s.Policy, s.Batch, s.Debounce, s.Numbered, s.Signatures
	u.Verification, u.Inline, u.TargetKey, u.Dialect, u.Names, u.VisibleHeaders = s.Verification, s.Inline, s.TargetKey, s.Dialect, s.Names, s.Visible
	return err
}

// clientColumn and columnClient preserve numbers as they were written.

func clientColumn(members map[string]any) driver.Value {
	if members == nil {
		return nil
	}
	return mustJSON(members)
}

func columnClient(text *string, members *map[string]any) error {
	if text == nil {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(*text))
	dec.UseNumber()
	if err := dec.Decode(members); err != nil {
		return fmt.Errorf("read JSON from the database: %w", err)
	}
	return nil
}

// accountSettings holds the fields of an account that no query filters by.
type accountSettings struct {
	Verify    engine.VerificationMode `json:"verify,omitempty"`
	Quota     engine.Quota            `json:"quota,omitzero"`
	Retention engine.Retention        `json:"retention,omitzero"`
}

const accountColumns = `name, settings, version, created_at, updated_at`

// Accounts lists the accounts that have settings, by name.
func (s *Store) Accounts(ctx context.Context) ([]*engine.Account, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT `+accountColumns+` FROM account ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return collect(s, rows, func(row scanner) (*engine.Account, error) {
		a := &engine.Account{}
		var text string
		var created, updated *int64
		d := decoder{table: "account"}
		err := row.Scan(&a.Name, &text, &a.Version, &created, &updated)
		d.id = a.Name
		d.scanned(err)
		var set accountSettings
		if err == nil {
			d.check("settings", columnJSON(&text, &set))
		}
		a.Verify, a.Quota, a.Retention = set.Verify, set.Quota, set.Retention
		a.CreatedAt, a.UpdatedAt = columnTime(created), columnTime(updated)
		a.Unreadable = d.columns
		return a, d.err()
	})
}

// PutAccount creates or replaces the settings of an account.
func (s *Store) PutAccount(ctx context.Context, a *engine.Account) error {
	return s.write(ctx, func(tx *tx) error {
		if err := tx.checkVersion("account", a.Name, a.Version, `SELECT version FROM account WHERE name = ?`, a.Name); err != nil {
			return err
		}
		_, err := tx.countedExec(rowsOf("account", "name = ?", a.Name), insertInto("INSERT OR REPLACE", "account", accountColumns),
			a.Name, mustJSON(accountSettings{a.Verify, a.Quota, a.Retention}), a.Version, timeColumn(a.CreatedAt), timeColumn(a.UpdatedAt))
		return err
	})
}
