package cmd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// listen listens on the address that a flag gives. other names the program that probably
// holds an address in use: "a router".
func listen(flag, addr, other string) (net.Listener, error) {
	if problem := addressProblem(addr); problem != "" {
		return nil, usageError("%s: %.100q %s", flag, addr, problem)
	}
	l, err := net.Listen("tcp", addr)
	unknown, isName := errors.AsType[*net.DNSError](err)
	switch {
	case isName:
		return nil, usageError("%s: the host name %.100q is unknown (%s): give an address of this machine, such as 127.0.0.1:8080", flag, unknown.Name, unknown.Err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s: %s is not an address of this machine; use 0.0.0.0 or [::] for all of them", flag, addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this user may not listen on %s: take a port from 1024 on, or give the program the capability CAP_NET_BIND_SERVICE", flag, addr)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &inUseError{fmt.Sprintf("%s is in use: is %s running already? %s gives another address", addr, other, flag)}
	case err != nil:
		return nil, fmt.Errorf("%s: listen on %s: %w", flag, addr, err)
	}
	return l, nil
}

// addressProblem describes the fault of an address to listen on; empty if it is valid.
func addressProblem(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		switch _, notNumber := strconv.ParseUint(addr, 10, 16); {
		case notNumber == nil:
			return "is a port only: write 127.0.0.1:" + addr + ", or 0.0.0.0:" + addr + " for all of this machine's addresses"
		case net.ParseIP(strings.Trim(addr, "[]")) != nil:
			return "is not an address with a port: write " + net.JoinHostPort(strings.Trim(addr, "[]"), "8080")
		case strings.Contains(addr, "://"):
			return "is a URL: write host and port only, such as 127.0.0.1:8080"
		}
		return "is not an address with a port, such as 127.0.0.1:8080 or [::1]:8080"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Sprintf("has the port %.20q: a port is a number from 1 to 65535, or 0 for any that is free", port)
	}
	if strings.ContainsAny(host, "/?#@ ") {
		return "is a URL: write host and port only, such as 127.0.0.1:8080"
	}
	return ""
}

// inUseError reports that another program listens on an address.
type inUseError struct{ message string }

func (e *inUseError) Error() string { return e.message }

// localURLHost returns the address at which this machine reaches a listener, as needed for
// a listener on all addresses.
func localURLHost(l net.Listener) string {
	if at, ok := l.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", at.Port)
	}
	return l.Addr().String()
}
