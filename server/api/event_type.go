package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// EventType is a registered event type.
type EventType struct {
	Versioned
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Schema      json.RawMessage   `json:"schema"`  // JSON Schema of the data; null: none
	Samples     []json.RawMessage `json:"samples"` // examples of the data
	Verify      string            `json:"verify"`  // asked of the targets: "hook-secret", "cloudevents"; "": nothing
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
}

// Complete implements Completer.
func (t *EventType) Complete() bool { return t.Name != "" }

// EventTypeRequest is the body of [Client.CreateEventType], [Client.ReplaceEventType] and
// [Client.UpdateEventType]. A member that is left out is reset by a replacement, and kept by an
// update. A schema and samples are always replaced as a whole.
type EventTypeRequest struct {
	Name        string                      `json:"name,omitempty"`       // to create it; can't be changed
	Description Optional[string]            `json:"description,omitzero"` // at most 1,000 characters
	Schema      Optional[json.RawMessage]   `json:"schema,omitzero"`      // JSON Schema, drafts 4 to 2020-12, at most 256 KiB
	Samples     Optional[[]json.RawMessage] `json:"samples,omitzero"`     // at most 20; must fit the schema
	Verify      Optional[string]            `json:"verify,omitzero"`
}

// ListEventTypes lists the registered event types by name.
func (c *Client) ListEventTypes(ctx context.Context, options ...Option) iter.Seq2[EventType, error] {
	return List[EventType](ctx, c, "/api/v1/event-types", nil, options...)
}

// GetEventType returns an event type.
func (c *Client) GetEventType(ctx context.Context, name string, options ...Option) (*EventType, error) {
	return get[EventType](ctx, c, http.MethodGet, eventTypePath(name), nil, options...)
}

// CreateEventType registers an event type that does not exist. It needs an admin key.
func (c *Client) CreateEventType(ctx context.Context, in EventTypeRequest, options ...Option) (*EventType, error) {
	return get[EventType](ctx, c, http.MethodPost, "/api/v1/event-types", in, append(options, creates)...)
}

// ReplaceEventType creates or replaces an event type. It needs an admin key.
func (c *Client) ReplaceEventType(ctx context.Context, name string, in EventTypeRequest, options ...Option) (*EventType, error) {
	return get[EventType](ctx, c, http.MethodPut, eventTypePath(name), in, options...)
}

// UpdateEventType changes the given members of an event type. It needs an admin key.
func (c *Client) UpdateEventType(ctx context.Context, name string, in EventTypeRequest, options ...Option) (*EventType, error) {
	return get[EventType](ctx, c, http.MethodPatch, eventTypePath(name), in, options...)
}

// DeleteEventType removes an event type; subscriptions that name it stay. It needs an admin key.
func (c *Client) DeleteEventType(ctx context.Context, name string, options ...Option) error {
	return c.Do(ctx, http.MethodDelete, eventTypePath(name), nil, nil, options...)
}

// ListSamplesParams says what samples look like; at most one of the first three may be given.
type ListSamplesParams struct {
	PayloadFormat   string `query:"payload_format"`   // as a subscription with this format gets them
	SubscriptionID  string `query:"subscription_id"`  // as this subscription gets them
	TransformScript string `query:"transform_script"` // as this script, by id or name, makes them
	Limit           int    `query:"limit"`            // 1 to 100; default 3
	Account         string `query:"account"`          // for admin keys
}

// ListSamples returns examples of what a subscription to an event type receives: from stored events,
// else from the samples of the type.
func (c *Client) ListSamples(ctx context.Context, name string, p ListSamplesParams, options ...Option) ([]json.RawMessage, error) {
	var list []json.RawMessage
	err := c.Do(ctx, http.MethodGet, eventTypePath(name)+"/samples", nil, &list, append(options, Params(p))...)
	return list, err
}

func eventTypePath(name string) string { return "/api/v1/event-types/" + url.PathEscape(name) }
