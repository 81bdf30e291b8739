package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"switchhook/engine"
)

// BenchmarkCount counts beside 1,000,000 failed deliveries of 100 subscriptions: the
// queries of /metrics, with their bound and without one, and the backlog.
func BenchmarkCount(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bench.db")
	s := open(b, path)
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		b.Fatal(err)
	}
	_, err = db.Exec(`
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
		INSERT INTO delivery (event_id, subscription_id, state, attempts, next_at, last_at, status, error, account)
		SELECT i, 1 + i % 100, 2, 1, 1e15 + i, 1e15, 500, 'the target answered 500 Internal Server Error', 'acme' FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	for _, limit := range []int{100_000, 0} {
		want := limit
		if limit == 0 {
			want = 1_000_000
		}
		b.Run(fmt.Sprintf("limit=%d", limit), func(b *testing.B) {
			for b.Loop() {
				if n, oldest, err := s.CountDeliveries(b.Context(), engine.StateRetrying, limit); n != want || oldest != 1 || err != nil {
					b.Fatal(n, oldest, err)
				}
			}
		})
	}
	b.Run("backlog", func(b *testing.B) {
		for b.Loop() {
			if open, err := s.OpenDeliveries(b.Context()); len(open) != 100 || err != nil {
				b.Fatal(len(open), err)
			}
		}
	})
}
