package ingest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// usageTTL is how long an account's stored bytes are cached: until then, bytes that retention
// deletes still count.
const usageTTL = 5 * time.Second

// quotaTracker measures the usage of accounts with a quota.
type quotaTracker struct {
	byAccount sync.Map           // account → *accountUsage
	reads     singleflight.Group // of stored bytes, by account
}

type accountUsage struct {
	mu     sync.Mutex
	events *rate.Limiter // nil until the first event
	readAt time.Time     // when bytes was read

	used     atomic.Int64 // last use, in seconds since 1970
	bytes    atomic.Int64 // stored when read, plus accepted since
	reserved int64        // admitted but not stored yet; guarded by mu
}

// usageIdleTime is how long the usage of an account that publishes nothing is cached. By then all of it
// is out of date.
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
		part.bytes += int64(len(inputs[i].Data.Raw()))
		parts[inputs[i].Account] = part
	}
	return parts
}

// reserveQuota reserves quota for the accounts of inputs, for all or none. done must be called once
// the events are stored, or will not be. Errors: CodeBusy with Wait, CodeStorageFull.
func (p *Publisher) reserveQuota(ctx context.Context, inputs []engine.EventInput) (done func(), err error) {
	if p.catalog.NoQuotas() {
		return func() {}, nil
	}
	return p.reserve(ctx, demands(inputs))
}

// ReserveTestQuota reserves quota for a test event, which is stored as any other.
func (p *Publisher) ReserveTestQuota(ctx context.Context, ev *engine.Event) (done func(), err error) {
	if p.catalog.NoQuotas() {
		return func() {}, nil
	}
	return p.reserve(ctx, map[string]demand{ev.Account: {events: 1, bytes: int64(len(ev.Data))}})
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
			if err = p.room(ctx, m, account, part, limits.StoredBytes, now); err == nil {
				promised[m] = part.bytes
			}
		}
		if err == nil && limits.EventsPerSecond > 0 {
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

// room rejects an event that exceeds the account's stored bytes, and otherwise reserves its bytes,
// so that concurrent events are counted, too. The stored bytes are read from time to time and added
// to in between, so they may be some seconds old.
func (p *Publisher) room(ctx context.Context, m *accountUsage, account string, part demand, most int64, now time.Time) error {
	if m.outdated(now) {
		if err := p.readUsage(ctx, account, m, now); err != nil {
			return err
		}
	}
	return m.reserve(account, part, most)
}

// outdated reports whether the stored bytes must be read again. A time of reading in the future
// means that the clock was set back.
func (m *accountUsage) outdated(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	age := now.Sub(m.readAt)
	return m.readAt.IsZero() || age >= usageTTL || age < 0
}

// readUsage reads how many bytes an account has stored. Concurrent publishes share one read, and
// hold no lock meanwhile.
func (p *Publisher) readUsage(ctx context.Context, account string, m *accountUsage, now time.Time) error {
	read := p.quotas.reads.DoChan(account, func() (any, error) {
		stored, err := p.store.StoredBytes(p.life.StopContext(), account)
		if err == nil {
			m.mu.Lock()
			m.bytes.Store(stored)
			m.readAt = now
			m.mu.Unlock()
		}
		return nil, err
	})
	select {
	case result := <-read:
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reserve reserves bytes for events to be published.
func (m *accountUsage) reserve(account string, part demand, most int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have := m.bytes.Load() + m.reserved; have+part.bytes > most {
		err := engine.StorageFull("the account %s has %d bytes of events stored and its quota is %d, so these %d bytes don't fit; they will once older events are deleted, or the quota is raised", account, have, most, part.bytes)
		err.Wait = time.Minute
		return err
	}
	m.reserved += part.bytes
	return nil
}

// release releases reserved bytes.
func (m *accountUsage) release(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reserved -= bytes
}

// stored counts an accepted event.
func (m *quotaTracker) stored(ev *engine.Event) {
	if found, ok := m.byAccount.Load(ev.Account); ok {
		found.(*accountUsage).bytes.Add(int64(len(ev.Data)))
	}
}

// DropIdle drops the usage of accounts that publish nothing.
func (p *Publisher) DropIdle(now time.Time) { p.quotas.dropIdle(now) }

// Retained counts the entries of the publisher's in-memory tables.
func (p *Publisher) Retained() map[string]int {
	meters := 0
	p.quotas.byAccount.Range(func(any, any) bool { meters++; return true })
	return map[string]int{"meters": meters}
}
