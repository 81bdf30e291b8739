package sqlite

import (
	"context"
	"sync"
	"sync/atomic"

	"switchhook/engine"
)

const (
	// queueCapacity bounds the queue, and so the size of one commit: at 10 to 20 µs an
	// event, 4096 take 40 to 80 ms to write.
	queueCapacity = 4096
	// callCapacity is how many more calls it takes, which don't wait for room as outcomes do: thousands
	// of these may wait, and a call would be one of them.
	callCapacity = 4096
	// flushThreshold is the number of waiting callers from which the pace of commits is
	// ignored.
	flushThreshold = 64
	// outcomeFlushThreshold is the flush threshold for outcomes, which have no waiting
	// caller.
	outcomeFlushThreshold = 1024
)

// request is one unit of work for the writer. Exactly one of its parts is set.
type request struct {
	call *call
	outcome
}

// outcome holds the arguments of Record.
type outcome struct {
	o    *engine.Outcome
	done func(error)
}

// call is a request whose caller waits for the answer.
type call struct {
	events  []engine.NewEvent // of Append, or nil
	results []engine.Appended
	work    int64           // of Append, in rows
	do      func(*tx) error // any other write
	err     error           // of this call only; set by the writer
	taken   atomic.Bool     // claimed by the writer, or withdrawn by a caller whose context ended
	done    chan error      // buffered for the one answer
}

// queue holds the requests that wait for the writer, in the order of arrival.
type queue struct {
	mu      sync.Mutex
	items   []request
	calls   int   // number of items that are calls
	turns   turns // of the accounts whose Appends are among the items
	closed  bool
	drained chan struct{} // closed and replaced when take makes room in the queue
	wake    chan struct{} // wakes the writer
}

func newQueue() *queue {
	return &queue{drained: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// push adds r. While the queue is full for r it waits until ctx ends.
func (q *queue) push(ctx context.Context, r request) error {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return errClosed
		}
		if room := queueCapacity - len(q.items); room > 0 || r.call != nil && room > -callCapacity {
			q.items = append(q.items, r)
			if r.call != nil {
				q.calls++
				q.turns.work += r.call.work
			}
			// The writer is woken only if that may end its wait.
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

// counts returns the number of waiting items and calls, and whether the queue is closed.
func (q *queue) counts() (items, calls int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.calls, q.closed
}

func (q *queue) len() int {
	items, _, _ := q.counts()
	return items
}

// take returns the items of the next commit: all, or as many Appends as it should hold. It reuses
// the memory of empty for the items to come.
func (q *queue) take(empty []request) []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.calls = empty[:0], 0
	if q.turns.work > maxAppendWork {
		items, q.items = q.turns.split(items, q.items)
		q.calls = len(q.items) // only Appends stay
	} else {
		q.turns.reset()
	}
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

// submit hands c to the writer and waits for its answer. If ctx ends before the writer
// takes c, it is withdrawn; after that submit waits for the answer, since the writer reads
// memory that belongs to the caller again once submit returns.
func (q *queue) submit(ctx context.Context, c *call) error {
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

// write has the writer run do inside its next transaction. If do fails, only its own writes
// are rolled back.
func (s *Store) write(ctx context.Context, do func(*tx) error) error {
	if limit, ok := engine.StorageLimitOf(ctx); ok { // an audit entry is never refused
		do = withLimit(do, limit)
	}
	if entry := engine.EntryOf(ctx); entry != nil {
		do = withEntry(do, entry)
	}
	return s.queue.submit(ctx, &call{do: do})
}
