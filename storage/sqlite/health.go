package sqlite

import (
	"context"
	"fmt"
	"time"

	"switchhook/engine"
)

const healthColumns = `subscription_id, failing_since, failures, last_error, next_probe_at, probe_delay, resumed_at`

// Health lists the health of the targets that are not healthy.
func (s *Store) Health(ctx context.Context) ([]engine.Health, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT `+healthColumns+` FROM health ORDER BY subscription_id`)
	if err != nil {
		return nil, fmt.Errorf("list the health of targets: %w", err)
	}
	return collect(s, rows, func(row scanner) (h engine.Health, err error) {
		var failing, probe, resumed *int64
		var delay int64
		err = row.Scan(&h.Subscription, &failing, &h.Failures, &h.LastError, &probe, &delay, &resumed)
		h.FailingSince, h.NextProbeAt, h.ResumedAt = columnTime(failing), columnTime(probe), columnTime(resumed)
		h.ProbeDelay = time.Duration(delay) * time.Microsecond
		return h, err
	})
}

// PutHealth stores the health of targets. A healthy target needs no row.
func (s *Store) PutHealth(ctx context.Context, list []engine.Health) error {
	return s.write(ctx, func(tx *tx) error {
		for _, h := range list {
			if _, err := tx.exec(`DELETE FROM health WHERE subscription_id = ?`, int64(h.Subscription)); err != nil {
				return err
			}
			if h == (engine.Health{Subscription: h.Subscription}) {
				continue
			}
			// A subscription that was deleted meanwhile gets no row.
			_, err := tx.exec(`
				INSERT INTO health (`+healthColumns+`)
				SELECT ?, ?, ?, ?, ?, ?, ? FROM subscription WHERE id = ? AND deleted_at IS NULL`,
				int64(h.Subscription), timeColumn(h.FailingSince), int64(h.Failures), h.LastError,
				timeColumn(h.NextProbeAt), h.ProbeDelay.Microseconds(), timeColumn(h.ResumedAt), int64(h.Subscription))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
