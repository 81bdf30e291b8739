package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

const (
	maxPatterns      = 100
	maxMetadata      = 50
	maxMetadataBytes = 8 << 10
	maxDescription   = 1000
)

// The limits of Subscription.ExpiresAt, from the time of the change.
const (
	MinExpiry = time.Minute
	MaxExpiry = 10 * 366 * 24 * time.Hour
)

// expiryGrace is the allowed difference between a client's clock and the router's.
const expiryGrace = 5 * time.Second

// PreviewTarget is the target URL of a preview without a subscription.
const PreviewTarget = "https://example.com/"

// prepareSubscription makes s ready to be stored: it fills in defaults, validates and compiles s.
// Members equal to those of old, which may be nil, were validated before. Errors: CodeInvalid with
// every field that is wrong; CodeForbidden; CodeUnavailable if a part could not be checked.
func (ed *SubscriptionEditor) prepareSubscription(ctx context.Context, s, old *engine.Subscription) (*scripts.Program, error) {
	if s.Secret == "" {
		secret, err := signature.NewSecret(signature.HMAC)
		if err != nil {
			return nil, err
		}
		s.Secret = secret
	}
	s.UpdatedAt = ed.life.Now()
	normalize(s)
	if err := engine.MayAttach(ctx, s, old); err != nil {
		return nil, err
	}
	errs, unchecked := ed.validateSubscription(ctx, s, old)
	program, uncompiled := ed.compileScripts(ctx, s, old, &errs)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return program, cmp.Or(unchecked, uncompiled)
}

// ValidateTemplate validates the common settings of future subscriptions: everything except target
// and account, and events if there are any. Errors as in CreateSubscription.
func (ed *SubscriptionEditor) ValidateTemplate(ctx context.Context, s *engine.Subscription) error {
	s = s.Clone()
	s.Account, s.TargetURL = engine.DefaultAccount, PreviewTarget
	if len(s.Events) == 0 {
		s.Events = []string{"*"}
	}
	_, err := ed.prepareSubscription(ctx, s, &engine.Subscription{TargetURL: s.TargetURL})
	return err
}

// ValidateDeliverySettings validates the delivery settings of s — policy, batches, debounce,
// signatures, payload format, headers, verification — as far as possible without a router, which
// may allow fewer concurrent attempts and knows schemas of event types and types of secrets. Error:
// CodeInvalid with the fields.
func ValidateDeliverySettings(s *engine.Subscription) error {
	s = s.Clone()
	normalize(s)
	errs := validateSignatures(s.Signatures)
	errs.Append(validateRequest(s)...)
	errs.Append(ValidateVerificationMode(s.Verification.Mode)...)
	errs.Append(validatePolicy(&s.Policy, maxInFlight, settings.MinRetryWait)...)
	errs.Append(validateBatching(s)...)
	if err := compileKeyExprs(s, nil, &errs); err != nil {
		return err
	}
	return errs.Err()
}

// normalize fills in defaults and brings values to the form in which they are stored.
func normalize(s *engine.Subscription) {
	if s.PayloadFormat == "" {
		s.PayloadFormat = engine.FormatStandard
	}
	if !s.ExpiresAt.IsZero() {
		s.ExpiresAt = s.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	s.Policy.OrderingKey, s.Debounce.Key = strings.TrimSpace(s.Policy.OrderingKey), strings.TrimSpace(s.Debounce.Key)
}

// validateSubscription returns the errors of all fields except those of scripts and keys. err says
// that the target could not be checked.
func (ed *SubscriptionEditor) validateSubscription(ctx context.Context, s, old *engine.Subscription) (errs engine.FieldErrors, err error) {
	errs.Append(engine.ValidateAccount(s.Account)...)
	errs.Append(validateInline(s, old)...)
	errs.Append(validatePatterns(s)...)
	if s.TargetURL == "" {
		errs.Add("target_url", engine.FieldRequired, "is missing: give the URL to which events are POSTed")
	} else if old == nil || s.TargetURL != old.TargetURL {
		err = errs.Take(ed.checkTarget(ctx, s.TargetURL))
	}
	if old == nil || !s.ExpiresAt.Equal(old.ExpiresAt) {
		errs.Append(validateExpiry(s)...)
	}
	errs.Append(validateSigning(s)...)
	errs.Append(ValidateVerificationMode(s.Verification.Mode)...)
	errs.Append(validateRequest(s)...)
	errs.Append(validateLabels(s)...)
	if old == nil || !reflect.DeepEqual(s.Policy, old.Policy) { // a stored policy stays valid when the router's limits change
		errs.Append(validatePolicy(&s.Policy, ed.cfg.InFlight, ed.cfg.MinRetryWait)...)
	}
	errs.Append(validateBatching(s)...)
	return errs, err
}

// compileScripts compiles the key expressions, the filter and the transform of s, and returns the
// program of the transform. It adds errors of the sources to errs; err says that the sandbox could
// not compile.
func (ed *SubscriptionEditor) compileScripts(ctx context.Context, s, old *engine.Subscription, errs *engine.FieldErrors) (_ *scripts.Program, err error) {
	schemas := ed.eventTypes.Schemas(s.Events)
	if err := compileKeyExprs(s, schemas, errs); err != nil {
		return nil, err
	}
	source, err := ed.scripts.CheckScriptUse(ctx, s, engine.KindFilter, s.Filter, s.FilterScript)
	if err = errs.Take(err); err != nil {
		return nil, err
	}
	if source != "" {
		if _, err := ed.scripts.filters.Compile(source, schemas...); err != nil {
			if err = errs.Take(ScriptError("filter", err)); err != nil {
				return nil, err
			}
		}
	}
	source, err = ed.scripts.CheckScriptUse(ctx, s, engine.KindTransform, s.Transform, s.TransformScript)
	if err = errs.Take(err); err != nil || source == "" {
		return nil, err
	}
	if old != nil && s.Transform == old.Transform && s.TransformScript == old.TransformScript {
		return ed.subs.compiledProgram(old.ID), nil
	}
	program, err := ed.scripts.Transformer(s.Account).Compile(ctx, source)
	if err != nil {
		return nil, errs.Take(ScriptError("transform", err))
	}
	return program, nil
}

// compileKeyExprs compiles the key expressions of s against the schemas of its event types.
func compileKeyExprs(s *engine.Subscription, schemas [][]byte, errs *engine.FieldErrors) error {
	for _, key := range []struct{ field, source string }{{"debounce.key", s.Debounce.Key}, {"policy.ordering_key", s.Policy.OrderingKey}} {
		if key.source == "" {
			continue
		}
		if _, err := filter.CompileKey(key.source, schemas...); err != nil {
			if err = errs.Take(ScriptError(key.field, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (ed *SubscriptionEditor) checkTarget(ctx context.Context, url string) error {
	err := ed.cfg.Guard.CheckURL(ctx, url)
	var refused *target.RefusedError
	if errors.As(err, &refused) {
		return engine.InvalidField("target_url", engine.FieldNotAllowed, "%s", strings.TrimPrefix(refused.Reason, "the URL "))
	}
	return err
}

func validateExpiry(s *engine.Subscription) (errs engine.FieldErrors) {
	if s.ExpiresAt.IsZero() {
		return nil
	}
	switch left := s.ExpiresAt.Sub(s.UpdatedAt); {
	case left < MinExpiry-expiryGrace:
		errs.Add("expires_at", engine.FieldOutOfRange, "%s is too early: it must be a minute from now at least (it is %s)", s.ExpiresAt.Format(time.RFC3339), s.UpdatedAt.Format(time.RFC3339))
	case left > MaxExpiry+expiryGrace:
		errs.Add("expires_at", engine.FieldOutOfRange, "%s is too late: it may be 10 years from now at most; leave it out for a subscription that never expires", s.ExpiresAt.Format(time.RFC3339))
	}
	return errs
}

func validatePatterns(s *engine.Subscription) (errs engine.FieldErrors) {
	switch {
	case len(s.Events) == 0 && !s.Inline:
		errs.Add("event", engine.FieldRequired, `is missing: name an event type ("order.created"), a pattern ("order.*") or "*"`)
	case len(s.Events) > maxPatterns:
		errs.Add("events", engine.FieldTooMany, "names %d event types, %d are allowed; a pattern such as \"order.*\" takes several", len(s.Events), maxPatterns)
		return errs
	}
	for i, p := range s.Events {
		if !engine.ValidPattern(p) {
			errs.Add(fmt.Sprintf("events[%d]", i), engine.FieldInvalid, `%.140q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, p)
		} else if slices.Contains(s.Events[:i], p) {
			errs.Add(fmt.Sprintf("events[%d]", i), engine.FieldDuplicate, "%q is named twice", p)
		}
	}
	return errs
}

// ValidateHeadersAndFormat rejects headers and payload formats that can't be sent.
func ValidateHeadersAndFormat(s *engine.Subscription) error {
	return validateRequest(s).Err()
}

var payloadFormats = []engine.PayloadFormat{engine.FormatStandard, engine.FormatData, engine.FormatSkinny, engine.FormatCloudEvents, engine.FormatCloudEventsBinary}

// validateRequest validates the payload format and the headers.
func validateRequest(s *engine.Subscription) (errs engine.FieldErrors) {
	if !slices.Contains(payloadFormats, s.PayloadFormat) {
		errs.Add("payload_format", engine.FieldUnknown, `%.40q is not known: use "standard", "data", "cloudevents", "cloudevents-binary" or "skinny"`, string(s.PayloadFormat))
	}
	if len(s.Headers) > MaxHeaders {
		errs.Add("headers", engine.FieldTooMany, "holds %d headers, %d are allowed", len(s.Headers), MaxHeaders)
	} else {
		errs.Append(validateHeaders(s)...)
	}
	if len(s.VisibleHeaders) > MaxHeaders {
		errs.Add("visible_headers", engine.FieldTooMany, "holds %d names, %d are allowed", len(s.VisibleHeaders), MaxHeaders)
		return errs
	}
	for _, name := range s.VisibleHeaders {
		if problem := CheckHeader(name, ""); problem != "" {
			errs.Add("visible_headers", engine.FieldInvalid, "%.140q %s", name, problem)
		}
	}
	return errs
}

func validateHeaders(s *engine.Subscription) (errs engine.FieldErrors) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		lower := strings.ToLower(name)
		if problem := CheckHeader(name, s.Headers[name]); problem != "" {
			errs.Add("headers", engine.FieldInvalid, "%.140q %s", name, problem)
		} else if SignatureHeader(name, s.Signatures) {
			errs.Add("headers", engine.FieldNotAllowed, "%.140q is set by the router: signatures puts a signature there", name)
		} else if seen[lower] {
			errs.Add("headers", engine.FieldDuplicate, "%q is given twice", name)
		}
		seen[lower] = true
	}
	return errs
}

// validateLabels validates what is stored for people and clients and has no effect.
func validateLabels(s *engine.Subscription) (errs engine.FieldErrors) {
	size := 0
	for k, v := range s.Metadata {
		size += len(k) + len(v)
	}
	if len(s.Metadata) > maxMetadata || size > maxMetadataBytes {
		errs.Add("metadata", engine.FieldTooMany, "holds %d entries in %d bytes; %d in %d are allowed", len(s.Metadata), size, maxMetadata, maxMetadataBytes)
	}
	if n := len(s.Client); n > 0 {
		text, err := json.Marshal(s.Client)
		if err != nil || n > maxMetadata || len(text) > maxMetadataBytes {
			errs.Add("metadata.client", engine.FieldTooMany, "holds %d members that the API does not know, in %d bytes; %d in %d are kept", n, len(text), maxMetadata, maxMetadataBytes)
		}
		if _, taken := s.Metadata["client"]; taken {
			errs.Add("metadata.client", engine.FieldConflict, "is where members that the API does not know are kept: give your own entry another name")
		}
	}
	errs.Append(validateDescription(s.Description)...)
	return errs
}

func validateDescription(text string) (errs engine.FieldErrors) {
	if len(text) > maxDescription {
		errs.Add("description", engine.FieldTooLong, "is %d bytes, %d are allowed", len(text), maxDescription)
	}
	return errs
}

// ScriptError returns the error of a script as an error of the field that holds it.
func ScriptError(field string, err error) error {
	var se *scripts.Error
	if !errors.As(err, &se) {
		return &engine.Error{Code: engine.CodeUnavailable, Field: field, Message: "could not be checked: " + err.Error()}
	}
	if !se.ScriptFault() {
		return &engine.Error{Code: notRunCode(se), Field: field, Message: "could not be checked: " + se.Message}
	}
	return &engine.Error{Code: engine.CodeInvalid, Field: field, FieldCode: engine.FieldScript, Message: se.Error(), Script: se}
}

// notRunCode returns the code of the error for a script that was not run: CodeBusy if others keep the
// sandbox busy, CodeUnavailable if it can't run anything.
func notRunCode(se *scripts.Error) engine.Code {
	if se.Cause != nil {
		return engine.CodeUnavailable
	}
	return engine.CodeBusy
}
