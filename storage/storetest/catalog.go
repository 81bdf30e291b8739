package storetest

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/signature"
)

func subscription() *engine.Subscription {
	return &engine.Subscription{
		ID: newID(), Account: "acme", Events: []string{"order.*", "ü"}, TargetURL: "https://example.com/?a=b",
		Active: true, Reason: "none", Filter: "data.n > 1", Transform: "() => 1", Secret: "whsec_abc",
		Headers: map[string]string{"Authorization": "Bearer <x>"}, PayloadFormat: engine.FormatData,
		Description: "first\nsecond", Metadata: map[string]string{"k": "v"}, Version: 1,
		Client:       map[string]any{"site_id": json.Number("12345678901234567890"), "config": map[string]any{"list": []any{"<", true, nil}}},
		FilterScript: engine.ScriptRef{Script: newID(), Version: 3}, TransformScript: engine.ScriptRef{Script: newID()},
		Policy: engine.Policy{
			Retries: engine.RetrySchedule{0, time.Second}, Timeout: 3 * time.Second, InFlight: 4, Rate: engine.Rate{Count: 10, Per: time.Minute},
			Ordering: engine.OrderingKeyed, OrderingKey: "data.id", GiveUpAfter: time.Hour,
		},
		Batch: engine.Batch{Size: 10, Wait: time.Second}, Debounce: engine.Debounce{Key: "data.id", Within: time.Second},
		Signatures: []signature.Scheme{signature.Standard, signature.Hook}, OldSecrets: []engine.OldSecret{{Secret: "whsec_old", Until: base}},
		Numbered: true, Inline: true, TargetKey: "0a", Dialect: "ours", Names: map[string]string{"target_url": "hookUrl"}, VisibleHeaders: []string{"X-A"},
		Verification: engine.Verification{Mode: engine.VerifyHookSecret, Secret: "s", Until: base, Activate: true, AllowedRate: 7},
		ExpiresAt:    base.Add(time.Minute),
		CreatedAt:    base.Add(1234 * time.Microsecond), UpdatedAt: base.Add(time.Hour),
	}
}

func script() *engine.Script {
	return &engine.Script{
		ID: newID(), Account: "acme", Name: "big orders", Kind: engine.KindFilter, Description: "ü", Cases: []byte(`[{"name":"<"}]`),
		Live: 2, Version: 1, CreatedAt: base.Add(1234 * time.Microsecond), UpdatedAt: base.Add(time.Hour),
	}
}

var catalog = []check{
	{"scripts: round trip and delete", func(t *suite) {
		full, bare := script(), &engine.Script{ID: newID(), Account: "b", Name: "x", Version: 1}
		t.must(t.s.PutScript(t.ctx(), full))
		t.must(t.s.PutScript(t.ctx(), bare))
		cases, err := t.s.ScriptCases(t.ctx(), full.ID)
		t.must(err)
		t.equal("cases", string(cases), string(full.Cases))
		full.Version, full.Live, full.Name, full.Cases = 2, 3, "renamed", nil
		t.must(t.s.PutScript(t.ctx(), full))
		t.code(t.s.PutScript(t.ctx(), full), engine.CodeStale)
		list, err := t.s.Scripts(t.ctx())
		t.must(err)
		t.equal("scripts", list, []*engine.Script{full, bare})
		cases, err = t.s.ScriptCases(t.ctx(), full.ID)
		t.must(err)
		t.equal("cases", len(cases), 0)
		t.must(t.s.DeleteScript(t.ctx(), bare.ID))
		_, err = t.s.ScriptCases(t.ctx(), bare.ID)
		t.code(err, engine.CodeNotFound)
		t.code(t.s.DeleteScript(t.ctx(), bare.ID), engine.CodeNotFound)
		bare.Version = 2
		t.code(t.s.PutScript(t.ctx(), bare), engine.CodeStale)
		list, err = t.s.Scripts(t.ctx())
		t.must(err)
		t.equal("scripts", list, []*engine.Script{full})
	}},
	{"scripts: name unique per account", func(t *suite) {
		first, same, elsewhere := script(), script(), script()
		elsewhere.Account = "other"
		t.must(t.s.PutScript(t.ctx(), first))
		t.must(t.s.PutScript(t.ctx(), elsewhere))
		t.code(t.s.PutScript(t.ctx(), same), engine.CodeConflict)
		t.must(t.s.DeleteScript(t.ctx(), first.ID))
		t.must(t.s.PutScript(t.ctx(), same))
	}},
	{"script versions: written once", func(t *suite) {
		c := script()
		t.must(t.s.PutScript(t.ctx(), c))
		var all []*engine.ScriptVersion
		for n := 1; n <= 5; n++ {
			v := &engine.ScriptVersion{Script: c.ID, Number: n, Source: "data.n > <ü>\n", Hash: "ab", Author: "me", Note: "why", Cases: fmt.Appendf(nil, `[%d]`, n), CreatedAt: base.Add(time.Duration(n) * time.Second)}
			t.must(t.s.PutScriptVersion(t.ctx(), v))
			t.code(t.s.PutScriptVersion(t.ctx(), v), engine.CodeConflict)
			all = append([]*engine.ScriptVersion{v}, all...)
		}
		got, err := t.s.ScriptVersion(t.ctx(), c.ID, 3)
		t.must(err)
		t.equal("version", got, all[2])
		_, err = t.s.ScriptVersion(t.ctx(), c.ID, 6)
		t.code(err, engine.CodeNotFound)
		source, err := t.s.ScriptSource(t.ctx(), all[2].Ref())
		t.must(err)
		t.equal("source", source, all[2].Source)
		_, err = t.s.ScriptSource(t.ctx(), engine.ScriptRef{Script: c.ID, Version: 6})
		t.code(err, engine.CodeNotFound)
		page, next, err := t.s.ScriptVersions(t.ctx(), engine.ScriptVersionQuery{Script: c.ID, Limit: 2})
		t.must(err)
		t.equal("first page", page, all[:2])
		t.equal("its cursor", next, all[1].Number)
		page, next, err = t.s.ScriptVersions(t.ctx(), engine.ScriptVersionQuery{Script: c.ID, Before: next, Limit: 10})
		t.must(err)
		t.equal("second page", page, all[2:])
		t.equal("its cursor", next, 0)
	}},
	{"scripts: cases are those of the newest version", func(t *suite) {
		c := script()
		c.Cases, c.Live = []byte("[0]"), 0
		t.must(t.s.PutScript(t.ctx(), c))
		expect := func(what string, want ...string) { // the script's, then those of its versions
			t.Helper()
			list, err := t.s.Scripts(t.ctx())
			t.must(err)
			t.equal("listed without cases", len(list[0].Cases), 0)
			cases, err := t.s.ScriptCases(t.ctx(), c.ID)
			t.must(err)
			versions, _, err := t.s.ScriptVersions(t.ctx(), engine.ScriptVersionQuery{Script: c.ID})
			t.must(err)
			got := []string{string(cases)}
			for _, v := range versions {
				text := string(v.Cases)
				if !v.LiveAt.IsZero() {
					text += " live " + v.LiveAt.Format(time.TimeOnly)
				}
				got = append(got, text)
			}
			t.equal(what, got, want)
		}
		expect("without a version", "[0]")
		t.must(t.s.PutScriptVersion(t.ctx(), &engine.ScriptVersion{Script: c.ID, Number: 1, Cases: []byte("[1]")}))
		expect("the first version's", "[1]", "[1]")
		put := func(cases string, live int) {
			t.Helper()
			c.Cases, c.Live, c.Version, c.UpdatedAt = []byte(cases), live, c.Version+1, base.Add(time.Duration(c.Version)*time.Second)
			t.must(t.s.PutScript(t.ctx(), c))
		}
		put("[1]", 1)
		expect("live", "[1]", "[1] live "+c.UpdatedAt.Format(time.TimeOnly))
		at := c.UpdatedAt.Format(time.TimeOnly)
		t.must(t.s.PutScriptVersion(t.ctx(), &engine.ScriptVersion{Script: c.ID, Number: 2, Cases: []byte("[2]")}))
		put("[22]", 1)
		expect("changed", "[22]", "[22]", "[1] live "+at)
		put("[22]", 2)
		expect("the second is live", "[22]", "[22] live "+c.UpdatedAt.Format(time.TimeOnly), "[1] live "+at)
		second := c.UpdatedAt.Format(time.TimeOnly)
		put("[22]", 1)
		expect("the first is live again", "[22]", "[22] live "+second, "[1] live "+c.UpdatedAt.Format(time.TimeOnly))
		again := c.UpdatedAt.Format(time.TimeOnly)
		t.must(t.s.PutScriptVersion(t.ctx(), &engine.ScriptVersion{Script: c.ID, Number: 3}))
		put("", 1)
		t.s = t.reopen()
		expect("none, after a restart", "", "", "[22] live "+second, "[1] live "+again)
	}},
	{"subscriptions: round trip", func(t *suite) {
		full, bare := subscription(), &engine.Subscription{ID: newID(), Account: "b", Version: 1}
		t.must(t.s.PutSubscription(t.ctx(), full))
		t.must(t.s.PutSubscription(t.ctx(), bare))
		list, err := t.s.Subscriptions(t.ctx())
		t.must(err)
		t.equal("subscriptions", list, []*engine.Subscription{full, bare})
	}},
	{"subscriptions: optimistic concurrency", func(t *suite) {
		u := subscription()
		t.must(t.s.PutSubscription(t.ctx(), u))
		for _, version := range []int64{1, 3} {
			stale := u.Clone()
			stale.Version, stale.TargetURL = version, "https://elsewhere"
			t.code(t.s.PutSubscription(t.ctx(), stale), engine.CodeStale)
		}
		u.Version, u.Active, u.Headers = 2, false, nil
		t.must(t.s.PutSubscription(t.ctx(), u))
		list, err := t.s.Subscriptions(t.ctx())
		t.must(err)
		t.equal("subscriptions", list, []*engine.Subscription{u})
	}},
	{"subscriptions: one of many concurrent updates wins", func(t *suite) {
		u := subscription()
		t.must(t.s.PutSubscription(t.ctx(), u))
		errs := make([]error, 20)
		var wait sync.WaitGroup
		for i := range errs {
			wait.Go(func() {
				c := u.Clone()
				c.Version = 2
				errs[i] = t.s.PutSubscription(t.ctx(), c)
			})
		}
		wait.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			t.code(err, engine.CodeStale)
		}
		t.equal("winners", won, 1)
	}},
	{"subscriptions: delete keeps deliveries", func(t *suite) {
		u := subscription()
		t.must(t.s.PutSubscription(t.ctx(), u))
		e := event(u.ID)
		t.append(e)
		t.record(tried(id(e, u.ID), engine.StateSucceeded, 1, 200))
		t.must(t.s.DeleteSubscription(t.ctx(), u.ID))
		list, err := t.s.Subscriptions(t.ctx())
		t.must(err)
		t.equal("subscriptions", len(list), 0)
		t.equal("state", t.delivery(id(e, u.ID)).State, engine.StateSucceeded)

		t.code(t.s.DeleteSubscription(t.ctx(), u.ID), engine.CodeNotFound)
		for _, version := range []int64{1, 2} { // it must not be restored
			u.Version = version
			t.code(t.s.PutSubscription(t.ctx(), u), engine.CodeStale)
		}
	}},
	{"health: round trip until healthy or deleted", func(t *suite) {
		well, ill, gone := subscription(), subscription(), subscription()
		for _, u := range []*engine.Subscription{well, ill, gone} {
			t.must(t.s.PutSubscription(t.ctx(), u))
		}
		list := []engine.Health{
			{Subscription: well.ID, FailingSince: base, Failures: 1, LastError: "ü"},
			{Subscription: ill.ID, FailingSince: base, Failures: 7, LastError: "no", NextProbeAt: base.Add(1234 * time.Microsecond), ProbeDelay: 8 * time.Second, ResumedAt: base.Add(-time.Hour)},
			{Subscription: gone.ID, Failures: 1},
		}
		t.must(t.s.PutHealth(t.ctx(), list))
		got, err := t.s.Health(t.ctx())
		t.must(err)
		t.equal("health", got, list)
		t.must(t.s.DeleteSubscription(t.ctx(), gone.ID))
		list[1].Failures, list[1].NextProbeAt, list[1].ProbeDelay = 8, time.Time{}, 0
		t.must(t.s.PutHealth(t.ctx(), []engine.Health{{Subscription: well.ID}, list[1], {Subscription: gone.ID, Failures: 2}, {Subscription: newID(), Failures: 3}}))
		got, err = t.s.Health(t.ctx())
		t.must(err)
		t.equal("health", got, list[1:2])
	}},
	{"event types: create, update, delete", func(t *suite) {
		full := &engine.EventType{
			Name: "order.created", Description: "ü", Schema: []byte(`{"type":"object"}`),
			Samples: [][]byte{[]byte(`{"a": 1}`), []byte("[ 2 ]")}, Verify: engine.VerifyCloudEvents, Version: 1, CreatedAt: base, UpdatedAt: base,
		}
		bare := &engine.EventType{Name: "order.deleted", Version: 1}
		t.must(t.s.PutEventType(t.ctx(), bare))
		t.must(t.s.PutEventType(t.ctx(), full))
		list, err := t.s.EventTypes(t.ctx())
		t.must(err)
		t.equal("event types", list, []*engine.EventType{full, bare})

		t.code(t.s.PutEventType(t.ctx(), full), engine.CodeStale)
		full.Version, full.Schema = 2, nil
		t.must(t.s.PutEventType(t.ctx(), full))
		t.must(t.s.DeleteEventType(t.ctx(), bare.Name))
		t.code(t.s.DeleteEventType(t.ctx(), bare.Name), engine.CodeNotFound)
		list, err = t.s.EventTypes(t.ctx())
		t.must(err)
		t.equal("event types", list, []*engine.EventType{full})
		t.must(t.s.PutEventType(t.ctx(), bare)) // a name may be reused, from version 1
	}},
	{"accounts: round trip", func(t *suite) {
		a := &engine.Account{
			Name: "acme", Verify: engine.VerifyHookSecret, Quota: engine.Quota{Subscriptions: 1, EventsPerSecond: 2, StoredBytes: 3},
			Retention: engine.Retention{Succeeded: time.Hour, Dead: time.Minute}, Version: 1, CreatedAt: base, UpdatedAt: base,
		}
		t.must(t.s.PutAccount(t.ctx(), a))
		t.code(t.s.PutAccount(t.ctx(), a), engine.CodeStale)
		a.Version, a.Quota = 2, engine.Quota{}
		t.must(t.s.PutAccount(t.ctx(), a))
		list, err := t.s.Accounts(t.ctx())
		t.must(err)
		t.equal("accounts", list, []*engine.Account{a})
	}},
	{"keys: create and delete", func(t *suite) {
		a := &engine.Key{
			ID: newID(), Name: "ci", Account: "acme", Admin: true, Prefix: "sk_ab", Hash: [32]byte{1, 0, 255}, CreatedAt: base,
			ExpiresAt: base.Add(time.Hour), OldHash: [32]byte{9}, OldUntil: base.Add(time.Minute), LastUsedAt: base.Add(time.Second),
		}
		b := &engine.Key{ID: newID(), Account: "b", Scopes: []engine.Scope{engine.ScopePublish}, Hash: [32]byte{2}}
		t.must(t.s.PutKey(t.ctx(), a))
		t.must(t.s.PutKey(t.ctx(), b))
		list, err := t.s.Keys(t.ctx())
		t.must(err)
		t.equal("keys", list, []*engine.Key{a, b})
		t.code(t.s.PutKey(t.ctx(), a), engine.CodeConflict)
		t.must(t.s.DeleteKey(t.ctx(), a.ID))
		t.code(t.s.DeleteKey(t.ctx(), a.ID), engine.CodeNotFound)
		list, err = t.s.Keys(t.ctx())
		t.must(err)
		t.equal("keys", list, []*engine.Key{b})
	}},
	{"keys: replace and last use", func(t *suite) {
		a := &engine.Key{ID: newID(), Name: "ci", Account: "acme", Scopes: []engine.Scope{engine.ScopeRead}, Prefix: "one", Hash: [32]byte{1}, CreatedAt: base}
		b := &engine.Key{ID: newID(), Account: "b", Scopes: []engine.Scope{engine.ScopeRead}, Hash: [32]byte{2}}
		t.code(t.s.ReplaceKey(t.ctx(), a), engine.CodeNotFound)
		t.must(t.s.PutKey(t.ctx(), a))
		t.must(t.s.PutKey(t.ctx(), b))
		a.Prefix, a.Hash, a.OldHash, a.OldUntil = "two", [32]byte{3}, [32]byte{1}, base.Add(time.Hour)
		t.must(t.s.ReplaceKey(t.ctx(), a))
		t.must(t.s.TouchKeys(t.ctx(), map[engine.ID]time.Time{a.ID: base.Add(time.Minute), newID(): base}))
		a.LastUsedAt = base.Add(time.Minute)
		list, err := t.s.Keys(t.ctx())
		t.must(err)
		t.equal("keys", list, []*engine.Key{a, b})
		b.Hash = a.Hash
		t.code(t.s.ReplaceKey(t.ctx(), b), engine.CodeConflict)
		a.OldHash, a.OldUntil = [32]byte{}, time.Time{}
		t.must(t.s.ReplaceKey(t.ctx(), a))
		list, err = t.s.Keys(t.ctx())
		t.must(err)
		t.equal("key", list[0], a)
	}},
}
