package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// ownersOfRows are the tables whose rows are counted, with SQL for a row's account.
var ownersOfRows = map[string]string{
	"event": "account", "attempt": "(SELECT account FROM event WHERE id = event_id)", "audit": "account",
	"idempotency":  "(SELECT account FROM event WHERE id = event_id)",
	"subscription": "account", "script": "account", "script_version": "(SELECT account FROM script WHERE id = script_id)",
	"event_type": "''", "account": "name", "api_key": "account", "replay": "account", "request": "account",
}

// sumRows adds up what is stored for each account, from the values of all rows.
func sumRows(t *testing.T, db *sql.DB) map[string]int64 {
	t.Helper()
	sums := map[string]int64{}
	for table, owner := range ownersOfRows {
		rows, err := db.Query("SELECT " + owner + ", * FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
		columns, _ := rows.Columns()
		for rows.Next() {
			values, pointers := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				pointers[i] = &values[i]
			}
			if err := rows.Scan(pointers...); err != nil {
				t.Fatal(err)
			}
			n := engine.RowBytes
			for i, v := range values[1:] {
				switch v := v.(type) {
				case string:
					n += int64(len(v))
				case []byte:
					n += int64(len(v))
				}
				if table == "event" && columns[i+1] == "targets" {
					n += engine.RowBytes * int64(len(v.([]byte))/8)
				}
			}
			sums[fmt.Sprint(values[0])] += n
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return sums
}

func checkStoredBytes(t *testing.T, s *Store, when string) {
	t.Helper()
	want := sumRows(t, s.readers)
	for _, account := range []string{"", "acme", "rival"} {
		if got, err := s.StoredBytes(t.Context(), account); err != nil || got.Total() != want[account] {
			t.Fatalf("%s: %q stores %d bytes, counted are %+v (%d), %v", when, account, want[account], got, got.Total(), err)
		}
	}
}

// randomWrites makes random changes of every kind.
type randomWrites struct {
	t       *testing.T
	s       *Store
	rand    *rand.Rand
	last    engine.ID
	events  []*engine.Event
	subs    []*engine.Subscription
	scripts []*engine.Script
	keys    []*engine.Key
	types   map[string]int64
	replays []*engine.Replay
	numbers map[engine.ID]int // versions of a script
}

func (r *randomWrites) id() engine.ID {
	r.last++
	return snowflake.FirstAt(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)) + r.last
}

func (r *randomWrites) text() string {
	return strings.Repeat([]string{"x", "ü", "€"}[r.rand.IntN(3)], r.rand.IntN(300))
}

func (r *randomWrites) account() string { return []string{"acme", "rival"}[r.rand.IntN(2)] }

func (r *randomWrites) publish() error {
	var batch []engine.NewEvent
	account := r.account()
	for range 1 + r.rand.IntN(3) {
		e := &engine.Event{ID: r.id(), Account: account, Type: "a.b", Key: r.text(), Time: time.Now(), Headers: map[string]string{"h": r.text()}, Data: []byte(r.text()), Targets: []engine.ID{1, 2, 3}[:r.rand.IntN(4)]}
		n := engine.NewEvent{Event: e}
		if r.rand.IntN(2) == 0 {
			n.Keys = []engine.KeyHash{engine.EventKeyHash(account, fmt.Sprint(r.rand.IntN(30)))}
			n.Names = []engine.KeyHash{engine.AnySourceKeyHash(account, fmt.Sprint(r.rand.IntN(30)))}
			n.Digest[0] = byte(r.rand.IntN(20) / 19) // seldom a conflict
		}
		batch = append(batch, n)
	}
	results, err := r.s.Append(r.t.Context(), batch)
	if engine.ErrorCode(err) == engine.CodeConflict {
		return nil
	}
	for i, result := range results {
		if !result.Repeated {
			r.events = append(r.events, batch[i].Event)
		}
	}
	return err
}

func (r *randomWrites) attempt() error {
	if len(r.events) == 0 {
		return nil
	}
	e := r.events[r.rand.IntN(len(r.events))]
	if _, err := r.s.Event(r.t.Context(), "", e.ID); err != nil { // removed
		return nil
	}
	a := &engine.Attempt{
		Number: 1 + r.rand.IntN(6), Error: r.text(), Phase: "http",
		Request:  engine.AttemptRequest{Method: "POST", URL: "https://" + strings.Repeat("u", r.rand.IntN(500)), Headers: []engine.Header{{Name: "a", Value: r.text()}}, Body: []byte(fmt.Sprint(r.rand.IntN(3)))},
		Response: engine.AttemptResponse{Status: 500, Body: []byte(r.text()), Truncated: true}, Script: engine.AttemptScript{Console: []string{r.text()}},
	}
	o := &engine.Outcome{ID: engine.DeliveryID{Event: e.ID, Subscription: engine.ID(1 + r.rand.IntN(4))}, State: []engine.State{engine.StateSucceeded, engine.StateDead}[r.rand.IntN(2)], Attempts: a.Number, Attempt: a}
	if r.rand.IntN(2) == 0 {
		o.Limit = engine.StorageLimit{Account: e.Account, Bytes: int64(r.rand.IntN(2))}
	}
	done := make(chan error, 1)
	r.s.Record(o, func(err error) { done <- err })
	return <-done
}

func (r *randomWrites) subscription() error {
	ctx := r.t.Context()
	if len(r.subs) > 0 && r.rand.IntN(2) == 0 {
		i := r.rand.IntN(len(r.subs))
		u := r.subs[i]
		if r.rand.IntN(3) == 0 {
			r.subs = append(r.subs[:i], r.subs[i+1:]...)
			return r.s.DeleteSubscription(r.audited(u.Account), u.ID)
		}
		u.Version++
		u.Description, u.Headers, u.Client = r.text(), map[string]string{"x": r.text()}, map[string]any{"y": r.text()}
		return r.s.PutSubscription(ctx, u)
	}
	u := &engine.Subscription{ID: r.id(), Account: r.account(), Version: 1, Filter: r.text(), Transform: r.text(), Secret: r.text()}
	r.subs = append(r.subs, u)
	return r.s.PutSubscription(r.audited(u.Account), u)
}

func (r *randomWrites) script() error {
	if len(r.scripts) > 0 && r.rand.IntN(4) > 0 {
		i := r.rand.IntN(len(r.scripts))
		c := r.scripts[i]
		switch r.rand.IntN(4) {
		case 0:
			r.scripts = append(r.scripts[:i], r.scripts[i+1:]...)
			return r.s.DeleteScript(r.audited(c.Account), c.ID)
		case 1:
			r.numbers[c.ID]++
			return r.s.PutScriptVersion(r.audited(c.Account), &engine.ScriptVersion{Script: c.ID, Number: r.numbers[c.ID], Source: r.text(), Note: r.text(), Cases: []byte(r.text())})
		}
		c.Version++
		c.Description, c.Cases = r.text(), []byte(r.text())
		return r.s.PutScript(r.t.Context(), c)
	}
	c := &engine.Script{ID: r.id(), Account: r.account(), Version: 1, Name: fmt.Sprint(r.last), Cases: []byte(r.text())}
	r.scripts = append(r.scripts, c)
	return r.s.PutScript(r.audited(c.Account), c)
}

func (r *randomWrites) key() error {
	if len(r.keys) > 0 && r.rand.IntN(2) == 0 {
		i := r.rand.IntN(len(r.keys))
		k := r.keys[i]
		if r.rand.IntN(2) == 0 {
			r.keys = append(r.keys[:i], r.keys[i+1:]...)
			return r.s.DeleteKey(r.t.Context(), k.ID)
		}
		k.Name, k.OldUntil = r.text(), time.Now()
		return r.s.ReplaceKey(r.t.Context(), k)
	}
	k := &engine.Key{ID: r.id(), Account: r.account(), Name: r.text(), Scopes: []engine.Scope{"publish"}}
	k.Hash[0], k.Hash[1], k.Hash[2] = byte(k.ID), byte(k.ID>>8), byte(k.ID>>16)
	r.keys = append(r.keys, k)
	return r.s.PutKey(r.audited(k.Account), k)
}

func (r *randomWrites) eventType() error {
	name := fmt.Sprint("t", r.rand.IntN(4))
	if r.types[name] > 0 && r.rand.IntN(2) == 0 {
		delete(r.types, name)
		return r.s.DeleteEventType(r.audited(""), name)
	}
	r.types[name]++
	return r.s.PutEventType(r.audited(""), &engine.EventType{Name: name, Version: r.types[name], Description: r.text(), Samples: [][]byte{[]byte(`"` + r.text() + `"`)}})
}

func (r *randomWrites) replay() error {
	if len(r.replays) > 0 && r.rand.IntN(2) == 0 {
		p := r.replays[r.rand.IntN(len(r.replays))]
		p.Filter = r.text()
		return r.s.PutReplay(r.t.Context(), p)
	}
	p := &engine.Replay{ID: r.id(), Account: r.account(), Filter: r.text()}
	r.replays = append(r.replays, p)
	return r.s.PutReplay(r.t.Context(), p)
}

func (r *randomWrites) request() error {
	q := &engine.IdempotentRequest{ID: r.id(), Account: r.account(), Answer: []byte(r.text())}
	q.Key = engine.RequestKeyHash(q.Account, fmt.Sprint(r.rand.IntN(20)))
	stored, err := r.s.BeginRequest(r.t.Context(), q, 5)
	if stored != nil || err != nil {
		return err
	}
	if r.rand.IntN(3) == 0 {
		return r.s.ForgetRequest(r.t.Context(), q.ID)
	}
	return r.s.FinishRequest(r.t.Context(), q)
}

// refused makes changes that fail after they have written something.
func (r *randomWrites) refused() error {
	u := &engine.Subscription{ID: r.id(), Account: r.account(), Version: 1, Filter: r.text()}
	ctx := engine.WithStorageLimit(r.audited(u.Account), engine.StorageLimit{Account: u.Account, Bytes: 1})
	if err := r.s.PutSubscription(ctx, u); engine.ErrorCode(err) != engine.CodeStorageFull {
		return fmt.Errorf("a change beyond the quota: %v", err)
	}
	return nil
}

func (r *randomWrites) prune() error {
	before := r.id() - engine.ID(r.rand.IntN(200))
	r.s.SetWatermark(0, r.last+before)
	_, err := r.s.Prune(r.t.Context(), engine.PruneQuery{Before: before, Remove: func(string, bool, time.Time) bool { return true }})
	if err == nil {
		_, err = r.s.PruneAudit(r.t.Context(), before-100)
	}
	if err == nil {
		_, err = r.s.PruneRequests(r.t.Context(), before-100)
	}
	return err
}

func (r *randomWrites) audited(account string) context.Context {
	return engine.WithEntry(r.t.Context(), &engine.AuditEntry{ID: r.id(), At: time.Now(), Account: account, Subject: "s", Changed: []string{"x"}, After: []byte(r.text())})
}

// TestStoredBytes_MatchRows compares what is counted with what is stored, after random changes.
func TestStoredBytes_MatchRows(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	seed := uint64(time.Now().UnixNano())
	r := &randomWrites{t: t, s: s, rand: rand.New(rand.NewPCG(seed, 0)), types: map[string]int64{}, numbers: map[engine.ID]int{}}
	steps := []func() error{r.publish, r.publish, r.attempt, r.attempt, r.attempt, r.subscription, r.script, r.script, r.key, r.eventType, r.replay, r.request, r.refused, r.prune}
	for i := range 600 {
		if err := steps[r.rand.IntN(len(steps))](); err != nil {
			t.Fatalf("seed %d, step %d: %v", seed, i, err)
		}
		if i%20 == 0 {
			checkStoredBytes(t, s, fmt.Sprintf("seed %d, step %d", seed, i))
		}
	}
	s.totals.Purge()
	checkStoredBytes(t, s, fmt.Sprintf("seed %d, from disk", seed))
	before := sumRows(t, s.readers)
	if err := s.write(t.Context(), func(tx *tx) error {
		_, err := tx.exec("UPDATE meta SET value = 0 WHERE name = 'bytes_counted'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := recountBytes(s.path); err != nil {
		t.Fatal(err)
	}
	s.totals.Purge()
	checkStoredBytes(t, s, fmt.Sprintf("seed %d, counted anew", seed))
	if before["acme"] == 0 || before["rival"] == 0 {
		t.Errorf("nothing is stored: %v", before)
	}
}

// TestStoredBytes_ConcurrentWrites: requests of one commit, some of which fail, are counted each.
func TestStoredBytes_ConcurrentWrites(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			u := &engine.Subscription{ID: engine.ID(1 + i/2), Account: "acme", Version: 1, Filter: strings.Repeat("f", i)} // of two with one id one is stale
			if err := s.PutSubscription(t.Context(), u); err != nil && engine.ErrorCode(err) != engine.CodeStale {
				t.Error(err)
			}
		})
		all.Go(func() {
			e := newEvent(i + 1)
			if _, err := s.Append(t.Context(), []engine.NewEvent{e}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	checkStoredBytes(t, s, "after concurrent writes")
}
