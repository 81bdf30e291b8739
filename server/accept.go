package server

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	minAcceptPause   = 5 * time.Millisecond
	maxAcceptPause   = time.Second
	acceptErrorEvery = time.Minute // minimum time between two log lines about failed accepts
)

// RetryAccept wraps l so that Accept does not fail while the machine or the process is short of a
// resource, such as file descriptors: it logs the error and retries after 5 ms to 1 s, as
// net/http does for some of these errors. Servers take any error of Accept as final.
func RetryAccept(l net.Listener, log *slog.Logger) net.Listener {
	return newRetryListener(l, log, nil)
}

type retryListener struct {
	net.Listener
	log     *slog.Logger
	onError func() // called before each pause; may be nil

	closed    chan struct{}
	closeOnce sync.Once

	// Only used by Accept, which one goroutine calls.
	failures   int // since the last log line
	lastLogged time.Time
}

func newRetryListener(l net.Listener, log *slog.Logger, onError func()) *retryListener {
	return &retryListener{Listener: l, log: log, onError: onError, closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *retryListener) Accept() (net.Conn, error) {
	for pause := minAcceptPause; ; pause = min(2*pause, maxAcceptPause) {
		conn, err := l.Listener.Accept()
		if err == nil || !isTemporaryAcceptError(err) {
			return conn, err
		}
		l.report(err)
		if l.onError != nil {
			l.onError()
		}
		if !l.wait(pause) {
			return nil, net.ErrClosed
		}
	}
}

// retryAfter reports whether the listener is still open after d.
func (l *retryListener) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closed:
		return false
	}
}

func (l *retryListener) report(err error) {
	l.failures++
	if time.Since(l.lastLogged) < acceptErrorEvery {
		return
	}
	l.log.Warn("no connection can be accepted now; trying again", "address", l.Addr().String(), "error", err, "failures", l.failures)
	l.failures, l.lastLogged = 0, time.Now()
}

// Close implements net.Listener.
func (l *retryListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// temporaryAcceptErrors are the errors of accept(2) that are not the listening socket's fault:
// exhausted resources, and network errors of the new connection, which Linux passes on.
var temporaryAcceptErrors = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ETIMEDOUT,
}

func isTemporaryAcceptError(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	for _, temporary := range temporaryAcceptErrors {
		if errors.Is(err, temporary) {
			return true
		}
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
