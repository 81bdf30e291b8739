package catalog

import (
	"context"
	"log/slog"
	"sync"

	"switchhook/engine"
	"switchhook/engine/lifecycle"
	"switchhook/engine/settings"
	"switchhook/engine/snowflake"
	"switchhook/engine/telemetry"
)

// core is what the registries share.
type core struct {
	cfg     settings.Config
	store   engine.Store
	log     *slog.Logger
	metrics *telemetry.Metrics
	life    *lifecycle.Lifecycle
	ids     *snowflake.Maker
	// accounts is here since each change of the configuration is bounded by its account's quota.
	accounts *AccountRegistry
	memory   memoryUse

	// changes serializes the changes of the configuration. It is held over a change of the store
	// and of memory, so that they never differ.
	changes fairLock
}

// audited returns ctx with the audit entry of a change, which the store writes in the same commit, and
// with the account's storage limit. before and after are pointers to the object, or nil: a creation has
// no before, a deletion no after.
func (c *core) audited(ctx context.Context, kind, subject, account string, before, after any) context.Context {
	actor := engine.ActorOf(ctx)
	entry := &engine.AuditEntry{ID: c.ids.Next(), At: c.life.Now(), Kind: kind, Subject: subject, Account: account, Action: engine.ActionUpdate}
	if actor.Key != nil {
		entry.Actor = engine.AuditActor{Key: actor.Key.ID, Name: actor.Key.Name, Account: actor.Key.Account, Address: actor.Address}
	} else {
		entry.Actor.Name = engine.RouterName
	}
	switch {
	case before == nil:
		entry.Action = engine.ActionCreate
	case after == nil:
		entry.Action = engine.ActionDelete
	}
	entry.Describe(before, after)
	if actor.Key != nil && kind != engine.KindAccount && ctx.Value(unlimited{}) == nil {
		ctx = c.accounts.WithStorageLimit(ctx, account)
	}
	return engine.WithEntry(ctx, entry)
}

// unlimited is the key of contexts whose changes no quota refuses: the router's own, which follow from
// a user's, and the replacement of a secret, which may have leaked.
type unlimited struct{}

func withoutLimit(ctx context.Context) context.Context {
	return context.WithValue(ctx, unlimited{}, true)
}

// nilIfZero returns p as an interface that is nil if p is nil.
func nilIfZero[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}

// table is a kind of object in memory, by key. Objects are never changed in place.
type table[K comparable, V any] struct {
	mu   sync.RWMutex
	rows map[K]V
}

// get returns an object; the zero value if there is none.
func (t *table[K, V]) get(key K) V {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.rows[key]
}

// put adds or replaces an object.
func (t *table[K, V]) put(key K, object V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = map[K]V{}
	}
	t.rows[key] = object
}

// remove removes an object.
func (t *table[K, V]) remove(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rows, key)
}

// find returns the objects that match, in any order.
func (t *table[K, V]) find(match func(V) bool) (found []V) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, object := range t.rows {
		if match(object) {
			found = append(found, object)
		}
	}
	return found
}
