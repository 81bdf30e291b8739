package dispatch

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
)

// EventCache bounds the bytes of events that wait in memory, over all queues, so that accounts
// share them; events beyond it are read from the store when their turn comes.
type EventCache struct {
	mu     sync.Mutex
	budget budget // of bytes
}

// NewEventCache returns an EventCache of at most bytes.
func NewEventCache(bytes int64) *EventCache { return &EventCache{budget: newBudget(bytes)} }

// cachedEvent is an event in memory, shared by its deliveries.
type cachedEvent struct {
	cache *EventCache
	ev    *engine.Event
	bytes int64
	users atomic.Int32
}

// Add keeps ev in memory for users deliveries; it returns nil if there is no room.
func (c *EventCache) Add(ev *engine.Event, users int) dispatchqueue.Payload {
	if users == 0 || !c.reserveAll(ev.Account, ev.CachedSize()) {
		return nil
	}
	return c.hold(ev, users)
}

// hold returns an event for whose bytes room was reserved.
func (c *EventCache) hold(ev *engine.Event, users int) *cachedEvent {
	h := &cachedEvent{cache: c, ev: ev, bytes: ev.CachedSize()}
	h.users.Store(int32(users))
	return h
}

// reserve reserves up to most bytes for events of an account that will be read, and returns how many.
func (c *EventCache) reserve(account string, most int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(most, c.budget.room(account))
	c.budget.add(account, n)
	return n
}

func (c *EventCache) reserveAll(account string, bytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget.room(account) < bytes {
		return false
	}
	c.budget.add(account, bytes)
	return true
}

// release gives bytes of an account back.
func (c *EventCache) release(account string, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget.add(account, -bytes)
}

// maxRead is the number of bytes of events that are read at once.
const maxRead = 4 << 20

// loadEvents reads the events of deliveries of an account that will wait in memory, as many as there
// is room for: in one read, instead of one for each when its turn comes. Those that it can't read are
// left to their attempt.
func (d *Dispatcher) loadEvents(ctx context.Context, account string, entries []*dispatchqueue.Entry) {
	left := d.eventCache.reserve(account, maxRead)
	defer func() { d.eventCache.release(account, left) }()
	of := make(map[engine.ID][]*dispatchqueue.Entry, len(entries))
	ids := make([]engine.ID, 0, len(entries))
	for _, en := range entries {
		if !en.Failed { // those wait for long
			of[en.Event] = append(of[en.Event], en)
			ids = append(ids, en.Event)
		}
	}
	if left == 0 || len(ids) == 0 {
		return
	}
	events, err := d.store.EventsByID(ctx, ids, left)
	if err != nil {
		d.log.Debug("events of waiting deliveries not read", "error", err)
	}
	for _, ev := range events {
		if json.Valid(ev.Data) { // it was when it was accepted
			h := d.eventCache.hold(ev, len(of[ev.ID]))
			for _, en := range of[ev.ID] {
				en.Payload = h
			}
			left -= h.bytes
		}
	}
}

// inUse returns the bytes in use.
func (c *EventCache) inUse() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.budget.held
}

// Release drops one reference; the last one frees the memory.
func (h *cachedEvent) Release() {
	if h.users.Add(-1) == 0 {
		h.cache.release(h.ev.Account, h.bytes)
	}
}
