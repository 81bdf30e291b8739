package catalog

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/lifecycle"
)

const (
	expiryEvery = 250 * time.Millisecond
)

// expiryQueue holds the deadlines of subscriptions, at most one for each, the earliest first.
type expiryQueue struct {
	mu   sync.Mutex
	next deadlineHeap
	byID map[engine.ID]*deadline
}

type deadline struct {
	at    time.Time
	id    engine.ID
	place int // index in the heap
}

// add records the deadline of a new or changed subscription.
func (x *expiryQueue) add(s *engine.Subscription) {
	at, _ := s.Deadline()
	x.set(s.ID, at)
}

// set moves the deadline of a subscription; the zero time removes it.
func (x *expiryQueue) set(id engine.ID, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch d := x.byID[id]; {
	case d == nil && at.IsZero():
	case d == nil:
		if x.byID == nil {
			x.byID = map[engine.ID]*deadline{}
		}
		d = &deadline{at: at, id: id}
		x.byID[id] = d
		heap.Push(&x.next, d)
	case at.IsZero():
		heap.Remove(&x.next, d.place)
		delete(x.byID, id)
	default:
		d.at = at
		heap.Fix(&x.next, d.place)
	}
}

// due removes and returns a subscription whose deadline may have passed; ok is false if there is
// none.
func (x *expiryQueue) due(now time.Time) (id engine.ID, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.next) == 0 || x.next[0].at.After(now) {
		return 0, false
	}
	id = heap.Pop(&x.next).(*deadline).id
	delete(x.byID, id)
	return id, true
}

// len returns the number of deadlines.
func (x *expiryQueue) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.next)
}

// ExpireSubscriptionsLoop deletes subscriptions whose deadline has passed.
func (reg *SubscriptionRegistry) ExpireSubscriptionsLoop() {
	reg.life.RunEvery(expiryEvery, func() { reg.expireSubscriptions(context.Background()) })
}

func (reg *SubscriptionRegistry) expireSubscriptions(ctx context.Context) {
	for !reg.life.IsStopping() {
		id, ok := reg.expiries.due(reg.cfg.Now())
		if !ok {
			return
		}
		if err := reg.expireSubscription(ctx, id); err != nil {
			reg.log.Error("subscription not deleted", "subscription_id", id.Format(engine.SubscriptionPrefix), "error", err)
			reg.expiries.set(id, reg.cfg.Now().Add(lifecycle.RecordRetryDelay))
		}
	}
}

// expireSubscription deletes a subscription if its deadline has still passed.
func (reg *SubscriptionRegistry) expireSubscription(ctx context.Context, id engine.ID) error {
	var reason string
	removed, err := reg.removeSubscription(ctx, func() (s *engine.Subscription, _ string, _ error) {
		if s = reg.Lookup(id); s == nil {
			return nil, "", nil
		}
		var at time.Time
		if at, reason = s.Deadline(); at.IsZero() || at.After(reg.cfg.Now()) {
			reg.expiries.set(id, at) // it was moved, or the clock was set back
			return nil, "", nil
		}
		return s, reason, nil
	})
	if removed {
		reg.log.Info("subscription deleted", "subscription_id", id.Format(engine.SubscriptionPrefix), "reason", reason)
	}
	return err
}

// deadlineHeap is a heap of deadlines.
type deadlineHeap []*deadline

// Len implements heap.Interface.
func (d deadlineHeap) Len() int { return len(d) }

// Less implements heap.Interface: the earliest is first.
func (d deadlineHeap) Less(i, j int) bool { return d[i].at.Before(d[j].at) }

// Swap implements heap.Interface.
func (d deadlineHeap) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *deadlineHeap) Push(x any) {
	added := x.(*deadline)
	added.place = len(*d)
	*d = append(*d, added)
}

// Pop implements heap.Interface.
func (d *deadlineHeap) Pop() any {
	last := (*d)[len(*d)-1]
	(*d)[len(*d)-1] = nil
	*d = (*d)[:len(*d)-1]
	return last
}
