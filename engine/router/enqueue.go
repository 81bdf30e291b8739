package router

import (
	"sync/atomic"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/watermark"
)

// preparedEvent is an event between its validation and its first delivery.
type preparedEvent struct {
	engine.NewEvent
	tracked *watermark.Event
	groups  []group // for each target that matched; nil where none has one
}

// group is where an event stands with a subscription that keeps order or debounces.
type group struct{ id, specHash uint64 }

// enqueueDeliveries hands a stored event's deliveries to their queues.
func (d *Dispatcher) enqueueDeliveries(p *preparedEvent) {
	h := d.eventCache.add(p.Event, len(p.Event.Targets))
	for slot, id := range p.Event.Targets {
		en := dispatchqueue.Entry{Event: p.Event.ID, Payload: h, Tracked: p.tracked, Slot: slot}
		if slot < len(p.groups) { // named targets stand behind what matched, and have none
			en.Group, en.SpecHash = p.groups[slot].id, p.groups[slot].specHash
		}
		place, q, list := d.scheduler.enqueue(id, en)
		switch place {
		case enqueueInStore:
			d.spillToStore(q, en)
		case enqueueNoSubscription:
			d.markDead(id, en, subscriptionDeleted)
		}
		d.settleDisplaced(q, list)
	}
}

// eventCache bounds the bytes of events that wait in memory; beyond it they are read
// from the store again when their turn comes.
type eventCache struct{ bytes atomic.Int64 }

const maxCachedBytes = 64 << 20

// quarantined is an event in memory, shared by its deliveries.
type cachedEvent struct {
	budget *eventCache
	ev     *engine.Event
	users  atomic.Int32
}

// add keeps ev in memory for so many users, while there is room; otherwise it gives nil.
func (b *eventCache) add(ev *engine.Event, users int) dispatchqueue.Payload {
	if users == 0 {
		return nil
	}
	if b.bytes.Add(ev.CachedSize()) > maxCachedBytes {
		b.bytes.Add(-ev.CachedSize())
		return nil
	}
	h := &cachedEvent{budget: b, ev: ev}
	h.users.Store(int32(users))
	return h
}

// Release says that one of the users has done with the event.
func (h *cachedEvent) Release() {
	if h.users.Add(-1) == 0 {
		h.budget.bytes.Add(-h.ev.CachedSize())
	}
}
