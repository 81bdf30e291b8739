package server

import (
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"switchhook/engine"
)

const (
	maxFailedAuth      = 20              // burst per address
	failedAuthInterval = 3 * time.Second // refill interval of one attempt
	maxTrackedHosts    = 16384           // addresses with failures; the least recent are forgotten

	// A throttled refusal is sent after this time: else a client that repeats at once keeps the router
	// busy. The connection counts as idle meanwhile.
	throttledDelay = 500 * time.Millisecond
)

// failedAuthLimiter rate-limits failed authentication per client address, to slow down key guessing. Over
// the limit no key from the address is checked, except keys that were last used from there, so
// that another client behind the same address cannot lock them out.
type failedAuthLimiter struct {
	now          func() time.Time
	mu           sync.Mutex
	seen         *lru.Cache[netip.Prefix, *rate.Limiter]
	lastSeenFrom sync.Map // engine.ID of a key → netip.Prefix from which it was last used
}

func newFailedAuthLimiter(now func() time.Time) *failedAuthLimiter {
	seen, err := lru.New[netip.Prefix, *rate.Limiter](maxTrackedHosts)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &failedAuthLimiter{now: now, seen: seen}
}

// host returns the network that counts as one client: for IPv6 the /64, which is what a customer gets.
func host(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// retryAfter returns how long an address must wait after failed authentication; 0 is not at all.
func (s *failedAuthLimiter) retryAfter(from netip.Prefix) time.Duration {
	if s.seen.Len() == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	limiter, ok := s.seen.Peek(from)
	if !ok {
		return 0
	}
	missing := 1 - limiter.TokensAt(s.now())
	return time.Duration(math.Ceil(max(missing, 0) * float64(failedAuthInterval)))
}

// recordFailure counts a failed authentication.
func (s *failedAuthLimiter) recordFailure(from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limiter, ok := s.seen.Get(from)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(failedAuthInterval), maxFailedAuth)
		s.seen.Add(from, limiter)
	}
	limiter.AllowN(s.now(), 1)
}

// recordSuccess records the address from which a key was used.
func (s *failedAuthLimiter) recordSuccess(key engine.ID, from netip.Prefix) {
	if was, ok := s.lastSeenFrom.Load(key); !ok || was.(netip.Prefix) != from {
		s.lastSeenFrom.Store(key, from)
	}
}

func (s *failedAuthLimiter) isLastSeenFrom(key engine.ID, from netip.Prefix) bool {
	was, ok := s.lastSeenFrom.Load(key)
	return ok && was.(netip.Prefix) == from
}

// authenticate returns the request's key, unless its address has too many failures.
func (s *Server) authenticate(c *fiber.Ctx) (*engine.Key, error) {
	from := host(s.address(c))
	key, err := s.lookupKey(&c.Request().Header)
	if wait := s.authLimiter.retryAfter(from); wait > 0 && (err == nil && s.isThrottled(key, from) || engine.ErrorCode(err) == engine.CodeUnknownKey) {
		s.delayRefusal(connOf(c.Context().Conn()))
		return nil, &engine.Error{Code: engine.CodeBusy, Wait: wait, Message: "too many wrong API keys came from this address; wait before the next"}
	}
	switch {
	case err == nil:
		s.authLimiter.recordSuccess(key.ID, from)
		if conn := connOf(c.Context().Conn()); conn != nil && !conn.authenticated.Load() {
			conn.authenticated.Store(true)
		}
	case engine.ErrorCode(err) == engine.CodeUnknownKey:
		s.authLimiter.recordFailure(from)
	}
	return key, err
}

// delayRefusal waits before the answer to a throttled request on conn, which may be nil.
func (s *Server) delayRefusal(conn *trackedConn) {
	if conn == nil {
		return
	}
	conn.setIdle()
	select {
	case <-time.After(throttledDelay):
	case <-s.streams.Done():
	}
	conn.setBusy() // the answer is lost if the connection was evicted
}

// isThrottled reports whether a known key is refused from an address: the address has too many
// failures, and the key was last used elsewhere.
func (s *Server) isThrottled(key *engine.Key, from netip.Prefix) bool {
	return s.authLimiter.retryAfter(from) > 0 && !s.authLimiter.isLastSeenFrom(key.ID, from)
}

// address returns the client's address. Behind a trusted proxy that is the last address in
// X-Forwarded-For that is not a trusted proxy's; the addresses before it are the client's claim.
func (s *Server) address(c *fiber.Ctx) netip.Addr {
	return s.addressOf(c.Context().RemoteIP(), &c.Request().Header)
}

func (s *Server) addressOf(peer net.IP, header *fasthttp.RequestHeader) netip.Addr {
	remote, _ := netip.AddrFromSlice(peer)
	remote = remote.Unmap()
	if len(s.cfg.TrustedProxies) == 0 || !s.trusted(remote) {
		return remote
	}
	var all []string
	for _, line := range header.PeekAll(fiber.HeaderXForwardedFor) {
		all = append(all, strings.Split(string(line), ",")...)
	}
	for _, text := range slices.Backward(all) {
		ip, ok := forwardedAddress(text)
		if !ok {
			break
		}
		if remote = ip.Unmap().WithZone(""); !s.trusted(remote) {
			break
		}
	}
	return remote
}

// forwardedAddress parses an element of X-Forwarded-For: an address, which some proxies write
// with a port, in brackets or in quotes. "unknown" and invented names are not addresses.
func forwardedAddress(text string) (netip.Addr, bool) {
	text = strings.Trim(strings.TrimSpace(text), `"`)
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return ip, true
	}
	at, err := netip.ParseAddrPort(text)
	return at.Addr(), err == nil
}

func (s *Server) trusted(ip netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}
