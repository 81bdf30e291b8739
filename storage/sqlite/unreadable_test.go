package sqlite

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/storage/vault"
)

// TestUnreadableRow_LeavesTheRest spoils one column of one row at a time. The lists must
// still have all rows, and the log must name table, id and column.
func TestUnreadableRow_LeavesTheRest(t *testing.T) {
	t.Parallel()
	key := vault.NewKey()
	subscriptions := func(ctx context.Context, s *Store) (int, [][]string, error) {
		list, err := s.Subscriptions(ctx)
		return listed(list, err, func(u *engine.Subscription) []string { return u.Unreadable })
	}
	events := func(ctx context.Context, s *Store) (int, [][]string, error) {
		list, _, err := s.Events(ctx, engine.EventQuery{})
		return listed(list, err, func(e *engine.Event) []string { return e.Unreadable })
	}
	for _, c := range []struct {
		table, column, spoil string
		id                   string
		list                 func(context.Context, *Store) (int, [][]string, error)
	}{
		{"subscription", "events", `UPDATE subscription SET events = '["a' WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"subscription", "headers", `UPDATE subscription SET headers = 'sealed:1:x:y' WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"subscription", "secret", `UPDATE subscription SET secret = substr(secret, 1, length(secret) - 4) || 'AAAA' WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"subscription", "secret", `UPDATE subscription SET secret = 'whsec_plain' WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"subscription", "settings", `UPDATE subscription SET settings = '{"policy":7}' WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"subscription", "metadata", `UPDATE subscription SET metadata = '' WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"subscription", "active", `UPDATE subscription SET active = 77 WHERE id = 1`, engine.ID(1).Format(engine.SubscriptionPrefix), subscriptions},
		{"event", "headers", `UPDATE event SET headers = '{' WHERE id = 1`, engine.ID(1).Format(engine.EventPrefix), events},
		{"event", "targets", `UPDATE event SET targets = x'0000000000000001ff' WHERE id = 1`, engine.ID(1).Format(engine.EventPrefix), events},
		{"event", "sequences", `UPDATE event SET sequences = x'01' WHERE id = 1`, engine.ID(1).Format(engine.EventPrefix), events},
		{"event_type", "samples", `UPDATE event_type SET samples = '[7]' WHERE name = 'a'`, "a", func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, err := s.EventTypes(ctx)
			return listed(list, err, func(e *engine.EventType) []string { return e.Unreadable })
		}},
		{"event_type", "schema", `UPDATE event_type SET schema = x'7b' WHERE name = 'a'`, "a", func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, err := s.EventTypes(ctx)
			return listed(list, err, func(e *engine.EventType) []string { return e.Unreadable })
		}},
		{"account", "settings", `UPDATE account SET settings = '[]' WHERE name = 'a'`, "a", func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, err := s.Accounts(ctx)
			return listed(list, err, func(a *engine.Account) []string { return a.Unreadable })
		}},
		{"api_key", "scopes", `UPDATE api_key SET scopes = '{}' WHERE id = 1`, engine.ID(1).Format(engine.KeyPrefix), func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, err := s.Keys(ctx)
			return listed(list, err, func(k *engine.Key) []string {
				if k.ID == 1 && (k.Admin || len(k.Scopes) > 0) {
					t.Errorf("the key may do %v", k.Scopes)
				}
				return nil
			})
		}},
		{"replay", "job", `UPDATE replay SET job = '' WHERE id = 1`, engine.ID(1).Format(engine.ReplayPrefix), func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, _, err := s.Replays(ctx, engine.ReplayQuery{})
			return listed(list, err, func(r *engine.Replay) []string { return r.Unreadable })
		}},
		{"delivery", "state", `UPDATE delivery SET state = 99 WHERE event_id = 1`, engine.DeliveryID{Event: 1, Subscription: 1}.String(), func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, _, err := s.Deliveries(ctx, engine.DeliveryQuery{Subscription: 1})
			return listed(list, err, func(d *engine.Delivery) []string { _ = d.State.String(); return nil })
		}},
		{"attempt", "request_headers", `UPDATE attempt SET request_headers = x'ff' WHERE event_id = 1 AND n = 1`, engine.DeliveryID{Event: 1, Subscription: 1}.String() + " n 1", func(ctx context.Context, s *Store) (int, [][]string, error) {
			list, _, err := s.Attempts(ctx, engine.AttemptQuery{Delivery: engine.DeliveryID{Event: 1, Subscription: 1}})
			return listed(list, err, func(a *engine.Attempt) []string {
				if a.Number == 1 && !strings.Contains(a.Error, "request_headers") {
					t.Errorf("the attempt says %q", a.Error)
				}
				return nil
			})
		}},
	} {
		t.Run(c.table+"."+c.column, func(t *testing.T) {
			ctx := t.Context()
			log := &lockedBuffer{}
			path := filepath.Join(t.TempDir(), "test.db")
			s := openSealed(t, path, key)
			fillTwo(t, s)
			s.unreadable.log = slog.New(slog.NewTextHandler(log, nil))
			if err := s.write(ctx, func(tx *tx) error { _, err := tx.exec(c.spoil); return err }); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				n, unreadable, err := c.list(ctx, s)
				if err != nil || n != 2 {
					t.Fatalf("%d are listed, %v", n, err)
				}
				if len(unreadable) > 0 && !slices.Contains(unreadable[0], c.column) {
					t.Errorf("unreadable are %v", unreadable)
				}
			}
			text := log.String()
			if n := strings.Count(text, "level=ERROR"); n != 1 || s.Unreadable() != 1 {
				t.Errorf("%d rows are logged, %d counted:\n%s", n, s.Unreadable(), text)
			}
			for _, want := range []string{"table=" + c.table, "columns=", c.column, c.id} {
				if !strings.Contains(text, want) {
					t.Errorf("the log does not name %q:\n%s", want, text)
				}
			}
			if c.table == "event" {
				if c.column != "sequences" && c.column != "targets" {
					if list, err := s.Unfinished(ctx, 0, 0, 0); err != nil || len(list) != 2 {
						t.Errorf("unfinished are %v, %v", list, err)
					}
				}
				_, err := s.Event(ctx, "", 1)
				if engine.ErrorCode(err) != engine.CodeUnreadable || !strings.Contains(err.Error(), "column "+c.column) || !strings.Contains(err.Error(), c.id) {
					t.Errorf("error is %v", err)
				}
			}
		})
	}
}

// listed returns the number of items, and the unreadable columns of those that have any.
func listed[T any](list []T, err error, unreadable func(T) []string) (int, [][]string, error) {
	var found [][]string
	for _, item := range list {
		if columns := unreadable(item); columns != nil {
			found = append(found, columns)
		}
	}
	return len(list), found, err
}

// fillTwo stores two of everything.
func fillTwo(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for id := engine.ID(1); id <= 2; id++ {
		name := string('a' + rune(id-1))
		must(s.PutSubscription(ctx, secretive(int(id), 1)))
		must(s.PutEventType(ctx, &engine.EventType{Name: name, Samples: [][]byte{[]byte("1")}, Version: 1}))
		must(s.PutAccount(ctx, &engine.Account{Name: name, Version: 1}))
		must(s.PutKey(ctx, &engine.Key{ID: id, Admin: true, Hash: [32]byte{byte(id)}}))
		must(s.PutReplay(ctx, &engine.Replay{ID: id, Status: engine.ReplayRunning}))
		n := newEvent(int(id), 1, 2)
		n.Event.Headers = map[string]string{"a": "b"}
		_, err := s.Append(ctx, []engine.NewEvent{n})
		must(err)
		for number := 1; number <= 2; number++ {
			o := succeeded(id, 1)
			o.Attempts, o.Attempt.Number = number, number
			done := make(chan error, 1)
			s.Record(o, func(err error) { done <- err })
			must(<-done)
		}
	}
}
