package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/durationtext"
	"switchhook/engine/lifecycle"
	"switchhook/engine/outbound"
)

// Deliveries lists deliveries, those of the newest event first. next is the cursor of the rest.
func (d *Dispatcher) Deliveries(ctx context.Context, q engine.DeliveryQuery) (list []*engine.Delivery, next engine.DeliveryID, err error) {
	return d.store.Deliveries(ctx, q)
}

// Delivery returns a delivery of an account, or of any if account is empty. Error: CodeNotFound.
func (d *Dispatcher) Delivery(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, error) {
	return d.store.Delivery(ctx, account, id)
}

// Attempts lists the attempts of a delivery of an account, or of any if account is empty, newest
// first, with the sizes of their bodies. next is the cursor of the rest. Error: CodeNotFound.
func (d *Dispatcher) Attempts(ctx context.Context, account string, q engine.AttemptQuery) (list []*engine.Attempt, next int, err error) {
	if _, err := d.store.Delivery(ctx, account, q.Delivery); err != nil {
		return nil, 0, err
	}
	if list, next, err = d.store.Attempts(ctx, q); err != nil {
		return nil, 0, err
	}
	redact := d.redactor(q.Delivery.Subscription)
	sizes := map[string]int{} // of bodies that are not stored, by how they are rendered
	for _, a := range list {
		redact.Stored(a)
		if !outbound.IsPlain(a) {
			continue
		}
		form := fmt.Sprint(a.Request.Plain, a.Batch > 0)
		size, known := sizes[form]
		if !known {
			ev, err := d.store.Event(ctx, account, q.Delivery.Event)
			if err != nil {
				return nil, 0, err
			}
			size = len(outbound.RenderPlain(a, ev))
			sizes[form] = size
		}
		a.Request.Size = size
	}
	return list, next, nil
}

// StoredAttempt returns an attempt, with its bodies, of a delivery of an account, or of any if account is
// empty. Error: CodeNotFound.
func (d *Dispatcher) StoredAttempt(ctx context.Context, account string, id engine.DeliveryID, number int) (*engine.Attempt, error) {
	if _, err := d.store.Delivery(ctx, account, id); err != nil {
		return nil, err
	}
	a, err := d.store.Attempt(ctx, id, number)
	if err != nil {
		return nil, err
	}
	if outbound.IsPlain(a) {
		ev, err := d.store.Event(ctx, account, id.Event)
		if err != nil {
			return nil, err
		}
		a.Request.Body = outbound.RenderPlain(a, ev)
	}
	a.Request.Size, a.Response.Size = len(a.Request.Body), len(a.Response.Body)
	d.redactor(id.Subscription).Stored(a)
	return a, nil
}

// redactor returns what hides the credentials of a subscription; nil if it is deleted.
func (d *Dispatcher) redactor(subscription engine.ID) *engine.Redactor {
	if r := d.catalog.Compiled(subscription); r != nil {
		return r.Redact
	}
	return nil
}

// Retry makes another attempt of a delivery at once, whatever its state; if it fails, the retry
// schedule continues from its position. Right after an attempt it waits until another one may be made.
// Errors: CodeNotFound; CodeConflict if an attempt is waiting already, or the subscription was deleted
// or is inactive; CodeBusy if there was an attempt meanwhile.
func (d *Dispatcher) Retry(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, error) {
	found, err := d.retryable(ctx, account, id)
	if err != nil {
		return nil, err
	}
	if wait := d.RetryWait(found); wait > 0 {
		if err := d.sleep(ctx, wait); err != nil {
			return nil, err
		}
		if found, err = d.retryable(ctx, account, id); err != nil {
			return nil, err
		}
	}
	if wait := d.RetryWait(found); wait > 0 {
		return nil, &engine.Error{Code: engine.CodeBusy, Wait: wait, Message: "this delivery was attempted less than " + durationtext.Format(d.cfg.MinRetryWait) + " ago; try again then"}
	}
	if err := d.WaitForReplay(ctx, id, found.Attempts, found.Error); err != nil {
		return nil, err
	}
	found.State, found.NextAt = engine.StatePending, time.Time{}
	return found, nil
}

// retryable returns a delivery that may be retried.
func (d *Dispatcher) retryable(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, error) {
	found, err := d.store.Delivery(ctx, account, id)
	if err != nil {
		return nil, err
	}
	s := d.catalog.Lookup(id.Subscription)
	switch {
	case s == nil:
		return nil, &engine.Error{Code: engine.CodeConflict, Message: "the subscription of this delivery was deleted"}
	case !s.Active:
		return nil, &engine.Error{Code: engine.CodeConflict, Message: "the subscription of this delivery is not active; activate it first"}
	case found.State == engine.StatePending:
		return nil, &engine.Error{Code: engine.CodeConflict, Message: "this delivery is waiting for its attempt already"}
	}
	return found, nil
}

// sleep waits for a time, or until ctx ends or the router stops.
func (d *Dispatcher) sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.life.Stopping():
		return lifecycle.ErrStopping()
	}
}

// RetryWait returns how long a delivery must still wait for another attempt; 0 or less: not at all.
func (d *Dispatcher) RetryWait(found *engine.Delivery) time.Duration {
	since := d.cfg.Now().Sub(found.LastAt)
	return min(d.cfg.MinRetryWait, d.cfg.MinRetryWait-since) // the clock may have been set back
}

// WaitForReplay makes a delivery pending, and queues it once that is on disk. Error: CodeNotFound
// if its event was removed meanwhile; then nothing has changed.
func (d *Dispatcher) WaitForReplay(ctx context.Context, id engine.DeliveryID, attempts int, reason string) error {
	now := d.life.Now()
	en := dispatchqueue.Entry{Event: id.Event, Attempts: attempts, RequestedAt: now}
	if r := d.catalog.Compiled(id.Subscription); r != nil {
		var err error
		if en, err = d.withGroup(ctx, r, en); err != nil {
			return err
		}
	}
	recorded := make(chan error, 1)
	o := &engine.Outcome{ID: id, State: engine.StatePending, Attempts: attempts, Error: reason, RenewedAt: now}
	d.recordOutcomeUnless(o, func() {
		en.Position = o.Position
		switch known, q, list := d.scheduler.enqueueManualRetry(id.Subscription, en); { // this callback must not call the store
		case !known: // deleted while the row was being written
			d.writes.Go(func() { d.markDead(id.Subscription, en, engine.SubscriptionDeleted) })
		case list != nil:
			d.writes.Go(func() { d.settleDisplaced(q, list) })
		}
		recorded <- nil
	}, func(err error) { recorded <- err })
	select {
	case err := <-recorded:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}
