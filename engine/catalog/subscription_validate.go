package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/scripts"
)

const (
	maxPatterns      = 100
	maxMetadata      = 50
	maxMetadataBytes = 8 << 10
	maxDescription   = 1000
	maxSamples       = 20
	maxSampleBytes   = 64 << 10
)

// validateSubscription validates s, fills in defaults, and compiles its scripts. Members equal to
// those of old, which may be nil, were validated before.
func (c *Catalog) validateSubscription(ctx context.Context, s, old *engine.Subscription) (*scripts.Program, error) {
	if s.Secret == "" {
		secret, err := signature.NewSecret(signature.HMAC)
		if err != nil {
			return nil, err
		}
		s.Secret = secret
	}
	s.UpdatedAt = c.life.Now()
	if err := engine.MayAttach(ctx, s, old); err != nil {
		return nil, err
	}
	if err := engine.CheckAccount(s.Account); err != nil {
		return nil, err
	}
	if err := checkInline(s, old); err != nil {
		return nil, err
	}
	if err := validatePatterns(s); err != nil {
		return nil, err
	}
	if s.TargetURL == "" {
		return nil, engine.Invalid("target_url", "is missing: give the URL to which events are to be POSTed")
	}
	if old == nil || s.TargetURL != old.TargetURL {
		if err := c.validateTarget(ctx, s.TargetURL); err != nil {
			return nil, err
		}
	}
	if err := c.validateExpiry(s, old); err != nil {
		return nil, err
	}
	if err := checkSigning(s); err != nil {
		return nil, err
	}
	if err := CheckVerificationMode(s.Verification.Mode); err != nil {
		return nil, err
	}
	if err := ValidateHeadersAndFormat(s); err != nil {
		return nil, err
	}
	if old == nil || !reflect.DeepEqual(s.Policy, old.Policy) { // a stored policy stays valid when the router's limits change
		if err := validatePolicy(&s.Policy, c.cfg.InFlight); err != nil {
			return nil, err
		}
	}
	if err := c.validateBatching(s); err != nil {
		return nil, err
	}
	source, err := c.CheckScriptUse(ctx, s, engine.KindFilter, s.Filter, s.FilterScript)
	if err != nil {
		return nil, err
	}
	if source != "" {
		if _, err := c.filters.Compile(source, c.registry.schemas(s.Events)...); err != nil {
			return nil, ScriptError("filter", err)
		}
	}
	source, err = c.CheckScriptUse(ctx, s, engine.KindTransform, s.Transform, s.TransformScript)
	if err != nil || source == "" {
		return nil, err
	}
	if old != nil && s.Transform == old.Transform && s.TransformScript == old.TransformScript {
		return c.compiledProgram(old.ID), nil
	}
	program, err := c.sandbox.Compile(ctx, source)
	if err != nil {
		return nil, ScriptError("transform", err)
	}
	return program, nil
}

// ValidateTemplate validates the common settings of future subscriptions: everything except target
// and account, and events if there are any. Errors as in CreateSubscription.
func (c *Catalog) ValidateTemplate(ctx context.Context, s *engine.Subscription) error {
	s = s.Clone()
	s.Account, s.TargetURL = engine.DefaultAccount, PreviewTarget
	if len(s.Events) == 0 {
		s.Events = []string{"*"}
	}
	_, err := c.validateSubscription(ctx, s, &engine.Subscription{TargetURL: s.TargetURL})
	return err
}

func (c *Catalog) validateTarget(ctx context.Context, url string) error {
	err := c.cfg.Guard.CheckURL(ctx, url)
	var refused *target.RefusedError
	if errors.As(err, &refused) {
		return engine.Invalid("target_url", "%s", strings.TrimPrefix(refused.Reason, "the URL "))
	}
	return err
}

// The limits of Subscription.ExpiresAt, from the time of the change.
const (
	MinExpiry = time.Minute
	MaxExpiry = 10 * 366 * 24 * time.Hour
)

// expiryGrace is the allowed difference between a client's clock and the router's.
const expiryGrace = 5 * time.Second

func (c *Catalog) validateExpiry(s, old *engine.Subscription) error {
	if s.ExpiresAt.IsZero() || old != nil && s.ExpiresAt.Equal(old.ExpiresAt) {
		return nil
	}
	s.ExpiresAt = s.ExpiresAt.UTC().Truncate(time.Microsecond)
	switch left := s.ExpiresAt.Sub(s.UpdatedAt); {
	case left < MinExpiry-expiryGrace:
		return engine.Invalid("expires_at", "%s is too early: it must be a minute from now at least (it is %s)", s.ExpiresAt.Format(time.RFC3339), s.UpdatedAt.Format(time.RFC3339))
	case left > MaxExpiry+expiryGrace:
		return engine.Invalid("expires_at", "%s is too late: it may be 10 years from now at most; leave it out for a subscription that never expires", s.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

// compiledProgram returns the transform of a stored subscription, if it has run before.
func (c *Catalog) compiledProgram(id engine.ID) *scripts.Program {
	r := c.registry.compiledSubscription(id)
	if r == nil {
		return nil
	}
	return r.Program.Load()
}

func validatePatterns(s *engine.Subscription) error {
	if s.Inline && len(s.Events) == 0 {
		return nil
	}
	if len(s.Events) == 0 {
		return engine.Invalid("event", `is missing: name an event type ("order.created"), a pattern ("order.*") or "*"`)
	}
	if len(s.Events) > maxPatterns {
		return engine.Invalid("events", "names %d event types, %d are allowed; a pattern such as \"order.*\" takes several", len(s.Events), maxPatterns)
	}
	for i, p := range s.Events {
		if !engine.ValidPattern(p) {
			return engine.Invalid(fmt.Sprintf("events[%d]", i), `%.140q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, p)
		}
		if slices.Contains(s.Events[:i], p) {
			return engine.Invalid(fmt.Sprintf("events[%d]", i), "%q is named twice", p)
		}
	}
	return nil
}

// ValidateHeadersAndFormat rejects headers and payload formats that can't be sent.
func ValidateHeadersAndFormat(s *engine.Subscription) error {
	switch s.PayloadFormat {
	case "":
		s.PayloadFormat = engine.FormatStandard
	case engine.FormatStandard, engine.FormatData, engine.FormatSkinny, engine.FormatCloudEvents, engine.FormatCloudEventsBinary:
	default:
		return engine.Invalid("payload_format", `%.40q is not known: use "standard", "data", "cloudevents", "cloudevents-binary" or "skinny"`, string(s.PayloadFormat))
	}
	if len(s.Headers) > MaxHeaders {
		return engine.Invalid("headers", "holds %d headers, %d are allowed", len(s.Headers), MaxHeaders)
	}
	seen := map[string]bool{}
	for name, value := range s.Headers {
		if problem := CheckHeader(name, value); problem != "" {
			return engine.Invalid("headers", "%.140q %s", name, problem)
		}
		if SignatureHeader(name, s.Signatures) {
			return engine.Invalid("headers", "%.140q is set by the router: signatures puts a signature there", name)
		}
		if lower := strings.ToLower(name); seen[lower] {
			return engine.Invalid("headers", "%q is given twice", name)
		} else {
			seen[lower] = true
		}
	}
	if len(s.VisibleHeaders) > MaxHeaders {
		return engine.Invalid("visible_headers", "holds %d names, %d are allowed", len(s.VisibleHeaders), MaxHeaders)
	}
	for _, name := range s.VisibleHeaders {
		if problem := CheckHeader(name, ""); problem != "" {
			return engine.Invalid("visible_headers", "%.140q %s", name, problem)
		}
	}
	size := 0
	for k, v := range s.Metadata {
		size += len(k) + len(v)
	}
	if len(s.Metadata) > maxMetadata || size > maxMetadataBytes {
		return engine.Invalid("metadata", "holds %d entries in %d bytes; %d in %d are allowed", len(s.Metadata), size, maxMetadata, maxMetadataBytes)
	}
	if n := len(s.Client); n > 0 {
		text, err := json.Marshal(s.Client)
		if err != nil || n > maxMetadata || len(text) > maxMetadataBytes {
			return engine.Invalid("metadata.client", "holds %d members that the API does not know, in %d bytes; %d in %d are kept", n, len(text), maxMetadata, maxMetadataBytes)
		}
		if _, taken := s.Metadata["client"]; taken {
			return engine.Invalid("metadata.client", "is where members that the API does not know are kept: give your own entry another name")
		}
	}
	if len(s.Description) > maxDescription {
		return engine.Invalid("description", "is %d bytes, %d are allowed", len(s.Description), maxDescription)
	}
	return nil
}

// ScriptError returns the error of a script as an error of the field that holds it.
func ScriptError(field string, err error) error {
	var se *scripts.Error
	if !errors.As(err, &se) {
		return &engine.Error{Code: engine.CodeUnavailable, Field: field, Message: "could not be checked: " + err.Error()}
	}
	if !se.ScriptFault() {
		return &engine.Error{Code: engine.CodeUnavailable, Field: field, Message: "could not be checked: " + se.Message}
	}
	return &engine.Error{Code: engine.CodeInvalid, Field: field, Message: se.Error(), Script: se}
}

// PreviewTarget is the target URL of a preview without a subscription.
const PreviewTarget = "https://example.com/"
