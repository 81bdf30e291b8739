// Package target guards outgoing connections (SSRF): it decides which addresses a delivery may
// connect to, and makes the HTTP client that connects to nothing else.
//
// The decisive check is at dial time, after the name was resolved, so DNS rebinding gains nothing.
// The package knows no events and no subscriptions.
package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
	"golang.org/x/sync/singleflight"
)

// Policy says which addresses are open. The zero Policy opens the public internet on the
// ports of DefaultPorts.
type Policy struct {
	Allow []netip.Prefix // open on every port, even if private or special
	Deny  []netip.Prefix // closed; Deny wins over Allow
	// DenyHosts are host names that no URL may have: "example.com" includes all names below it.
	// They stop mistakes, not attacks: another name can resolve to the same address.
	DenyHosts []string
	Ports     []uint16 // of public addresses; nil: DefaultPorts
	AnyPort   bool
	HTTPS     bool // refuse http:// targets

	// Own are the addresses that the router itself listens on: never a target, whatever Allow
	// says, since a delivery there could become an event again. An unspecified address stands for
	// all addresses of this machine.
	Own []netip.AddrPort
	// Public is the URL under which the router is reached from outside; nil: none. A URL below it is
	// never a target, as Own. It stops mistakes, as DenyHosts.
	Public *url.URL
	// Proxy is the proxy of all connections; nil: none. The operator sets it, so its address is
	// not checked; the targets are, before the proxy is asked for them.
	Proxy *url.URL
	// Resolver looks names up; nil: net.DefaultResolver.
	Resolver *net.Resolver
}

// DefaultPorts are the ports open on public addresses if a Policy names none.
var DefaultPorts = []uint16{80, 443, 8080, 8443}

// Loopback are the addresses of this machine, which a development server allows.
var Loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// azureWire is the address of Azure's machine agent. It is public by the registries, and serves
// the machine's secrets.
var azureWire = netip.MustParsePrefix("168.63.129.16/32")

const lookupTimeout = 3 * time.Second

// RefusedError is the error of a connection or URL that the guard refuses.
type RefusedError struct{ Reason string }

// Error implements error.
func (e *RefusedError) Error() string { return "target refused: " + e.Reason }

func refused(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

// Guard checks targets against a Policy. It is safe for concurrent use.
type Guard struct {
	policy Policy
	public *ssrf.Guardian
	own    map[netip.AddrPort]bool

	asking singleflight.Group        // queries of resolverAnswers
	silent atomic.Pointer[time.Time] // when the name servers last did not answer
}

// NewGuard returns the Guard of a policy.
func NewGuard(p Policy) *Guard {
	ports := ssrf.WithPorts(DefaultPorts...)
	if p.Ports != nil {
		ports = ssrf.WithPorts(p.Ports...)
	}
	if p.AnyPort {
		ports = ssrf.WithAnyPort()
	}
	p.Deny = append(slices.Clone(p.Deny), azureWire)
	if p.Resolver == nil {
		p.Resolver = net.DefaultResolver
	}
	p.DenyHosts = slices.Clone(p.DenyHosts)
	for i, host := range p.DenyHosts {
		if mapped, err := mapHost(host); err == nil { // the form that deniedHost gets
			host = mapped
		}
		p.DenyHosts[i] = strings.ToLower(strings.Trim(host, "."))
	}
	return &Guard{policy: p, public: ssrf.New(ports), own: ownAddresses(p.Own)}
}

// ownAddresses returns the addresses at which the router itself can be reached.
func ownAddresses(listening []netip.AddrPort) map[netip.AddrPort]bool {
	own := map[netip.AddrPort]bool{}
	for _, at := range listening {
		own[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())] = true
		if !at.Addr().IsUnspecified() {
			continue
		}
		for _, ip := range append(machineAddresses(), netip.AddrFrom4([4]byte{}), netip.IPv6Unspecified()) {
			own[netip.AddrPortFrom(ip, at.Port())] = true
		}
	}
	return own
}

func machineAddresses() (list []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr().Unmap().WithZone(""))
		}
	}
	return list
}

// isOwn reports whether the router itself listens on an address. On Linux all of 127.0.0.0/8, and
// the unspecified address, mean this machine.
func (g *Guard) isOwn(ip netip.Addr, port uint16) bool {
	if g.own[netip.AddrPortFrom(ip, port)] {
		return true
	}
	if ip.IsUnspecified() {
		return g.own[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)] || g.own[netip.AddrPortFrom(netip.IPv6Loopback(), port)]
	}
	return ip.IsLoopback() && g.own[netip.AddrPortFrom(netip.AddrFrom4([4]byte{}), port)]
}

// Control is a net.Dialer's Control: it refuses the addresses that the policy closes. The
// error is a *RefusedError.
func (g *Guard) Control(network, address string, conn syscall.RawConn) error {
	return g.check(network, address, conn, "")
}

// controlOf returns the Control for a host that is dialled. Its error does not disclose the address
// of a name: names may resolve to internal addresses here that the caller can't look up.
func (g *Guard) controlOf(host string) func(network, address string, conn syscall.RawConn) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return g.Control
	}
	return func(network, address string, conn syscall.RawConn) error {
		return g.check(network, address, conn, host)
	}
}

// check refuses the addresses that the policy closes. name is the name that resolved to the
// address; empty if the address itself was given.
func (g *Guard) check(network, address string, conn syscall.RawConn, name string) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return refused("%s is not an address", address)
	}
	ip := addr.Addr().Unmap().WithZone("")
	shown, kind := ip.String(), " is a private or special address"
	if name != "" {
		shown, kind = fmt.Sprintf("the address of %.100s", name), " is private or special"
	}
	if g.isOwn(ip, addr.Port()) {
		return refused("%s, port %d, is where this router itself answers", shown, addr.Port())
	}
	if contains(g.policy.Deny, ip) {
		return refused("connections to %s are denied", shown)
	}
	if contains(g.policy.Allow, ip) {
		return nil
	}
	switch err := g.public.Safe(network, address, conn); {
	// The address is checked first: --allow-targets opens a range on every port, while opening
	// another port would not help.
	case err != nil && errors.Is(g.public.SafeAddr(addr.Addr()), ssrf.ErrProhibitedIP):
		return refused("%s%s; %s", shown, kind, howToAllow(ip))
	case errors.Is(err, ssrf.ErrProhibitedPort):
		return refused("port %d is not open; the router's operator can open it with --target-ports", addr.Port())
	case err != nil:
		return refused("%s is not open", shown)
	}
	return nil
}

// howToAllow returns the advice how to open an address that the policy closes.
func howToAllow(ip netip.Addr) string {
	if ip.IsLoopback() {
		return "start the router with --dev, or with --allow-targets 127.0.0.0/8,::1, to deliver to its own machine, on any port"
	}
	return "the router's operator can open its range with --allow-targets"
}

func contains(prefixes []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// ParseURL parses a target URL with Parse and checks it against the policy, as far as possible
// without DNS. The error is a *RefusedError.
func (g *Guard) ParseURL(raw string) (*url.URL, error) {
	u, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" && g.policy.HTTPS {
		return nil, refused("only https:// targets are allowed here")
	}
	if denied := g.deniedHost(u.Hostname()); denied != "" {
		return nil, refused("targets under %s are denied", denied)
	}
	if g.isPublic(u) {
		return nil, refused("this is the router's own URL (--public-url), so its events would come back as new ones; the operator can open other services there with --allow-public-host")
	}
	return u, nil
}

// isPublic reports whether a target is below the public URL of the router. The default ports of http
// and https count as one: a proxy usually serves both.
func (g *Guard) isPublic(u *url.URL) bool {
	own := g.policy.Public
	if own == nil || strings.TrimRight(u.Hostname(), ".") != strings.TrimRight(own.Hostname(), ".") || webPort(u) != webPort(own) {
		return false
	}
	prefix := strings.TrimRight(own.Path, "/")
	rest, below := strings.CutPrefix(path.Clean("/"+u.Path), prefix)
	return below && (rest == "" || rest[0] == '/')
}

// webPort returns the port of a URL; 80 and 443 are one.
func webPort(u *url.URL) string {
	switch port := u.Port(); port {
	case "", "80", "443":
		return ""
	default:
		return port
	}
}

// deniedHost returns the entry of DenyHosts that includes a name, or "".
func (g *Guard) deniedHost(host string) string {
	host = strings.ToLower(strings.TrimRight(host, "."))
	for _, denied := range g.policy.DenyHosts {
		if host == denied || strings.HasSuffix(host, "."+denied) {
			return denied
		}
	}
	return ""
}

// CheckURL reports early what Control would refuse at dial time: it resolves the host and checks
// each of its addresses. A name that does not resolve passes, since it may resolve later.
// The error is a *RefusedError.
func (g *Guard) CheckURL(ctx context.Context, raw string) error {
	u, err := g.ParseURL(raw)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := g.policy.Resolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil
	}
	for _, ip := range ips {
		network := "tcp6"
		if ip.Unmap().Is4() {
			network, ip = "tcp4", ip.Unmap()
		}
		if err := g.controlOf(u.Hostname())(network, net.JoinHostPort(ip.String(), port), nil); err != nil {
			return err
		}
	}
	return nil
}
