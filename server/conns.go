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

// DefaultMaxConns is the default of Config.MaxConns.
const DefaultMaxConns = 10_000

// connTracker is a server's listener. It tracks the open connections, for three reasons: at the
// limit an idle one is closed for a new one, a shutdown does not wait for connections that have
// sent no byte, and some need a lingering close.
//
// Lock order: mu is acquired last; nothing is closed or logged while it is held.
type connTracker struct {
	*retryListener
	max     int
	log     *slog.Logger
	evicted func() // counts evictions

	waiting atomic.Bool   // Accept waits for a free slot
	room    chan struct{} // wakes it

	mu    sync.Mutex
	conns map[*trackedConn]struct{}
	ended bool

	lastLogged time.Time // only used by Accept
}

func trackConns(l net.Listener, max int, log *slog.Logger, evicted func()) *connTracker {
	t := &connTracker{max: max, log: log, evicted: evicted, room: make(chan struct{}, 1), conns: map[*trackedConn]struct{}{}}
	// If file descriptors run out below the limit, idle connections are closed as well.
	t.retryListener = newRetryListener(l, log, func() { t.evict() })
	return t
}

// Accept implements net.Listener. It blocks while the connection limit is reached.
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

// awaitRoom waits until a connection is idle or closed, if all are in use. It reports whether the
// listener is still open.
func (t *connTracker) awaitRoom() bool {
	if time.Since(t.lastLogged) >= acceptErrorEvery {
		t.lastLogged = time.Now()
		t.log.Warn("the connection limit is reached and all connections are in use; new ones wait", "limit", t.max)
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

// evict closes the connections that have been idle longest, without a request in progress;
// those that sent a valid key only if there are no others. It reports whether it closed any.
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
		// Evicts several per pass, to share the cost of the scan.
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

// closeSilent closes the connections that have sent no byte, and those accepted after it. Clients and
// browsers open spare connections, and fasthttp counts each as one with a request: a shutdown
// would wait for them until the read timeout.
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

// Values of trackedConn.idleSince that are not times.
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

	silent        atomic.Bool  // no byte received
	authenticated atomic.Bool  // a request had a valid key
	lingers       atomic.Bool  // the last response was sent before its request was read completely
	idleSince     atomic.Int64 // Unix nanoseconds since when no request is in progress; busyConn; evictedConn
	closeOnce     sync.Once

	// hasLine is set if a line was received since the last response. Only used by Read and between reads,
	// in the goroutine that serves the connection.
	hasLine bool
}

// connOf returns a request's tracked connection; nil if a test serves without one.
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

// setBusy marks the connection as handling a request. It returns false if the connection was just
// evicted, so that a response could not be delivered.
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
	lingerTime  = 30 * time.Second // maximum duration of a lingering close
	lingerPause = 5 * time.Second  // maximum wait for more data
	lingerBytes = 64 << 20         // maximum bytes read
)

// linger closes the write side and keeps reading, within limits: a connection that is closed with
// unread bytes is reset, and the reset may destroy a response that the client has not read yet,
// because it sends all of its request first (RFC 9112, section 9.6).
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

// trackedTLSConn is a trackedConn over TLS; fasthttp detects TLS by these methods.
type trackedTLSConn struct{ *trackedConn }

// Handshake runs the TLS handshake, if it has not run yet.
func (c *trackedTLSConn) Handshake() error { return c.secure.Handshake() }

// ConnectionState returns the state of the TLS connection.
func (c *trackedTLSConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }
