package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"

	"switchhook/scripts"
)

// Subscription requests events: while it is active, each matching event of its account is POSTed to
// its target URL. An answer also has the members that its client sent under other names, such as
// "hookUrl".
type Subscription struct {
	Versioned
	ID     string   `json:"id"`
	Href   string   `json:"href"`  // its path, with the path of the router's public URL
	Event  *string  `json:"event"` // the one entry of events; null if there are several
	Events []string `json:"events"`
	// TargetURL is cut after the first segment of its path for keys without the scope subscribe.
	TargetURL      string `json:"target_url"`
	Account        string `json:"account"`
	Active         bool   `json:"active"`
	InactiveReason string `json:"inactive_reason,omitempty"` // why the router deactivated it
	// Filter is the inline source; "" with a filter_script, or if every event passes.
	Filter          string     `json:"filter"`
	FilterScript    *ScriptRef `json:"filter_script"`    // null: none
	Transform       string     `json:"transform"`        // its own source
	TransformScript *ScriptRef `json:"transform_script"` // null: none
	// Warnings say what in the transform would throw; in the answer to a change only.
	Warnings []scripts.Diagnostic `json:"warnings,omitempty"`
	// Secret is in the answer to CreateSubscription only.
	Secret string `json:"secret,omitempty"`
	// SecretHref is the path of the secret, in the answer to a repeated subscribe only.
	SecretHref string `json:"secret_href,omitempty"`
	SecretType string `json:"secret_type"` // "hmac" or "ed25519"
	// PublicKey is that of an ed25519 secret, for receivers.
	PublicKey  string   `json:"public_key,omitempty"`
	Signatures []string `json:"signatures"`
	// Headers are sent with each delivery. Values are "[hidden]" except those of harmless headers and
	// of VisibleHeaders.
	Headers        map[string]string  `json:"headers"`
	VisibleHeaders []string           `json:"visible_headers"` // headers whose values are shown
	PayloadFormat  string             `json:"payload_format"`
	Numbered       bool               `json:"numbered"`
	Policy         Policy             `json:"policy"`
	Health         TargetHealth       `json:"health"`
	Batch          Optional[Batch]    `json:"batch"`    // null: one event a POST
	Debounce       Optional[Debounce] `json:"debounce"` // null: every event is delivered
	Description    string             `json:"description"`
	// Metadata holds texts, and in "client" the members of requests that the API does not know.
	Metadata     map[string]any `json:"metadata"`
	Verification *Verification  `json:"verification,omitempty"`  // if its target must confirm
	FilterErrors *FilterErrors  `json:"filter_errors,omitempty"` // if the filter failed
	// Quarantine says why deliveries wait for a new version of the transform.
	Quarantine string `json:"quarantine,omitempty"`
	// Unreadable lists stored parts that can't be decoded: deliveries wait.
	Unreadable []string   `json:"unreadable,omitempty"`
	Dialect    string     `json:"dialect,omitempty"` // the dialect in which it was created
	ExpiresAt  *time.Time `json:"expires_at"`        // deleted then; null: never
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
}

// Complete implements Completer.
func (s *Subscription) Complete() bool { return s.ID != "" }

// Text returns an entry of the metadata; "" if there is none, or it is not text.
func (s *Subscription) Text(name string) string {
	text, _ := s.Metadata[name].(string)
	return text
}

// Pending reports whether the target must confirm before it gets events.
func (s *Subscription) Pending() bool {
	return s.Verification != nil && s.Verification.State == "pending"
}

// FilterErrors counts the failures of a filter since it was changed or the router started. An event
// whose filter fails does not match.
type FilterErrors struct {
	Count int64  `json:"count"`
	Last  string `json:"last"`
}

// TargetHealth says whether deliveries of a subscription succeed.
type TargetHealth struct {
	// State is "healthy", "failing" or "probing": then one delivery at a time is attempted.
	State string `json:"state"`
	// Cause is what fails: "target", "transform", "filter" or "subscription".
	Cause string `json:"cause,omitempty"`
	// WaitsFor is the limit that waiting deliveries wait for, which the account's subscriptions share:
	// "account" or "host".
	WaitsFor     string     `json:"waits_for,omitempty"`
	FailingSince *time.Time `json:"failing_since"`
	Failures     int        `json:"failures"` // attempts that failed since then
	LastError    string     `json:"last_error"`
	NextProbeAt  *time.Time `json:"next_probe_at"`
}

// Verification says whether the target has confirmed that it wants deliveries.
type Verification struct {
	Mode        string     `json:"mode"`                   // "hook-secret" or "cloudevents"
	State       string     `json:"state"`                  // "pending" or "confirmed"
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`   // the subscription is deleted if it is pending then
	ConfirmedAt *time.Time `json:"confirmed_at,omitempty"` // once confirmed
	// AllowedRate is the attempts a minute that the target allows; absent: no limit.
	AllowedRate int `json:"allowed_rate,omitempty"`
}

// ScriptRef refers to a script by its id or its name; a request may give either as a text alone.
type ScriptRef struct {
	ID      string `json:"id"` // takes precedence over the name
	Name    string `json:"name"`
	Version *int   `json:"version" nonzero:"leave it out for the live version"` // null: the live one
}

// SetText implements Texter.
func (r *ScriptRef) SetText(text string) { *r = ScriptRef{ID: text} }

// Problem implements Checked.
func (r *ScriptRef) Problem() (member, problem string) {
	switch {
	case r.ID == "" && r.Name == "":
		return "", "must name a script by its id or its name"
	case r.Version != nil && *r.Version < 0:
		return "version", "must be the number of a version, or left out for the live one"
	}
	return "", ""
}

// EventNames are event types and patterns ("order.*", "*"); a request may give one as a text alone.
type EventNames []string

// SetText implements Texter.
func (n *EventNames) SetText(text string) {
	if *n = nil; text != "" {
		*n = EventNames{text}
	}
}

// Texter is a type that a request may also give as a text.
type Texter interface{ SetText(text string) }

// Checked is a type whose value a decoder must check. Problem returns what is wrong, after the name
// of the member or, if member is "", of the value; problem is "" if nothing is.
type Checked interface {
	Problem() (member, problem string)
}

// SubscriptionRequest is the body of [Client.CreateSubscription], [Client.ReplaceSubscription] and
// [Client.UpdateSubscription]. PATCH leaves members alone that are left out. PUT resets them, except
// event, target_url, filter, transform, secret and verify, since clients of REST Hooks send only
// what they know. Clients may use other names for members, see docs/api.md.
type SubscriptionRequest struct {
	Event     Optional[EventNames] `json:"event,omitzero"`  // what to send; or
	Events    Optional[EventNames] `json:"events,omitzero"` // at most 100
	TargetURL Optional[string]     `json:"target_url,omitzero"`
	// Account is for admin keys; default: their own. It can't be changed.
	Account string `json:"account,omitempty" nonzero:"leave it out"`
	// Active is true by default.
	Active Optional[bool] `json:"active,omitzero"`
	// Filter is an expression over the event. It replaces a filter_script.
	Filter       Optional[string]    `json:"filter,omitzero"`
	FilterScript Optional[ScriptRef] `json:"filter_script,omitzero"`
	// Transform is JavaScript or TypeScript. It replaces a transform_script.
	Transform       Optional[string]    `json:"transform,omitzero"`
	TransformScript Optional[ScriptRef] `json:"transform_script,omitzero"`
	// Secret is made by the router by default. A change takes effect at once.
	Secret Optional[string] `json:"secret,omitzero"`
	// SecretType is that of the secret that the router makes: "hmac" (default) or "ed25519".
	SecretType Optional[string]   `json:"secret_type,omitzero"`
	Signatures Optional[[]string] `json:"signatures,omitzero"` // default "standard"
	// Headers are merged by PATCH, which removes those that are null.
	Headers        Optional[map[string]*string] `json:"headers,omitzero"`
	VisibleHeaders Optional[[]string]           `json:"visible_headers,omitzero"`
	PayloadFormat  Optional[string]             `json:"payload_format,omitzero"` // default "standard"
	// Numbered gives deliveries a sequence number.
	Numbered Optional[bool]     `json:"numbered,omitzero"`
	Policy   Optional[Policy]   `json:"policy,omitzero"`
	Batch    Optional[Batch]    `json:"batch,omitzero"`
	Debounce Optional[Debounce] `json:"debounce,omitzero"`
	// Verify says how the target must confirm: "hook-secret" or "cloudevents"; default: not at all.
	Verify      Optional[string] `json:"verify,omitzero"`
	Description Optional[string] `json:"description,omitzero"` // at most 1000 bytes
	// Metadata is merged by PATCH, which removes entries that are null.
	Metadata Optional[map[string]*string] `json:"metadata,omitzero"`
	// ExpiresAt is a minute to 10 years from now; default: never.
	ExpiresAt Optional[time.Time] `json:"expires_at,omitzero"`
	ExpiresIn Optional[Duration]  `json:"expires_in,omitzero"` // instead of expires_at
}

// ListSubscriptionsParams are the filters of [Client.ListSubscriptions].
type ListSubscriptionsParams struct {
	Account   string `query:"account"`    // for admin keys; default: their own
	Event     string `query:"event"`      // that get this event type, or name this pattern
	TargetURL string `query:"target_url"` // with this target
	Active    *bool  `query:"active"`
	Health    string `query:"health"` // "healthy", "failing" or "probing"
	Inline    bool   `query:"inline"` // the targets named with events, instead of the subscriptions
}

const subscriptionsPath = "/api/v1/subscriptions"

func subscriptionPath(id string) string { return subscriptionsPath + "/" + url.PathEscape(id) }

// ListSubscriptions lists the subscriptions of an account, oldest first.
func (c *Client) ListSubscriptions(ctx context.Context, params ListSubscriptionsParams, options ...Option) iter.Seq2[Subscription, error] {
	return List[Subscription](ctx, c, subscriptionsPath, params, options...)
}

// GetSubscription returns a subscription, without its secret.
func (c *Client) GetSubscription(ctx context.Context, id string, options ...Option) (*Subscription, error) {
	return get[Subscription](ctx, c, http.MethodGet, subscriptionPath(id), nil, options...)
}

// CreateSubscription subscribes; the answer has the secret. If the account has such a subscription
// already, the answer is that one, without the secret, unless the option [AllowDuplicates] is given.
func (c *Client) CreateSubscription(ctx context.Context, in SubscriptionRequest, options ...Option) (*Subscription, error) {
	return get[Subscription](ctx, c, http.MethodPost, subscriptionsPath, in, append(options, creates)...)
}

// AllowDuplicates lets CreateSubscription make a second subscription like another.
func AllowDuplicates() Option { return Query("allow_duplicates", "true") }

// ReplaceSubscription changes a subscription and resets what in leaves out, with the exceptions that
// [SubscriptionRequest] lists.
func (c *Client) ReplaceSubscription(ctx context.Context, id string, in SubscriptionRequest, options ...Option) (*Subscription, error) {
	return get[Subscription](ctx, c, http.MethodPut, subscriptionPath(id), in, options...)
}

// UpdateSubscription changes the members that in has.
func (c *Client) UpdateSubscription(ctx context.Context, id string, in SubscriptionRequest, options ...Option) (*Subscription, error) {
	return get[Subscription](ctx, c, http.MethodPatch, subscriptionPath(id), in, options...)
}

// DeleteSubscription deletes a subscription; deliveries that wait become dead.
func (c *Client) DeleteSubscription(ctx context.Context, id string, options ...Option) error {
	return c.Do(ctx, http.MethodDelete, subscriptionPath(id), nil, nil, options...)
}

// TestSubscriptionRequest is the body of [Client.TestSubscription]. At most one of Event, EventID and
// Sample is given; by default the sample of the only event type that the subscription names is sent.
type TestSubscriptionRequest struct {
	Event   json.RawMessage `json:"event,omitempty"`    // an event as it is published: a [PublishRequest]
	EventID string          `json:"event_id,omitempty"` // a stored event, of which a copy is sent
	Sample  string          `json:"sample,omitempty"`   // an event type, for its first sample
}

// TestSubscription sends a test event to a subscription and returns the delivery with its attempt.
func (c *Client) TestSubscription(ctx context.Context, id string, in TestSubscriptionRequest, options ...Option) (*Delivery, error) {
	return get[Delivery](ctx, c, http.MethodPost, "/api/v1/subscriptions/"+url.PathEscape(id)+"/test", in, append(options, creates)...)
}

// ConfirmSubscriptionRequest is the body of [Client.ConfirmSubscription].
type ConfirmSubscriptionRequest struct {
	Secret string `json:"secret"` // the value of X-Hook-Secret that came to the target
}

// ConfirmSubscription confirms that a target wants deliveries. It needs no API key.
func (c *Client) ConfirmSubscription(ctx context.Context, id string, in ConfirmSubscriptionRequest, options ...Option) error {
	return c.Do(ctx, http.MethodPost, subscriptionPath(id)+"/confirm", in, nil, options...)
}

// Secret is a subscription's signing secret.
type Secret struct {
	Secret     string      `json:"secret"`
	SecretType string      `json:"secret_type"`          // "hmac" or "ed25519"
	PublicKey  string      `json:"public_key,omitempty"` // of an ed25519 secret, for receivers
	OldSecrets []OldSecret `json:"old_secrets"`          // that still sign beside it, the last replaced first
}

// Complete implements Completer.
func (s *Secret) Complete() bool { return s.Secret != "" }

// OldSecret is a replaced secret that still signs.
type OldSecret struct {
	Secret     string    `json:"secret"`
	SecretType string    `json:"secret_type"`
	PublicKey  string    `json:"public_key,omitempty"`
	Until      time.Time `json:"until"`
}

// RotateSubscriptionSecretRequest is the body of [Client.RotateSubscriptionSecret].
type RotateSubscriptionSecretRequest struct {
	Secret     string `json:"secret,omitempty"`      // default: a new one
	SecretType string `json:"secret_type,omitempty"` // of the new one; default: as before
	// GracePeriod is how long the old secret signs too: 24h by default, 720h at most, 0s ends it at
	// once.
	GracePeriod *Duration `json:"grace_period,omitempty"`
}

// Rotation is the answer to [Client.RotateSubscriptionSecret].
type Rotation struct {
	Versioned
	Secret     string `json:"secret"`
	SecretType string `json:"secret_type"`
	PublicKey  string `json:"public_key,omitempty"`
	// OldSecretUntil is when deliveries cease to carry the old secret's signature too.
	OldSecretUntil time.Time `json:"old_secret_until"`
}

// Complete implements Completer.
func (r *Rotation) Complete() bool { return r.Secret != "" }

// GetSubscriptionSecret returns a subscription's secret. It needs the scope subscribe.
func (c *Client) GetSubscriptionSecret(ctx context.Context, id string, options ...Option) (*Secret, error) {
	return get[Secret](ctx, c, http.MethodGet, subscriptionPath(id)+"/secret", nil, options...)
}

// RotateSubscriptionSecret replaces a subscription's secret; the old one signs for a while beside it.
func (c *Client) RotateSubscriptionSecret(ctx context.Context, id string, in RotateSubscriptionSecretRequest, options ...Option) (*Rotation, error) {
	return get[Rotation](ctx, c, http.MethodPost, subscriptionPath(id)+"/rotate-secret", in, append(options, creates)...)
}
