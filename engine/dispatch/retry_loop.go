package dispatch

import (
	"context"
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"time"
)

const retryBatch = 500

// maxRetrySleep limits the time between two reads of retries that are due.
const maxRetrySleep = 5 * time.Second

// RetryLoop queues failed deliveries when their next attempt is due.
func (d *Dispatcher) RetryLoop() {
	ctx := context.Background()
	for {
		n := d.enqueueDueRetries(ctx)
		wait := maxRetrySleep
		if n == retryBatch {
			wait = 0
		} else if due, err := d.store.NextDue(ctx); err == nil && !due.IsZero() {
			wait = min(max(due.Sub(d.cfg.Now()), time.Millisecond), maxRetrySleep)
		}
		if !d.sleepUntilRetry(wait) {
			return
		}
	}
}

// sleepUntilRetry sleeps for wait, or less if a retry is recorded that is due earlier; false means
// that the router stops. It measures by the monotonic clock: if cfg.Now is set back after a retry
// got its time, that retry must not prolong the sleep.
func (d *Dispatcher) sleepUntilRetry(wait time.Duration) bool {
	until := time.Now().Add(wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-d.life.Stopping():
			return false
		case <-timer.C:
			return true
		case due := <-d.retryWake:
			if at := time.Now().Add(due.Sub(d.cfg.Now())); at.Before(until) {
				until = at
				timer.Reset(max(time.Until(at), 0))
			}
		}
	}
}

// wakeRetries tells RetryLoop that a retry is due at a time; it never blocks.
func (d *Dispatcher) wakeRetries(due time.Time) {
	select {
	case d.retryWake <- due:
	default: // the loop is behind, and reads the store again anyway
	}
}

func (d *Dispatcher) enqueueDueRetries(ctx context.Context) int {
	defer d.scheduler.markDue(nil)
	rows, err := d.store.TakeDue(ctx, d.cfg.Now(), retryBatch, d.scheduler.markDue)
	if err != nil {
		d.log.Error("retries not read", "error", err)
		return 0
	}
	entries := make([]dispatchqueue.Entry, len(rows))
	byAccount := map[string][]*dispatchqueue.Entry{}
	for i, w := range rows {
		entries[i] = entryOf(w)
		if r := d.catalog.Compiled(w.ID.Subscription); r != nil {
			byAccount[r.Sub.Account] = append(byAccount[r.Sub.Account], &entries[i])
		}
	}
	for account, waiting := range byAccount {
		d.loadEvents(ctx, account, waiting)
	}
	for i, w := range rows {
		d.enqueueDueRetry(ctx, w.ID.Subscription, entries[i])
	}
	return len(rows)
}

// enqueueDueRetry queues a delivery whose retry is due, unless a fetch or a user has queued it.
func (d *Dispatcher) enqueueDueRetry(ctx context.Context, subscription engine.ID, en dispatchqueue.Entry) {
	if r := d.catalog.Compiled(subscription); r != nil {
		var err error
		if en, err = d.withGroup(ctx, r, en); err != nil { // without a group, so that the ordered queue reads it again
			d.log.Error("event of a delivery not read", "delivery_id", engine.DeliveryID{Event: en.Event, Subscription: subscription}.String(), "error", err)
			en.SpecHash = 0
		}
	}
	known, q, list := d.scheduler.enqueueDue(subscription, en)
	if !known {
		d.markDead(subscription, en, engine.SubscriptionDeleted)
		return
	}
	d.settleDisplaced(q, list)
}
