package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"switchhook/engine"
)

// statements are the prepared statements that run at least once for every event or step of Prune.
type statements struct {
	insertEvent *statement
	nextNumber  *statement
	findKey     *statement
	insertKey   *statement

	putSucceeded *statement
	putOther     *statement
	putUntried   *statement
	spill        *statement
	findBody     *statement
	putAttempt   *statement

	addBytes    *statement
	findAccount *statement

	unfinishedRows *statement
	removeEvents   [len(removeEvents)]*statement
}

func (p *preparer) statements() statements {
	var remove [len(removeEvents)]*statement
	for i, query := range removeEvents {
		remove[i] = p.prepare(query)
	}
	return statements{
		insertEvent: p.prepare(insertInto("INSERT", "event", eventColumns)),
		nextNumber: p.prepare(`
			INSERT INTO sequence (subscription_id, last) VALUES (?, 1)
			ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last`),
		findKey: p.prepare(`
			SELECT i.event_id, i.digest, length(e.targets) / 8
			FROM idempotency i LEFT JOIN event e ON e.id = i.event_id
			WHERE i.key_hash = ?`),
		insertKey: p.prepare(`
			INSERT INTO idempotency (key_hash, event_id, digest) VALUES (?, ?, ?)
			ON CONFLICT DO NOTHING RETURNING 1`),
		putSucceeded: p.prepare(putSucceeded),
		putOther:     p.prepare(putOther),
		putUntried:   p.prepare(putUntried),
		spill:        p.prepare(spill),
		findBody:     p.prepare(findBody),
		putAttempt:   p.prepare(putAttempt),
		addBytes:     p.prepare(addBytes),
		findAccount:  p.prepare(`SELECT account FROM event WHERE id = ?`),

		unfinishedRows: p.prepare(unfinishedRows),
		removeEvents:   remove,
	}
}

// Append stores events, all or none. If ctx ends before the writer takes them, nothing is
// stored.
func (s *Store) Append(ctx context.Context, events []engine.NewEvent) ([]engine.Appended, error) {
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	if err := s.damage.err(); err != nil {
		return nil, err
	}
	c := &call{events: events, results: make([]engine.Appended, len(events)), work: appendWork(events)}
	if err := s.queue.submit(ctx, c); err != nil {
		return nil, err
	}
	return c.results, nil
}

// append looks up every key of the call before it writes anything, so that a conflict
// leaves no trace.
func (w *writer) append(c *call) error {
	// Keys of earlier events of this call, which the table does not hold yet.
	var fresh map[engine.KeyHash]storedKey
	for i := range c.events {
		n := &c.events[i]
		result := engine.Appended{ID: n.Event.ID, Matched: len(n.Event.Targets)}
		for _, key := range n.Keys {
			k, ok := fresh[key]
			if !ok {
				var err error
				if k, ok, err = w.findKey(key); err != nil {
					return fmt.Errorf("look up a key: %w", err)
				}
			}
			if !ok {
				continue
			}
			if k.digest != n.Digest {
				return &engine.Error{
					Code: engine.CodeConflict, Field: fmt.Sprintf("events[%d]", i),
					Message: "an event with other content was stored before under the same id or idempotency key; use a new one",
				}
			}
			if !result.Repeated { // the first known key decides
				result = engine.Appended{ID: k.event, Matched: k.matched, Repeated: true}
			}
		}
		c.results[i] = result
		if len(c.events) > 1 {
			for _, key := range n.Keys {
				if fresh == nil {
					fresh = make(map[engine.KeyHash]storedKey)
				}
				if _, ok := fresh[key]; !ok {
					fresh[key] = storedKey{result.ID, n.Digest, result.Matched}
				}
			}
		}
	}
	for i := range c.events {
		if err := w.appendOne(&c.events[i], &c.results[i]); err != nil {
			return err
		}
	}
	return nil
}

// appendOne writes an event and its keys. New keys of a repeated event point to the first
// event from then on: the publisher states that they name the same one.
func (w *writer) appendOne(n *engine.NewEvent, result *engine.Appended) error {
	if e := n.Event; !result.Repeated {
		if err := w.assignSequences(n, result); err != nil {
			return fmt.Errorf("number the event: %w", err)
		}
		data := e.Data
		if data == nil {
			data = []byte{} // the column is NOT NULL
		}
		columns := [...]driver.Value{
			int64(e.ID), e.Account, e.Type, textColumn(e.Key), e.Time.UnixMilli(),
			targetsColumn(e.Targets), jsonMapColumn(e.Headers), data, sequencesColumn(result.Sequences), numberColumn(int64(e.Hops)),
		}
		if err := w.stmts.insertEvent.exec(columns[:]...); err != nil {
			return fmt.Errorf("insert the event: %w", err)
		}
		w.bytes.add(e.Account, eventBytes, rowBytes(columns[:])+engine.RowBytes*int64(len(e.Targets)))
		w.rows++
	}
	stored := func([]driver.Value) error {
		w.bytes.add(n.Event.Account, eventBytes, engine.KeyBytes)
		return nil
	}
	for _, keys := range [][]engine.KeyHash{n.Keys, n.Names} {
		for _, key := range keys {
			if err := w.stmts.insertKey.query(stored, key[:], int64(result.ID), n.Digest[:]); err != nil {
				return fmt.Errorf("insert the event's key: %w", err)
			}
		}
	}
	return nil
}

// assignSequences gives an event the next sequence number of each numbered target. The
// numbers belong to the transaction: a rollback leaves no gap.
func (w *writer) assignSequences(n *engine.NewEvent, result *engine.Appended) error {
	if n.Numbered == nil {
		return nil
	}
	result.Sequences = make([]int64, len(n.Event.Targets))
	for _, i := range n.Numbered {
		err := w.stmts.nextNumber.query(func(row []driver.Value) error {
			result.Sequences[i] = row[0].(int64)
			return nil
		}, int64(n.Event.Targets[i]))
		if err != nil {
			return err
		}
	}
	return nil
}

// storedKey is the event that an idempotency key points to.
type storedKey struct {
	event   engine.ID
	digest  engine.KeyHash
	matched int
}

func (w *writer) findKey(key engine.KeyHash) (k storedKey, ok bool, err error) {
	err = w.stmts.findKey.query(func(row []driver.Value) error {
		k.event = engine.ID(row[0].(int64))
		copy(k.digest[:], row[1].([]byte))
		matched, _ := row[2].(int64) // NULL if the event was removed
		k.matched, ok = int(matched), true
		return nil
	}, key[:])
	return k, ok, err
}
