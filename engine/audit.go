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
