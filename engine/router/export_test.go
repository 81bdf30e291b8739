package router

import (
	"context"
	"switchhook/engine"
	"sync"
	"time"
)

// Prune removes all that may go by now, without pauses.
func (e *Engine) Prune(ctx context.Context) error {
	r := retention{Pruner: e.Pruner}
	return r.run(ctx, func(time.Duration) bool { return true })
}

// PruneEvery sets how often it is looked for what may be removed, until the function that it
// gives is called.
func PruneEvery(d time.Duration) (restore func()) {
	before := pruneEvery
	pruneEvery = d
	return func() { pruneEvery = before }
}

// Measure looks at the store and the disk.
func (e *Engine) Measure(ctx context.Context) {
	e.LoadShedder.refusal.Store(e.LoadShedder.checkStore(ctx))
}

// MeasureBacklog counts what waits.
func (e *Engine) MeasureBacklog(ctx context.Context) { e.LoadShedder.countBacklog(ctx) }

// ExpireAll gives up what has waited too long in memory.
func (e *Engine) ExpireAll() { e.Dispatcher.expireDeliveries() }

// Expiries are the deadlines of subscriptions.
type Expiries struct{ expiryQueue }

// NewExpiries makes empty ones.
func NewExpiries() *Expiries { return &Expiries{} }

// Note keeps a deadline.
func (x *Expiries) Note(s *engine.Subscription) { x.add(s) }

// Due takes out what is due.
func (x *Expiries) Due(now time.Time) (engine.ID, bool) { return x.due(now) }

// ScriptCounts are the stats of scripts.
type ScriptCounts struct{ scriptCounts }

// Add counts a run of a script.
func (c *ScriptCounts) Add(id engine.ID, took time.Duration, dropped bool, err error) {
	c.add(id, took, dropped, err)
}

// Len is how many deadlines there are.
func (x *Expiries) Len() int { return len(x.next) }

// Kept counts what is in memory for its use alone: versions of scripts, meters of quotas,
// accounts whose targets are asked, transforms with strikes, deadlines.
func (e *Engine) Kept() map[string]int {
	count := func(m *sync.Map) (n int) {
		m.Range(func(any, any) bool { n++; return true })
		return n
	}
	e.Catalog.accountVerificationSlots.mu.Lock()
	defer e.Catalog.accountVerificationSlots.mu.Unlock()
	e.Catalog.expiries.mu.Lock()
	defer e.Catalog.expiries.mu.Unlock()
	e.Monitor.scripts.mu.Lock()
	defer e.Monitor.scripts.mu.Unlock()
	return map[string]int{
		"versions": count(&e.Catalog.registry.versions), "meters": count(&e.Publisher.quotas.byAccount), "consents": len(e.Catalog.accountVerificationSlots.places),
		"strikes": len(e.Catalog.quarantine.suspects()), "deadlines": len(e.Catalog.expiries.next), "script stats": len(e.Monitor.scripts.byID),
	}
}

// Tidy forgets what nobody needs at a time.
func (e *Engine) Tidy(now time.Time) {
	e.Publisher.quotas.dropIdle(now)
	e.Catalog.forgetUnused()
}

// Forget drops the stats of a deleted script.
func (c *ScriptCounts) Forget(id engine.ID) { c.forget(id) }

// WithDefaults gives c with the defaults in the gaps.
func WithDefaults(c Config) Config {
	c.defaults()
	return c
}

// KeyRing holds keys as a registry does.
type KeyRing struct{ *registry }

// NewKeyRing makes an empty one.
func NewKeyRing() KeyRing {
	return KeyRing{&registry{keys: map[[32]byte]*credential{}, keysByID: map[engine.ID]*credential{}}}
}

// Set puts a key to use.
func (r KeyRing) Set(k *engine.Key) { r.setKey(k) }

// Drop takes a key out of use.
func (r KeyRing) Drop(id engine.ID) { r.dropKey(id) }

// Len is how many keys there are, and how many texts of them.
func (r KeyRing) Len() (keys, texts int) { return len(r.registry.keysByID), len(r.registry.keys) }
