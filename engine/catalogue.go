package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"switchhook/engine/schema"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/jsondoc"
)

const (
	maxPatterns      = 100
	maxMetadata      = 50
	maxMetadataBytes = 8 << 10
	maxDescription   = 1000
	maxSamples       = 20
	maxSampleBytes   = 64 << 10
)

// validPattern tells whether s is an event type, "*", or a beginning of event types such as
// "order.*".
func validPattern(s string) bool {
	return s == "*" || validEventType(strings.TrimSuffix(s, ".*"))
}

// validAccount tells whether s is letters, digits and _ . : @ -, with a letter or digit
// first. Like validEventType it is written out for speed.
func validAccount(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == ':' || c == '@' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// ValidAccount tells whether an account can have this name.
func ValidAccount(name string) bool { return validAccount(name) }

func checkAccount(s string) *Error {
	if !validAccount(s) {
		return Invalid("account", "%.140q is no account name: use letters, digits and _ . : @ -, 128 at most", s)
	}
	return nil
}

// AnyVersion, as the version that a change expects, lets it go ahead whatever is stored.
const AnyVersion = 0

// CreateSubscription stores a new subscription and begins to deliver to it. Its ID,
// Secret (where empty), Version and times are filled in. Errors: CodeInvalid with the
// field, with Script where a filter or transform does not compile; CodeForbidden where the
// actor may not attach a script; CodeConflict where the account has as many as it may;
// CodeUnavailable.
func (e *Engine) CreateSubscription(ctx context.Context, s *Subscription) (*Subscription, error) {
	s, _, err := e.createSubscription(ctx, s, nil)
	return s, err
}

// EnsureSubscription is CreateSubscription, unless there is one already that sends the same
// events of the same account to the same target in the same way: created is false then,
// and what comes back is the one that is stored, as it is, active or not. Of several calls
// at once for the same thing one creates it. A secret in s must be the stored one; with
// newSecret set it was made for s, and its type alone counts.
func (e *Engine) EnsureSubscription(ctx context.Context, s *Subscription, newSecret bool) (_ *Subscription, created bool, err error) {
	asked, kind := s.Secret, SecretType("")
	if asked != "" {
		kind, _ = DescribeSecret(asked)
	}
	return e.createSubscription(ctx, s, func(stored *Subscription) bool {
		if asked == "" {
			return true
		}
		has, _ := DescribeSecret(stored.Secret)
		return stored.Secret == asked || newSecret && has == kind
	})
}

// createSubscription takes a stored subscription instead if it sends the same and serves;
// with serves nil none does.
func (e *Engine) createSubscription(ctx context.Context, s *Subscription, serves func(stored *Subscription) bool) (_ *Subscription, created bool, err error) {
	s = s.Clone()
	s.ID, s.Version = e.tracker.ids.next(), 1
	s.CreatedAt = e.now()
	program, err := e.checkSubscription(ctx, s, nil)
	if err != nil {
		return nil, false, err
	}
	ask := e.intend(s, nil)
	if s, created, err = e.addSubscription(ctx, s, program, serves); created && ask {
		s = e.seekConsent(ctx, s)
	}
	return s, created, err
}

// addSubscription stores s, if its account has room for it and no other one serves.
func (e *Engine) addSubscription(ctx context.Context, s *Subscription, program *scripts.Program, serves func(*Subscription) bool) (_ *Subscription, created bool, err error) {
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	if serves != nil {
		if twin := e.registry.twin(s, serves); twin != nil {
			return twin, false, nil
		}
	}
	if err := e.subscriptionRoom(s.Account); err != nil {
		return nil, false, err
	}
	if err := e.putSubscription(ctx, s, program); err != nil {
		return nil, false, err
	}
	return s, true, nil
}

// UpdateSubscription changes a subscription of an account, or of any where account is
// empty. change gets a copy, perhaps more than once; version is the expected one or
// AnyVersion. Errors as in CreateSubscription, CodeNotFound, and CodeStale where the
// stored version is another.
func (e *Engine) UpdateSubscription(ctx context.Context, account string, id ID, version int64, change func(*Subscription) error) (*Subscription, error) {
	for {
		old, err := e.Subscription(account, id)
		if err != nil {
			return nil, err
		}
		if version != AnyVersion && version != old.Version {
			return nil, stale("subscription", old.Version, version)
		}
		s := old.Clone()
		wanted(s)
		if err := change(s); err != nil {
			return nil, err
		}
		s.ID, s.Account, s.CreatedAt, s.Version = old.ID, old.Account, old.CreatedAt, old.Version+1
		e.tidySecrets(old, s)
		if s.Active {
			s.Reason = ""
		}
		// The check asks the network and the sandbox, so it holds no lock.
		program, err := e.checkSubscription(ctx, s, old)
		if err != nil {
			return nil, err
		}
		ask := e.intend(s, old)
		if done, err := e.swapSubscription(ctx, old, s, program); err != nil {
			return nil, err
		} else if done && ask {
			return e.seekConsent(ctx, s), nil
		} else if done {
			return s, nil
		}
	}
}

// swapSubscription puts s in old's place; done is false where somebody was faster.
func (e *Engine) swapSubscription(ctx context.Context, old, s *Subscription, program *scripts.Program) (done bool, err error) {
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	if e.registry.subscription("", old.ID) != old {
		return false, nil
	}
	return true, e.putSubscription(ctx, s, program)
}

// putSubscription stores s and puts it to use; registry.changes is held.
func (e *Engine) putSubscription(ctx context.Context, s *Subscription, program *scripts.Program) error {
	if err := e.scriptsExist(s); err != nil {
		return err
	}
	// Before it is active: after a crash, what waited meanwhile would be too old otherwise.
	if old := e.registry.subscription("", s.ID); old != nil && !old.Active && s.Active {
		if err := e.store.PutHealth(ctx, []Health{{Subscription: s.ID, ResumedAt: e.now()}}); err != nil {
			return err
		}
	}
	if err := e.store.PutSubscription(ctx, s); err != nil {
		return err
	}
	e.setRoute(s, program)
	e.expiries.note(s)
	return nil
}

func stale(kind string, current, given int64) *Error {
	return &Error{Code: CodeStale, Message: fmt.Sprintf("the %s is at version %d, not %d: it was changed since it was read; read it again", kind, current, given)}
}

// DeleteSubscription removes a subscription. What waits for it is given up. Errors:
// CodeNotFound, CodeStale, CodeUnavailable.
func (e *Engine) DeleteSubscription(ctx context.Context, account string, id ID, version int64) error {
	_, err := e.removeSubscription(ctx, func() (*Subscription, string, error) {
		s, err := e.Subscription(account, id)
		if err != nil {
			return nil, "", err
		}
		if version != AnyVersion && version != s.Version {
			return nil, "", stale("subscription", s.Version, version)
		}
		return s, subscriptionDeleted, nil
	})
	return err
}

// removeSubscription removes the subscription that find gives, if it gives one, and gives
// up what waits for it, which may be so much that no other change is to wait for that. find
// runs with registry.changes held.
func (e *Engine) removeSubscription(ctx context.Context, find func() (s *Subscription, reason string, err error)) (removed bool, err error) {
	e.registry.changes.Lock()
	s, reason, err := find()
	if err == nil && s != nil {
		err = e.dropSubscription(ctx, s, reason)
	}
	e.registry.changes.Unlock()
	if err != nil || s == nil {
		return false, err
	}
	return true, e.store.GiveUp(ctx, s.ID, reason)
}

// dropSubscription takes s out of the store and of memory; registry.changes is held.
func (e *Engine) dropSubscription(ctx context.Context, s *Subscription, reason string) error {
	if err := e.store.DeleteSubscription(ctx, s.ID); err != nil {
		return err
	}
	e.index.replace(e.registry.route(s.ID), nil)
	e.registry.setRoute(s.ID, nil)
	orphans, _ := e.scheduler.setRoute(s.ID, nil)
	for _, en := range orphans {
		e.giveUp(s.ID, en, reason)
	}
	return nil
}

// deactivate switches a subscription off for what its target, that of r, did. quiet keeps
// the operational event back.
func (e *Engine) deactivate(r *route, reason string, quiet bool) {
	log := e.log.With("subscription_id", r.sub.ID.Format(SubscriptionPrefix), "reason", reason)
	for {
		old := e.registry.subscription("", r.sub.ID)
		if old == nil || !old.Active || old.Inline || old.TargetURL != r.sub.TargetURL { // an Inline one is named anew with each event
			return
		}
		s := old.Clone()
		s.Active, s.Reason, s.Version, s.UpdatedAt = false, reason, old.Version+1, e.now()
		done, err := e.swapSubscription(context.Background(), old, s, nil)
		if err != nil {
			log.Error("subscription not deactivated", "error", err)
			return
		}
		if done {
			e.metrics.deactivated.Inc()
			log.Warn("subscription deactivated", "account", s.Account)
			if !quiet {
				e.announceDeactivated(s)
			}
			return
		}
	}
}

// checkSubscription validates s, fills in what it leaves to the router, and compiles its
// scripts. What is as in old, which may be nil, was checked before.
func (e *Engine) checkSubscription(ctx context.Context, s, old *Subscription) (*scripts.Program, error) {
	if s.Secret == "" {
		secret, err := NewSecret(SecretHMAC)
		if err != nil {
			return nil, err
		}
		s.Secret = secret
	}
	s.UpdatedAt = e.now()
	if err := mayAttach(ctx, s, old); err != nil {
		return nil, err
	}
	if err := checkAccount(s.Account); err != nil {
		return nil, err
	}
	if err := checkInline(s, old); err != nil {
		return nil, err
	}
	if err := checkPatterns(s); err != nil {
		return nil, err
	}
	if s.TargetURL == "" {
		return nil, Invalid("target_url", "is missing: give the URL to which events are to be POSTed")
	}
	if old == nil || s.TargetURL != old.TargetURL {
		if err := e.checkTarget(ctx, s.TargetURL); err != nil {
			return nil, err
		}
	}
	if err := e.checkExpiry(s, old); err != nil {
		return nil, err
	}
	if err := checkSigning(s); err != nil {
		return nil, err
	}
	if err := CheckVerificationMode(s.Verification.Mode); err != nil {
		return nil, err
	}
	if err := checkExtras(s); err != nil {
		return nil, err
	}
	if old == nil || !reflect.DeepEqual(s.Policy, old.Policy) { // what is stored stays good when the router's limits change
		if err := checkPolicy(&s.Policy, e.cfg.InFlight); err != nil {
			return nil, err
		}
	}
	if err := e.checkCompany(s); err != nil {
		return nil, err
	}
	source, err := e.checkScriptUse(ctx, s, KindFilter, s.Filter, s.FilterScript)
	if err != nil {
		return nil, err
	}
	if source != "" {
		if _, err := e.filters.Compile(source, e.registry.schemas(s.Events)...); err != nil {
			return nil, scriptError("filter", err)
		}
	}
	source, err = e.checkScriptUse(ctx, s, KindTransform, s.Transform, s.TransformScript)
	if err != nil || source == "" {
		return nil, err
	}
	if old != nil && s.Transform == old.Transform && s.TransformScript == old.TransformScript {
		return e.compiledProgram(old.ID), nil
	}
	program, err := e.lab.Compile(ctx, source)
	if err != nil {
		return nil, scriptError("transform", err)
	}
	return program, nil
}

func (e *Engine) checkTarget(ctx context.Context, url string) error {
	err := e.cfg.Guard.CheckURL(ctx, url)
	var refused *target.RefusedError
	if errors.As(err, &refused) {
		return Invalid("target_url", "%s", refused.Reason)
	}
	return err
}

// The bounds of Subscription.ExpiresAt, from the time of the change.
const (
	MinExpiry = time.Minute
	MaxExpiry = 10 * 366 * 24 * time.Hour
)

// expiryGrace is what may pass between a client's reading of the clock and ours.
const expiryGrace = 5 * time.Second

func (e *Engine) checkExpiry(s, old *Subscription) error {
	if s.ExpiresAt.IsZero() || old != nil && s.ExpiresAt.Equal(old.ExpiresAt) {
		return nil
	}
	s.ExpiresAt = s.ExpiresAt.UTC().Truncate(time.Microsecond)
	switch left := s.ExpiresAt.Sub(s.UpdatedAt); {
	case left < MinExpiry-expiryGrace:
		return Invalid("expires_at", "%s is too early: it must be a minute from now at least (it is %s)", s.ExpiresAt.Format(time.RFC3339), s.UpdatedAt.Format(time.RFC3339))
	case left > MaxExpiry+expiryGrace:
		return Invalid("expires_at", "%s is too late: it may be 10 years from now at most; leave it out for a subscription that never expires", s.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

// compiledProgram is the transform of a stored subscription, if it has run before.
func (e *Engine) compiledProgram(id ID) *scripts.Program {
	r := e.registry.route(id)
	if r == nil {
		return nil
	}
	r.programLock.Lock()
	defer r.programLock.Unlock()
	return r.program
}

func checkPatterns(s *Subscription) error {
	if s.Inline && len(s.Events) == 0 {
		return nil
	}
	if len(s.Events) == 0 {
		return Invalid("event", `is missing: name an event type ("order.created"), a pattern ("order.*") or "*"`)
	}
	if len(s.Events) > maxPatterns {
		return Invalid("events", "names %d event types, %d are allowed; a pattern such as \"order.*\" takes several", len(s.Events), maxPatterns)
	}
	for i, p := range s.Events {
		if !validPattern(p) {
			return Invalid(fmt.Sprintf("events[%d]", i), `%.140q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, p)
		}
		if slices.Contains(s.Events[:i], p) {
			return Invalid(fmt.Sprintf("events[%d]", i), "%q is named twice", p)
		}
	}
	return nil
}

func checkExtras(s *Subscription) error {
	switch s.PayloadFormat {
	case "":
		s.PayloadFormat = FormatStandard
	case FormatStandard, FormatData, FormatSkinny, FormatCloudEvents, FormatCloudEventsBinary:
	default:
		return Invalid("payload_format", `%.40q is not known: use "standard", "data", "cloudevents", "cloudevents-binary" or "skinny"`, string(s.PayloadFormat))
	}
	if len(s.Headers) > maxHeaders {
		return Invalid("headers", "holds %d headers, %d are allowed", len(s.Headers), maxHeaders)
	}
	seen := map[string]bool{}
	for name, value := range s.Headers {
		if problem := checkHeader(name, value); problem != "" {
			return Invalid("headers", "%.140q %s", name, problem)
		}
		if lower := strings.ToLower(name); seen[lower] {
			return Invalid("headers", "%q is given twice", name)
		} else {
			seen[lower] = true
		}
	}
	size := 0
	for k, v := range s.Metadata {
		size += len(k) + len(v)
	}
	if len(s.Metadata) > maxMetadata || size > maxMetadataBytes {
		return Invalid("metadata", "holds %d entries in %d bytes; %d in %d are allowed", len(s.Metadata), size, maxMetadata, maxMetadataBytes)
	}
	if len(s.Description) > maxDescription {
		return Invalid("description", "is %d bytes, %d are allowed", len(s.Description), maxDescription)
	}
	return nil
}

func scriptError(field string, err error) error {
	var se *scripts.Error
	if !errors.As(err, &se) {
		return &Error{Code: CodeUnavailable, Field: field, Message: "could not be checked: " + err.Error()}
	}
	if !se.Guilty() {
		return &Error{Code: CodeUnavailable, Field: field, Message: "could not be checked: " + se.Message}
	}
	return &Error{Code: CodeInvalid, Field: field, Message: se.Error(), Script: se}
}

// PutEventType makes or replaces an entry of the catalogue; created tells which. version
// is the expected one or AnyVersion. Errors: CodeInvalid, CodeStale, CodeConflict where
// create asks for a new entry and there is one.
func (e *Engine) PutEventType(ctx context.Context, t *EventType, create bool, version int64) (stored *EventType, created bool, err error) {
	if !validEventType(t.Name) {
		return nil, false, Invalid("name", `%.140q is no event type: use letters, digits and _ in parts joined by ".", such as "order.created"`, t.Name)
	}
	if len(t.Description) > maxDescription {
		return nil, false, Invalid("description", "is %d bytes, %d are allowed", len(t.Description), maxDescription)
	}
	if Operational(t.Name) {
		return nil, false, Invalid("name", "%.140q begins with %q: those event types are the router's own and can't be changed", t.Name, operationalPrefix)
	}
	if err := CheckVerificationMode(t.Verify); err != nil {
		return nil, false, err
	}
	compiled, invalid := compileEventType(t)
	if invalid != nil {
		return nil, false, invalid
	}
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	t.UpdatedAt = e.now()
	old := e.registry.eventType(t.Name)
	switch {
	case old == nil && version != AnyVersion:
		return nil, false, NotFound("event type", t.Name)
	case old == nil:
		t.Version, t.CreatedAt = 1, t.UpdatedAt
	case create:
		return nil, false, &Error{Code: CodeConflict, Field: "name", Message: fmt.Sprintf("is taken: there is an event type %q already; change it by PUT", t.Name)}
	case version != AnyVersion && version != old.Version:
		return nil, false, stale("event type", old.Version, version)
	default:
		t.Version, t.CreatedAt = old.Version+1, old.CreatedAt
	}
	if err := e.store.PutEventType(ctx, t); err != nil {
		return nil, false, err
	}
	e.registry.mu.Lock()
	e.registry.eventTypes[t.Name] = compiled
	e.registry.mu.Unlock()
	return t, old == nil, nil
}

func compileEventType(t *EventType) (*eventType, *Error) {
	compiled := &eventType{EventType: t}
	if t.Schema != nil {
		var err error
		if compiled.schema, err = schema.Compile(t.Schema); err != nil {
			return nil, Invalid("schema", "%v", err)
		}
	}
	if len(t.Samples) > maxSamples {
		return nil, Invalid("samples", "holds %d samples, %d are allowed", len(t.Samples), maxSamples)
	}
	for i, sample := range t.Samples {
		field := fmt.Sprintf("samples[%d]", i)
		if len(sample) > maxSampleBytes {
			return nil, Invalid(field, "is %d bytes, %d are allowed", len(sample), maxSampleBytes)
		}
		if _, err := jsondoc.Parse(sample, jsondoc.Limits{}); err != nil {
			return nil, Invalid(field, "%v", err)
		}
		if compiled.schema != nil {
			if p := compiled.schema.Validate(sample); p != nil {
				return nil, Invalid(schema.Join(field, p.Path), "does not fit the schema given: %s", p.Message)
			}
		}
	}
	return compiled, nil
}

// DeleteEventType removes an entry of the catalogue. Subscriptions that name it stay.
// Errors: CodeNotFound, CodeStale, and CodeConflict for those that the router publishes
// itself.
func (e *Engine) DeleteEventType(ctx context.Context, name string, version int64) error {
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	t := e.registry.eventType(name)
	if t == nil {
		return NotFound("event type", name)
	}
	if Operational(name) {
		return &Error{Code: CodeConflict, Field: "name", Message: fmt.Sprintf("%q is built in: the router publishes it itself, and it can't be deleted", name)}
	}
	if version != AnyVersion && version != t.Version {
		return stale("event type", t.Version, version)
	}
	if err := e.store.DeleteEventType(ctx, name); err != nil {
		return err
	}
	e.registry.mu.Lock()
	delete(e.registry.eventTypes, name)
	e.registry.mu.Unlock()
	return nil
}
