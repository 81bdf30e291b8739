package server

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultMaxConns is the default of Config.MaxConns.
//
// An idle one that had a request holds 20 KiB, one with the largest headers 60 KiB: with this many, at
// most 250 MiB. More clients than that at the same time come through a proxy.
const DefaultMaxConns = 4096

// An address with more than this part of the connections loses them first.
const crowdedShare = 8

// A connection that sends nothing for this time is closed, over TLS also one that does not complete
// its handshake.
const silentTime = 10 * time.Second

// connTracker is a server's listener. It tracks the open connections, for four reasons: at the
// limit an idle one is closed for a new one, no address may have too many, a shutdown does not wait
// for connections that have sent no byte, and some need a lingering close.
//
// Lock order: mu is acquired last; nothing is closed or logged while it is held.
type connTracker struct {
	*retryListener
	s *Server

	evicted, refused prometheus.Counter
	open             *prometheus.Desc

	waiting atomic.Bool   // Accept waits for a free slot
	room    chan struct{} // wakes it

	mu        sync.Mutex
	conns     map[*trackedConn]struct{}
	addresses map[netip.Prefix]int // open connections, except those of trusted proxies
	ended     bool

	lastLogged time.Time // only used by Accept
}

func newConnTracker(s *Server) *connTracker {
	return &connTracker{
		s: s, room: make(chan struct{}, 1), conns: map[*trackedConn]struct{}{}, addresses: map[netip.Prefix]int{},
		evicted: newConnCounter("evicted", "Idle connections of the API that were closed to make room for new ones."),
		refused: newConnCounter("refused", "Connections to the API that were closed at once: their address had as many as it may, all in use."),
		open:    prometheus.NewDesc("switchhook_api_connections", "Open connections to the API: silent have sent nothing yet, idle have no request in progress.", []string{"state"}, nil),
	}
}

func newConnCounter(what, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "switchhook", Name: "api_connections_" + what + "_total", Help: help})
}

// Describe implements prometheus.Collector.
func (t *connTracker) Describe(ch chan<- *prometheus.Desc) {
	ch <- t.open
	t.evicted.Describe(ch)
	t.refused.Describe(ch)
}

// Collect implements prometheus.Collector.
func (t *connTracker) Collect(ch chan<- prometheus.Metric) {
	var silent, idle, busy int
	t.mu.Lock()
	for c := range t.conns {
		switch {
		case c.silent.Load():
			silent++
		case c.idleSince.Load() > 0:
			idle++
		default:
			busy++
		}
	}
	t.mu.Unlock()
	for state, n := range map[string]int{"silent": silent, "idle": idle, "busy": busy} {
		ch <- prometheus.MustNewConstMetric(t.open, prometheus.GaugeValue, float64(n), state)
	}
	t.evicted.Collect(ch)
	t.refused.Collect(ch)
}

// listen makes the tracker accept connections of l.
func (t *connTracker) listen(l net.Listener) *connTracker {
	// If file descriptors run out below the limit, idle connections are closed as well.
	t.retryListener = newRetryListener(l, t.s.log, func() { t.evict(netip.Prefix{}) })
	return t
}

// Accept implements net.Listener. It blocks while the connection limit is reached.
func (t *connTracker) Accept() (net.Conn, error) {
	for {
		conn, err := t.retryListener.Accept()
		if err != nil {
			return nil, err
		}
		from := t.addressOf(conn)
		if from.IsValid() && t.countOf(from) >= t.s.cfg.MaxAddressConns && !t.evict(from) {
			conn.Close()
			t.refused.Inc()
			continue
		}
		for t.count() >= t.s.cfg.MaxConns && !t.evict(netip.Prefix{}) {
			if !t.awaitRoom() {
				conn.Close()
				return nil, net.ErrClosed
			}
		}
		return t.track(conn, from), nil
	}
}

// addressOf returns the network of a new connection's client; the zero Prefix for a trusted proxy,
// whose connections are those of many.
func (t *connTracker) addressOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if t.s.trusted(ip) {
		return netip.Prefix{}
	}
	return host(ip)
}

// track adds a connection.
func (t *connTracker) track(conn net.Conn, from netip.Prefix) net.Conn {
	tracked := &trackedConn{Conn: conn, raw: conn, tracker: t, from: from, accepted: time.Now()}
	secure, isTLS := conn.(*tls.Conn)
	if isTLS {
		tracked.raw, tracked.secure = secure.NetConn(), secure
	}
	tracked.silent.Store(true)
	tracked.setIdle()
	t.mu.Lock()
	t.conns[tracked] = struct{}{}
	if from.IsValid() {
		t.addresses[from]++
	}
	ended := t.ended
	t.mu.Unlock()
	if ended {
		tracked.raw.Close()
	}
	if isTLS {
		return &trackedTLSConn{tracked}
	}
	return tracked
}

func (t *connTracker) countOf(from netip.Prefix) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addresses[from]
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
		t.s.log.Warn("the connection limit is reached and all connections are in use; new ones wait", "limit", t.s.cfg.MaxConns)
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

// evict closes the connections that have been idle longest, without a request in progress: first
// those of addresses with many, and those that sent a valid key only if there are no others. If
// only is valid, it closes some of that address. It reports whether it closed any.
func (t *connTracker) evict(only netip.Prefix) bool {
	type candidate struct {
		conn      *trackedConn
		rank      int
		idleSince int64
	}
	var idle []candidate
	t.mu.Lock()
	for c := range t.conns {
		since := c.idleSince.Load()
		if since <= 0 || only.IsValid() && c.from != only {
			continue
		}
		rank := 0
		if t.addresses[c.from]*crowdedShare <= t.s.cfg.MaxConns {
			rank += 2
		}
		if c.authenticated.Load() {
			rank++
		}
		idle = append(idle, candidate{c, rank, since})
	}
	t.mu.Unlock()
	slices.SortFunc(idle, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.idleSince, b.idleSince))
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
			t.evicted.Inc()
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
	if _, open := t.conns[c]; open {
		delete(t.conns, c)
		if t.addresses[c.from]--; t.addresses[c.from] <= 0 {
			delete(t.addresses, c.from)
		}
	}
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
	raw      net.Conn  // below TLS
	secure   *tls.Conn // nil without TLS
	tracker  *connTracker
	from     netip.Prefix // the client's network; zero for a trusted proxy
	accepted time.Time

	silent        atomic.Bool  // no byte received
	authenticated atomic.Bool  // a request had a valid key
	lingers       atomic.Bool  // the last response was sent before its request was read completely
	idleSince     atomic.Int64 // Unix nanoseconds since when no request is in progress; busyConn; evictedConn
	closeOnce     sync.Once

	// The rest is only used by the goroutine that serves the connection.

	hasLine bool      // a line was received since the last response
	bodyEnd time.Time // when the body that is being read must have arrived; zero: with the request
	refusal error     // the answer to a request whose body is not read; nil: none
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
	c.hasLine, c.bodyEnd = false, time.Time{}
	return c.idleSince.Swap(busyConn) != evictedConn
}

// expectBody sets how long the body may take that is read next.
func (c *trackedConn) expectBody(within time.Duration) { c.bodyEnd = time.Now().Add(within) }

// SetReadDeadline implements net.Conn.
func (c *trackedConn) SetReadDeadline(deadline time.Time) error {
	if c.silent.Load() {
		if end := c.accepted.Add(silentTime); deadline.After(end) {
			deadline = end
		}
	}
	return c.Conn.SetReadDeadline(deadline)
}

// Read implements net.Conn.
func (c *trackedConn) Read(b []byte) (int, error) {
	if !c.bodyEnd.IsZero() {
		deadline := time.Now().Add(bodyPause)
		if c.bodyEnd.Before(deadline) {
			deadline = c.bodyEnd
		}
		if err := c.Conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(b)
	if n > 0 && c.silent.Load() {
		c.silent.Store(false)
		if err := c.Conn.SetReadDeadline(time.Now().Add(c.tracker.s.cfg.ReadTimeout)); err != nil {
			return n, err
		}
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
