package engine

import (
	"strings"
	"time"

	"switchhook/scripts/filter"
)

const (
	minDebounce = 100 * time.Millisecond
	maxDebounce = 24 * time.Hour
)

// checkCompany validates how a subscription's deliveries stand to one another: their
// order, batches and debounce.
func (e *Engine) checkCompany(s *Subscription) error {
	s.Policy.OrderingKey, s.Debounce.Key = strings.TrimSpace(s.Policy.OrderingKey), strings.TrimSpace(s.Debounce.Key)
	switch b := s.Batch; {
	case b == (Batch{}):
	case b.Size < 2 || b.Size > maxBatchSize:
		return Invalid("batch.size", "is %d; 2 to %d are allowed, and null for no batches", b.Size, maxBatchSize)
	case b.Wait < 0 || b.Wait > maxBatchWait:
		return Invalid("batch.wait", "is %s; 0s to %s are allowed", b.Wait, maxBatchWait)
	}
	switch d := s.Debounce; {
	case d == (Debounce{}):
	case d.Within < minDebounce || d.Within > maxDebounce:
		return Invalid("debounce.within", "is %s; %s to %s are allowed", d.Within, minDebounce, maxDebounce)
	case s.Policy.Ordering != OrderingNone:
		return Invalid("debounce", "can't go with policy.ordering: what is dropped for a newer event has no order; choose one of them")
	case s.Batch != (Batch{}):
		return Invalid("debounce", "can't go with batch: choose one of them")
	}
	if err := e.checkKey("debounce.key", s.Debounce.Key, s.Events); err != nil {
		return err
	}
	return e.checkKey("policy.ordering_key", s.Policy.OrderingKey, s.Events)
}

func (e *Engine) checkKey(field, source string, events []string) error {
	if source == "" {
		return nil
	}
	if _, err := filter.CompileKey(source, e.registry.schemas(events)...); err != nil {
		return scriptError(field, err)
	}
	return nil
}
