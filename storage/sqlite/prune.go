package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"switchhook/engine"
)

const (
	// pruneScan is the number of events that one step of Prune examines, beside the writer.
	pruneScan = 1000
	// pruneWork is the time of the writer that one step takes if the query does not say.
	pruneWork = 4 * time.Millisecond
	// agedRows and agedBytes bound one step of PruneAudit or PruneRequests. At about 10 µs a row,
	// 100 delay a commit by 1 ms. The pages of large rows are freed one by one.
	agedRows  = 100
	agedBytes = 256 << 10
	// compactPages is the number of pages one step of Compact returns, at 14 to 21 µs each.
	compactPages = 64
)

const (
	unfinishedRows = `
		SELECT event_id FROM delivery INDEXED BY delivery_open_by_state
		WHERE state = 1 AND state <> 3 AND event_id BETWEEN ?1 AND ?2
		UNION ALL
		SELECT event_id FROM delivery INDEXED BY delivery_open_by_state
		WHERE state = 2 AND state <> 3 AND event_id BETWEEN ?1 AND ?2`

	// Built on openSubscriptions, so that dead letters are not scanned.
	openQuery = openSubscriptions + `
		SELECT id, (
			SELECT count(*) FROM delivery INDEXED BY delivery_open_by_subscription
			WHERE subscription_id = sub.id AND state = 1 AND state <> 3), (
			SELECT count(*) FROM delivery INDEXED BY delivery_open_by_subscription
			WHERE subscription_id = sub.id AND state = 2 AND state <> 3)
		FROM sub WHERE id IS NOT NULL`
)

// pruneQueries are the queries of examine. Those of one account read its events by an index, since
// they lie among those of others.
type pruneQueries struct{ events, deliveries, attempts, keys string }

func newPruneQueries(sizes map[string]string, ofAccount bool) pruneQueries {
	events, restrict := "event NOT INDEXED WHERE", ""
	byEvent := func(table, index, columns string) string {
		return "SELECT event_id, " + columns + " FROM " + table + " " + index + " WHERE event_id BETWEEN ? AND ? GROUP BY event_id ORDER BY event_id"
	}
	if ofAccount {
		events, restrict = "event INDEXED BY event_by_account WHERE", " account = ? AND"
		byEvent = func(table, index, columns string) string {
			return "SELECT e.id, " + columns + " FROM event e INDEXED BY event_by_account CROSS JOIN " + table + " " + index + " ON " + table + ".event_id = e.id" +
				" WHERE e.account = ? AND e.id BETWEEN ? AND ? GROUP BY e.id ORDER BY e.id"
		}
	}
	return pruneQueries{
		events: "SELECT id, account, " + sizes["event"] + ", length(targets) / 8 FROM " + events + restrict + " id > ? AND id < ? ORDER BY id LIMIT ?",
		// Events up to the watermark have rows for all their targets; the number of rows is
		// checked nevertheless, since removal is final.
		deliveries: byEvent("delivery", "NOT INDEXED", "count(*), sum(attempts), max(state = 4), max(state < 3), max(last_at)"),
		attempts:   byEvent("attempt", "NOT INDEXED", "sum("+sizes["attempt"]+")"),
		keys:       byEvent("idempotency", "INDEXED BY idempotency_by_event", "count(*)"),
	}
}

// removeEvents are the statements that remove a range of events and all rows that belong to them.
var removeEvents = [...]string{
	`DELETE FROM attempt WHERE event_id BETWEEN ? AND ?`,
	`DELETE FROM delivery WHERE event_id BETWEEN ? AND ?`,
	`DELETE FROM idempotency WHERE event_id BETWEEN ? AND ?`,
	`DELETE FROM event WHERE id BETWEEN ? AND ?`,
}

// Prune removes one batch of finished events: as many as take about q.Work of the writer's time.
func (s *Store) Prune(ctx context.Context, q engine.PruneQuery) (engine.Pruned, error) {
	none := engine.Pruned{Last: q.After}
	examined, err := s.examine(ctx, q)
	if err != nil {
		return none, fmt.Errorf("look for events to remove: %w", err)
	}
	if q.Work <= 0 {
		q.Work = pruneWork
	}
	runs, looked := s.planStep(q, examined)
	if len(runs) == 0 {
		return looked, nil
	}
	r := removal{}
	err = s.write(ctx, func(tx *tx) (err error) {
		r = removal{tx: tx, p: looked} // the writer may have to run this again
		began := time.Now()
		err = r.removeRuns(runs, 2*q.Work)
		r.p.Worked = time.Since(began)
		return err
	})
	if err != nil {
		return none, fmt.Errorf("remove events: %w", err)
	}
	s.pruneCost.observe(r.units, r.p.Worked)
	return r.p, nil
}

// examinedEvent is what Prune knows of an event.
type examinedEvent struct {
	id       engine.ID
	account  string
	bytes    byteCounts // what its removal subtracts from the account's stored bytes
	targets  int64
	rows     int64 // deliveries and attempts, about
	dead     bool
	finished bool
	last     time.Time // when it was received or last attempted
}

// examine reads the next events, oldest first, and how their deliveries stand.
func (s *Store) examine(ctx context.Context, q engine.PruneQuery) (list []examinedEvent, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	list = make([]examinedEvent, 0, pruneScan)
	before := int64(min(q.Before, engine.ID(s.watermark.Load())+1))
	account, queries, args := "", newPruneQueries(s.writer.rowSizes, q.Account != ""), []any{}
	if q.Account != "" {
		args = append(args, q.Account)
	}
	err = s.eachRow(ctx, queries.events, append(args, int64(q.After), before, pruneScan), func(rows *sql.Rows) error {
		var e examinedEvent
		var name sql.RawBytes
		if err := rows.Scan(&e.id, &name, &e.bytes[eventBytes], &e.targets); err != nil {
			return err
		}
		if string(name) != account { // most have the account of the one before
			account = string(name)
		}
		e.account, e.last, e.finished = account, e.id.Time(), e.targets == 0
		list = append(list, e)
		return nil
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	args = append(args, int64(list[0].id), int64(list[len(list)-1].id))
	return list, s.examineRows(ctx, queries, args, list)
}

// examineRows reads what belongs to the events in list, in the same order.
func (s *Store) examineRows(ctx context.Context, queries pruneQueries, args []any, list []examinedEvent) error {
	var deliveries, attempts, bytes, keys int64
	var dead, unfinished bool
	var last sql.NullInt64
	err := s.eachEvent(ctx, queries.deliveries, args, list, []any{&deliveries, &attempts, &dead, &unfinished, &last}, func(e *examinedEvent) {
		e.rows, e.dead, e.finished = deliveries+attempts, dead, deliveries >= e.targets && !unfinished
		if attempted := time.UnixMicro(last.Int64); last.Valid && attempted.After(e.last) {
			e.last = attempted
		}
	})
	if err == nil {
		err = s.eachEvent(ctx, queries.attempts, args, list, []any{&bytes}, func(e *examinedEvent) { e.bytes[deliveryBytes] = bytes })
	}
	if err == nil {
		err = s.eachEvent(ctx, queries.keys, args, list, []any{&keys}, func(e *examinedEvent) { e.bytes[eventBytes] += keys * engine.KeyBytes })
	}
	return err
}

// eachEvent calls each for every event in list for which a query returns a row; columns receive the row.
func (s *Store) eachEvent(ctx context.Context, query string, args []any, list []examinedEvent, columns []any, each func(*examinedEvent)) error {
	var id engine.ID
	columns = append([]any{&id}, columns...)
	return s.eachRow(ctx, query, args, func(rows *sql.Rows) error {
		if err := rows.Scan(columns...); err != nil {
			return err
		}
		for len(list) > 0 && list[0].id < id {
			list = list[1:]
		}
		if len(list) > 0 && list[0].id == id { // otherwise its event is gone
			each(&list[0])
		}
		return nil
	})
}

// eachRow calls each for every row of a query.
func (s *Store) eachRow(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// planStep selects the events that one step removes, in runs between whose first and last event no
// other stays, and reports how far the step comes.
func (s *Store) planStep(q engine.PruneQuery, examined []examinedEvent) (runs [][]examinedEvent, p engine.Pruned) {
	p = engine.Pruned{Last: q.After, More: len(examined) == pruneScan}
	affordable, cost, bytes := s.pruneCost.affordable(q.Work), int64(0), int64(0)
	begin := 0 // of the run that the next event would continue
	for i := range examined {
		e := &examined[i]
		switch {
		case !e.finished:
			p.Unfinished++
			begin = i + 1
		case !q.Remove(e.account, e.dead, e.last):
			begin = i + 1
		default:
			if cost += costOf(e); len(runs) > 0 && (cost > affordable || q.Bytes > 0 && bytes >= q.Bytes) {
				p.More = true
				return runs, p
			}
			if q.Account != "" { // events of others may lie between this account's
				begin = i
			}
			if begin == i {
				runs = append(runs, nil)
			}
			runs[len(runs)-1] = examined[begin : i+1]
			bytes += e.bytes.stored().Total()
		}
		p.Last = e.id
	}
	return runs, p
}

// removal is what one step of Prune does in the writer's transaction.
type removal struct {
	tx    *tx
	units int64 // of costOf
	p     engine.Pruned
}

// removeRuns removes runs of events, but ends early if that takes longer than most.
func (r *removal) removeRuns(runs [][]examinedEvent, most time.Duration) error {
	began := time.Now()
	for i, run := range runs {
		if i > 0 && time.Since(began) > most {
			done := runs[i-1]
			r.p.Last, r.p.More = done[len(done)-1].id, true
			break
		}
		if err := r.removeRun(run); err != nil {
			return err
		}
	}
	return nil
}

// removeRun removes the events of a run, except those that were requested to be retried since they
// were examined.
func (r *removal) removeRun(run []examinedEvent) error {
	var retried []engine.ID
	err := r.tx.w.stmts.unfinishedRows.query(func(row []driver.Value) error {
		retried = append(retried, engine.ID(row[0].(int64)))
		return nil
	}, int64(run[0].id), int64(run[len(run)-1].id))
	if err != nil {
		return err
	}
	slices.Sort(retried)
	for _, id := range slices.Compact(retried) {
		i, ok := slices.BinarySearchFunc(run, id, func(e examinedEvent, id engine.ID) int { return cmp.Compare(e.id, id) })
		if err := r.removeRange(run[:i]); err != nil {
			return err
		}
		if run = run[i:]; ok {
			r.p.Unfinished++
			run = run[1:]
		}
	}
	return r.removeRange(run)
}

// removeRange removes events with all rows that belong to them.
func (r *removal) removeRange(run []examinedEvent) error {
	if len(run) == 0 {
		return nil
	}
	for _, statement := range r.tx.w.stmts.removeEvents {
		if err := statement.exec(int64(run[0].id), int64(run[len(run)-1].id)); err != nil {
			return err
		}
	}
	for i := range run {
		e := &run[i]
		for kind, n := range e.bytes {
			r.tx.w.bytes.add(e.account, byteKind(kind), -n)
		}
		r.p.Bytes += e.bytes.stored().Total()
		r.units += costOf(e)
	}
	r.p.Events += len(run)
	return nil
}

// agedTable is a table of which rows are removed by their age alone.
type agedTable struct {
	name   string
	oldest string // lists ids below a given one, and the bytes of their rows, oldest first
}

// remove returns the statement that removes all rows up to an id.
func (table agedTable) remove() string { return "DELETE FROM " + table.name + " WHERE id <= ?" }

// removeAged removes one batch of the oldest rows with ids below before.
func (s *Store) removeAged(ctx context.Context, table agedTable, before engine.ID) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	n, total, last := 0, int64(0), int64(0)
	err = s.eachRow(ctx, table.oldest, []any{int64(before), agedRows + 1}, func(rows *sql.Rows) error {
		var id, bytes int64
		if err := rows.Scan(&id, &bytes); err != nil || more {
			return err
		}
		if total += bytes; n == agedRows || n > 0 && total > agedBytes {
			more = true
			return nil
		}
		n, last = n+1, id
		return nil
	})
	if err != nil || n == 0 {
		return false, err
	}
	return more, s.write(ctx, func(tx *tx) error {
		_, err := tx.countedExec(rowsOf(table.name, "id <= ?", last), table.remove(), last)
		return err
	})
}

// Compact moves pages from the end of the file into free pages, so that the file shrinks
// with the next checkpoint.
func (s *Store) Compact(ctx context.Context, keep int64) (more bool, err error) {
	u, err := s.pages(ctx)
	if err != nil || u.Free <= keep {
		return false, err
	}
	err = s.write(ctx, func(tx *tx) error {
		return tx.query(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", compactPages), nil, nil)
	})
	return err == nil, err
}

// OpenDeliveries counts pending and retrying deliveries by subscription.
func (s *Store) OpenDeliveries(ctx context.Context) (map[engine.ID]engine.BacklogCount, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	rows, err := s.readers.QueryContext(ctx, openQuery)
	if err != nil {
		return nil, fmt.Errorf("count open deliveries: %w", err)
	}
	defer rows.Close()
	open := map[engine.ID]engine.BacklogCount{}
	for rows.Next() {
		var id int64
		var o engine.BacklogCount
		if err := rows.Scan(&id, &o.Pending, &o.Failed); err != nil {
			return nil, err
		}
		if o != (engine.BacklogCount{}) {
			open[engine.ID(id)] = o
		}
	}
	return open, rows.Err()
}
