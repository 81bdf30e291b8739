package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// EventTypeRegistry holds the event types with their schemas.
type EventTypeRegistry struct {
	*core
	table[string, *registeredEventType]
}

// registeredEventType is an EventType with its schema compiled.
type registeredEventType struct {
	*engine.EventType
	CompiledSchema *schema.Schema // nil if there is none
	Broken         error          // why a stored schema can't be used
}

// load reads the event types from the store and adds those of operational events.
func (reg *EventTypeRegistry) load(ctx context.Context) error {
	types, err := reg.store.EventTypes(ctx)
	if err != nil {
		return err
	}
	for _, t := range types {
		loaded := loadEventType(t)
		if loaded.Broken != nil {
			reg.log.Error("the schema of an event type can't be used: its events are refused until it is changed", "event_type", t.Name, "error", loaded.Broken)
		}
		reg.put(t.Name, loaded)
		reg.memory.add("", sizeOfEventType(loaded))
	}
	for _, t := range engine.OperationalTypes {
		built := *t
		built.Version = 1
		reg.put(t.Name, loadEventType(&built))
	}
	return nil
}

// EventTypes lists the event types by name. They must not be changed.
func (reg *EventTypeRegistry) EventTypes() []*engine.EventType {
	registered := reg.find(func(*registeredEventType) bool { return true })
	list := make([]*engine.EventType, len(registered))
	for i, t := range registered {
		list[i] = t.EventType
	}
	slices.SortFunc(list, func(a, b *engine.EventType) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// EventType returns an event type, which must not be changed.
func (reg *EventTypeRegistry) EventType(name string) (*engine.EventType, error) {
	if t := reg.get(name); t != nil {
		return t.EventType, nil
	}
	return nil, engine.NotFound("event type", name)
}

// LookupEventType returns a registered event type with its compiled schema; nil if there is none.
func (reg *EventTypeRegistry) LookupEventType(name string) *registeredEventType {
	return reg.get(name)
}

// Schemas returns the schemas of the event types that patterns name; nil as soon as one of them has
// none, or a pattern does not determine the types.
func (reg *EventTypeRegistry) Schemas(patterns []string) (found [][]byte) {
	for _, p := range patterns {
		t := reg.get(p)
		if t == nil || t.Schema == nil {
			return nil
		}
		found = append(found, t.Schema)
	}
	return found
}

// PutEventType creates or replaces an event type; created reports which. version is the expected
// one or AnyVersion. Errors: CodeInvalid, CodeStale, and CodeConflict if create is set and the type
// exists.
func (reg *EventTypeRegistry) PutEventType(ctx context.Context, t *engine.EventType, create bool, version int64) (stored *engine.EventType, created bool, err error) {
	compiled, err := compileEventType(NewSchemaDeadline(ctx, reg.life), t)
	if err != nil {
		return nil, false, err
	}
	defer reg.changes.lock(ctx)()
	t.UpdatedAt = reg.life.Now()
	old := reg.get(t.Name)
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
	added := sizeOfEventType(compiled) - sizeOfEventType(old)
	if err := reg.checkMemory(ctx, "", added); err != nil {
		return nil, false, err
	}
	var before any
	if old != nil {
		before = old.EventType
	}
	if err := reg.store.PutEventType(reg.audited(ctx, engine.KindEventType, t.Name, "", before, t), t); err != nil {
		return nil, false, err
	}
	reg.put(t.Name, compiled)
	reg.memory.add("", added)
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
		errs.Add("name", engine.FieldInvalid, `%.140q is not an event type: use letters, digits and _ in parts joined by ".", such as "order.created"`, t.Name)
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
func (reg *EventTypeRegistry) DeleteEventType(ctx context.Context, name string, version int64) error {
	defer reg.changes.lock(ctx)()
	t := reg.get(name)
	if t == nil {
		return engine.NotFound("event type", name)
	}
	if engine.Operational(name) {
		return &engine.Error{Code: engine.CodeConflict, Field: "name", Message: fmt.Sprintf("%q is built in: the router publishes it itself, and it can't be deleted", name)}
	}
	if version != AnyVersion && version != t.Version {
		return staleVersion("event type", t.Version, version)
	}
	if err := reg.store.DeleteEventType(reg.audited(ctx, engine.KindEventType, name, "", t.EventType, nil), name); err != nil {
		return err
	}
	reg.remove(name)
	reg.memory.add("", -sizeOfEventType(t))
	return nil
}
