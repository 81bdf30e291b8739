package sqlite

import (
	"context"
	"sync"
	"sync/atomic"

	"switchhook/engine"
)

const (
	// queueCapacity bounds what may wait, and so what one commit holds: at 10 to 20 µs an
	// event, 4096 are 40 to 80 ms of writing.
	queueCapacity = 4096
	// flushThreshold is how many waiting callers cancel the pace of commits.
	flushThreshold = 64
	// outcomeFlushThreshold is the same for outcomes, which nobody waits for.
	outcomeFlushThreshold = 1024
)

// request is one thing for the writer to do. Exactly one of its parts is set.
type request struct {
	call *call
	outcome
}

// outcome is what Record was called with.
type outcome struct {
	o    *engine.Outcome
	done func(error)
}

// call is a request whose caller waits for the answer.
type call struct {
	events  []engine.NewEvent // Append's, or nil
	results []engine.Appended
	do      func(*tx) error // anything else
	err     error           // of this call alone; set by the writer
	taken   atomic.Bool     // by the writer, or back by a caller whose context ended
	done    chan error      // has room for the one answer
}

// queue is what waits for the writer, in the order in which it came.
type queue struct {
	mu      sync.Mutex
	items   []request
	calls   int // how many of items are calls
	closed  bool
	drained chan struct{} // closed and made anew when take empties the queue
	wake    chan struct{} // tells the writer to look again
}

func newQueue() *queue {
	return &queue{drained: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// push adds r, waiting for room until ctx ends.
func (q *queue) push(ctx context.Context, r request) error {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return errClosed
		}
		if len(q.items) < queueCapacity {
			q.items = append(q.items, r)
			if r.call != nil {
				q.calls++
			}
			// The writer is woken only where that may end its wait.
			wake := len(q.items) == 1 || len(q.items) == outcomeFlushThreshold || r.call != nil && (q.calls == 1 || q.calls == flushThreshold)
			q.mu.Unlock()
			if wake {
				q.signal()
			}
			return nil
		}
		drained := q.drained
		q.mu.Unlock()
		select {
		case <-drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// counts tells how much waits, and whether more can come.
func (q *queue) counts() (items, calls int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.calls, q.closed
}

func (q *queue) len() int {
	items, _, _ := q.counts()
	return items
}

// take empties the queue, and leaves it empty's memory to fill again.
func (q *queue) take(empty []request) []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.calls = empty[:0], 0
	close(q.drained)
	q.drained = make(chan struct{})
	return items
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// ask hands c to the writer and waits for its answer. Where ctx ends before the writer
// took c, it is withdrawn; after that the answer is waited for, since the writer reads
// memory that is the caller's again once ask returns.
func (q *queue) ask(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.done = make(chan error, 1)
	if err := q.push(ctx, request{call: c}); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		if c.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-c.done
	}
}

// write has the writer run do inside its next transaction. Where do fails, what it
// wrote is taken back, and nothing else.
func (s *Store) write(ctx context.Context, do func(*tx) error) error {
	if entry := engine.EntryOf(ctx); entry != nil {
		do = withEntry(do, entry)
	}
	return s.queue.ask(ctx, &call{do: do})
}
