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
	maxFailedAuth      = 20              // that an address may send at once
	failedAuthInterval = 3 * time.Second // one more each
	maxTrackedHosts    = 16384           // addresses that sent wrong keys; those that did so longest ago are forgotten
)

// authLimiter counts the wrong keys that come from each address, so that nobody can go on
// guessing. What an address sends beyond its share is not looked at, except for keys that
// were last used from there: somebody else behind the same address must not lock them out.
type failedAuthLimiter struct {
	now          func() time.Time
	mu           sync.Mutex
	seen         *lru.Cache[netip.Prefix, *rate.Limiter]
	lastSeenFrom sync.Map // engine.ID of a key → netip.Prefix from which it was last used
}

func newFailedAuthLimiter(now func() time.Time) *failedAuthLimiter {
	seen, err := lru.New[netip.Prefix, *rate.Limiter](maxTrackedHosts)
	if err != nil {
		panic(err) // a size that is not positive
	}
	return &failedAuthLimiter{now: now, seen: seen}
}

// host is what counts as one address: in IPv6 a whole /64, which is what a customer gets.
func host(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// retryAfter is how long an address has to wait because of the wrong keys that it sent; 0: not
// at all.
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

// recordFailure counts a wrong key.
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

// recordSuccess notes that a key was used from an address.
func (s *failedAuthLimiter) recordSuccess(key engine.ID, from netip.Prefix) {
	if was, ok := s.lastSeenFrom.Load(key); !ok || was.(netip.Prefix) != from {
		s.lastSeenFrom.Store(key, from)
	}
}

func (s *failedAuthLimiter) isLastSeenFrom(key engine.ID, from netip.Prefix) bool {
	was, ok := s.lastSeenFrom.Load(key)
	return ok && was.(netip.Prefix) == from
}

// authenticate finds the key that a request carries, unless too many wrong ones came from
// its address.
func (s *Server) authenticate(c *fiber.Ctx) (*engine.Key, error) {
	from := host(s.address(c))
	key, err := s.lookupKey(&c.Request().Header)
	if wait := s.authLimiter.retryAfter(from); wait > 0 && (err == nil && s.isThrottled(key, from) || engine.ErrorCode(err) == engine.CodeUnknownKey) {
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

// isThrottled tells whether a key that is known is not taken from an address now: too many wrong
// ones came from there, and it was last used elsewhere.
func (s *Server) isThrottled(key *engine.Key, from netip.Prefix) bool {
	return s.authLimiter.retryAfter(from) > 0 && !s.authLimiter.isLastSeenFrom(key.ID, from)
}

// address is where a request comes from. Behind a trusted proxy that is the last address
// in X-Forwarded-For that no trusted proxy has: what stands before it is the client's word.
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

// forwardedAddress reads an element of X-Forwarded-For: an address, as some proxies write it
// with a port, in brackets or in quotes. "unknown" and made-up names are none.
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
