package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"switchhook/engine"
)

// eventTypeColumns lists the columns in the order in which rows are read and written.
const eventTypeColumns = `name, description, schema, samples, verify, version, created_at, updated_at`

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
		d.check("samples", columnJSON(samples, &t.Samples))
		if t.Schema != nil && !json.Valid(t.Schema) {
			d.check("schema", errNoJSON)
			t.Schema = nil
		}
		if slices.ContainsFunc(t.Samples, func(sample []byte) bool { return !json.Valid(sample) }) {
			d.check("samples", errNoJSON)
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
		_, err = tx.countedExec(rowsOf("event_type", "name = ?", t.Name), insertInto("INSERT OR REPLACE", "event_type", eventTypeColumns),
			t.Name, t.Description, bytesColumn(t.Schema), jsonListColumn(t.Samples), string(t.Verify),
			t.Version, timeColumn(t.CreatedAt), timeColumn(t.UpdatedAt))
		return err
	})
}

// DeleteEventType removes an event type.
func (s *Store) DeleteEventType(ctx context.Context, name string) error {
	return s.deleteOne(ctx, "event type", name, rowsOf("event_type", "name = ?", name))
}
