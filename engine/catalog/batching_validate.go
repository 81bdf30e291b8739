package catalog

import (
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/scripts/filter"
)

const (
	minDebounce = 100 * time.Millisecond
	maxDebounce = 24 * time.Hour
)

// ValidateDeliverySettings validates the delivery settings of s — policy, batches, debounce,
// signatures, payload format, headers, verification — as far as possible without a router, which
// may allow fewer concurrent attempts and knows schemas of event types and types of secrets. Error:
// CodeInvalid with the field.
func ValidateDeliverySettings(s *engine.Subscription) error {
	s = s.Clone()
	if err := checkSignatures(s.Signatures); err != nil {
		return err
	}
	if err := ValidateHeadersAndFormat(s); err != nil {
		return err
	}
	if err := CheckVerificationMode(s.Verification.Mode); err != nil {
		return err
	}
	if err := validatePolicy(&s.Policy, maxInFlight); err != nil {
		return err
	}
	if err := validateBatchingExclusive(s); err != nil {
		return err
	}
	return validateKeyExprs(s, nil)
}

// validateBatching validates a subscription's ordering, batches and debounce.
func (c *Catalog) validateBatching(s *engine.Subscription) error {
	if err := validateBatchingExclusive(s); err != nil {
		return err
	}
	return validateKeyExprs(s, c.registry.schemas(s.Events))
}

func validateBatchingExclusive(s *engine.Subscription) error {
	s.Policy.OrderingKey, s.Debounce.Key = strings.TrimSpace(s.Policy.OrderingKey), strings.TrimSpace(s.Debounce.Key)
	switch b := s.Batch; {
	case b == (engine.Batch{}):
	case b.Size < 2 || b.Size > maxBatchSize:
		return engine.Invalid("batch.size", "is %d; 2 to %d are allowed, and null for no batches", b.Size, maxBatchSize)
	case b.Wait < 0 || b.Wait > maxBatchWait:
		return engine.Invalid("batch.wait", "is %s; 0s to %s are allowed", b.Wait, maxBatchWait)
	}
	switch d := s.Debounce; {
	case d == (engine.Debounce{}):
	case d.Within < minDebounce || d.Within > maxDebounce:
		return engine.Invalid("debounce.within", "is %s; %s to %s are allowed", d.Within, minDebounce, maxDebounce)
	case s.Policy.Ordering != engine.OrderingNone:
		return engine.Invalid("debounce", "can't go with policy.ordering: what is dropped for a newer event has no order; choose one of them")
	case s.Batch != (engine.Batch{}):
		return engine.Invalid("debounce", "can't go with batch: choose one of them")
	}
	return nil
}

// validateKeyExprs compiles the key expressions of s against the schemas of its event types.
func validateKeyExprs(s *engine.Subscription, schemas [][]byte) error {
	for _, key := range []struct{ field, source string }{{"debounce.key", s.Debounce.Key}, {"policy.ordering_key", s.Policy.OrderingKey}} {
		if key.source == "" {
			continue
		}
		if _, err := filter.CompileKey(key.source, schemas...); err != nil {
			return ScriptError(key.field, err)
		}
	}
	return nil
}

const maxBatchSize = 1000

const maxBatchWait = 5 * time.Minute
