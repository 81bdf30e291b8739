package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// ReplayStatus is the state of a replay.
type ReplayStatus string

// The states of a replay. One whose subscription is not active pauses by itself, and says so in
// Error.
const (
	ReplayRunning   ReplayStatus = "running"
	ReplayPaused    ReplayStatus = "paused"
	ReplayCompleted ReplayStatus = "completed"
	ReplayCancelled ReplayStatus = "cancelled"
)

// DeliveryMissing selects, in a replay, events that match a subscription and have no delivery to it.
const DeliveryMissing DeliveryStatus = "missing"

// Replay is a job that sends stored events to subscriptions again, or for the first time.
type Replay struct {
	ID                   string           `json:"id"`
	Account              string           `json:"account"`
	Status               ReplayStatus     `json:"status"`
	Progress             float64          `json:"progress"` // 0 to 1, by the time that its events span
	Examined             int64            `json:"examined"` // deliveries and events
	Queued               int64            `json:"queued"`   // deliveries that were made pending
	Error                string           `json:"error,omitempty"`
	SubscriptionIDs      []string         `json:"subscription_ids"`
	TargetSubscriptionID *string          `json:"target_subscription_id"` // null: each delivery's own subscription
	Since                *time.Time       `json:"since"`                  // null: from the first event
	Until                time.Time        `json:"until"`
	EventTypes           []string         `json:"event_types"` // empty: all
	DeliveryStatus       []DeliveryStatus `json:"delivery_status"`
	Filter               string           `json:"filter"`
	Rate                 int              `json:"rate"` // deliveries per second at most
	CreatedAt            time.Time        `json:"created_at"`
	UpdatedAt            time.Time        `json:"updated_at"`
	FinishedAt           *time.Time       `json:"finished_at"` // null until it is completed or cancelled
}

// Complete implements Completer.
func (r *Replay) Complete() bool { return r.ID != "" && r.Status != "" }

// CreateReplayRequest is the body of [Client.CreateReplay].
type CreateReplayRequest struct {
	// SubscriptionIDs are the subscriptions whose deliveries are replayed: 1 to 1,000 of one account.
	SubscriptionIDs []string `json:"subscription_ids"`
	// TargetSubscriptionID is a subscription that makes the requests and gets them instead; default:
	// each delivery goes to its own.
	TargetSubscriptionID string           `json:"target_subscription_id,omitempty" nonzero:"leave it out"`
	Since                *time.Time       `json:"since,omitempty"`                       // events received then or later; default: all
	Until                *time.Time       `json:"until,omitempty"`                       // events received before; default: now
	EventTypes           []string         `json:"event_types,omitempty"`                 // types or patterns, at most 100; default: all
	DeliveryStatus       []DeliveryStatus `json:"delivery_status,omitempty"`             // default: dead
	Filter               string           `json:"filter,omitempty"`                      // expr, besides the subscription's own filter
	Rate                 int              `json:"rate,omitempty" nonzero:"leave it out"` // deliveries per second, 1 to 10,000; default 100
}

// ListReplaysParams selects replays by their creation.
type ListReplaysParams struct {
	Since   time.Time `query:"since"`
	Until   time.Time `query:"until"`   // excluded
	Account string    `query:"account"` // for admin keys; "*" is all
}

// ListReplays lists replays, newest first.
func (c *Client) ListReplays(ctx context.Context, p ListReplaysParams, options ...Option) iter.Seq2[Replay, error] {
	return List[Replay](ctx, c, "/api/v1/replays", p, options...)
}

// CreateReplay starts a replay.
func (c *Client) CreateReplay(ctx context.Context, in CreateReplayRequest, options ...Option) (*Replay, error) {
	return get[Replay](ctx, c, http.MethodPost, "/api/v1/replays", in, append(options, creates)...)
}

// GetReplay returns a replay.
func (c *Client) GetReplay(ctx context.Context, id string, options ...Option) (*Replay, error) {
	return get[Replay](ctx, c, http.MethodGet, replayPath(id, ""), nil, options...)
}

// PauseReplay stops a replay until it is resumed.
func (c *Client) PauseReplay(ctx context.Context, id string, options ...Option) (*Replay, error) {
	return get[Replay](ctx, c, http.MethodPost, replayPath(id, "/pause"), nil, options...)
}

// ResumeReplay continues a paused replay.
func (c *Client) ResumeReplay(ctx context.Context, id string, options ...Option) (*Replay, error) {
	return get[Replay](ctx, c, http.MethodPost, replayPath(id, "/resume"), nil, options...)
}

// CancelReplay ends a replay. Deliveries that it queued are still made.
func (c *Client) CancelReplay(ctx context.Context, id string, options ...Option) (*Replay, error) {
	return get[Replay](ctx, c, http.MethodPost, replayPath(id, "/cancel"), nil, options...)
}

func replayPath(id, verb string) string { return "/api/v1/replays/" + url.PathEscape(id) + verb }
