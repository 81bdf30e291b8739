package catalog

import (
	"context"

	"switchhook/engine"
)

// Audit lists entries of the audit log, newest first.
func (c *Catalog) Audit(ctx context.Context, q engine.AuditQuery) ([]*engine.AuditEntry, error) {
	return c.store.Audit(ctx, q)
}

// auditingStore wraps the store so that every change of the catalog is stored with its audit entry.
// It reads the previous state from the registry, whose lock the caller holds.
type auditingStore struct {
	engine.Store
	catalog *Catalog
}

// withAuditEntry returns ctx with the entry of a change; before and after are pointers to structs,
// or nil.
func (a *auditingStore) withAuditEntry(ctx context.Context, kind, subject, account string, before, after any) context.Context {
	c := a.catalog
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
	return engine.WithEntry(ctx, entry)
}

// PutSubscription implements Catalog.
func (a *auditingStore) PutSubscription(ctx context.Context, s *engine.Subscription) error {
	return a.Store.PutSubscription(a.withAuditEntry(ctx, engine.KindSubscription, s.ID.Format(engine.SubscriptionPrefix), s.Account, nilIfZero(a.catalog.registry.subscription("", s.ID)), s), s)
}

// DeleteSubscription implements Catalog.
func (a *auditingStore) DeleteSubscription(ctx context.Context, id engine.ID) error {
	old := a.catalog.registry.subscription("", id)
	if old == nil {
		return a.Store.DeleteSubscription(ctx, id)
	}
	return a.Store.DeleteSubscription(a.withAuditEntry(ctx, engine.KindSubscription, id.Format(engine.SubscriptionPrefix), old.Account, old, nil), id)
}

func (a *auditingStore) script(id engine.ID) *engine.Script {
	a.catalog.registry.mu.RLock()
	defer a.catalog.registry.mu.RUnlock()
	return a.catalog.registry.scripts[id]
}

// PutScript implements Catalog.
func (a *auditingStore) PutScript(ctx context.Context, s *engine.Script) error {
	return a.Store.PutScript(a.withAuditEntry(ctx, engine.KindScript, s.ID.Format(engine.ScriptPrefix), s.Account, nilIfZero(a.script(s.ID)), s), s)
}

// DeleteScript implements Catalog.
func (a *auditingStore) DeleteScript(ctx context.Context, id engine.ID) error {
	old := a.script(id)
	if old == nil {
		return a.Store.DeleteScript(ctx, id)
	}
	return a.Store.DeleteScript(a.withAuditEntry(ctx, engine.KindScript, id.Format(engine.ScriptPrefix), old.Account, old, nil), id)
}

// PutScriptVersion implements Catalog.
func (a *auditingStore) PutScriptVersion(ctx context.Context, v *engine.ScriptVersion) error {
	account := ""
	if s := a.script(v.Script); s != nil {
		account = s.Account
	}
	return a.Store.PutScriptVersion(a.withAuditEntry(ctx, engine.KindScriptVersion, v.Script.Format(engine.ScriptPrefix), account, nil, v), v)
}

// PutEventType implements Catalog.
func (a *auditingStore) PutEventType(ctx context.Context, t *engine.EventType) error {
	var before any
	if old := a.catalog.registry.eventType(t.Name); old != nil {
		before = old.EventType
	}
	return a.Store.PutEventType(a.withAuditEntry(ctx, engine.KindEventType, t.Name, "", before, t), t)
}

// DeleteEventType implements Catalog.
func (a *auditingStore) DeleteEventType(ctx context.Context, name string) error {
	old := a.catalog.registry.eventType(name)
	if old == nil {
		return a.Store.DeleteEventType(ctx, name)
	}
	return a.Store.DeleteEventType(a.withAuditEntry(ctx, engine.KindEventType, name, "", old.EventType, nil), name)
}

// PutAccount implements Catalog.
func (a *auditingStore) PutAccount(ctx context.Context, acc *engine.Account) error {
	var before any
	if old := a.catalog.Account(acc.Name); old.Version > 0 {
		before = old
	}
	return a.Store.PutAccount(a.withAuditEntry(ctx, engine.KindAccount, acc.Name, acc.Name, before, acc), acc)
}

// PutKey implements Catalog.
func (a *auditingStore) PutKey(ctx context.Context, k *engine.Key) error {
	return a.Store.PutKey(a.withAuditEntry(ctx, engine.KindKey, k.ID.Format(engine.KeyPrefix), k.Account, nil, k), k)
}

// ReplaceKey implements Catalog.
func (a *auditingStore) ReplaceKey(ctx context.Context, k *engine.Key) error {
	ctx = a.withAuditEntry(ctx, engine.KindKey, k.ID.Format(engine.KeyPrefix), k.Account, nilIfZero(a.catalog.key(k.ID)), k)
	engine.EntryOf(ctx).Action = engine.ActionRotate
	return a.Store.ReplaceKey(ctx, k)
}

// DeleteKey implements Catalog.
func (a *auditingStore) DeleteKey(ctx context.Context, id engine.ID) error {
	old := a.catalog.key(id)
	if old == nil {
		return a.Store.DeleteKey(ctx, id)
	}
	return a.Store.DeleteKey(a.withAuditEntry(ctx, engine.KindKey, id.Format(engine.KeyPrefix), old.Account, old, nil), id)
}

// nilIfZero returns p as an interface that is nil if p is nil.
func nilIfZero[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}
