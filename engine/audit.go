package engine

import (
	"context"
	"time"
)

// AuditLog stores the history of configuration changes. An entry is stored in the same commit as
// its change, see Catalog.
type AuditLog interface {
	// Audit lists entries, newest first.
	Audit(ctx context.Context, q AuditQuery) (list []*AuditEntry, next ID, err error)
	// PruneAudit removes entries with ids below before, the oldest first, in one small step, as
	// Prune does. more reports whether others remain.
	PruneAudit(ctx context.Context, before ID) (more bool, err error)
}

// Action is the kind of a change.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
	ActionRotate Action = "rotate" // a key got a new text
)

// The kinds of objects in the audit log.
const (
	KindSubscription  = "subscription"
	KindScript        = "script"
	KindScriptVersion = "script_version"
	KindEventType     = "event_type"
	KindAccount       = "account"
	KindKey           = "key"
)

// AuditEntry is one change of one object.
type AuditEntry struct {
	ID      ID
	At      time.Time
	Actor   AuditActor
	Action  Action
	Kind    string
	Subject string   // the object's id or name, as users see it; for a script version, its script's
	Account string   // owner of the object; empty if it belongs to no account
	Changed []string // names of the members that differ, hidden ones included
	Before  []byte   // JSON object; nil if the object was created. Secrets are hidden
	After   []byte   // JSON object; nil if the object was deleted. Secrets are hidden
}

// AuditActor is the author of a change as it is stored: the key may be deleted by now.
type AuditActor struct {
	Key     ID     // 0: the router itself
	Name    string // of the key
	Account string // of the key
	Address string
}

// AuditQuery selects entries. Zero fields don't restrict.
type AuditQuery struct {
	Account  string
	Kind     string
	Subject  string
	Actor    ID   // a key
	Router   bool // only changes by the router itself
	Since    ID   // this id and above
	Until    ID   // below this id
	Before   ID   // below this id; the cursor of the next page
	Limit    int
	MaxBytes int64
}

type auditEntryKey struct{}

// WithEntry returns a context that carries an audit entry to the store.
func WithEntry(ctx context.Context, entry *AuditEntry) context.Context {
	return context.WithValue(ctx, auditEntryKey{}, entry)
}

// EntryOf returns the audit entry to be stored with a change under ctx; nil if there is none.
func EntryOf(ctx context.Context) *AuditEntry {
	entry, _ := ctx.Value(auditEntryKey{}).(*AuditEntry)
	return entry
}
