package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
)

// A delivery is listed from one of two sources: its row or, before it has one, the targets
// of its event. Events up to the watermark have rows for all their targets, so the second
// source spans only seconds.

const deliveryColumns = `d.event_id, d.subscription_id, e.account, e.type, e.key,
	d.state, d.attempts, d.next_at, d.last_at, d.status, d.error,
	e.sequences, iif(e.sequences IS NULL, NULL, e.targets)`

const deliveryQuery = `
	SELECT ` + deliveryColumns + ` FROM delivery d JOIN event e ON e.id = d.event_id
	WHERE d.event_id = ? AND d.subscription_id = ?`

// Delivery finds a delivery, with or without a row.
func (s *Store) Delivery(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, error) {
	var found *engine.Delivery
	err := s.snapshot(ctx, func(tx *sql.Tx) (err error) {
		found, err = scanDelivery(tx.QueryRowContext(ctx, deliveryQuery, int64(id.Event), int64(id.Subscription)))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		e, err := scanTargets(tx.QueryRowContext(ctx, targetsQuery+` WHERE id = ?`, int64(id.Event)))
		if errors.Is(err, sql.ErrNoRows) || err == nil && !slices.Contains(e.Targets, id.Subscription) {
			return nil
		}
		found = neverAttempted(e, id.Subscription)
		return err
	})
	if e, ok := errors.AsType[*unreadableError](err); ok && found != nil {
		s.unreadable.record(e)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("find delivery %s: %w", id, err)
	}
	if found == nil || account != "" && found.Account != account {
		return nil, engine.NotFound("delivery", id.String())
	}
	return found, nil
}

// Deliveries lists deliveries, newest event first, and those of one event by descending
// subscription id.
func (s *Store) Deliveries(ctx context.Context, q engine.DeliveryQuery) (list []*engine.Delivery, next engine.DeliveryID, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	// Loaded before the snapshot: the rows that the watermark promises must be in it.
	mark := engine.ID(s.watermark.Load())
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		list, next, err = s.deliveryRows(ctx, tx, q)
		if err != nil || q.State != 0 && q.State != engine.StatePending {
			return err
		}
		from := max(mark+1, q.Since)
		if q.Event != 0 {
			from = 0
		}
		// Those below the cursor belong to a later page.
		more, err := pendingWithoutRow(ctx, tx, q, max(from, next.Event))
		more = slices.DeleteFunc(more, func(d *engine.Delivery) bool { return compareDeliveries(d.ID, next) < 0 })
		if len(more) == 0 {
			return err
		}
		list = append(list, more...)
		slices.SortFunc(list, func(a, b *engine.Delivery) int { return compareDeliveries(b.ID, a.ID) })
		if q.Limit > 0 && len(list) > q.Limit {
			list = list[:q.Limit]
			next = list[len(list)-1].ID
		}
		return err
	})
	if err != nil {
		return nil, engine.DeliveryID{}, fmt.Errorf("list deliveries: %w", err)
	}
	return list, next, nil
}

// deliveryRows lists deliveries that have a row.
func (s *Store) deliveryRows(ctx context.Context, tx *sql.Tx, q engine.DeliveryQuery) (list []*engine.Delivery, next engine.DeliveryID, err error) {
	p := &page[*engine.Delivery]{store: s, limit: q.Limit, maxBytes: q.MaxBytes, scan: scanDelivery}
	if q.Event != 0 {
		query, args := rowsQuery(q)
		err = p.read(ctx, tx, query, args)
	} else {
		below, above := q.Until, q.Before.Event
		if q.Before.Subscription != 0 { // the page before may have ended amid the event
			above++
		}
		if above > 0 && (below == 0 || above < below) {
			below = above
		}
		next.Event, err = s.scan(ctx, tx, rowsSource(q), below, func() bool { return p.full }, func(lowest, below engine.ID) error {
			window := q
			window.Since, window.Until = max(q.Since, lowest), below
			query, args := rowsQuery(window)
			return p.read(ctx, tx, query, args)
		})
	}
	if p.full {
		next = p.list[len(p.list)-1].ID
	}
	return p.list, next, err
}

// snapshot runs read in a transaction, so that all its queries see the same state.
func (s *Store) snapshot(ctx context.Context, read func(*sql.Tx) error) error {
	tx, err := s.readers.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing was written
	return read(tx)
}

// compareDeliveries orders deliveries as cursors do.
func compareDeliveries(a, b engine.DeliveryID) int {
	if a.Event != b.Event {
		return int(min(1, max(-1, a.Event-b.Event)))
	}
	return int(min(1, max(-1, a.Subscription-b.Subscription)))
}

// rowsSource returns what rowsQuery scans. It names the index to use, since SQLite has no
// statistics here and would choose badly; each of the indexes returns the rows in the requested
// order, so that reading ends at the limit.
func rowsSource(q engine.DeliveryQuery) (src source) {
	src.column = "d.event_id"
	open := q.State != 0 && q.State != engine.StateSucceeded
	switch {
	case q.Event != 0:
		src.table = "delivery d NOT INDEXED"
		src.where.add("d.event_id = ?", int64(q.Event))
		src.where.addIf(q.Subscription != 0, "d.subscription_id = ?", int64(q.Subscription))
	case q.Subscription != 0 && open:
		src.table = "delivery d INDEXED BY delivery_open_by_subscription"
		src.where.add("d.subscription_id = ?", int64(q.Subscription))
	case q.Subscription != 0:
		src.table = "delivery d INDEXED BY delivery_by_subscription"
		src.where.add("d.subscription_id = ?", int64(q.Subscription))
	case open:
		src.table = "delivery d INDEXED BY delivery_open_by_state"
	default:
		// All of an account, or the succeeded ones, which are most: scan its events.
		src.table, src.column = "event e "+eventIndex(q), "e.id"
		src.where.addIf(q.Account != "", "e.account = ?", q.Account)
		src.where.addIf(q.EventType != "", "e.type = ?", q.EventType)
	}
	// The column must be qualified: the order is that of the table that is scanned.
	if src.column == "d.event_id" && open { // d.state <> 3 allows the partial indexes
		src.where.add("d.state = ? AND d.state <> 3", int64(q.State))
	}
	src.where.addIf(q.Since != 0, src.column+" >= ?", int64(q.Since))
	return src
}

// rowsQuery lists deliveries that have a row.
func rowsQuery(q engine.DeliveryQuery) (text string, args []any) {
	src := rowsSource(q)
	event, where := src.column, src.where
	join := " CROSS JOIN event e ON e.id = d.event_id"
	if event == "e.id" {
		join = " CROSS JOIN delivery d ON d.event_id = e.id"
	} else {
		where.addIf(q.Account != "", "e.account = ?", q.Account)
		where.addIf(q.EventType != "", "e.type = ?", q.EventType)
	}
	where.addIf(q.State != 0, "d.state = ?", int64(q.State))
	where.addIf(q.Until != 0, event+" < ?", int64(q.Until))
	where.addIf(q.Before.Event != 0, event+" <= ? AND ("+event+" < ? OR d.subscription_id < ?)",
		int64(q.Before.Event), int64(q.Before.Event), int64(q.Before.Subscription))
	return `SELECT ` + deliveryColumns + ` FROM ` + src.table + join + where.text() +
		` ORDER BY ` + event + ` DESC, d.subscription_id DESC`, where.args
}

func eventIndex(q engine.DeliveryQuery) string {
	switch {
	case q.Account != "" && q.EventType != "":
		return "INDEXED BY event_by_type"
	case q.Account != "":
		return "INDEXED BY event_by_account"
	}
	return "NOT INDEXED"
}

const targetsQuery = `SELECT id, account, type, key, targets, sequences, ` + deliveryRows + ` FROM event`

// pendingWithoutRow lists deliveries without a row, of the events with ids from from on.
func pendingWithoutRow(ctx context.Context, tx *sql.Tx, q engine.DeliveryQuery, from engine.ID) ([]*engine.Delivery, error) {
	text, args := pendingWithoutRowQuery(q, from)
	rows, err := tx.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*engine.Delivery
	for rows.Next() {
		e, err := scanTargets(rows)
		if err != nil {
			return nil, err
		}
		targets := slices.Clone(e.Targets) // the targets' order is that of the sequences
		slices.SortFunc(targets, func(a, b engine.ID) int { return int(min(1, max(-1, b-a))) })
		for _, subscription := range targets {
			d := neverAttempted(e, subscription)
			if q.Subscription != 0 && subscription != q.Subscription ||
				q.Before.Event != 0 && compareDeliveries(d.ID, q.Before) >= 0 {
				continue
			}
			list = append(list, d)
		}
		if q.Limit > 0 && len(list) > q.Limit { // one more shows that there is a next page
			break
		}
	}
	return list, rows.Err()
}

func pendingWithoutRowQuery(q engine.DeliveryQuery, from engine.ID) (text string, args []any) {
	where := conditions{}
	index := eventIndex(q)
	if q.Event != 0 {
		index = "NOT INDEXED"
		where.add("id = ?", int64(q.Event))
	}
	where.add("id >= ?", int64(max(from, q.Since)))
	where.addIf(q.Account != "", "account = ?", q.Account)
	where.addIf(q.EventType != "", "type = ?", q.EventType)
	where.addIf(q.Until != 0, "id < ?", int64(q.Until))
	where.addIf(q.Before.Event != 0, "id <= ?", int64(q.Before.Event))
	return targetsQuery + " " + index + where.text() + ` ORDER BY id DESC`, where.args
}

// scanTargets reads the event fields that a delivery shows; Targets are those without a
// row.
func scanTargets(row scanner) (*engine.Event, error) {
	e := &engine.Event{}
	var key, have *string
	var targets, sequences []byte
	if err := row.Scan(&e.ID, &e.Account, &e.Type, &key, &targets, &sequences, &have); err != nil {
		return nil, err
	}
	d := decoder{} // decoding errors are reported when the event is read
	var whole engine.Event
	whole.Targets, whole.Sequences = d.targets(targets, sequences)
	e.Key, e.Targets = columnText(key), without(whole.Targets, columnText(have))
	if whole.Sequences != nil {
		for _, id := range e.Targets {
			e.Sequences = append(e.Sequences, whole.Sequence(id))
		}
	}
	return e, nil
}

// neverAttempted returns a delivery as it is before its first outcome.
func neverAttempted(e *engine.Event, subscription engine.ID) *engine.Delivery {
	return &engine.Delivery{
		ID:      engine.DeliveryID{Event: e.ID, Subscription: subscription},
		Account: e.Account, EventType: e.Type, EventKey: e.Key,
		State: engine.StatePending, Sequence: e.Sequence(subscription),
	}
}

func scanDelivery(row scanner) (*engine.Delivery, error) {
	d := &engine.Delivery{}
	var key *string
	var next, last *int64
	var sequences, targets []byte
	err := row.Scan(&d.ID.Event, &d.ID.Subscription, &d.Account, &d.EventType, &key,
		&d.State, &d.Attempts, &next, &last, &d.Status, &d.Error, &sequences, &targets)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	decoded := decoder{table: "delivery", id: d.ID.String()}
	decoded.scanned(err)
	if d.State < engine.StatePending || d.State > engine.StateDropped {
		decoded.check("state", fmt.Errorf("%d is not a state", d.State))
		d.State, d.Error = engine.StateDead, "what is stored of this delivery can't be read"
	}
	if sequences != nil {
		var numbers engine.Event
		numbers.Targets, numbers.Sequences = (&decoder{}).targets(targets, sequences)
		d.Sequence = numbers.Sequence(d.ID.Subscription)
	}
	d.EventKey, d.NextAt, d.LastAt = columnText(key), columnTime(next), columnTime(last)
	return d, decoded.err()
}

// bodyColumn is the body that an attempt sent: its own or that of the attempt it refers to.
const bodyColumn = `
	CASE WHEN a.request_same IS NULL THEN a.request_body ELSE (
		SELECT b.request_body FROM attempt b
		WHERE b.event_id = a.event_id AND b.subscription_id = a.subscription_id AND b.n = a.request_same) END`

// attemptColumns are those that a list of attempts has.
const attemptColumns = `n, at, duration, status, error, phase, method, url, request_headers, request_plain,
	response_headers, truncated, script_hash, script_cpu, script_console, script_id, script_version, batch, resent, body_error, timed_out, not_stored`

const (
	attemptsQuery = `SELECT ` + attemptColumns + `, length(` + bodyColumn + `), length(response_body)
		FROM attempt a WHERE event_id = ? AND subscription_id = ? AND n < ? ORDER BY n DESC`
	attemptQuery = `SELECT ` + attemptColumns + `, ` + bodyColumn + `, response_body
		FROM attempt a WHERE event_id = ? AND subscription_id = ? AND n = ?`
)

// Attempts lists a delivery's attempts, newest first, without their bodies.
func (s *Store) Attempts(ctx context.Context, q engine.AttemptQuery) (list []*engine.Attempt, next int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	before := int64(q.Before)
	if before <= 0 {
		before = math.MaxInt64
	}
	p := &page[*engine.Attempt]{store: s, limit: q.Limit, maxBytes: q.MaxBytes, scan: func(row scanner) (*engine.Attempt, error) {
		var request, response *int
		a, err := scanAttempt(row, q.Delivery, &request, &response)
		if request != nil {
			a.Request.Size = *request
		}
		if response != nil {
			a.Response.Size = *response
		}
		return a, err
	}}
	if err := p.read(ctx, s.readers, attemptsQuery, []any{int64(q.Delivery.Event), int64(q.Delivery.Subscription), before}); err != nil {
		return nil, 0, fmt.Errorf("list attempts of %s: %w", q.Delivery, err)
	}
	if p.full {
		next = p.list[len(p.list)-1].Number
	}
	return p.list, next, nil
}

// Attempt returns an attempt with its bodies.
func (s *Store) Attempt(ctx context.Context, id engine.DeliveryID, number int) (*engine.Attempt, error) {
	rows, err := s.readers.QueryContext(ctx, attemptQuery, int64(id.Event), int64(id.Subscription), int64(number))
	if err != nil {
		return nil, fmt.Errorf("find attempt %d of %s: %w", number, id, err)
	}
	found, err := collect(s, rows, func(row scanner) (*engine.Attempt, error) {
		var request, response []byte
		a, err := scanAttempt(row, id, &request, &response)
		a.Request.Body, a.Response.Body = request, response
		return a, err
	})
	if err == nil && len(found) == 0 {
		return nil, &engine.Error{Code: engine.CodeNotFound, Message: fmt.Sprintf("the delivery %s has no attempt %d", id, number)}
	}
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// scanAttempt scans attemptColumns, and the bodies or their sizes.
func scanAttempt(row scanner, id engine.DeliveryID, request, response any) (*engine.Attempt, error) {
	a := &engine.Attempt{}
	var at, duration int64
	var plain, hash, bodyError *string
	var cpu, script, version, batch, resent, timedOut, notStored *int64
	var requestHeaders, responseHeaders, console []byte
	err := row.Scan(&a.Number, &at, &duration, &a.Response.Status, &a.Error, &a.Phase,
		&a.Request.Method, &a.Request.URL, &requestHeaders, &plain,
		&responseHeaders, &a.Response.Truncated, &hash, &cpu, &console, &script, &version, &batch, &resent, &bodyError, &timedOut, &notStored, request, response)
	d := decoder{table: "attempt", id: fmt.Sprintf("%s n %d", id, a.Number)}
	d.scanned(err)
	a.At, a.Duration = time.UnixMicro(at).UTC(), time.Duration(duration)*time.Microsecond
	a.Request.Plain, a.Script.Hash = engine.PayloadFormat(columnText(plain)), columnText(hash)
	if cpu != nil {
		a.Script.CPU = time.Duration(*cpu) * time.Microsecond
	}
	a.Resent, a.TimedOut, a.NotStored, a.Response.BodyError = resent != nil, timedOut != nil, notStored != nil, columnText(bodyError)
	if batch != nil {
		a.Batch = int(*batch)
	}
	if script != nil && version != nil {
		a.Script.Ref = engine.ScriptRef{Script: engine.ID(*script), Version: int(*version)}
	}
	a.Request.Headers, err = columnHeaders(requestHeaders)
	d.check("request_headers", err)
	a.Response.Headers, err = columnHeaders(responseHeaders)
	d.check("response_headers", err)
	a.Script.Console, err = columnStrings(console)
	d.check("script_console", err)
	if d.err() != nil {
		a.Error = strings.TrimPrefix(a.Error+"; what is stored of this attempt can't be read in full: "+strings.Join(d.columns, ", "), "; ")
	}
	return a, d.err()
}
