package target

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a connection that records whether anything was read since a request began to be
// written. net/http may reuse a connection before it has checked whether the target wrote more
// than its last answer; it would take the surplus for the answer to the next request.
type conn struct {
	net.Conn
	reads   atomic.Int64 // reads that returned data
	before  atomic.Int64 // value of reads when the request began to be written
	pending atomic.Bool  // nothing of the request is written yet
	serves  atomic.Bool  // HTTP/1.1: net/http reads while a request is written
	ended   chan struct{}
	end     sync.Once // closes ended when nothing more can be read
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, ended: make(chan struct{})} }

// answerWait is how long a failed write waits for the reader to read the rest.
const answerWait = time.Second

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.reads.Add(1)
	}
	if err != nil {
		c.end.Do(func() { close(c.ended) })
	}
	return n, err
}

// Write implements net.Conn. A target may answer and close before it has read the whole request.
// The answer can still be read, but net/http would prefer the error of a failed write; so a failed
// write returns only once everything is read.
func (c *conn) Write(b []byte) (int, error) {
	if c.pending.CompareAndSwap(true, false) {
		c.before.Store(c.reads.Load())
	}
	n, err := c.Conn.Write(b)
	if c.serves.Load() && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
		wait := time.NewTimer(answerWait)
		defer wait.Stop()
		select {
		case <-c.ended:
		case <-wait.C:
		}
	}
	return n, err
}

// begin records that a request is about to be written.
func (c *conn) begin() {
	c.serves.Store(true)
	c.pending.Store(true)
}

// unsolicited reports, once the first byte of an answer was read, whether it came before the
// request was written.
func (c *conn) unsolicited() bool { return c.pending.Load() || c.reads.Load() == c.before.Load() }

// connOf returns the conn below a connection of net/http, or nil if there is none.
func connOf(c net.Conn) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	found, _ := c.(*conn)
	return found
}
