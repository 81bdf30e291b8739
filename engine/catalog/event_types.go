package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchhook/engine"
	"switchhook/engine/lifecycle"
	"switchhook/engine/schema"
	"switchhook/scripts/jsonindex"
)

const (
	maxSamples     = 20
	maxSampleBytes = 64 << 10
)

// PutEventType creates or replaces an event type; created reports which. version is the expected
// one or AnyVersion. Errors: CodeInvalid, CodeStale, and CodeConflict if create is set and the type
// exists.
func (c *Catalog) PutEventType(ctx context.Context, t *engine.EventType, create bool, version int64) (stored *engine.EventType, created bool, err error) {
	compiled, err := compileEventType(NewSchemaDeadline(ctx, c.life), t)
	if err != nil {
		return nil, false, err
	}
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	t.UpdatedAt = c.life.Now()
	old := c.registry.eventType(t.Name)
	switch {
	case old == nil && version != AnyVersion:
		return nil, false, engine.NotFound("event type", t.Name)
	case old == nil:
		t.Version, t.CreatedAt = 1, t.UpdatedAt
	case create:
		return nil, false, &engine.Error{Code: engine.CodeConflict, Field: "name", Message: fmt.Sprintf("is taken: there is an event type %q already; change it by PUT", t.Name)}
	case version != AnyVersion && version != old.Version:
		return nil, false, staleVersion("event type", old.Version, version)
	default:
		t.Version, t.CreatedAt = old.Version+1, old.CreatedAt
	}
	if err := c.store.PutEventType(ctx, t); err != nil {
		return nil, false, err
	}
	c.registry.mu.Lock()
	c.registry.eventTypes[t.Name] = compiled
	c.registry.mu.Unlock()
	return t, old == nil, nil
}

// loadEventType compiles the schema of a stored event type. The schema was valid when it was
// stored, perhaps by an earlier version; if it can't be used any longer, events of the type are
// rejected, and all others are accepted.
func loadEventType(t *engine.EventType) *registeredEventType {
	loaded := &registeredEventType{EventType: t}
	if t.Schema != nil {
		loaded.CompiledSchema, loaded.Broken = schema.Load(t.Schema)
	}
	return loaded
}

// schemaDeadline limits the time that one request may spend on schema checks. (A context with a
// deadline would cost each Publish a timer.)
type schemaDeadline struct {
	context.Context
	life  *lifecycle.Lifecycle
	until time.Time
}

// NewSchemaDeadline returns ctx with a deadline for the schema checks of one request.
func NewSchemaDeadline(ctx context.Context, life *lifecycle.Lifecycle) *schemaDeadline {
	return &schemaDeadline{ctx, life, time.Now().Add(MatchTimeout)}
}

// Err returns an error if the deadline has passed or the router stops.
func (c *schemaDeadline) Err() error {
	switch {
	case c.Context.Err() != nil:
		return c.Context.Err()
	case c.life.IsStopping():
		return lifecycle.ErrStopping()
	case time.Now().After(c.until):
		return &engine.Error{Code: engine.CodeBusy, Message: fmt.Sprintf("these events took more than %s to be checked against their schemas, so none was stored; publish fewer at a time, or simplify the schemas", MatchTimeout)}
	}
	return nil
}

// Follows validates the value of a field against a schema.
func Follows(ctx context.Context, s *schema.Schema, value []byte, field, of string) error {
	err := s.Validate(ctx, value)
	if err == nil {
		return nil
	}
	var problem *schema.Problem
	var own *engine.Error
	switch {
	case errors.As(err, &problem):
		return engine.Invalid(schema.Join(field, problem.Path), "does not fit the schema %s: %s", of, problem.Message)
	case errors.As(err, &own):
		return own
	}
	return &engine.Error{Code: engine.CodeUnavailable, Message: "the check against the schema was ended: " + err.Error()}
}

// compileEventType validates an event type and compiles its schema. Errors: CodeInvalid with every
// field that is wrong; others if the samples could not be checked.
func compileEventType(ctx context.Context, t *engine.EventType) (*registeredEventType, error) {
	var errs engine.FieldErrors
	if !engine.ValidEventType(t.Name) {
		errs.Add("name", engine.FieldInvalid, `%.140q is no event type: use letters, digits and _ in parts joined by ".", such as "order.created"`, t.Name)
	} else if engine.Operational(t.Name) {
		errs.Add("name", engine.FieldNotAllowed, "%.140q begins with %q: those event types are the router's own and can't be changed", t.Name, engine.OperationalPrefix)
	}
	errs.Append(validateDescription(t.Description)...)
	errs.Append(ValidateVerificationMode(t.Verify)...)
	compiled := &registeredEventType{EventType: t}
	if t.Schema != nil {
		var err error
		if compiled.CompiledSchema, err = schema.Compile(t.Schema); err != nil {
			errs.Add("schema", engine.FieldInvalid, "%v", err)
			compiled.CompiledSchema = nil
		}
	}
	unchecked := validateSamples(ctx, t.Samples, compiled.CompiledSchema, &errs)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return compiled, unchecked
}

// validateSamples adds the errors of samples to errs; schema may be nil. err says that a sample
// could not be checked.
func validateSamples(ctx context.Context, samples [][]byte, schema *schema.Schema, errs *engine.FieldErrors) (err error) {
	if len(samples) > maxSamples {
		errs.Add("samples", engine.FieldTooMany, "holds %d samples, %d are allowed", len(samples), maxSamples)
		return nil
	}
	for i, sample := range samples {
		field := fmt.Sprintf("samples[%d]", i)
		if len(sample) > maxSampleBytes {
			errs.Add(field, engine.FieldTooLong, "is %d bytes, %d are allowed", len(sample), maxSampleBytes)
		} else if _, err := jsonindex.Parse(sample, jsonindex.Limits{}); err != nil {
			errs.Add(field, engine.FieldInvalid, "%v", err)
		} else if schema != nil {
			if err := errs.Take(Follows(ctx, schema, sample, field, "given")); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteEventType removes an event type. Subscriptions that name it stay. Errors: CodeNotFound,
// CodeStale, and CodeConflict for operational events.
func (c *Catalog) DeleteEventType(ctx context.Context, name string, version int64) error {
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	t := c.registry.eventType(name)
	if t == nil {
		return engine.NotFound("event type", name)
	}
	if engine.Operational(name) {
		return &engine.Error{Code: engine.CodeConflict, Field: "name", Message: fmt.Sprintf("%q is built in: the router publishes it itself, and it can't be deleted", name)}
	}
	if version != AnyVersion && version != t.Version {
		return staleVersion("event type", t.Version, version)
	}
	if err := c.store.DeleteEventType(ctx, name); err != nil {
		return err
	}
	c.registry.mu.Lock()
	delete(c.registry.eventTypes, name)
	c.registry.mu.Unlock()
	return nil
}
