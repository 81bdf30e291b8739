package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Event is a stored event.
type Event struct {
	ID         string            `json:"id"`         // the publisher's, or else the same as WebhookID
	WebhookID  string            `json:"webhook_id"` // the header webhook-id of its deliveries
	Type       string            `json:"type"`
	Account    string            `json:"account"`
	Time       time.Time         `json:"time"`        // when it happened
	ReceivedAt time.Time         `json:"received_at"` // when it was accepted
	Headers    map[string]string `json:"headers,omitempty"`
	Matched    int               `json:"matched"`        // number of subscriptions that get a delivery
	Hops       int               `json:"hops,omitempty"` // number of deliveries that led to it, one after the other
	Data       json.RawMessage   `json:"data"`           // as it was published
	// Deliveries are the first 500, with a single event only.
	Deliveries []Delivery `json:"deliveries,omitzero"`
	// NextDeliveries is the path of the next page of deliveries, if there are more.
	NextDeliveries string `json:"next_deliveries,omitempty"`
	// Unreadable names the stored parts that can't be decoded; they are left out.
	Unreadable []string `json:"unreadable,omitempty"`
}

// Complete implements Completer.
func (e *Event) Complete() bool { return e.ID != "" && e.WebhookID != "" }

// EventByToken is an event as the holder of a skinny payload's token gets it.
type EventByToken struct {
	ID        string          `json:"id"`
	WebhookID string          `json:"webhook_id"`
	Type      string          `json:"type"`
	Time      time.Time       `json:"time"`
	Data      json.RawMessage `json:"data"`
}

// PublishRequest is an event as it is published.
type PublishRequest struct {
	Type    string            `json:"type"`              // such as "order.created"
	Data    any               `json:"data"`              // the payload, any JSON value
	ID      string            `json:"id,omitempty"`      // the publisher's own; the same id again is the same event
	Account string            `json:"account,omitempty"` // default: the account of the key; another needs an admin key
	Time    *time.Time        `json:"time,omitempty"`    // when it happened, to the millisecond; default: now
	Headers map[string]string `json:"headers,omitempty"` // for filters and transforms; not sent by themselves; at most 64
	Targets []EventTarget     `json:"targets,omitempty"` // at most 20; needs the scope targets
}

// EventTarget is a target without a subscription that receives an event. The router makes a hidden
// subscription for each new one.
type EventTarget struct {
	TargetURL     string            `json:"target_url"`
	Secret        string            `json:"secret,omitempty"` // default: a new one
	Headers       map[string]string `json:"headers,omitempty"`
	Transform     string            `json:"transform,omitempty"` // needs the scope scripts
	PayloadFormat string            `json:"payload_format,omitempty"`
}

// AcceptedEvent is the answer to a published event. It is on disk, and will be delivered at least
// once.
type AcceptedEvent struct {
	ID      string           `json:"id"`                // the publisher's, or the router's
	Matched int              `json:"matched"`           // number of subscriptions that get a delivery, targets included
	Targets []AcceptedTarget `json:"targets,omitempty"` // the targets named with the event, in order
}

// Complete implements Completer.
func (a *AcceptedEvent) Complete() bool { return a.ID != "" }

// AcceptedTarget names the hidden subscription of a target. Its secret and deliveries are found by
// its id.
type AcceptedTarget struct {
	SubscriptionID string `json:"subscription_id"`
	TargetURL      string `json:"target_url"`
}

// AcceptedEvents is the answer to a list of published events.
type AcceptedEvents struct {
	Data []AcceptedEvent `json:"data"` // in the order of the request
}

// Complete implements Completer.
func (a *AcceptedEvents) Complete() bool { return a.Data != nil }

// Publish publishes an event. When it returns, the event is on disk.
func (c *Client) Publish(ctx context.Context, in PublishRequest, options ...Option) (*AcceptedEvent, error) {
	return get[AcceptedEvent](ctx, c, http.MethodPost, "/api/v1/events", in, append(options, creates)...)
}

// PublishList publishes 1 to 1,000 events: all of them or none.
func (c *Client) PublishList(ctx context.Context, list []PublishRequest, options ...Option) ([]AcceptedEvent, error) {
	return c.publishList(ctx, list, append(options, creates))
}

// PublishCloudEvents publishes 1 to 1,000 CloudEvents 1.0, each an object in the JSON event format:
// all of them or none. Their source and id together name an event.
func (c *Client) PublishCloudEvents(ctx context.Context, list []map[string]any, options ...Option) ([]AcceptedEvent, error) {
	return c.publishList(ctx, list, append(options, creates, Header("Content-Type", "application/cloudevents-batch+json")))
}

func (c *Client) publishList(ctx context.Context, list any, options []Option) ([]AcceptedEvent, error) {
	answer, err := get[AcceptedEvents](ctx, c, http.MethodPost, "/api/v1/events", list, options...)
	if err != nil {
		return nil, err
	}
	return answer.Data, nil
}

// ListEventsParams selects events.
type ListEventsParams struct {
	Type    string    `query:"type"`    // one type, no pattern
	Since   time.Time `query:"since"`   // received at this time or later
	Until   time.Time `query:"until"`   // received before this time
	Account string    `query:"account"` // for admin keys; "*" is all
}

// ListEvents lists events, newest first.
func (c *Client) ListEvents(ctx context.Context, p ListEventsParams, options ...Option) iter.Seq2[Event, error] {
	return List[Event](ctx, c, "/api/v1/events", p, options...)
}

// ListPayloads lists events, newest first, as subscriptions with this payload format and without a
// transform receive them.
func (c *Client) ListPayloads(ctx context.Context, format string, p ListEventsParams, options ...Option) iter.Seq2[json.RawMessage, error] {
	return List[json.RawMessage](ctx, c, "/api/v1/events", p, append(options, Query("payload_format", format))...)
}

// GetEvent returns an event with its first deliveries. id is the publisher's or the router's.
func (c *Client) GetEvent(ctx context.Context, id string, options ...Option) (*Event, error) {
	return get[Event](ctx, c, http.MethodGet, "/api/v1/events/"+url.PathEscape(id), nil, options...)
}
