package catalog

import (
	"time"

	"switchhook/engine"
)

const (
	maxBatchSize = 1000
	maxBatchWait = 5 * time.Minute
	minDebounce  = 100 * time.Millisecond
	maxDebounce  = 24 * time.Hour
)

// validateBatching validates batches and debounce, and that they go with the ordering.
func validateBatching(s *engine.Subscription) (errs engine.FieldErrors) {
	if b := s.Batch; b != (engine.Batch{}) {
		if b.Size < 2 || b.Size > maxBatchSize {
			errs.Add("batch.size", engine.FieldOutOfRange, "is %d; 2 to %d are allowed, and null for no batches", b.Size, maxBatchSize)
		}
		if b.Wait < 0 || b.Wait > maxBatchWait {
			errs.Add("batch.wait", engine.FieldOutOfRange, "is %s; 0s to %s are allowed", b.Wait, maxBatchWait)
		}
	}
	d := s.Debounce
	if d == (engine.Debounce{}) {
		return errs
	}
	if d.Within < minDebounce || d.Within > maxDebounce {
		errs.Add("debounce.within", engine.FieldOutOfRange, "is %s; %s to %s are allowed", d.Within, minDebounce, maxDebounce)
	}
	if s.Policy.Ordering != engine.OrderingNone {
		errs.Add("debounce", engine.FieldConflict, "can't go with policy.ordering: what is dropped for a newer event has no order; choose one of them")
	}
	if s.Batch != (engine.Batch{}) {
		errs.Add("debounce", engine.FieldConflict, "can't go with batch: choose one of them")
	}
	return errs
}
