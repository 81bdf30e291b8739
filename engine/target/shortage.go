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

// Shortage names what this machine lacks to send a request. That a request was not sent for
// it says nothing of its target.
type Shortage string

// The shortages.
const (
	ShortageFiles  Shortage = "files"  // file descriptors, of the process or the machine
	ShortageMemory Shortage = "memory" // of the kernel, for sockets and their buffers
	ShortagePorts  Shortage = "ports"  // local ones, for connections to one address
	ShortageDNS    Shortage = "dns"    // no name server answers
	ShortageProxy  Shortage = "proxy"  // the Policy's Proxy can't be reached, or does not know the router
)

const (
	// resolverTime is how long name servers may take to show that they answer.
	resolverTime = 2 * time.Second
	// resolverBack is how long after name servers did not answer a lookup may fail that began
	// while they did not.
	resolverBack = 30 * time.Second
)

// shortageOf are the errors of the kernel that are a shortage whatever the target is.
var shortageOf = map[syscall.Errno]Shortage{
	syscall.EMFILE: ShortageFiles, syscall.ENFILE: ShortageFiles, syscall.ENOMEM: ShortageMemory, syscall.ENOBUFS: ShortageMemory,
}

// unreached are the errors of the kernel with which a name server can't be asked.
var unreached = []syscall.Errno{syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EPERM, syscall.EACCES, syscall.EADDRNOTAVAIL}

// Shortage tells which shortage an error of a Client, or of the transport, is due to; it is
// empty for what the target is to blame for. It may ask the name servers, and nobody else.
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
	case errors.As(err, &failed) && failed.Phase == PhaseDNS: // it took all the time there was
		return g.lookupShortage(&net.DNSError{IsTimeout: true})
	case !errors.As(err, &number):
		return ""
	case number == syscall.EADDRNOTAVAIL && errors.As(err, &op) && op.Addr != nil && routed(op.Addr.String()):
		return ShortagePorts
	}
	return shortageOf[number]
}

// routed reports whether this machine has an address from which it could reach another. What
// it has none for, as most have for IPv6, it can't send to, however many ports are free.
func routed(address string) bool {
	conn, err := net.Dial("udp", address) // which sends nothing
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// lookupShortage tells a name that can't be resolved from name servers that resolve nothing.
// Package net gives the kernel's error as a text only.
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
	// The servers of a domain may be dead, or its owner may want it to look so: then the
	// resolver answers others.
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

// resolverAnswers reports whether the name servers can tell who serves the root of all names.
// One question serves all who ask at the same time.
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
