package target

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Shortage names a resource that this machine lacks to send a request. A shortage says nothing
// about the target.
type Shortage string

// The shortages.
const (
	ShortageFiles  Shortage = "files"  // file descriptors, of the process or the machine
	ShortageMemory Shortage = "memory" // of the kernel, for sockets and their buffers
	ShortagePorts  Shortage = "ports"  // local ports, for connections to one address
	ShortageDNS    Shortage = "dns"    // no name server answers
	ShortageProxy  Shortage = "proxy"  // Policy.Proxy can't be reached, or requires authentication
)

const (
	// resolverTime is the timeout of resolverAnswers.
	resolverTime = 2 * time.Second
	// resolverBack is how long after the name servers did not answer a failing lookup may still
	// be due to it: it began before they recovered.
	resolverBack = 30 * time.Second
)

// shortageOf maps the errors of the kernel that are a shortage for every target.
var shortageOf = map[syscall.Errno]Shortage{
	syscall.EMFILE: ShortageFiles, syscall.ENFILE: ShortageFiles, syscall.ENOMEM: ShortageMemory, syscall.ENOBUFS: ShortageMemory,
}

// unreached are the errors of the kernel that mean that a name server can't be reached.
var unreached = []syscall.Errno{
	syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN,
	syscall.EPERM, syscall.EACCES, syscall.EADDRNOTAVAIL,
}

// Shortage returns the shortage that caused an error of a Client or of the transport, or "" if the
// target caused it. It may query the name servers.
func (g *Guard) Shortage(err error) Shortage {
	var name *net.DNSError
	var op *net.OpError
	var failed *Error
	var proxy *proxyError
	var number syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &op) && op.Op == "proxyconnect":
		if errors.As(err, &number) && shortageOf[number] != "" {
			return shortageOf[number]
		}
		return ShortageProxy
	case errors.As(err, &proxy) && proxy.status == http.StatusProxyAuthRequired:
		return ShortageProxy
	case errors.As(err, &name):
		return g.lookupShortage(name)
	case errors.As(err, &failed) && failed.Phase == PhaseDNS: // the lookup used up the timeout
		return g.lookupShortage(&net.DNSError{IsTimeout: true})
	case !errors.As(err, &number):
		return ""
	case number == syscall.EADDRNOTAVAIL && errors.As(err, &op) && op.Addr != nil && routed(op.Addr.String()):
		return ShortagePorts
	}
	return shortageOf[number]
}

// routed reports whether this machine has a route to an address. Without one, as is common for
// IPv6, it can't connect, however many ports are free.
func routed(address string) bool {
	conn, err := net.Dial("udp", address) // sends nothing
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// lookupShortage distinguishes a name that can't be resolved from name servers that resolve
// nothing. Package net returns the kernel's error as text only.
func (g *Guard) lookupShortage(err *net.DNSError) Shortage {
	if err.IsNotFound {
		return ""
	}
	for number, shortage := range shortageOf {
		if strings.Contains(err.Err, number.Error()) {
			return shortage
		}
	}
	for _, number := range unreached {
		if strings.Contains(err.Err, number.Error()) {
			return ShortageDNS
		}
	}
	// The name servers of one domain may be down, or its owner may fake that: then the resolver
	// still answers for other names.
	if !err.IsTimeout && !err.IsTemporary {
		return ""
	}
	if silent := g.silent.Load(); silent != nil && time.Since(*silent) < resolverBack {
		return ShortageDNS
	}
	if g.resolverAnswers() {
		return ""
	}
	now := time.Now()
	g.silent.Store(&now)
	return ShortageDNS
}

// resolverAnswers reports whether the name servers answer a query for the root zone. Concurrent
// calls share one query.
func (g *Guard) resolverAnswers() bool {
	answers, _, _ := g.asking.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), resolverTime)
		defer cancel()
		_, err := g.policy.Resolver.LookupNS(ctx, ".")
		var name *net.DNSError
		return err == nil || errors.As(err, &name) && name.IsNotFound, nil
	})
	return answers.(bool)
}
