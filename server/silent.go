package server

import (
	"crypto/tls"
	"net"
	"sync"
)

// silentConns are the connections on which nothing has come yet. Clients and browsers open
// some in reserve, and fasthttp takes each for one with a request: a stop would wait for them
// until the read timeout.
type silentConns struct {
	net.Listener
	mu    sync.Mutex
	open  map[*silentConn]struct{}
	ended bool
}

func listenForSilence(l net.Listener) *silentConns {
	return &silentConns{Listener: l, open: map[*silentConn]struct{}{}}
}

// Accept implements net.Listener.
func (s *silentConns) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	silent := &silentConn{Conn: c, all: s}
	s.mu.Lock()
	s.open[silent] = struct{}{}
	ended := s.ended
	s.mu.Unlock()
	if ended {
		c.Close()
	}
	if secure, ok := c.(*tls.Conn); ok {
		return &silentTLS{silent, secure}, nil
	}
	return silent, nil
}

// end closes them, and those that come after it.
func (s *silentConns) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.open {
		c.Conn.Close()
	}
}

func (s *silentConns) forget(c *silentConn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

// silentConn is a connection that tells when it is silent no more.
type silentConn struct {
	net.Conn
	all  *silentConns
	once sync.Once
}

// Read implements net.Conn.
func (c *silentConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.once.Do(func() { c.all.forget(c) })
	}
	return n, err
}

// Close implements net.Conn.
func (c *silentConn) Close() error {
	c.once.Do(func() { c.all.forget(c) })
	return c.Conn.Close()
}

// silentTLS is one over TLS, which fasthttp knows by these methods.
type silentTLS struct {
	*silentConn
	secure *tls.Conn
}

// Handshake runs the handshake, if that was not done yet.
func (c *silentTLS) Handshake() error { return c.secure.Handshake() }

// ConnectionState describes the TLS connection.
func (c *silentTLS) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }
