package server

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxConns is the most connections that are open at one time, where Config does not say.
const DefaultMaxConns = 10_000

// connTracker is the listener of a server. It keeps its connections in view, for three reasons:
// at the limit an idle one has to make room for a new one, a stop does not wait for those on
// which no byte has come, and some need a lingering close.
//
// Lock order: mu is taken last; nothing is closed or logged while it is held.
type connTracker struct {
	*retryListener
	max     int
	log     *slog.Logger
	evicted func() // counts

	waiting atomic.Bool   // Accept waits for room
	room    chan struct{} // wakes it

	mu    sync.Mutex
	conns map[*trackedConn]struct{}
	ended bool

	lastLogged time.Time // only used by Accept
}

func trackConns(l net.Listener, max int, log *slog.Logger, evicted func()) *connTracker {
	t := &connTracker{max: max, log: log, evicted: evicted, room: make(chan struct{}, 1), conns: map[*trackedConn]struct{}{}}
	// Where files are short although the limit is not reached, idle connections give up theirs, too.
	t.retryListener = newRetryListener(l, log, func() { t.evict() })
	return t
}

// Accept implements net.Listener. It returns once there is room for a connection.
func (t *connTracker) Accept() (net.Conn, error) {
	conn, err := t.retryListener.Accept()
	if err != nil {
		return nil, err
	}
	for t.count() >= t.max && !t.evict() {
		if !t.awaitRoom() {
			conn.Close()
			return nil, net.ErrClosed
		}
	}
	tracked := &trackedConn{Conn: conn, raw: conn, tracker: t}
	secure, isTLS := conn.(*tls.Conn)
	if isTLS {
		tracked.raw, tracked.secure = secure.NetConn(), secure
	}
	tracked.silent.Store(true)
	tracked.setIdle()
	t.mu.Lock()
	t.conns[tracked] = struct{}{}
	ended := t.ended
	t.mu.Unlock()
	if ended {
		tracked.raw.Close()
	}
	if isTLS {
		return &trackedTLSConn{tracked}, nil
	}
	return tracked, nil
}

func (t *connTracker) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// awaitRoom waits, where every connection is in use, until one is not. It reports whether the
// listener is still open.
func (t *connTracker) awaitRoom() bool {
	if time.Since(t.lastLogged) >= acceptErrorEvery {
		t.lastLogged = time.Now()
		t.log.Warn("all connections are in use, and there may be no more of them; new ones wait", "limit", t.max)
	}
	t.waiting.Store(true)
	defer t.waiting.Store(false)
	select {
	case <-t.room:
	case <-time.After(maxAcceptPause):
	case <-t.closed:
		return false
	}
	return true
}

func (t *connTracker) wake() {
	if t.waiting.Load() {
		select {
		case t.room <- struct{}{}:
		default:
		}
	}
}

// evict closes some connections on which no request is being answered, those that have been
// idle longest; those on which a valid key came only where there are no others. It reports
// whether there were any.
func (t *connTracker) evict() bool {
	type candidate struct {
		conn      *trackedConn
		authentic bool
		idleSince int64
	}
	var idle []candidate
	t.mu.Lock()
	for c := range t.conns {
		if since := c.idleSince.Load(); since > 0 {
			idle = append(idle, candidate{c, c.authenticated.Load(), since})
		}
	}
	t.mu.Unlock()
	slices.SortFunc(idle, func(a, b candidate) int {
		if a.authentic != b.authentic {
			if a.authentic {
				return 1
			}
			return -1
		}
		return int(min(max(a.idleSince-b.idleSince, -1), 1))
	})
	n := 0
	for _, c := range idle {
		// Several at a time, so that the cost of looking through all of them is shared.
		if n > len(idle)/64 {
			break
		}
		if c.conn.idleSince.CompareAndSwap(c.idleSince, evictedConn) {
			t.forget(c.conn)
			c.conn.raw.Close()
			t.evicted()
			n++
		}
	}
	return n > 0
}

// closeSilent closes the connections on which nothing has come yet, and those that are still
// accepted after it. Clients and browsers open some in reserve, and fasthttp takes each for one
// with a request: a stop would wait for them until the read timeout.
func (t *connTracker) closeSilent() {
	var silent []*trackedConn
	t.mu.Lock()
	t.ended = true
	for c := range t.conns {
		if c.silent.Load() {
			silent = append(silent, c)
		}
	}
	t.mu.Unlock()
	for _, c := range silent {
		c.raw.Close()
	}
}

func (t *connTracker) forget(c *trackedConn) {
	t.mu.Lock()
	delete(t.conns, c)
	t.mu.Unlock()
	t.wake()
}

// Values of trackedConn.idleSince that are no time.
const (
	busyConn    = 0
	evictedConn = -1
)

// trackedConn is a connection of a connTracker.
type trackedConn struct {
	net.Conn
	raw     net.Conn  // below TLS
	secure  *tls.Conn // nil without TLS
	tracker *connTracker

	silent        atomic.Bool  // no byte has come
	authenticated atomic.Bool  // a request with a valid key has come
	lingers       atomic.Bool  // the last answer was given before its request was read to the end
	idleSince     atomic.Int64 // Unix time in nanoseconds since when no request is being answered; busyConn; evictedConn
	closeOnce     sync.Once

	// hasLine says that a line has come since the last answer. Only used by Read and between
	// reads, in the goroutine that serves the connection.
	hasLine bool
}

// connOf gives the tracked connection of a request; nil where a test serves without one.
func connOf(conn net.Conn) *trackedConn {
	switch c := conn.(type) {
	case *trackedConn:
		return c
	case *trackedTLSConn:
		return c.trackedConn
	}
	return nil
}

func (c *trackedConn) setIdle() {
	c.idleSince.Store(time.Now().UnixNano())
	c.tracker.wake()
}

// setBusy notes that a request begins to be answered. It is false where the connection was
// evicted just now: nobody would see the answer.
func (c *trackedConn) setBusy() bool {
	c.hasLine = false
	return c.idleSince.Swap(busyConn) != evictedConn
}

// Read implements net.Conn.
func (c *trackedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.silent.Load() {
		c.silent.Store(false)
	}
	if !c.hasLine {
		c.hasLine = bytes.IndexByte(b[:n], '\n') >= 0
	}
	return n, err
}

// Close implements net.Conn.
func (c *trackedConn) Close() (err error) {
	c.closeOnce.Do(func() {
		if c.lingers.Load() {
			c.setIdle() // it may be evicted
			c.linger()
		}
		err = c.Conn.Close()
		c.tracker.forget(c)
	})
	return err
}

const (
	lingerTime  = 30 * time.Second // that a lingering close takes at most
	lingerPause = 5 * time.Second  // that it waits for more
	lingerBytes = 64 << 20         // that it reads at most
)

// linger says that nothing more will be sent, and reads on, within bounds: a connection that
// is closed with bytes unread is reset, and the reset may destroy an answer that the client has
// not read yet, because it sends all of its request first (RFC 9112, section 9.6).
func (c *trackedConn) linger() {
	if c.secure != nil && c.secure.CloseWrite() != nil {
		return
	}
	if tcp, ok := c.raw.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(lingerTime)
	buf := make([]byte, 32<<10)
	for read := 0; read < lingerBytes; {
		deadline := time.Now().Add(lingerPause)
		if deadline.After(end) {
			deadline = end
		}
		if c.raw.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := c.raw.Read(buf)
		if err != nil {
			return
		}
		read += n
	}
}

// trackedTLSConn is a trackedConn over TLS, which fasthttp knows by these methods.
type trackedTLSConn struct{ *trackedConn }

// Handshake runs the handshake, if that was not done yet.
func (c *trackedTLSConn) Handshake() error { return c.secure.Handshake() }

// ConnectionState describes the TLS connection.
func (c *trackedTLSConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }
