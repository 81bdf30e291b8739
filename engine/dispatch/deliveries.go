package dispatch

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/engine/outbound"
)

// Deliveries lists deliveries, those of the newest event first.
func (d *Dispatcher) Deliveries(ctx context.Context, q engine.DeliveryQuery) ([]*engine.Delivery, error) {
	return d.store.Deliveries(ctx, q)
}

// Delivery returns a delivery of an account, or of any if account is empty, with its attempts,
// oldest first. Error: CodeNotFound.
func (d *Dispatcher) Delivery(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, []*engine.Attempt, error) {
	found, err := d.store.Delivery(ctx, account, id)
	if err != nil {
		return nil, nil, err
	}
	attempts, err := d.store.Attempts(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	ev, err := d.store.Event(ctx, account, id.Event)
	if err != nil {
		return nil, nil, err
	}
	var redact *engine.Redactor
	if r := d.catalog.Compiled(id.Subscription); r != nil {
		redact = r.Redact
	}
	for _, a := range attempts {
		outbound.RenderPlain(a, ev)
		redact.Stored(a)
	}
	return found, attempts, nil
}

// Retry makes another attempt of a delivery at once, whatever its state; if it fails, the retry
// schedule continues from its position. Errors: CodeNotFound; CodeConflict if an attempt is
// waiting already, or the subscription was deleted or is inactive.
func (d *Dispatcher) Retry(ctx context.Context, account string, id engine.DeliveryID) (*engine.Delivery, error) {
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
	if err := d.WaitForReplay(ctx, id, found.Attempts, found.Error); err != nil {
		return nil, err
	}
	found.State, found.NextAt = engine.StatePending, time.Time{}
	return found, nil
}
