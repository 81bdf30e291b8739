package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Phase names the part of an exchange in which it failed.
type Phase string

// The phases, in their order.
const (
	PhaseRefused Phase = "refused" // the guard refused the address
	PhaseDNS     Phase = "dns"     // looking the host up
	PhaseConnect Phase = "connect" // connecting
	PhaseTLS     Phase = "tls"     // the TLS handshake
	PhaseSend    Phase = "send"    // writing the request
	PhaseWait    Phase = "wait"    // waiting for the first byte of an answer
	PhaseHeaders Phase = "headers" // reading the answer up to the end of its headers
)

// Indices in phases. Without a DNS lookup an exchange begins with connecting.
const (
	atStart int32 = iota
	atDNS
	atConnect
	atTLS
	atSend
	atWait
	atHeaders
)

var phases = [...]Phase{PhaseConnect, PhaseDNS, PhaseConnect, PhaseTLS, PhaseSend, PhaseWait, PhaseHeaders}

// Error is the reason why a request got no answer. Its text is for the owner of the target: it
// holds no address of this machine, of its name servers or of its proxy. Unwrap returns the
// original cause.
type Error struct {
	Phase Phase
	text  string
	cause error
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// Unwrap returns the cause, which may hold addresses of this machine's network.
func (e *Error) Unwrap() error { return e.cause }

// Timeout reports whether the time was up.
func (e *Error) Timeout() bool { return isTimeout(e.cause) }

// proxyError is a proxy's refusal to connect.
type proxyError struct{ status int }

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy did not connect: %d %s", e.status, http.StatusText(e.status))
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// describe returns the Error of an exchange that failed with err in a phase.
func describe(err error, phase Phase, r Request) *Error {
	e := &Error{Phase: phase, cause: err}
	var refused *RefusedError
	var name *net.DNSError
	var op *net.OpError
	var proxy *proxyError
	host := r.URL.Host
	switch {
	case errors.As(err, &refused):
		e.Phase, e.text = PhaseRefused, refused.Error()
	case errors.As(err, &proxy):
		e.Phase, e.text = PhaseConnect, proxy.Error()
	case errors.As(err, &op) && op.Op == "proxyconnect":
		e.Phase, e.text = PhaseConnect, "the proxy was not reached: "+Plainly(op.Err)
	case errors.As(err, &name):
		e.Phase, e.text = PhaseDNS, lookupText(name, r.URL.Hostname())
	case isTLS(err):
		e.Phase, e.text = PhaseTLS, Plainly(err)
	case isTimeout(err):
		e.text = timeoutText(err, phase, host, r.Timeout)
	case phase == PhaseConnect:
		e.text = fmt.Sprintf("no connection to %s: %s", host, Plainly(err))
	case phase == PhaseTLS:
		e.text = "the TLS handshake broke off: " + Plainly(err)
	case phase == PhaseSend:
		e.text = "the connection ended while the request was sent: " + Plainly(err)
	case phase == PhaseWait:
		e.text = "the connection ended without an answer: " + Plainly(err)
	case phase == PhaseHeaders && ended(err):
		e.text = "the answer broke off in its headers: " + Plainly(err)
	default:
		e.text = "the answer can't be read: " + Plainly(err)
	}
	return e
}

// lookupTexts are the texts of resolver errors that hold no address.
var lookupTexts = []string{"no such host", "server misbehaving", "lame referral", "no answer from DNS server", "invalid DNS response", "cannot unmarshal DNS message"}

func lookupText(err *net.DNSError, host string) string {
	text := "its name servers were not reached"
	switch {
	case err.IsTimeout:
		text = "its name servers did not answer in time"
	case slices.Contains(lookupTexts, err.Err):
		text = err.Err
	}
	return fmt.Sprintf("the host %s was not found: %s", host, text)
}

func timeoutText(err error, phase Phase, host string, within time.Duration) string {
	if !errors.Is(err, context.DeadlineExceeded) { // a timeout of the transport
		within = connectTimeout
	}
	switch phase {
	case PhaseDNS:
		return fmt.Sprintf("the host %s was not found within %s: its name servers did not answer", host, within)
	case PhaseConnect:
		return fmt.Sprintf("no connection to %s within %s", host, within)
	case PhaseTLS:
		return fmt.Sprintf("the TLS handshake did not end within %s", within)
	case PhaseSend:
		return fmt.Sprintf("the request was not read within %s", within)
	case PhaseHeaders:
		return fmt.Sprintf("the headers of the answer did not end within %s", within)
	}
	return fmt.Sprintf("no answer within %s", within)
}

// isTLS reports whether err comes from TLS, during the handshake or after it.
func isTLS(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var host x509.HostnameError
	return errors.As(err, &certificate) || errors.As(err, &record) || errors.As(err, &host) || strings.Contains(err.Error(), "tls: ")
}

// ended reports whether err means that the connection ended.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// addresses matches the two ends of a connection, as package net writes them.
var addresses = regexp.MustCompile(`\[?[0-9a-fA-F.:%\w]+\]?:\d+->\[?[0-9a-fA-F.:%\w]+\]?:\d+:? ?`)

// Plainly returns the text of an error without the addresses of a connection: that of this machine
// would disclose its network, and that of the target is known.
func Plainly(err error) string {
	var number syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errReplay), err.Error() == "http: server closed idle connection":
		return "it was closed by the target"
	case errors.As(err, &op) && op.Err != nil:
		return Plainly(op.Err)
	}
	text := err.Error()
	for _, prefix := range []string{"net/http: HTTP/1.x transport connection broken: ", "net/http: ", "http: ", "http2: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return addresses.ReplaceAllString(text, "")
}
