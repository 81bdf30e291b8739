package ingest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"switchhook/engine"
)

// Room is made, and refused, fairly by account. Shares are max-min fair: an account that stores less
// than its share keeps all of it, and what it leaves is divided among the others.

const (
	// Above removeAbove percent of its limit, finished events are removed from the accounts that
	// store more than their share, until removeTo percent are used. At the limit itself these
	// accounts are refused. Above othersAbove, what can't be removed counts as lost, and the rest is
	// shared without it. Above refuseAbove all are refused.
	removeAbove, removeTo, othersAbove, refuseAbove = 90, 85, 105, 110
	// maxShares is how many accounts are examined, those that store the most.
	maxShares = 1000
	// shareCostFactor bounds the time that reading what accounts store takes to 2 %.
	shareCostFactor = 50
)

// FairShare returns the max-min fair share of a limit: the most that each may use so that all
// together stay within it. It is math.MaxInt64 if they do.
func FairShare(used []int64, limit int64) int64 {
	used = slices.Sorted(slices.Values(used))
	for i, n := range used {
		if share := max(0, limit) / int64(len(used)-i); n > share {
			return share
		}
		limit -= n
	}
	return math.MaxInt64
}

// Excess is an account that stores more than its share.
type Excess struct {
	Account string
	Bytes   int64 // above its share
}

// Shortage is the state of the space for events. The zero Shortage is a router without limits.
type Shortage struct {
	Over   []Excess // the accounts above their share while space runs short, the largest excess first
	Remove bool     // finished events of theirs are to be removed
	Others bool     // and, if that is not enough, of the accounts above their share of what is left

	excess        int64 // bytes to remove
	ample         int64 // bytes until space runs short
	left, reserve bound // until these accounts are refused, and until all are
}

// bound is how many bytes are left, and what is short without them.
type bound struct {
	bytes  int64
	reason string
}

// lower lowers b to other if that is less.
func (b *bound) lower(other bound) {
	if other.bytes < b.bytes {
		*b = other
	}
}

// roomState is a Shortage as admission uses it.
type roomState struct {
	Shortage
	over map[string]bool
}

// shortageOf says how short the space is, without accounts.
func (l *LoadShedder) shortageOf(u *engine.Room) Shortage {
	s := Shortage{ample: math.MaxInt64, left: bound{bytes: math.MaxInt64}, reserve: bound{bytes: math.MaxInt64}}
	if limit := l.cfg.KeepBytes; limit > 0 {
		percent := func(p int64) int64 { return limit / 100 * p }
		reason := fmt.Sprintf("the database has reached its limit of %d MB", limit>>20)
		s.ample = percent(removeAbove) - u.Bytes
		s.left, s.reserve = bound{limit - u.Bytes, reason}, bound{percent(refuseAbove) - u.Bytes, reason}
		if u.Bytes > percent(removeAbove) {
			s.Remove, s.Others, s.excess = true, u.Bytes > percent(othersAbove), u.Bytes-percent(removeTo)
		}
	}
	if least := l.cfg.MinFreeDisk; least > 0 {
		reason := fmt.Sprintf("the disk that holds the database has less than %d MB left", least>>20)
		free := u.DiskFree + u.Free // new events take free pages of the database first
		s.ample = min(s.ample, free-least-least/2)
		s.left.lower(bound{free - least, reason})
		s.reserve.lower(bound{u.DiskFree - least/2, reason})
		if free-least-least/2 < 0 {
			s.Remove, s.excess = s.Remove || free < least, max(s.excess, 2*least-free)
		}
	}
	return s
}

// MeasureShortage measures the store and the disk. Accounts in without count as if they stored
// nothing, since nothing of theirs can be removed.
func (l *LoadShedder) MeasureShortage(ctx context.Context, without map[string]bool) (*Shortage, error) {
	u, err := l.store.Room(ctx)
	if err != nil {
		return nil, err
	}
	l.usage.Store(&u)
	s := l.shortageOf(&u)
	if s.excess == 0 {
		return &s, nil
	}
	return &s, l.findOver(ctx, &s, u.Bytes, without)
}

// findOver finds the accounts above their share. What accounts store is only a part of the
// database, which is assumed to be the same for all.
func (l *LoadShedder) findOver(ctx context.Context, s *Shortage, used int64, without map[string]bool) error {
	top, total, err := l.store.LargestAccounts(ctx, maxShares)
	if err != nil {
		return err
	}
	limit := int64(float64(total) * max(0, 1-float64(s.excess)/float64(used)))
	counted := make([]int64, 0, len(top))
	for _, a := range top {
		total -= a.Bytes
		if without[a.Account] {
			limit -= a.Bytes
			continue
		}
		counted = append(counted, a.Bytes)
	}
	share := FairShare(counted, limit-total) // the others, which store less than any of these, keep it
	for _, a := range top {
		if a.Bytes > share && !without[a.Account] {
			s.Over = append(s.Over, Excess{a.Account, a.Bytes - share})
		}
	}
	slices.SortStableFunc(s.Over, func(a, b Excess) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return nil
}

// refreshRoom measures the space that is left. While it is short, the accounts above their share are
// found anew, less often if that takes long.
func (l *LoadShedder) refreshRoom(ctx context.Context) error {
	l.measuring.Lock()
	defer l.measuring.Unlock()
	settled := l.settled.Swap(0)
	defer func() { l.admitted.Add(-settled) }()
	u, err := l.store.Room(ctx)
	if err != nil {
		return err
	}
	l.usage.Store(&u)
	next := &roomState{Shortage: l.shortageOf(&u)}
	if last := l.room.Load(); next.excess > 0 {
		if began := time.Now(); last == nil || last.over == nil || !began.Before(l.nextShares) {
			if err := l.findOver(ctx, &next.Shortage, u.Bytes, nil); err != nil {
				return err
			}
			next.over = make(map[string]bool, len(next.Over))
			for _, e := range next.Over {
				next.over[e.Account] = true
			}
			l.nextShares = began.Add(shareCostFactor * time.Since(began))
		} else {
			next.Over, next.over = last.Over, last.over
		}
	}
	if next.Remove {
		select {
		case l.nearlyFull <- struct{}{}:
		default: // a value is already there
		}
	}
	l.mu.Lock()
	clear(l.recent)
	l.mu.Unlock()
	before := l.room.Swap(next)
	refused, wasRefused := next.left.bytes < 0, before != nil && before.left.bytes < 0
	switch {
	case refused && !wasRefused:
		l.log.Error("events of the accounts that store more than their share are refused", "reason", next.left.reason, "accounts", len(next.over))
	case !refused && wasRefused:
		l.log.Info("events of all accounts fit again")
	}
	return nil
}

// admitShort decides about an event when space may have run short since it was measured.
func (l *LoadShedder) admitShort(room *roomState, account string, bytes, all int64) error {
	select {
	case l.wake <- struct{}{}:
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := room.check(account, l.recent[account]+bytes, all)
	if err == nil {
		l.recent[account] += bytes
	}
	return err
}

// check rejects an account's events if the space is too short for them. own and all are the bytes of
// its and of all events since the space was measured. An account that was within its share then may
// take an eighth of what is reserved for such, until they are found anew.
func (s *roomState) check(account string, own, all int64) error {
	const later = "; nothing was stored, send the event again later"
	switch {
	case all > s.reserve.bytes:
		return &engine.Error{Code: engine.CodeUnavailable, Wait: retryAfterFull,
			Message: s.reserve.reason + ", and what is stored is not finished yet, or not removed" + later}
	case all > s.left.bytes && (s.over[account] || own > (s.reserve.bytes-s.left.bytes)/8):
		return &engine.Error{Code: engine.CodeUnavailable, Wait: retryAfterFull, Message: fmt.Sprintf(
			"%s, and the account %s stores more than its share, which is not finished yet, or not removed%s, and see which targets don't answer", s.left.reason, account, later)}
	}
	return nil
}
