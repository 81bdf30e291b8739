package catalog

import (
	"strings"
	"testing"

	"switchhook/engine"
)

// TestMemory_BoundByAccountAndInAll: what the catalog holds is refused beyond an account's part and
// beyond the whole, and is counted back to nothing.
func TestMemory_BoundByAccountAndInAll(t *testing.T) {
	c := newTestCatalog(t)
	c.core.cfg.MaxCatalogBytes = 40_000
	ctx := engine.WithActor(t.Context(), engine.Actor{Key: &engine.Key{Name: "k", Admin: true}})
	was := c.MemoryUse()
	script := func(account, name string, size int) (*engine.Script, error) {
		return c.CreateScript(ctx, &engine.Script{Account: account, Name: name, Kind: engine.KindFilter, Description: strings.Repeat("x", size)}, "", "", "")
	}
	var made []*engine.Script
	create := func(account, name string) error {
		s, err := script(account, name, 900)
		if err == nil {
			made = append(made, s)
		}
		return err
	}
	fill := func(account string) (n int, err error) {
		for err == nil {
			if err = create(account, strings.Repeat("n", n+1)); err == nil {
				n++
			}
		}
		return n, err
	}
	n, err := fill("one")
	if engine.ErrorCode(err) != engine.CodeStorageFull || !strings.Contains(err.Error(), "the account one's") || n < 5 || n > 7 {
		t.Errorf("%d scripts, %v", n, err)
	}
	for _, account := range []string{"two", "three", "four", "five", "six"} {
		_, err = fill(account)
	}
	if engine.ErrorCode(err) != engine.CodeStorageFull || !strings.Contains(err.Error(), "the router's") || c.MemoryUse() > 40_000 {
		t.Errorf("%d bytes, %v", c.MemoryUse(), err)
	}
	smaller := func(s *engine.Script) error { s.Description = "short"; return nil }
	if _, err := c.UpdateScript(ctx, "one", made[0].ID.Format(engine.ScriptPrefix), AnyVersion, smaller); err != nil {
		t.Errorf("made smaller: %v", err)
	}
	for _, s := range made {
		if err := c.DeleteScript(ctx, s.Account, s.ID.Format(engine.ScriptPrefix), AnyVersion); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.MemoryUse(); got != was || len(c.core.memory.byAccount) > 1 {
		t.Errorf("%d bytes are left of %d: %v", got, was, c.core.memory.byAccount)
	}
}

// TestMemory_CasesAreInTheStoreOnly: neither the scripts nor the versions in use hold test cases, and
// they don't count as memory; whatever changes a script keeps them.
func TestMemory_CasesAreInTheStoreOnly(t *testing.T) {
	t.Parallel()
	c, ctx := newTestCatalog(t), t.Context()
	was := c.MemoryUse()
	cases := []byte(`[{"name":"` + strings.Repeat("x", 100_000) + `","event":{"type":"a","data":1},"expect":{"matches":true}}]`)
	s, err := c.CreateScript(ctx, &engine.Script{Account: "a", Name: "f", Kind: engine.KindFilter, Cases: cases}, "true", "me", "")
	if err != nil || string(s.Cases) != string(cases) {
		t.Fatalf("created with %d bytes of cases, %v", len(s.Cases), err)
	}
	id := s.ID.Format(engine.ScriptPrefix)
	sub, err := c.CreateSubscription(ctx, &engine.Subscription{Account: "a", Events: []string{"*"}, TargetURL: testTarget, FilterScript: engine.ScriptRef{Script: s.ID}})
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func() error{
		func() error { return nil },
		func() error {
			_, err := c.UpdateScript(ctx, "a", id, AnyVersion, func(s *engine.Script) error { s.Description = "d"; return nil })
			return err
		},
		func() error { _, _, err := c.AddScriptVersion(ctx, "a", id, "1 == 1", nil, "me", ""); return err },
		func() error { _, _, err := c.SetScriptLive(ctx, "a", id, 2, AnyVersion, false); return err },
		func() error { return c.ScriptRegistry.load(ctx) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		held, err := c.Script("a", "f")
		if err != nil || held.Cases != nil {
			t.Errorf("%d bytes of cases are in memory, %v", len(held.Cases), err)
		}
		if v := c.SubscriptionRegistry.table.get(sub.ID).Filter.version; v == nil || v.Cases != nil {
			t.Errorf("the version in use is %v with cases", v)
		}
		if whole, err := c.WithCases(ctx, held); err != nil || string(whole.Cases) != string(cases) {
			t.Errorf("%d bytes of cases are stored, %v", len(whole.Cases), err)
		}
	}
	if n := c.MemoryUse() - was; n > 10_000 {
		t.Errorf("the script and its subscription count as %d bytes", n)
	}
}

// TestMemory_VersionsInUseCountOnce: a version counts, with what it is compiled to, from its first
// subscription to its last, and neither a subscription nor an activation takes it beyond the limit.
func TestMemory_VersionsInUseCountOnce(t *testing.T) {
	t.Parallel()
	c := newTestCatalog(t)
	ctx := engine.WithActor(t.Context(), engine.Actor{Key: &engine.Key{Name: "k", Admin: true}})
	was := c.MemoryUse()
	source := func(n int) string { return "data.a == \"" + strings.Repeat("x", n) + "\"" }
	s, err := c.CreateScript(ctx, &engine.Script{Account: "a", Name: "f", Kind: engine.KindFilter}, source(1000), "me", "")
	if err != nil {
		t.Fatal(err)
	}
	id := s.ID.Format(engine.ScriptPrefix)
	for _, n := range []int{2000, 3000} {
		if _, _, err := c.AddScriptVersion(ctx, "a", id, source(n), nil, "me", ""); err != nil {
			t.Fatal(err)
		}
	}
	bare := c.MemoryUse()
	subscribe := func(version int) (*engine.Subscription, error) {
		return c.CreateSubscription(ctx, &engine.Subscription{Account: "a", Events: []string{"*"}, TargetURL: testTarget, FilterScript: engine.ScriptRef{Script: s.ID, Version: version}})
	}
	var made []*engine.Subscription
	expect := func(what string, versions ...int) {
		t.Helper()
		want := int64(0)
		for _, n := range versions {
			want += sizeOfSource(engine.KindFilter, source(n))
		}
		for _, sub := range made {
			want += sizeOfSubscription(sub)
		}
		if got := c.MemoryUse() - bare; got != want {
			t.Errorf("%s: %d bytes, want %d", what, got, want)
		}
	}
	add := func(version int) {
		t.Helper()
		sub, err := subscribe(version)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, sub)
	}
	live := func(number int) error {
		_, _, err := c.SetScriptLive(ctx, "a", id, number, AnyVersion, false)
		return err
	}
	add(0)
	expect("live", 1000)
	add(0)
	add(1)
	expect("live and named by its number", 1000)
	add(2)
	expect("two versions", 1000, 2000)
	if err := live(2); err != nil {
		t.Fatal(err)
	}
	expect("the second is live, the first in use", 1000, 2000)
	c.core.cfg.MaxCatalogBytes = accountPart * (c.MemoryUse() + 10_000)
	if err := live(3); engine.ErrorCode(err) != engine.CodeStorageFull {
		t.Errorf("a large version goes live: %v", err)
	}
	if _, err := subscribe(3); engine.ErrorCode(err) != engine.CodeStorageFull {
		t.Errorf("a large version is used: %v", err)
	}
	add(0)
	expect("a version in use has more users", 1000, 2000)
	for len(made) > 0 {
		if err := c.DeleteSubscription(ctx, "a", made[0].ID, AnyVersion); err != nil {
			t.Fatal(err)
		}
		made = made[1:]
	}
	expect("nobody uses it")
	if err := c.DeleteScript(ctx, "a", id, AnyVersion); err != nil {
		t.Fatal(err)
	}
	if got := c.MemoryUse(); got != was || len(c.users) != 0 {
		t.Errorf("%d bytes and %d versions are left of %d", got, len(c.users), was)
	}
}
