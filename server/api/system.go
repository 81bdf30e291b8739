package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// Me is the API key that a request carries.
type Me struct {
	Account string   `json:"account"`
	KeyID   string   `json:"key_id"`
	Name    string   `json:"name"`   // of the key
	Prefix  string   `json:"prefix"` // the key's first characters
	Admin   bool     `json:"admin"`
	Scopes  []string `json:"scopes"` // what the key may do in its account
}

// Complete implements Completer.
func (m *Me) Complete() bool { return m.KeyID != "" }

// GetMe returns the client's API key, as a test of the connection.
func (c *Client) GetMe(ctx context.Context, options ...Option) (*Me, error) {
	return get[Me](ctx, c, http.MethodGet, "/api/v1/me", nil, options...)
}

// Health is the answer of a router that runs.
type Health struct {
	Status  string `json:"status"` // "ok"
	Version string `json:"version"`
}

// Complete implements Completer.
func (h *Health) Complete() bool { return h.Status != "" }

// GetHealth reports whether the router runs. It needs no key.
func (c *Client) GetHealth(ctx context.Context, options ...Option) (*Health, error) {
	return get[Health](ctx, c, http.MethodGet, "/healthz", nil, options...)
}

// Readiness is the answer of a router that accepts events.
type Readiness struct {
	Status string `json:"status"` // "ready"
	// Degraded names what the router lacks, so that deliveries wait; no attempt counts for it.
	Degraded []string `json:"degraded,omitempty"`
}

// Complete implements Completer.
func (r *Readiness) Complete() bool { return r.Status != "" }

// GetReadiness reports whether the router accepts events; if it does not, the error says why. It needs no
// key.
func (c *Client) GetReadiness(ctx context.Context, options ...Option) (*Readiness, error) {
	return get[Readiness](ctx, c, http.MethodGet, "/readyz", nil, options...)
}

// AuditEntry is a change of the configuration.
type AuditEntry struct {
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Actor     AuditActor      `json:"actor"`
	Action    string          `json:"action"`     // "create", "update", "delete", "rotate"
	Kind      string          `json:"kind"`       // "subscription", "script", "script_version", "event_type", "account", "key"
	SubjectID string          `json:"subject_id"` // id of the resource, or its name if it has no id
	Account   *string         `json:"account"`    // null if it belongs to no account
	Changed   []string        `json:"changed"`    // members that differ, hidden ones too
	Before    json.RawMessage `json:"before"`     // null on create; secrets are "[hidden]"
	After     json.RawMessage `json:"after"`      // null on delete
}

// AuditActor is who made a change.
type AuditActor struct {
	Type    string  `json:"type"`    // "key", "switchhook" (the router itself), "operator" (a key of another account)
	KeyID   *string `json:"key_id"`  // null unless Type is "key"; it may be deleted since
	Name    string  `json:"name"`    // of the key
	Address *string `json:"address"` // where the request came from; null unless Type is "key"
}

// ListAuditParams selects entries of the audit log.
type ListAuditParams struct {
	Kind      string    `query:"kind"`
	SubjectID string    `query:"subject_id"`
	Actor     string    `query:"actor"` // a key's id, or "switchhook"
	Since     time.Time `query:"since"`
	Until     time.Time `query:"until"`   // excluded
	Account   string    `query:"account"` // for admin keys; "*" is all
}

// ListAudit lists changes of the configuration, newest first.
func (c *Client) ListAudit(ctx context.Context, p ListAuditParams, options ...Option) iter.Seq2[AuditEntry, error] {
	return List[AuditEntry](ctx, c, "/api/v1/audit", p, options...)
}
