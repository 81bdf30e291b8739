package router

import (
	"context"
	"maps"
	"time"
)

// Prune removes all that may go by now, without pauses.
func (e *Engine) Prune(ctx context.Context) error {
	return e.Pruner.PruneNow(ctx)
}

// Measure looks at the store and the disk.
func (e *Engine) Measure(ctx context.Context) {
	e.LoadShedder.RefreshStore(ctx)
}

// MeasureBacklog counts what waits.
func (e *Engine) MeasureBacklog(ctx context.Context) { e.LoadShedder.CountBacklog(ctx) }

// ExpireAll makes dead the deliveries in memory that are older than give_up_after.
func (e *Engine) ExpireAll() { e.Dispatcher.ExpireDeliveries() }

// Kept counts what is in memory for its use alone: versions of scripts, meters of quotas,
// accounts whose targets are asked, transforms with strikes, deadlines.
func (e *Engine) Kept() map[string]int {
	kept := e.Catalog.Retained()
	maps.Copy(kept, e.Publisher.Retained())
	maps.Copy(kept, e.Monitor.Retained())
	return kept
}

// Tidy forgets, as of a time, what is no longer needed.
func (e *Engine) Tidy(now time.Time) {
	e.Publisher.DropIdle(now)
	e.Catalog.ForgetUnused()
}
