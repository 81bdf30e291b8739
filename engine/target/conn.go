package target

import (
	"crypto/tls"
	"net"
	"sync/atomic"
)

// conn is a connection that knows whether anything was read on it since a request began to
// be written. net/http may hand a kept connection out before it has looked whether the target
// wrote more than its last answer; it would take the surplus for the answer to the next
// request.
type conn struct {
	net.Conn
	reads   atomic.Int64 // that gave something
	before  atomic.Int64 // of them, those before the request began to be written
	pending atomic.Bool  // nothing of the request is written yet
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.reads.Add(1)
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.pending.CompareAndSwap(true, false) {
		c.before.Store(c.reads.Load())
	}
	return c.Conn.Write(b)
}

// begin notes that a request is about to be written.
func (c *conn) begin() { c.pending.Store(true) }

// unsolicited reports, once the first byte of an answer is there, whether it was before
// the request was written.
func (c *conn) unsolicited() bool { return c.pending.Load() || c.reads.Load() == c.before.Load() }

// connOf finds the conn below what net/http holds; nil if there is none.
func connOf(c net.Conn) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	found, _ := c.(*conn)
	return found
}
