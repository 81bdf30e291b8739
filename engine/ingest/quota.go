package ingest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatch"

	"golang.org/x/time/rate"
)

// quotaTracker measures the usage of accounts with a quota.
type quotaTracker struct {
	byAccount sync.Map // account → *accountUsage
}

type accountUsage struct {
	mu       sync.Mutex
	events   *rate.Limiter // nil until the first event
	reserved int64         // bytes admitted but not stored yet

	used atomic.Int64 // last use, in seconds since 1970
}

// usageIdleTime is how long the usage of an account that publishes nothing is cached. By then its rate
// is full again.
const usageIdleTime = time.Minute

func (m *quotaTracker) of(account string, now time.Time) *accountUsage {
	found, ok := m.byAccount.Load(account)
	if !ok {
		fresh := &accountUsage{}
		fresh.used.Store(now.Unix())
		found, _ = m.byAccount.LoadOrStore(account, fresh)
	}
	own := found.(*accountUsage)
	own.used.Store(now.Unix())
	return own
}

// dropIdle drops the usage of accounts that have not published for a while and have nothing
// reserved.
func (m *quotaTracker) dropIdle(now time.Time) {
	m.byAccount.Range(func(account, found any) bool {
		own := found.(*accountUsage)
		own.mu.Lock()
		defer own.mu.Unlock()
		if own.reserved == 0 && now.Unix()-own.used.Load() >= int64(usageIdleTime/time.Second) {
			m.byAccount.CompareAndDelete(account, found)
		}
		return true
	})
}

// demand is an account's part of one Publish.
type demand struct {
	events int
	bytes  int64
}

func demands(inputs []engine.EventInput) map[string]demand {
	parts := make(map[string]demand, 1)
	for i := range inputs {
		part := parts[inputs[i].Account]
		part.events++
		part.bytes += storedSize(&inputs[i])
		parts[inputs[i].Account] = part
	}
	return parts
}

// storedSize returns about how many bytes an event will count, without the targets that it matches.
func storedSize(in *engine.EventInput) int64 {
	n := len(in.Data.Raw()) + len(in.Account) + len(in.Type) + len(in.ID)
	for name, value := range in.Headers {
		n += len(name) + len(value) + len(`"":"",`)
	}
	size := engine.RowBytes + int64(n)
	for _, key := range []string{in.ID, in.IdempotencyKey} {
		if key != "" {
			size += engine.KeyBytes
		}
	}
	return size
}

// reserveQuota reserves quota for the accounts of inputs, for all or none. done must be called once
// the events are stored, or will not be. Errors: CodeBusy with Wait, CodeStorageFull.
func (p *Publisher) reserveQuota(ctx context.Context, inputs []engine.EventInput) (done func(), err error) {
	if p.catalog.NoQuotas() {
		return func() {}, nil
	}
	return p.reserve(ctx, demands(inputs))
}

// reserveTargets reserves what the targets that events matched will count, for all or none.
func (p *Publisher) reserveTargets(ctx context.Context, batch []dispatch.PreparedEvent) (done func(), err error) {
	if p.catalog.NoQuotas() || engine.Operational(batch[0].Event.Type) {
		return func() {}, nil
	}
	parts := make(map[string]demand, 1)
	for i := range batch {
		ev := batch[i].Event
		part := parts[ev.Account]
		part.bytes += engine.RowBytes * int64(len(ev.Targets))
		parts[ev.Account] = part
	}
	return p.reserve(ctx, parts)
}

// ReserveTestQuota reserves quota for a test event, which is stored as any other.
func (p *Publisher) ReserveTestQuota(ctx context.Context, ev *engine.Event) (done func(), err error) {
	if p.catalog.NoQuotas() {
		return func() {}, nil
	}
	return p.reserve(ctx, map[string]demand{ev.Account: {events: 1, bytes: engine.RowBytes + int64(len(ev.Data))}})
}

func (p *Publisher) reserve(ctx context.Context, parts map[string]demand) (done func(), err error) {
	now := p.cfg.Now()
	var taken []*rate.Reservation
	promised := make(map[*accountUsage]int64, len(parts))
	done = func() {
		for m, bytes := range promised {
			m.release(bytes)
		}
	}
	for account, part := range parts {
		limits := p.catalog.Limits(account)
		m := p.quotas.of(account, now)
		var err error
		if limits.StoredBytes > 0 {
			if err = p.reserveBytes(ctx, m, account, part.bytes, limits.StoredBytes); err == nil {
				promised[m] = part.bytes
			}
		}
		if err == nil && limits.EventsPerSecond > 0 && part.events > 0 {
			var reserved []*rate.Reservation
			reserved, err = m.takeEvents(account, part.events, limits.EventsPerSecond, now)
			taken = append(taken, reserved...)
		}
		if err != nil {
			for _, r := range taken {
				r.CancelAt(now)
			}
			done()
			return nil, err
		}
	}
	return done, nil
}

// takeEvents takes n events from a token bucket that holds one second's worth. While it has any
// tokens, a list may take more than it has; the next event waits until the debt is refilled. So
// every list can pass, and the average rate holds.
func (m *accountUsage) takeEvents(account string, n, perSecond int, now time.Time) (taken []*rate.Reservation, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.events == nil:
		m.events = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	case m.events.Burst() != perSecond:
		m.events.SetLimitAt(now, rate.Limit(perSecond))
		m.events.SetBurstAt(now, perSecond)
	}
	first := m.events.ReserveN(now, 1)
	if wait := first.DelayFrom(now); wait > 0 {
		first.CancelAt(now)
		return nil, &engine.Error{
			Code: engine.CodeBusy, Wait: wait,
			Message: fmt.Sprintf("the account %s publishes more than its quota of %d events a second; nothing was stored, send it again in %d s", account, perSecond, int(math.Ceil(wait.Seconds()))),
		}
	}
	taken = append(taken, first)
	for n--; n > 0; n -= perSecond {
		taken = append(taken, m.events.ReserveN(now, min(n, perSecond)))
	}
	return taken, nil
}

// reserveBytes reserves bytes for events to be published, so that concurrent events are counted, too. An
// event counts as reserved until done is called, and as stored from its commit on; the lock keeps it
// from counting as neither.
func (p *Publisher) reserveBytes(ctx context.Context, m *accountUsage, account string, bytes, most int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stored, err := p.store.StoredBytes(ctx, account)
	if err != nil {
		return err
	}
	if have := stored.Total() + m.reserved; have+bytes > most {
		err := engine.StorageFull("the account %s stores %d bytes and its quota is %d, so these %d bytes don't fit; they will once older events are deleted, or the quota is raised; GET /api/v1/accounts/%[1]s says what fills it", account, have, most, bytes)
		err.Wait = time.Minute
		return err
	}
	m.reserved += bytes
	return nil
}

// release releases reserved bytes.
func (m *accountUsage) release(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reserved -= bytes
}

// DropIdle drops the usage of accounts that publish nothing.
func (p *Publisher) DropIdle(now time.Time) { p.quotas.dropIdle(now) }

// Retained counts the entries of the publisher's in-memory tables.
func (p *Publisher) Retained() map[string]int {
	meters := 0
	p.quotas.byAccount.Range(func(any, any) bool { meters++; return true })
	return map[string]int{"meters": meters}
}
