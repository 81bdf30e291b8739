package storetest

import (
	"math"
	"strings"
	"time"

	"switchhook/engine"
)

// hostileTexts are different texts that a store might confuse or change.
var hostileTexts = []string{
	"", " ", "a", "A", "ä", "a\u0308", "a%", "a_", "a*", "a?", "[a]", "%", "_", "*", `\`, `'`, `"`, "--", "a\x00", "a\x00b", "\x00", "\x00a",
	"a\xff", "\xff\xfe", "\xed\xa0\x80", "\ufffd", "\ufeffa", "a\n", "a\r\n", "NULL", "0", "00", "1e3", "1000", "9223372036854775808",
	"' OR 1=1 --", `{"a":1}`, "sealed:1:0:x", "👩‍👩‍👧", "\u202ea", strings.Repeat("x", 70_000), strings.Repeat("x", 70_001),
}

var hostile = []check{
	{"hostile: texts match exactly", func(t *suite) {
		for i, text := range hostileTexts {
			e := event(engine.ID(i + 1))
			e.Account, e.Type, e.Key = text, "type "+text, text
			key := engine.EventKeyHash(text, text)
			_, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: e, Keys: []engine.KeyHash{key}}})
			t.must(err)
			t.record(failed(id(e, engine.ID(i+1)), 1, base))
		}
		for i, text := range hostileTexts {
			if text == "" { // no account: all accounts
				continue
			}
			list, _, err := t.s.Events(t.ctx(), engine.EventQuery{Account: text, Type: "type " + text})
			t.must(err)
			if len(list) != 1 || list[0].Account != text || list[0].Key != text {
				t.Errorf("%.40q: %d events", text, len(list))
			}
			if n := len(t.list(engine.DeliveryQuery{Account: text})); n != 1 {
				t.Errorf("%.40q: %d deliveries", text, n)
			}
			if n := len(t.list(engine.DeliveryQuery{EventType: "type " + text, State: engine.StateRetrying})); n != 1 {
				t.Errorf("%.40q: %d deliveries of the type", text, n)
			}
			found, err := t.s.EventByKey(t.ctx(), engine.EventKeyHash(text, text))
			t.must(err)
			e, err := t.s.Event(t.ctx(), text, found)
			t.must(err)
			t.equal("target", e.Targets, []engine.ID{engine.ID(i + 1)})
		}
	}},
	{"hostile: names stay distinct", func(t *suite) {
		for _, text := range hostileTexts {
			c := script()
			c.Name, c.Account, c.Description = text, text, text
			t.must(t.s.PutScript(t.ctx(), c))
			same := script()
			same.Name, same.Account = text, text
			t.code(t.s.PutScript(t.ctx(), same), engine.CodeConflict)
			t.must(t.s.PutEventType(t.ctx(), &engine.EventType{Name: text, Description: text, Version: 1}))
			t.must(t.s.PutAccount(t.ctx(), &engine.Account{Name: text, Version: 1}))
			u := subscription()
			u.Account, u.TargetURL, u.Secret, u.Filter, u.Description = text, text, text, text, text
			t.must(t.s.PutSubscription(t.ctx(), u))
			secret, err := t.s.Secret(t.ctx(), "name "+text, []byte(text))
			t.must(err)
			t.equal("secret", string(secret), text)
		}
		t.s = t.reopen()
		count := func(what string, names []string) {
			t.Helper()
			seen := map[string]int{}
			for _, name := range names {
				seen[name]++
			}
			for _, text := range hostileTexts {
				if seen[text] != 1 {
					t.Errorf("%s: %d are called %.40q", what, seen[text], text)
				}
			}
		}
		scripts, err := t.s.Scripts(t.ctx())
		t.must(err)
		count("scripts", names(scripts, func(c *engine.Script) string { return c.Name }))
		types, err := t.s.EventTypes(t.ctx())
		t.must(err)
		count("event types", names(types, func(e *engine.EventType) string { return e.Description }))
		accounts, err := t.s.Accounts(t.ctx())
		t.must(err)
		count("accounts", names(accounts, func(a *engine.Account) string { return a.Name }))
		subscriptions, err := t.s.Subscriptions(t.ctx())
		t.must(err)
		count("subscriptions", names(subscriptions, func(u *engine.Subscription) string { return u.Secret }))
		count("targets", names(subscriptions, func(u *engine.Subscription) string { return u.TargetURL }))
		for _, text := range hostileTexts {
			t.must(t.s.DeleteEventType(t.ctx(), text))
			t.code(t.s.DeleteEventType(t.ctx(), text), engine.CodeNotFound)
		}
	}},
	{"hostile: times round-trip", func(t *suite) {
		for _, at := range []time.Time{
			time.Date(1, 1, 1, 0, 0, 0, 1e6, time.UTC), time.Date(1899, 12, 31, 23, 59, 59, 999e6, time.UTC), time.Unix(-1, 0).UTC(), time.Unix(0, 0).UTC(),
			time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
		} {
			e := event(1)
			e.Time = at
			t.append(e)
			got, err := t.s.Event(t.ctx(), "", e.ID)
			t.must(err)
			t.equal("time of an event", got.Time, at)
			o := failed(id(e, 1), 1, at)
			o.Attempt.At = at
			t.record(o)
			d := t.delivery(id(e, 1))
			t.equal("next attempt", d.NextAt, at)
			t.equal("time of an attempt", t.attempts(id(e, 1))[0].At, at)
			u := subscription()
			u.ExpiresAt, u.CreatedAt = at, at
			t.must(t.s.PutSubscription(t.ctx(), u))
			list, err := t.s.Subscriptions(t.ctx())
			t.must(err)
			t.equal("subscription", list[len(list)-1], u)
		}
		next, err := t.s.NextDue(t.ctx())
		t.must(err)
		t.equal("next due", next, time.Date(1, 1, 1, 0, 0, 0, 1e6, time.UTC))
	}},
	{"hostile: cursors beyond all ids end the list", func(t *suite) {
		e := event(1)
		t.append(e)
		t.record(failed(id(e, 1), 1, base))
		for _, cursor := range []engine.ID{1, math.MaxInt64, -1, math.MinInt64} {
			_, _, err := t.s.Events(t.ctx(), engine.EventQuery{Before: cursor, Since: cursor, Limit: math.MaxInt})
			t.must(err)
			_, _, err = t.s.Deliveries(t.ctx(), engine.DeliveryQuery{Before: engine.DeliveryID{Event: cursor, Subscription: cursor}, Since: cursor, Until: cursor, Limit: math.MaxInt})
			t.must(err)
			_, _, err = t.s.Audit(t.ctx(), engine.AuditQuery{Before: cursor, Since: cursor, Until: cursor, Limit: math.MaxInt})
			t.must(err)
			_, _, err = t.s.Replays(t.ctx(), engine.ReplayQuery{Before: cursor, Limit: math.MaxInt})
			t.must(err)
			_, _, err = t.s.ScriptVersions(t.ctx(), engine.ScriptVersionQuery{Script: cursor, Before: math.MaxInt, Limit: math.MaxInt, MaxBytes: math.MaxInt64})
			t.must(err)
			_, _, err = t.s.Attempts(t.ctx(), engine.AttemptQuery{Delivery: id(e, 1), Before: int(cursor), Limit: math.MaxInt, MaxBytes: math.MaxInt64})
			t.must(err)
			_, err = t.s.Attempt(t.ctx(), id(e, 1), int(cursor)-1)
			t.code(err, engine.CodeNotFound)
			_, err = t.s.Unfinished(t.ctx(), 0, cursor, math.MaxInt)
			t.must(err)
			_, err = t.s.Prune(t.ctx(), engine.PruneQuery{After: cursor, Before: cursor, Remove: func(string, bool, time.Time) bool { return false }})
			t.must(err)
			_, err = t.s.Outstanding(t.ctx(), 1, engine.Position(cursor), math.MaxInt)
			t.must(err)
			_, err = t.s.Event(t.ctx(), "", cursor)
			t.code(err, engine.CodeNotFound)
		}
		list, _, err := t.s.Events(t.ctx(), engine.EventQuery{Before: math.MaxInt64})
		t.must(err)
		t.equal("events below the last id", len(list), 1)
	}},
}

func names[T any](list []T, name func(T) string) (all []string) {
	for _, item := range list {
		all = append(all, name(item))
	}
	return all
}
