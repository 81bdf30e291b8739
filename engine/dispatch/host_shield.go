package dispatch

import (
	"net"
	"net/url"
	"strings"
	"time"

	"switchhook/engine/catalog"
	"switchhook/engine/retry"
)

const (
	// unprovenInFlight is the number of attempts in flight to a host that has accepted no delivery yet.
	unprovenInFlight = 2
	// probeHostAfter is the number of attempts in a row that such a host must fail to be probed only.
	probeHostAfter = 100
	// probeHostEvery is the shortest time between two probes of a host.
	probeHostEvery = time.Second
	// formerHosts is how many hosts are remembered that have accepted nothing and lost their last
	// subscription, so that a new subscription does not begin with probeHostAfter attempts again.
	formerHosts = 10_000
)

// hostState says how many attempts may go to a host.
//
//	state     attempts                                   leaves it when
//	unproven  unprovenInFlight at a time                 it accepts one: proven;
//	                                                     it failed probeHostAfter of them: probing
//	probing   one at a time, one each probeHostEvery     it accepts one: proven
//	proven    limits.hostInFlight at a time,             its last subscription is gone
//	          one each limits.hostInterval
type hostState uint8

const (
	hostUnproven hostState = iota
	hostProbing
	hostProven
)

// hostShield limits the attempts that one account makes to one host (scheme, name and port), over all
// its subscriptions. It keeps an account from flooding a server whose owner never asked for
// deliveries, however many subscriptions and retries it has: such a server accepts none. A host that
// has accepted one is left to the circuit breakers of its subscriptions, so that a path which fails
// does not stop the others. The limits are an account's own: it can't stop those of another one.
//
// A shield exists while a subscription or an attempt refers to it, and may be remembered after that.
// Its fields are guarded by scheduler.mu.
type hostShield struct {
	origin   string
	users    int // subscriptions, and attempts in flight
	inFlight int
	state    hostState
	failures int // in a row, while it is unproven
	pacer    pacer
	waiting  waitHeap[*queue] // queues in queueBlocked
	timed    bool             // a timer will call admitToHost
}

// originOf returns the scheme, host and port of a target.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.TrimSuffix(u.Hostname(), "."), port)
}

// places returns the number of attempts that may be in flight.
func (h *hostShield) places(l *limits) int {
	switch h.state {
	case hostUnproven:
		return min(unprovenInFlight, l.hostInFlight)
	case hostProbing:
		return 1
	}
	return l.hostInFlight
}

// interval returns the time between two attempts.
func (h *hostShield) interval(l *limits) time.Duration {
	if h.state == hostProbing {
		return max(probeHostEvery, l.hostInterval)
	}
	return l.hostInterval
}

// allows reports whether an attempt may start. If not, at is when one may; zero: once another ended.
func (h *hostShield) allows(l *limits, now time.Time) (ok bool, at time.Time) {
	if h.inFlight >= h.places(l) {
		return false, at
	}
	if at = h.pacer.at; at.After(now) && !at.After(now.Add(h.pacer.interval)) {
		return false, at
	}
	return true, time.Time{}
}

// observe updates the state by the result of an attempt. Any answer but 2xx is a failure: a server
// whose owner wants no deliveries may well answer 404.
func (h *hostShield) observe(signal retry.TargetSignal, l *limits, now time.Time) {
	switch {
	case signal == retry.SignalUnknown || h.state == hostProven:
	case signal == retry.SignalHealthy:
		h.state, h.failures, h.pacer = hostProven, 0, pacer{}
	default:
		if h.failures++; h.failures >= probeHostAfter && h.state == hostUnproven {
			h.state = hostProbing
			h.pacer = pacer{at: now.Add(h.interval(l)), interval: h.interval(l)}
		}
	}
}

// setShield connects q with the shield of its target's host, and disconnects it from that of its
// former one; r is nil if q is closed. s.mu is held.
func (s *scheduler) setShield(q *queue, r *catalog.CompiledSubscription) {
	var origin string
	if r != nil && r.TargetURL != nil {
		origin = originOf(r.TargetURL)
	}
	old, a := q.shield, q.account
	if old != nil && old.origin == origin {
		return
	}
	if old != nil {
		if q.state == queueBlocked {
			s.stopWaiting(q)
			q.state = queueIdle
		}
		q.shield = nil
		s.admitToHost(old) // another queue, if q was to start
		s.releaseShield(a, old)
	}
	if origin == "" {
		return
	}
	h := a.hosts[origin]
	if h == nil {
		former := hostOfAccount{a.name, origin}
		if h, _ = s.formerHosts.Get(former); h == nil {
			h = &hostShield{origin: origin, waiting: waitHeap[*queue]{less: byUse[*queue]}}
		}
		s.formerHosts.Remove(former)
		a.hosts[origin] = h
	}
	h.users++
	q.shield = h
}

// hostOfAccount names a shield.
type hostOfAccount struct{ account, origin string }

// releaseShield ends one use of a shield, and drops it after the last; s.mu is held.
func (s *scheduler) releaseShield(a *account, h *hostShield) {
	if h.users--; h.users > 0 {
		return
	}
	delete(a.hosts, h.origin)
	if h.failures > 0 {
		s.formerHosts.Add(hostOfAccount{a.name, h.origin}, h)
	}
}

// waitForHost adds q, which is in queueBlocked, to the queues that wait for its host; s.mu is held.
func (s *scheduler) waitForHost(q *queue, now time.Time) {
	q.account.clock.join(&q.turn, now)
	q.shield.waiting.add(q)
	s.scheduleHost(q.shield, now)
}

// scheduleHost starts a timer if queues wait for a time until their host may be sent an attempt; s.mu
// is held.
func (s *scheduler) scheduleHost(h *hostShield, now time.Time) {
	if h.timed || h.waiting.Len() == 0 {
		return
	}
	_, at := h.allows(&s.limits, now)
	if at.IsZero() {
		return
	}
	h.timed = true
	time.AfterFunc(at.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.timed = false
		s.admitToHost(h)
	})
}

// admitToHost makes as many queues ready that wait for a host as may start an attempt; s.mu is held.
// Those that don't start it after all call admitToHost again.
func (s *scheduler) admitToHost(h *hostShield) {
	if h.waiting.Len() == 0 || s.closed {
		return
	}
	now := s.host.now()
	places := h.places(&s.limits) - h.inFlight
	if h.interval(&s.limits) > 0 {
		places = min(places, 1)
	}
	for places > 0 && h.waiting.Len() > 0 {
		if ok, _ := h.allows(&s.limits, now); !ok {
			break
		}
		q := h.waiting.first()
		s.stopWaiting(q)
		state, at := s.evaluate(q, now)
		if s.enter(q, state, at, now); state == queueReady {
			places--
		}
	}
	s.scheduleHost(h, now)
}

// startAtHost counts an attempt that starts; s.mu is held.
func (s *scheduler) startAtHost(h *hostShield, now time.Time) {
	h.users++
	h.inFlight++
	h.pacer.advance(now, h.interval(&s.limits))
	s.scheduleHost(h, now)
}

// endAtHost counts an attempt that ended, and admits others; s.mu is held.
func (s *scheduler) endAtHost(a *account, h *hostShield, signal retry.TargetSignal) {
	h.inFlight--
	h.observe(signal, &s.limits, s.host.now())
	s.admitToHost(h)
	s.releaseShield(a, h)
}
