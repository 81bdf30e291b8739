package dispatch

import (
	"context"
	"switchhook/engine"
	"sync"
)

const scanBatch = 1000

// Recover finds the deliveries that an earlier run accepted and did not finish: it writes the
// missing rows of events above the watermark, and marks every subscription with pending rows.
// RetryLoop finds the retries that are due.
func (d *Dispatcher) Recover(ctx context.Context) error {
	after, err := d.store.Watermark(ctx, d.cfg.Node)
	if err != nil {
		return err
	}
	found := 0
	for {
		events, err := d.store.Unfinished(ctx, d.cfg.Node, after, scanBatch)
		if err != nil {
			return err
		}
		var written sync.WaitGroup
		for _, ev := range events {
			after = max(after, ev.ID)
			for _, target := range ev.Targets {
				found++
				written.Add(1)
				d.RecordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: ev.ID, Subscription: target}, State: engine.StatePending}, written.Done)
			}
		}
		written.Wait()
		if len(events) < scanBatch {
			break
		}
	}
	if found > 0 {
		d.log.Info("deliveries recovered from an earlier run", "count", found)
	}
	d.scheduler.startOrderedFetches()
	waiting, err := d.store.BacklogSubscriptions(ctx)
	if err != nil {
		return err
	}
	for _, id := range waiting {
		if d.scheduler.markBacklog(id) {
			continue
		}
		if err := d.store.MarkOutstandingDead(ctx, id, engine.SubscriptionDeleted); err != nil {
			return err
		}
	}
	return nil
}
