package engine

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

const (
	subscriptionExpired = "the subscription expired"
	targetNotConfirmed  = "the target did not confirm that it wants to be sent events"
	expiryEvery         = 250 * time.Millisecond
)

// deadline is when a subscription is to be deleted, and why; the zero time is never.
func (s *Subscription) deadline() (at time.Time, reason string) {
	at, reason = s.ExpiresAt, subscriptionExpired
	if v := s.Verification; v.Pending() && !v.Until.IsZero() && (at.IsZero() || v.Until.Before(at)) {
		return v.Until, targetNotConfirmed
	}
	return at, reason
}

// expiries holds the deadlines of subscriptions, the next one first. One that was moved
// or taken away stays in it until its time, and is then passed over.
type expiries struct {
	mu   sync.Mutex
	next deadlines
}

type deadline struct {
	at time.Time
	id ID
}

// note keeps the deadline of a subscription that is new or was changed.
func (x *expiries) note(s *Subscription) {
	at, _ := s.deadline()
	if at.IsZero() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	heap.Push(&x.next, deadline{at, s.ID})
}

// due takes a subscription out whose deadline may be over; ok is false where there is none.
func (x *expiries) due(now time.Time) (id ID, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.next) == 0 || x.next[0].at.After(now) {
		return 0, false
	}
	return heap.Pop(&x.next).(deadline).id, true
}

// endingLoop deletes subscriptions when their time is over.
func (e *Engine) endingLoop() {
	e.every(expiryEvery, func() { e.endExpired(context.Background()) })
}

func (e *Engine) endExpired(ctx context.Context) {
	for !e.closing() {
		id, ok := e.expiries.due(e.cfg.Now())
		if !ok {
			return
		}
		if err := e.endOne(ctx, id); err != nil {
			e.log.Error("subscription not deleted", "subscription_id", id.Format(SubscriptionPrefix), "error", err)
			e.expiries.mu.Lock()
			heap.Push(&e.expiries.next, deadline{e.cfg.Now().Add(recordAgain), id})
			e.expiries.mu.Unlock()
		}
	}
}

// endOne deletes a subscription if its deadline is over still.
func (e *Engine) endOne(ctx context.Context, id ID) error {
	var reason string
	removed, err := e.removeSubscription(ctx, func() (s *Subscription, _ string, _ error) {
		if s = e.registry.subscription("", id); s == nil {
			return nil, "", nil
		}
		var at time.Time
		if at, reason = s.deadline(); at.IsZero() || at.After(e.cfg.Now()) {
			return nil, "", nil
		}
		return s, reason, nil
	})
	if removed {
		e.log.Info("subscription deleted", "subscription_id", id.Format(SubscriptionPrefix), "reason", reason)
	}
	return err
}

// deadlines is a heap.
type deadlines []deadline

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface: the earliest is first.
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *deadlines) Push(x any) { *d = append(*d, x.(deadline)) }

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
