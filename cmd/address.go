package cmd

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listenOn listens on the address that a flag gives. other is what probably has the
// address where it is in use: "a router".
func listenOn(flag, addr, other string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, wrongCommand("%s: %q is no address with a port, such as 127.0.0.1:8080", flag, addr)
	}
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &inUseError{fmt.Sprintf("%s is in use: is %s running already? %s gives another address", addr, other, flag)}
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// inUseError says that somebody else listens on an address.
type inUseError struct{ message string }

func (e *inUseError) Error() string { return e.message }

// reachable is the address under which this machine reaches a listener; one that listens
// on every address has no other that could be written into a URL.
func reachable(l net.Listener) string {
	if at, ok := l.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", at.Port)
	}
	return l.Addr().String()
}
