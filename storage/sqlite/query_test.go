package sqlite

import (
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"switchhook/engine"
)

// TestQueries_UseIndexes checks the plan of every query that runs over tables of millions
// of rows: none may sort, and none may scan a whole table, unless it scans in the requested
// order and ends at its limit.
func TestQueries_UseIndexes(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	check := func(name string, walk bool, query string, args ...any) {
		t.Helper()
		rows, err := s.readers.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, query)
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			full := strings.HasPrefix(step, "SCAN") && step != "SCAN sub" && step != "SCAN CONSTANT ROW" && step != "SCAN (subquery-1)"
			if strings.Contains(step, "TEMP B-TREE") || full && !walk {
				t.Errorf("%s: %s\n%s", name, step, query)
			}
		}
	}
	check("take due", false, dueQuery, 1, 1)
	check("next due", true, nextDueQuery) // SQLite reports the seek of a minimum as a scan
	check("backlog", false, backlogQuery, 1, 1)
	check("outstanding", false, outstandingQuery, 1, 1, 1)
	check("events by id", false, eventsByIDQuery([]engine.ID{3, 1, 2}))
	check("backlog subscriptions", true, backlogSubscriptionsQuery)
	check("count", false, countQuery, 1, 2)
	check("unfinished", false, unfinishedQuery, 1)
	check("mark dead", false, markDeadUpdate, "", 1, 2, 3)
	for _, account := range [][]any{nil, {"acme"}} {
		queries := newPruneQueries(s.writer.rowSizes, account != nil)
		check("prune", false, queries.events, append(account, 1, 2, 3)...)
		check("prune: deliveries", false, queries.deliveries, append(account, 1, 2)...)
		check("prune: attempts", false, queries.attempts, append(account, 1, 2)...)
		check("prune: keys", false, queries.keys, append(account, 1, 2)...)
	}
	for _, table := range []agedTable{agedAudit, agedRequests} {
		check("oldest", false, table.oldest, 1, 2)
		check("remove the oldest", false, table.remove(), 1)
	}
	check("unfinished rows", false, unfinishedRows, 1, 2)
	check("open deliveries", true, openQuery)
	for _, statement := range removeEvents {
		check("remove", false, statement, 1, 2)
	}
	check("delivery", false, deliveryQuery, 1, 2)
	check("attempts", false, attemptsQuery, 1, 2, 3)
	check("attempt", false, attemptQuery, 1, 2, 3)
	check("same body", false, findBody, 1, 2, 3, []byte("x"))

	for state := engine.State(0); state <= engine.StateDropped; state++ {
		q := engine.HistoryQuery{Subscription: 7, State: state, Since: 1, Until: 5, Limit: 50}
		text, args := historyQuery(q)
		check(fmt.Sprintf("%+v", q), false, text, args...)
	}
	cursor := engine.DeliveryID{Event: 5, Subscription: 6}
	for _, account := range []string{"", "acme"} {
		for _, kind := range []string{"", "order.created"} {
			for _, before := range []engine.ID{0, 5} {
				for _, oldest := range []bool{false, true} {
					q := engine.EventQuery{Account: account, Type: kind, Before: before, Oldest: oldest, Limit: 50}
					text, args := eventsQuery(q)
					check(fmt.Sprintf("%+v", q), account == "" && before == 0, text, args...)
				}
			}
			for _, subscription := range []engine.ID{0, 7} {
				for _, event := range []engine.ID{0, 8} {
					for state := engine.State(0); state <= engine.StateDropped; state++ {
						for _, before := range []engine.DeliveryID{{}, cursor} {
							q := engine.DeliveryQuery{
								Account: account, EventType: kind, Subscription: subscription, Event: event,
								State: state, Before: before, Limit: 50,
							}
							name := fmt.Sprintf("%+v", q)
							text, args := rowsQuery(q)
							walk := account == "" && subscription == 0 && event == 0 && before == (engine.DeliveryID{})
							check(name, walk, text, args...)
							text, args = pendingWithoutRowQuery(q, 3)
							check(name+" without rows", false, text, args...)
						}
					}
				}
			}
		}
	}
}

// TestColumns_StringsRoundTrip decodes encoded strings, and truncations of them.
func TestColumns_StringsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{nil, {}, {""}, {"a", "", "ü\x00\xff"}, {strings.Repeat("x", 300)}} {
		column := stringsColumn(list)
		got, err := columnStrings(column)
		if err != nil || (got == nil) != (list == nil) || strings.Join(got, "|") != strings.Join(list, "|") || len(got) != len(list) {
			t.Errorf("%q came back as %q, %v", list, got, err)
		}
		for i := range column {
			if _, err := columnHeaders(column[:i]); err != nil && err != errDamaged {
				t.Errorf("%q: %v", column[:i], err)
			}
		}
	}
	if _, err := columnStrings([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}); err != errDamaged {
		t.Errorf("a length beyond the end: %v", err)
	}
}

func integrity(t *testing.T, s *Store) {
	t.Helper()
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.query("PRAGMA integrity_check", nil, func(row []driver.Value) error {
			if row[0] != "ok" {
				t.Errorf("integrity_check: %v", row[0])
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
