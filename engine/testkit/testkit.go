// Package testkit has what the tests of several packages need: waiting, receivers, a clock,
// free ports and built programs. Only tests import it. Package routertest starts a router.
package testkit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Timeout is the time that a test waits for an expected event. It is shorter than any time of a
// minute that something under test waits for by itself.
const Timeout = 50 * time.Second

// WaitFor polls until a condition is met, and fails the test at the timeout.
func WaitFor(t testing.TB, what string, met func() bool) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(Timeout); !met(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout waiting until %s", what)
		}
		pause = min(pause*3/2, 20*time.Millisecond)
	}
}

// Within fails the test if do does not return before the timeout.
func Within(t testing.TB, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(Timeout):
		t.Fatalf("%s does not return", what)
	}
}

// Clock is a time that runs, and that a test moves forward or back. The zero value shows
// the right time. Its times have no monotonic reading, which would hide a move from those
// who compare them.
type Clock struct{ offset atomic.Int64 }

// Now returns the time.
func (c *Clock) Now() time.Time { return time.Now().Round(0).Add(time.Duration(c.offset.Load())) }

// Advance moves the clock forward, or back if d is negative.
func (c *Clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

// Set makes the clock show a time.
func (c *Clock) Set(now time.Time) { c.offset.Store(int64(time.Until(now))) }

// nextPort is above the ports of services and below the kernel's ephemeral ports, so that
// no other program takes the port between its check and its use.
var nextPort atomic.Int32

func init() { nextPort.Store(rand.Int32N(12_000)) }

// FreeAddress returns a loopback address where nothing listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+nextPort.Add(1)%12_000))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Buffer collects what is written to it, such as a log. It is safe for concurrent use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Contains reports whether a text was written.
func (b *Buffer) Contains(text string) bool { return strings.Contains(b.String(), text) }
