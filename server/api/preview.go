package api

import (
	"context"
	"encoding/json"
	"net/http"

	"switchhook/scripts"
)

// PreviewRequest is the body of [Client.Preview]. Exactly one of Event, EventID and Sample is given.
type PreviewRequest struct {
	Account        string `json:"account,omitempty" nonzero:"leave it out"`         // for admin keys; default: the key's own, or that of the subscription
	SubscriptionID string `json:"subscription_id,omitempty" nonzero:"leave it out"` // provides what is not given here: target, headers, format, scripts

	// A script is a source or a reference; a source that is "" is none.
	Filter          *string    `json:"filter,omitempty"`
	FilterScript    *ScriptRef `json:"filter_script,omitempty"`
	Transform       *string    `json:"transform,omitempty"`
	TransformScript *ScriptRef `json:"transform_script,omitempty"`

	Event   json.RawMessage `json:"event,omitempty"`                           // an event as it is published: a [PublishRequest]
	EventID string          `json:"event_id,omitempty" nonzero:"leave it out"` // a stored event, by either of its ids
	Sample  string          `json:"sample,omitempty" nonzero:"leave it out"`   // an event type, for its first sample
}

// Preview is what would happen to an event.
type Preview struct {
	Event       Event                `json:"event"`
	Matched     *bool                `json:"matched"` // null if the filter does not compile; then the transform runs as if it matched
	Filter      *scripts.Explanation `json:"filter"`  // why; null without a filter that compiles
	Dropped     *string              `json:"dropped"` // the transform's reason; null if it did not drop the event
	Request     *AttemptRequest      `json:"request"` // what would be sent; null if nothing would
	Script      *ScriptRun           `json:"script,omitempty"`
	Error       *scripts.Error       `json:"error,omitempty"` // the transform's
	Diagnostics []scripts.Diagnostic `json:"diagnostics"`     // all that is wrong with both scripts
	DurationMS  float64              `json:"duration_ms"`     // elapsed time of filter and transform
}

// Complete implements Completer.
func (p *Preview) Complete() bool { return p.Diagnostics != nil }

// Preview returns what would happen to an event; nothing is stored or sent. Scripts that are wrong
// are no error: the answer says what is wrong with them.
func (c *Client) Preview(ctx context.Context, in PreviewRequest, options ...Option) (*Preview, error) {
	return get[Preview](ctx, c, http.MethodPost, "/api/v1/preview", in, options...)
}
