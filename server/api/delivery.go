package api

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// DeliveryStatus is the state of a delivery.
type DeliveryStatus string

// The states of a delivery.
const (
	DeliveryPending   DeliveryStatus = "pending"   // waits for its next attempt, which is due
	DeliveryRetrying  DeliveryStatus = "retrying"  // the last attempt failed; the next is at NextAttemptAt
	DeliverySucceeded DeliveryStatus = "succeeded" // the target answered 2xx
	DeliveryDead      DeliveryStatus = "dead"      // no further attempt: a dead letter
	DeliveryDropped   DeliveryStatus = "dropped"   // nothing to send: by its transform, or by debounce
)

// AttemptOutcome is the result of an attempt.
type AttemptOutcome string

// The results of an attempt.
const (
	AttemptSucceeded       AttemptOutcome = "succeeded"        // the target answered 2xx
	AttemptDropped         AttemptOutcome = "dropped"          // the transform dropped the event
	AttemptRejected        AttemptOutcome = "rejected"         // the target answered with another status
	AttemptTimeout         AttemptOutcome = "timeout"          // the time was up; Phase says in which part
	AttemptConnectionError AttemptOutcome = "connection_error" // no connection, or it broke off; see Phase
	AttemptTargetBlocked   AttemptOutcome = "target_blocked"   // the router may not connect to this address
	AttemptScriptError     AttemptOutcome = "script_error"     // the transform failed
	AttemptInternalError   AttemptOutcome = "internal_error"   // the stored event could not be read
)

// Delivery is one event for one subscription.
type Delivery struct {
	ID             string         `json:"id"`
	EventID        string         `json:"event_id"` // the publisher's, or the router's
	EventType      string         `json:"event_type"`
	SubscriptionID string         `json:"subscription_id"`
	Account        string         `json:"account"`
	Status         DeliveryStatus `json:"status"`
	Sequence       int64          `json:"sequence,omitempty"` // header webhook-sequence, if the subscription is numbered
	AttemptCount   int            `json:"attempt_count"`
	NextAttemptAt  *time.Time     `json:"next_attempt_at"` // null unless retrying
	LastAttemptAt  *time.Time     `json:"last_attempt_at"` // null before the first
	ResponseStatus int            `json:"response_status,omitempty"`
	Error          string         `json:"error,omitempty"` // the last error; left out after success
	// Attempts are the newest 50, newest first, without bodies; with a single delivery only.
	Attempts []Attempt `json:"attempts,omitzero"`
	// NextAttempts is the path of the next page of attempts, if there are more.
	NextAttempts string `json:"next_attempts,omitempty"`
}

// Complete implements Completer.
func (d *Delivery) Complete() bool { return d.ID != "" && d.Status != "" }

// Attempt is one attempt of a delivery: one POST, or a transform that failed before it.
type Attempt struct {
	Number     int              `json:"number"` // 1 is the first
	At         time.Time        `json:"at"`
	Outcome    AttemptOutcome   `json:"outcome"`
	DurationMS float64          `json:"duration_ms"` // transform, connection, response and its body
	Request    *AttemptRequest  `json:"request"`     // null if none was sent
	Response   *AttemptResponse `json:"response"`    // null if none was received
	Error      string           `json:"error,omitempty"`
	Phase      string           `json:"phase,omitempty"`  // the part that failed: "dns", "connect", "http", …
	Batch      int              `json:"batch,omitempty"`  // number of events in the POST, if it was a JSON array
	Resent     bool             `json:"resent,omitempty"` // sent a second time, on a new connection
	Script     *ScriptRun       `json:"script,omitempty"` // the transform's run
	// NotStored means that headers, bodies and console output were not stored: the account had used up
	// its quota of bytes.
	NotStored bool `json:"not_stored,omitempty"`
}

// Complete implements Completer.
func (a *Attempt) Complete() bool { return a.Number > 0 }

// AttemptRequest is the request of an attempt as it was sent. Credentials are "[hidden]".
type AttemptRequest struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	AttemptBody
}

// AttemptResponse is the target's response.
type AttemptResponse struct {
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Truncated bool              `json:"truncated"`            // longer than the 16 KiB that are kept, or broken off
	BodyError string            `json:"body_error,omitempty"` // why the body broke off
	AttemptBody
}

// AttemptBody is the body of a request or response.
type AttemptBody struct {
	Size     int     `json:"body_size"`               // in bytes
	Body     *string `json:"body,omitempty"`          // nil in a list of attempts: GetAttempt has it
	Encoding string  `json:"body_encoding,omitempty"` // "base64" if the body is not UTF-8
}

// ScriptRun is one run of a transform.
type ScriptRun struct {
	ID      string   `json:"id,omitempty"`      // of the script, if the subscription uses one
	Version int      `json:"version,omitempty"` // of the script
	Hash    string   `json:"hash"`              // of the source
	CPUMS   float64  `json:"cpu_ms"`
	Memory  int64    `json:"memory_bytes,omitempty"` // in previews
	Console []string `json:"console,omitempty"`
}

// ListDeliveriesParams selects deliveries. A time is that of receiving the event.
type ListDeliveriesParams struct {
	SubscriptionID string         `query:"subscription_id"`
	EventID        string         `query:"event_id"`   // the publisher's, or the router's
	EventType      string         `query:"event_type"` // one type, no pattern
	Status         DeliveryStatus `query:"status"`
	Since          time.Time      `query:"since"`
	Until          time.Time      `query:"until"`   // excluded
	Account        string         `query:"account"` // for admin keys; "*" is all
}

// ListDeliveries lists deliveries without their attempts, those of the newest event first.
func (c *Client) ListDeliveries(ctx context.Context, p ListDeliveriesParams, options ...Option) iter.Seq2[Delivery, error] {
	return List[Delivery](ctx, c, "/api/v1/deliveries", p, options...)
}

// GetDelivery returns a delivery with its newest attempts.
func (c *Client) GetDelivery(ctx context.Context, id string, options ...Option) (*Delivery, error) {
	return get[Delivery](ctx, c, http.MethodGet, "/api/v1/deliveries/"+url.PathEscape(id), nil, options...)
}

// ListAttempts lists the attempts of a delivery, newest first, with the sizes of their bodies.
func (c *Client) ListAttempts(ctx context.Context, delivery string, options ...Option) iter.Seq2[Attempt, error] {
	return List[Attempt](ctx, c, "/api/v1/deliveries/"+url.PathEscape(delivery)+"/attempts", nil, options...)
}

// GetAttempt returns an attempt of a delivery with the bodies of its request and response.
func (c *Client) GetAttempt(ctx context.Context, delivery string, number int, options ...Option) (*Attempt, error) {
	path := "/api/v1/deliveries/" + url.PathEscape(delivery) + "/attempts/" + strconv.Itoa(number)
	return get[Attempt](ctx, c, http.MethodGet, path, nil, options...)
}

// RetryDelivery makes a delivery that waits for nothing pending again: its next attempt is made now.
func (c *Client) RetryDelivery(ctx context.Context, id string, options ...Option) (*Delivery, error) {
	return get[Delivery](ctx, c, http.MethodPost, "/api/v1/deliveries/"+url.PathEscape(id)+"/retry", nil, append(options, creates)...)
}
