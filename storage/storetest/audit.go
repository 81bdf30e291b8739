package storetest

import (
	"fmt"
	"time"

	"switchhook/engine"
)

func entry(kind, subject string) *engine.AuditEntry {
	return &engine.AuditEntry{
		ID: newID(), At: base.Add(1234 * time.Microsecond), Kind: kind, Subject: subject, Account: "acme", Action: engine.ActionUpdate,
		Actor:   engine.AuditActor{Key: newID(), Name: "ci", Account: "ops", Address: "2001:db8::1"},
		Changed: []string{"active"}, Before: []byte(`{"active":true}`), After: []byte(`{}`),
	}
}

func (t *suite) audit(q engine.AuditQuery) []*engine.AuditEntry {
	t.Helper()
	var all []*engine.AuditEntry
	for {
		list, next, err := t.s.Audit(t.ctx(), q)
		t.must(err)
		all = append(all, list...)
		if q.Before = next; next == 0 || q.Limit > 0 {
			return all
		}
	}
}

var audit = []check{
	{"audit: every configuration change is stored with its entry", func(t *suite) {
		u, c, k := subscription(), script(), &engine.Key{ID: newID(), Account: "acme", Hash: [32]byte{1}}
		v := &engine.ScriptVersion{Script: c.ID, Number: 1}
		et, a := &engine.EventType{Name: "a", Version: 1}, &engine.Account{Name: "acme", Version: 1}
		for i, change := range []func(e *engine.AuditEntry) error{
			func(e *engine.AuditEntry) error { return t.s.PutSubscription(engine.WithEntry(t.ctx(), e), u) },
			func(e *engine.AuditEntry) error { return t.s.DeleteSubscription(engine.WithEntry(t.ctx(), e), u.ID) },
			func(e *engine.AuditEntry) error { return t.s.PutScript(engine.WithEntry(t.ctx(), e), c) },
			func(e *engine.AuditEntry) error { return t.s.PutScriptVersion(engine.WithEntry(t.ctx(), e), v) },
			func(e *engine.AuditEntry) error { return t.s.DeleteScript(engine.WithEntry(t.ctx(), e), c.ID) },
			func(e *engine.AuditEntry) error { return t.s.PutEventType(engine.WithEntry(t.ctx(), e), et) },
			func(e *engine.AuditEntry) error { return t.s.DeleteEventType(engine.WithEntry(t.ctx(), e), et.Name) },
			func(e *engine.AuditEntry) error { return t.s.PutAccount(engine.WithEntry(t.ctx(), e), a) },
			func(e *engine.AuditEntry) error { return t.s.PutKey(engine.WithEntry(t.ctx(), e), k) },
			func(e *engine.AuditEntry) error { return t.s.ReplaceKey(engine.WithEntry(t.ctx(), e), k) },
			func(e *engine.AuditEntry) error { return t.s.DeleteKey(engine.WithEntry(t.ctx(), e), k.ID) },
		} {
			e := entry("kind", fmt.Sprint(i))
			t.must(change(e))
			t.equal("entry", t.audit(engine.AuditQuery{Limit: 1}), []*engine.AuditEntry{e})
		}
	}},
	{"audit: change and entry are atomic", func(t *suite) {
		u := subscription()
		t.must(t.s.PutSubscription(t.ctx(), u))
		t.code(t.s.PutSubscription(engine.WithEntry(t.ctx(), entry("subscription", "a")), u), engine.CodeStale)
		t.code(t.s.DeleteSubscription(engine.WithEntry(t.ctx(), entry("subscription", "a")), newID()), engine.CodeNotFound)
		t.equal("entries", len(t.audit(engine.AuditQuery{})), 0)

		first := entry("subscription", "b")
		u.Version = 2
		t.must(t.s.PutSubscription(engine.WithEntry(t.ctx(), first), u))
		u.Version, u.Description = 3, "never stored"
		if t.s.PutSubscription(engine.WithEntry(t.ctx(), first), u) == nil { // its id is taken
			t.Fatal("the same entry was stored twice")
		}
		list, err := t.s.Subscriptions(t.ctx())
		t.must(err)
		t.equal("version", list[0].Version, int64(2))
		t.equal("entries", t.audit(engine.AuditQuery{}), []*engine.AuditEntry{first})
	}},
	{"audit: filters", func(t *suite) {
		first, second, third := entry("key", "one"), entry("script", "two"), entry("script", "one")
		second.Account, second.Actor = "", engine.AuditActor{Name: "switchhook"}
		second.Changed, second.Before, second.After = nil, nil, nil
		a := &engine.Account{Name: "acme"}
		for i, e := range []*engine.AuditEntry{first, second, third} {
			a.Version = int64(i + 1)
			t.must(t.s.PutAccount(engine.WithEntry(t.ctx(), e), a))
		}
		for _, c := range []struct {
			name string
			q    engine.AuditQuery
			want []*engine.AuditEntry
		}{
			{"all", engine.AuditQuery{}, []*engine.AuditEntry{third, second, first}},
			{"account", engine.AuditQuery{Account: "acme"}, []*engine.AuditEntry{third, first}},
			{"kind", engine.AuditQuery{Kind: "script"}, []*engine.AuditEntry{third, second}},
			{"subject", engine.AuditQuery{Subject: "one"}, []*engine.AuditEntry{third, first}},
			{"actor", engine.AuditQuery{Actor: first.Actor.Key}, []*engine.AuditEntry{first}},
			{"router", engine.AuditQuery{Router: true}, []*engine.AuditEntry{second}},
			{"since", engine.AuditQuery{Since: second.ID}, []*engine.AuditEntry{third, second}},
			{"until", engine.AuditQuery{Until: second.ID}, []*engine.AuditEntry{first}},
			{"page", engine.AuditQuery{Before: third.ID, Limit: 1}, []*engine.AuditEntry{second}},
			{"both", engine.AuditQuery{Kind: "script", Subject: "one", Account: "acme"}, []*engine.AuditEntry{third}},
			{"none", engine.AuditQuery{Account: "other"}, nil},
		} {
			t.equal(c.name, t.audit(c.q), c.want)
		}
		t.s = t.reopen()
		t.equal("after a restart", t.audit(engine.AuditQuery{}), []*engine.AuditEntry{third, second, first})
	}},
	{"audit: prune in small steps, oldest first", func(t *suite) {
		more, err := t.s.PruneAudit(t.ctx(), never)
		t.must(err)
		t.equal("more, of none", more, false)
		const many = 250
		a := &engine.Account{Name: "acme"}
		var entries []*engine.AuditEntry
		for i := range many {
			e := entry("account", "acme")
			if i < many/2 {
				e.After = make([]byte, 20_000)
			}
			entries = append(entries, e)
			a.Version++
			t.must(t.s.PutAccount(engine.WithEntry(t.ctx(), e), a))
		}
		const keep = 10
		steps, left := 0, many
		for more := true; more; steps++ {
			more, err = t.s.PruneAudit(t.ctx(), entries[many-keep].ID)
			t.must(err)
			list := t.audit(engine.AuditQuery{})
			if list[len(list)-1].ID != entries[many-len(list)].ID {
				t.Fatalf("step %d did not remove the oldest", steps)
			}
			if left-len(list) > 100 || left <= len(list) {
				t.Fatalf("step %d removed %d entries", steps, left-len(list))
			}
			left = len(list)
		}
		t.equal("left", left, keep)
		if steps < 10 { // 2.5 MB of them
			t.Errorf("all were removed in %d steps", steps)
		}
		more, err = t.s.PruneAudit(t.ctx(), entries[many-keep].ID)
		t.must(err)
		t.equal("more", more, false)
		t.equal("left after another step", len(t.audit(engine.AuditQuery{})), keep)
	}},
	{"stored bytes: counted by account", func(t *suite) {
		stored := func(account string) int64 {
			n := t.stored(account)
			t.equal("other kinds", n.Total(), n.Events)
			return n.Events
		}
		t.equal("of nobody", stored("acme"), int64(0))
		one, two, theirs := event(1, 2), event(), event()
		one.Data, two.Data, theirs.Account, theirs.Data = make([]byte, 100), make([]byte, 11), "other", make([]byte, 7)
		t.append(one, two, theirs)
		t.append(&engine.Event{ID: newID(), Account: "other", Type: "a", Time: base})
		acmes := eventBytes(one) + eventBytes(two)
		t.equal("acme's", stored("acme"), acmes)
		others := eventBytes(theirs) + engine.RowBytes + int64(len("othera"))
		t.equal("the other's", stored("other"), others)
		largest, total, err := t.s.LargestAccounts(t.ctx(), 1)
		t.must(err)
		t.equal("the largest", largest, []engine.AccountBytes{{Account: "acme", Bytes: acmes}})
		t.equal("of all", total, acmes+others)
		largest, _, err = t.s.LargestAccounts(t.ctx(), 5)
		t.must(err)
		t.equal("all", largest, []engine.AccountBytes{{Account: "acme", Bytes: acmes}, {Account: "other", Bytes: others}})

		key := engine.EventKeyHash("acme", "k")
		repeated := event()
		for range 2 {
			_, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: repeated, Keys: []engine.KeyHash{key}}})
			t.must(err)
			repeated.ID = newID()
		}
		n := acmes + eventBytes(repeated) + engine.KeyBytes
		t.equal("with a repeat, which is not stored again", stored("acme"), n)
		_, err = t.s.Append(t.ctx(), []engine.NewEvent{{Event: event()}, {Event: event(), Keys: []engine.KeyHash{key}, Digest: engine.KeyHash{1}}})
		t.code(err, engine.CodeConflict)
		t.equal("with a list that was refused", stored("acme"), n)
		t.s = t.reopen()
		t.equal("after a restart", stored("acme"), n)
	}},
	{"stored bytes: configuration goes back to nothing", func(t *suite) {
		u, c, k, nothing := subscription(), script(), &engine.Key{ID: newID(), Account: "acme", Name: "k"}, engine.StoredBytes{}
		u.Account = "acme"
		v := &engine.ScriptVersion{Script: c.ID, Number: 1, Source: "true", Cases: []byte("[1]")}
		r := &engine.IdempotentRequest{ID: newID(), Account: "acme", Answer: make([]byte, 1000)}
		left := engine.RowBytes + int64(len("acme")) // a deleted subscription keeps a row
		for _, kind := range []struct {
			name        string
			put, remove func() error
			size, left  int64 // at least, and exactly
		}{
			{"subscription", func() error { return t.s.PutSubscription(t.ctx(), u) }, func() error { return t.s.DeleteSubscription(t.ctx(), u.ID) }, int64(len(u.Transform) + len(u.Filter)), left},
			{"script", func() error {
				if err := t.s.PutScript(t.ctx(), c); err != nil {
					return err
				}
				return t.s.PutScriptVersion(t.ctx(), v)
			}, func() error { return t.s.DeleteScript(t.ctx(), c.ID) }, 2*engine.RowBytes + int64(len(v.Source)), left},
			{"key", func() error { return t.s.PutKey(t.ctx(), k) }, func() error { return t.s.DeleteKey(t.ctx(), k.ID) }, engine.RowBytes, left},
			{"request", func() error {
				if _, err := t.s.BeginRequest(t.ctx(), r, 10); err != nil {
					return err
				}
				return t.s.FinishRequest(t.ctx(), r)
			}, func() error { _, err := t.s.PruneRequests(t.ctx(), r.ID+1); return err }, 1000, left},
		} {
			before := t.stored("acme").Configuration
			t.must(kind.put())
			if n := t.stored("acme").Configuration - before; n < kind.size {
				t.Errorf("a %s counts %d bytes, want %d", kind.name, n, kind.size)
			}
			t.must(kind.remove())
			t.equal(kind.name, t.stored("acme").Configuration, kind.left)
		}
		t.equal("of nobody", t.stored("other"), nothing)
	}},
	{"stored bytes: a limit refuses growth only", func(t *suite) {
		u := subscription()
		u.Account, u.Filter = "acme", "true"
		t.must(t.s.PutSubscription(t.ctx(), u))
		limited := engine.WithStorageLimit(t.ctx(), engine.StorageLimit{Account: "acme", Bytes: t.stored("acme").Total() + 50})
		put := func(filter string) error {
			changed := *u
			changed.Filter, changed.Version = filter, u.Version+1
			err := t.s.PutSubscription(engine.WithEntry(limited, entry("subscription", "a")), &changed)
			if err == nil {
				*u = changed
			}
			return err
		}
		long := string(make([]byte, 100))
		t.code(put(long), engine.CodeStorageFull)
		t.equal("entries", len(t.audit(engine.AuditQuery{})), 0)
		t.must(put("true and true"))
		t.code(put("true and true and true"), engine.CodeStorageFull) // its entry in the audit log has taken the room
		t.must(put("true"))
		other := subscription()
		other.Account = "other"
		t.must(t.s.PutSubscription(limited, other))
	}},
	{"stored bytes: attempts of an account over its limit", func(t *suite) {
		e := event(1, 2)
		t.append(e)
		limit := engine.StorageLimit{Account: "acme", Bytes: t.stored("acme").Total() + 1500}
		attempt := func(n int) {
			o := failed(id(e, 1), n, base)
			o.Limit = limit
			o.Attempt.Request.Headers, o.Attempt.Response.Headers = []engine.Header{{Name: "a", Value: "b"}}, []engine.Header{{Name: "c", Value: "d"}}
			o.Attempt.Request.Plain, o.Attempt.Request.Body, o.Attempt.Response.Body = "", fmt.Appendf(nil, "%500d", n), make([]byte, 500)
			o.Attempt.Script.Console = []string{"x"}
			t.record(o)
		}
		for n := 1; n <= 10; n++ {
			attempt(n)
		}
		list := t.attempts(id(e, 1))
		numbers := []int{}
		for _, a := range list {
			numbers = append(numbers, a.Number)
			if a.NotStored != (a.Number > 1) || a.NotStored && (a.Request.Headers != nil || a.Response.Headers != nil || a.Request.Body != nil || a.Response.Body != nil || a.Script.Console != nil) {
				t.Errorf("%+v", a)
			}
			if a.Error == "" || a.Response.Status != 503 {
				t.Errorf("attempt %d: %q, %d", a.Number, a.Error, a.Response.Status)
			}
		}
		t.equal("the first, which fitted, and the last ones", numbers, []int{1, 8, 9, 10})
		t.equal("attempts", t.delivery(id(e, 1)).Attempts, 10)
		if n := t.stored("acme"); n.Total() > limit.Bytes+engine.BareAttempts*300 {
			t.Errorf("%+v are stored", n)
		}
		limit.Bytes += 10_000
		attempt(11)
		t.equal("not stored", t.attempts(id(e, 1))[4].NotStored, false)
	}},
}
