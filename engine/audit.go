package engine

import (
	"context"
	"time"
)

// AuditLog keeps who changed what. Entries are stored with the change itself, see
// Catalogue.
type AuditLog interface {
	// Audit lists entries, newest first.
	Audit(ctx context.Context, q AuditQuery) ([]*AuditEntry, error)
	// PruneAudit removes entries with ids below one, the oldest first: one small step, as
	// Prune. more tells whether there are others.
	PruneAudit(ctx context.Context, before ID) (more bool, err error)
}

// Action is what was done to a thing.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
	ActionRotate Action = "rotate" // a key got a new text
)

// The kinds of things that the audit log tells of.
const (
	KindSubscription  = "subscription"
	KindScript        = "script"
	KindScriptVersion = "script_version"
	KindEventType     = "event_type"
	KindAccount       = "account"
	KindKey           = "key"
)

// AuditEntry is one change of one thing.
type AuditEntry struct {
	ID      ID
	At      time.Time
	Actor   AuditActor
	Action  Action
	Kind    string
	Subject string   // the thing's id or name, as users see it; a script version has its script's
	Account string   // whose it is; empty for what belongs to none
	Changed []string // which members differ, those that are hidden included
	Before  []byte   // JSON object; nil where it was made. Secrets are hidden
	After   []byte   // likewise; nil where it was deleted
}

// AuditActor is who made a change, as it is kept: the key may be gone.
type AuditActor struct {
	Key     ID     // 0: the router itself
	Name    string // of the key
	Account string // of the key
	Address string
}

// AuditQuery picks entries. Zero fields don't restrict.
type AuditQuery struct {
	Account string
	Kind    string
	Subject string
	Actor   ID   // a key
	Router  bool // only what the router did by itself
	Since   ID   // this id and above
	Until   ID   // below this id
	Before  ID   // below this id; the cursor of the next page
	Limit   int
}

type auditEntryKey struct{}

// WithEntry gives a context that takes an entry along to the store.
func WithEntry(ctx context.Context, entry *AuditEntry) context.Context {
	return context.WithValue(ctx, auditEntryKey{}, entry)
}

// EntryOf is the entry that a change under ctx is to be stored with; nil: none.
func EntryOf(ctx context.Context) *AuditEntry {
	entry, _ := ctx.Value(auditEntryKey{}).(*AuditEntry)
	return entry
}

// Audit lists entries of the audit log, newest first.
func (e *Engine) Audit(ctx context.Context, q AuditQuery) ([]*AuditEntry, error) {
	return e.store.Audit(ctx, q)
}

// auditingStore is the store as the engine has it: each change of the catalogue goes with its
// entry of the audit log, so that no change can forget it. What a thing was before is read
// from the registry, whose lock the callers hold.
type auditingStore struct {
	Store
	engine *Engine
}

// withAuditEntry is ctx with the entry of a change; before and after are pointers to structs, or nil.
func (a *auditingStore) withAuditEntry(ctx context.Context, kind, subject, account string, before, after any) context.Context {
	e := a.engine
	actor := ActorOf(ctx)
	entry := &AuditEntry{ID: e.ids.Next(), At: e.now(), Kind: kind, Subject: subject, Account: account, Action: ActionUpdate}
	if actor.Key != nil {
		entry.Actor = AuditActor{actor.Key.ID, actor.Key.Name, actor.Key.Account, actor.Address}
	} else {
		entry.Actor.Name = routerName
	}
	switch {
	case before == nil:
		entry.Action = ActionCreate
	case after == nil:
		entry.Action = ActionDelete
	}
	entry.describe(before, after)
	return WithEntry(ctx, entry)
}

// PutSubscription implements Catalogue.
func (a *auditingStore) PutSubscription(ctx context.Context, s *Subscription) error {
	return a.Store.PutSubscription(a.withAuditEntry(ctx, KindSubscription, s.ID.Format(SubscriptionPrefix), s.Account, nilIfZero(a.engine.registry.subscription("", s.ID)), s), s)
}

// DeleteSubscription implements Catalogue.
func (a *auditingStore) DeleteSubscription(ctx context.Context, id ID) error {
	old := a.engine.registry.subscription("", id)
	if old == nil {
		return a.Store.DeleteSubscription(ctx, id)
	}
	return a.Store.DeleteSubscription(a.withAuditEntry(ctx, KindSubscription, id.Format(SubscriptionPrefix), old.Account, old, nil), id)
}

func (a *auditingStore) script(id ID) *Script {
	a.engine.registry.mu.RLock()
	defer a.engine.registry.mu.RUnlock()
	return a.engine.registry.scripts[id]
}

// PutScript implements Catalogue.
func (a *auditingStore) PutScript(ctx context.Context, s *Script) error {
	return a.Store.PutScript(a.withAuditEntry(ctx, KindScript, s.ID.Format(ScriptPrefix), s.Account, nilIfZero(a.script(s.ID)), s), s)
}

// DeleteScript implements Catalogue.
func (a *auditingStore) DeleteScript(ctx context.Context, id ID) error {
	old := a.script(id)
	if old == nil {
		return a.Store.DeleteScript(ctx, id)
	}
	return a.Store.DeleteScript(a.withAuditEntry(ctx, KindScript, id.Format(ScriptPrefix), old.Account, old, nil), id)
}

// PutScriptVersion implements Catalogue.
func (a *auditingStore) PutScriptVersion(ctx context.Context, v *ScriptVersion) error {
	account := ""
	if s := a.script(v.Script); s != nil {
		account = s.Account
	}
	return a.Store.PutScriptVersion(a.withAuditEntry(ctx, KindScriptVersion, v.Script.Format(ScriptPrefix), account, nil, v), v)
}

// PutEventType implements Catalogue.
func (a *auditingStore) PutEventType(ctx context.Context, t *EventType) error {
	var before any
	if old := a.engine.registry.eventType(t.Name); old != nil {
		before = old.EventType
	}
	return a.Store.PutEventType(a.withAuditEntry(ctx, KindEventType, t.Name, "", before, t), t)
}

// DeleteEventType implements Catalogue.
func (a *auditingStore) DeleteEventType(ctx context.Context, name string) error {
	old := a.engine.registry.eventType(name)
	if old == nil {
		return a.Store.DeleteEventType(ctx, name)
	}
	return a.Store.DeleteEventType(a.withAuditEntry(ctx, KindEventType, name, "", old.EventType, nil), name)
}

// PutAccount implements Catalogue.
func (a *auditingStore) PutAccount(ctx context.Context, acc *Account) error {
	var before any
	if old := a.engine.Account(acc.Name); old.Version > 0 {
		before = old
	}
	return a.Store.PutAccount(a.withAuditEntry(ctx, KindAccount, acc.Name, acc.Name, before, acc), acc)
}

// PutKey implements Catalogue.
func (a *auditingStore) PutKey(ctx context.Context, k *Key) error {
	return a.Store.PutKey(a.withAuditEntry(ctx, KindKey, k.ID.Format(KeyPrefix), k.Account, nil, k), k)
}

// ReplaceKey implements Catalogue.
func (a *auditingStore) ReplaceKey(ctx context.Context, k *Key) error {
	ctx = a.withAuditEntry(ctx, KindKey, k.ID.Format(KeyPrefix), k.Account, nilIfZero(a.engine.key(k.ID)), k)
	EntryOf(ctx).Action = ActionRotate
	return a.Store.ReplaceKey(ctx, k)
}

// DeleteKey implements Catalogue.
func (a *auditingStore) DeleteKey(ctx context.Context, id ID) error {
	old := a.engine.key(id)
	if old == nil {
		return a.Store.DeleteKey(ctx, id)
	}
	return a.Store.DeleteKey(a.withAuditEntry(ctx, KindKey, id.Format(KeyPrefix), old.Account, old, nil), id)
}

// nilIfZero is p without a type where it is nil.
func nilIfZero[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}
