package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"switchhook/engine"
)

// The row of a delivery that did not succeed has the account, by which
// delivery_open_by_state lists it. Most deliveries succeed, and those skip the lookup.
const (
	putSucceeded = `
		INSERT INTO delivery (event_id, subscription_id, state, attempts, next_at, last_at, status, error)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)` + replaceDelivery + `,
		last_at = excluded.last_at, status = excluded.status, error = excluded.error`

	putOther = `
		INSERT INTO delivery (event_id, subscription_id, state, attempts, next_at, last_at, status, error, account)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, (SELECT account FROM event WHERE id = ?1))` + replaceDelivery + `,
		last_at = excluded.last_at, status = excluded.status, error = excluded.error, account = excluded.account`

	// Without an attempt, the row keeps the values of the last one; also the error, unless
	// there is a newer one. The event may have been removed since the delivery was read:
	// then no row is written or returned.
	putUntried = `
		INSERT INTO delivery (event_id, subscription_id, state, attempts, next_at, status, error, renewed_at, account)
		SELECT ?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, account FROM event WHERE id = ?1` + replaceDelivery + `,
		error = iif(excluded.error = '', error, excluded.error),
		renewed_at = ifnull(excluded.renewed_at, renewed_at), account = excluded.account
		RETURNING 1`

	replaceDelivery = `
		ON CONFLICT DO UPDATE SET state = excluded.state, attempts = excluded.attempts, next_at = excluded.next_at`

	// Spilling a delivery writes a row with its state only. Its first outcome may have been
	// recorded before, and must not be overwritten.
	spill = `
		INSERT INTO delivery (event_id, subscription_id, state, attempts, status, error, account)
		VALUES (?1, ?2, ?3, 0, 0, '', (SELECT account FROM event WHERE id = ?1))
		ON CONFLICT DO NOTHING`

	findBody = `
		SELECT n FROM attempt
		WHERE event_id = ? AND subscription_id = ? AND n < ? AND request_body = ?
		ORDER BY n LIMIT 1`

	putAttempt = `
		INSERT INTO attempt (event_id, subscription_id, n, at, duration, status, error, phase,
			method, url, request_headers, request_plain, request_same, request_body,
			response_headers, response_body, truncated, script_hash, script_cpu, script_console, script_id, script_version, batch, resent, body_error, timed_out, not_stored)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// Record queues an outcome for the next commit. done may be nil. After Close, done is
// called by Record's own goroutine before Record returns.
func (s *Store) Record(o *engine.Outcome, done func(error)) {
	if err := s.queue.push(context.Background(), request{outcome: outcome{o, done}}); err != nil && done != nil {
		done(err)
	}
}

// record writes a delivery's row and its attempt.
func (w *writer) record(o *engine.Outcome) error {
	event, subscription := int64(o.ID.Event), int64(o.ID.Subscription)
	o.Position = engine.PositionOf(o.ID.Event)
	next := driver.Value(nil)
	if o.State == engine.StateRetrying {
		next = timeColumn(o.NextAt)
	}
	var err error
	switch a := o.Attempt; {
	case a != nil:
		put := w.stmts.putOther
		if o.State == engine.StateSucceeded {
			put = w.stmts.putSucceeded
		}
		err = put.exec(event, subscription, int64(o.State), int64(o.Attempts), next,
			timeColumn(a.At), int64(a.Response.Status), o.Error)
	case o.State == engine.StatePending && o.Attempts == 0 && o.RenewedAt.IsZero():
		err = w.stmts.spill.exec(event, subscription, int64(o.State))
	default:
		stored := false
		err = w.stmts.putUntried.query(func([]driver.Value) error {
			stored = true
			return nil
		}, event, subscription, int64(o.State), int64(o.Attempts), next, o.Error, timeColumn(o.RenewedAt))
		if err == nil && !stored && !o.RenewedAt.IsZero() { // a caller waits for it
			return engine.NotFound("event", o.ID.Event.Format(engine.EventPrefix))
		}
	}
	if err != nil {
		return fmt.Errorf("write delivery %s: %w", o.ID, err)
	}
	w.rows++
	if o.Attempt == nil {
		return nil
	}
	if err := w.recordAttempt(event, subscription, o); err != nil {
		return fmt.Errorf("write attempt %d of delivery %s: %w", o.Attempt.Number, o.ID, err)
	}
	w.rows++
	return nil
}

func (w *writer) recordAttempt(event, subscription int64, o *engine.Outcome) error {
	a, limit := o.Attempt, o.Limit
	if limit.Account == "" {
		err := w.stmts.findAccount.query(func(row []driver.Value) error {
			limit.Account = row[0].(string)
			return nil
		}, event)
		if err != nil {
			return err
		}
	}
	body, same := driver.Value(nil), driver.Value(nil)
	if a.Request.Plain == "" && a.Request.Body != nil {
		body = a.Request.Body
		if a.Number > 1 {
			// A retry mostly sends the same body as the attempt before it: store that once.
			err := w.stmts.findBody.query(func(row []driver.Value) error {
				body, same = nil, row[0]
				return nil
			}, event, subscription, int64(a.Number), a.Request.Body)
			if err != nil {
				return err
			}
		}
	}
	columns := attemptValues(event, subscription, a, body, same)
	if limit.Bytes > 0 {
		stored, err := w.storedBytes(limit.Account)
		if err != nil {
			return err
		}
		if stored+rowBytes(columns) > limit.Bytes {
			columns = attemptValues(event, subscription, bareAttempt(a), nil, nil)
			outdated := rowsOf("attempt", "event_id = ? AND subscription_id = ? AND n <= ? AND not_stored = 1", event, subscription, int64(a.Number-engine.BareAttempts))
			if _, err := (&tx{w}).countedExec(outdated, "DELETE FROM attempt WHERE "+outdated.where, outdated.args...); err != nil {
				return err
			}
		}
	}
	err := w.stmts.putAttempt.exec(columns...)
	if isUnique(err) { // the same attempt was made twice: the newer one counts
		again := rowsOf("attempt", "event_id = ? AND subscription_id = ? AND n = ?", event, subscription, int64(a.Number))
		if _, err = (&tx{w}).countedExec(again, "DELETE FROM attempt WHERE "+again.where, again.args...); err == nil {
			err = w.stmts.putAttempt.exec(columns...)
		}
	}
	if err != nil {
		return err
	}
	if limit.Account != "" { // its event is stored
		w.bytes.add(limit.Account, deliveryBytes, rowBytes(columns))
	}
	return nil
}

// bareURL is the number of bytes of its URL that a bare attempt keeps.
const bareURL = 256

// bareAttempt returns what is stored of an attempt of an account that has used up its quota of bytes.
func bareAttempt(a *engine.Attempt) *engine.Attempt {
	bare := *a
	bare.Request.Headers, bare.Response.Headers, bare.Script.Console = nil, nil, nil
	bare.Request.Body, bare.Response.Body, bare.NotStored = nil, nil, true
	bare.Request.URL = a.Request.URL[:min(len(a.Request.URL), bareURL)]
	return &bare
}

// attemptValues returns the columns of an attempt; body and same are what is stored of its body.
func attemptValues(event, subscription int64, a *engine.Attempt, body, same driver.Value) []driver.Value {
	cpu := driver.Value(nil)
	if a.Script.CPU != 0 {
		cpu = a.Script.CPU.Microseconds()
	}
	return []driver.Value{
		event, subscription, int64(a.Number),
		a.At.UnixMicro(), a.Duration.Microseconds(), int64(a.Response.Status), a.Error, a.Phase,
		a.Request.Method, a.Request.URL, headersColumn(a.Request.Headers), textColumn(string(a.Request.Plain)), same, body,
		headersColumn(a.Response.Headers), bytesColumn(a.Response.Body), a.Response.Truncated,
		textColumn(a.Script.Hash), cpu, stringsColumn(a.Script.Console), numberColumn(int64(a.Script.Ref.Script)), numberColumn(int64(a.Script.Ref.Version)), numberColumn(int64(a.Batch)),
		flagColumn(a.Resent), textColumn(a.Response.BodyError), flagColumn(a.TimedOut), flagColumn(a.NotStored),
	}
}
