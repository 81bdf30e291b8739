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
