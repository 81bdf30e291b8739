package dispatch

import (
	"context"
	"hash/maphash"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
)

// groupOf returns the group of an event. If its key can't be evaluated, groupOf records the error
// and returns a fallback group.
func (d *Dispatcher) groupOf(r *catalog.CompiledSubscription, event engine.ID, in *filter.Input) uint64 {
	g := &r.Grouping
	if g.Key == "" {
		return 0
	}
	g.Once.Do(func() { g.Expr, g.Err = filter.CompileKey(g.Key) })
	if g.Err != nil {
		d.catalog.RecordFilterError(r, g.Err)
		return g.FallbackGroup(event)
	}
	value, err := g.Expr.Of(in)
	if err != nil {
		d.catalog.RecordFilterError(r, err)
		return g.FallbackGroup(event)
	}
	return maphash.String(catalog.GroupSeed, value)
}

// Groups returns the group of an event for each matched subscription; nil if none has groups. The
// error is that of spent: the key expressions took too long.
func (d *Dispatcher) Groups(
	matched []*catalog.CompiledSubscription, event engine.ID, ev *scripts.Event, spent *catalog.MatchTime,
) (list []group, err error) {
	var in *filter.Input
	for i, r := range matched {
		if r.Grouping.SpecHash == 0 {
			continue
		}
		if list == nil {
			list = make([]group, len(matched))
			in = filter.NewInput(ev)
			defer in.Release()
		}
		if err := spent.Check(); err != nil {
			return nil, err
		}
		list[i] = group{d.groupOf(r, event, in), r.Grouping.SpecHash}
	}
	return list, nil
}

// withGroup returns a delivery that was read from the store with its group, for which it may have
// to read the event.
func (d *Dispatcher) withGroup(ctx context.Context, r *catalog.CompiledSubscription, en dispatchqueue.Entry) (dispatchqueue.Entry, error) {
	g := &r.Grouping
	en.SpecHash = g.SpecHash
	if g.Key == "" {
		return en, nil
	}
	ev, err := d.loadEvent(ctx, en)
	if err != nil {
		return en, err
	}
	in := filter.NewInput(catalog.ScriptEvent(ev, jsonindex.Value{}))
	en.Group = d.groupOf(r, en.Event, in)
	in.Release()
	return en, nil
}

// entryOf returns a delivery that was read from the store, without its group.
func entryOf(w engine.Waiting) dispatchqueue.Entry {
	return dispatchqueue.Entry{Event: w.ID.Event, Position: w.Position, Attempts: w.Attempts, RequestedAt: w.RenewedAt, Failed: w.Failed}
}

// settleDisplaced spills the displaced deliveries to the store, and records the superseded ones as
// dropped.
func (d *Dispatcher) settleDisplaced(q *queue, list []dispatchqueue.Displaced) {
	for _, a := range list {
		if a.SupersededBy == 0 {
			d.spillToStore(q, a.Entry)
		} else {
			d.recordFinal(q, a.Entry, engine.StateDropped, supersededBy(a.SupersededBy))
		}
	}
}

func supersededBy(newer engine.ID) string { return "superseded by " + newer.Format(engine.EventPrefix) }
