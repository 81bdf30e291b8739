package dispatch

import (
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/watermark"
)

// PreparedEvent is an event between its validation and its first delivery.
type PreparedEvent struct {
	engine.NewEvent
	Tracked *watermark.Event
	Groups  []group // for each target that matched; nil if none is ordered or debounced
}

// group is the ordering or debounce group of an event for one subscription.
type group struct{ id, specHash uint64 }

// EnqueueDeliveries hands a stored event's deliveries to their queues.
func (d *Dispatcher) EnqueueDeliveries(p *PreparedEvent, stored *engine.Appended) {
	kept := 0
	h := d.eventCache.Add(p.Event, len(p.Event.Targets))
	for slot, id := range p.Event.Targets {
		en := dispatchqueue.Entry{Event: p.Event.ID, Position: stored.Position(slot), Payload: h, Tracked: p.Tracked, Slot: slot}
		if slot < len(p.Groups) { // targets named with the event follow the matched ones and have no group
			en.Group, en.SpecHash = p.Groups[slot].id, p.Groups[slot].specHash
		}
		place, q, list := d.scheduler.enqueue(id, en)
		switch place {
		case enqueued:
			kept++
		case enqueueInStore:
			d.spillToStore(q, en)
		case enqueueNoSubscription:
			d.markDead(id, en, engine.SubscriptionDeleted)
		}
		d.settleDisplaced(q, list)
	}
	d.scheduler.pressure.events.Add(1)
	d.scheduler.pressure.deliveries.Add(int64(kept))
}
