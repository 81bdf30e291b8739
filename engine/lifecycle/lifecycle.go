// Package lifecycle tells the parts of the router that it stops, and counts the goroutines and
// requests that a stop waits for.
package lifecycle

import (
	"context"
	"sync"
	"time"

	"switchhook/engine"
)

// Lifecycle tells the parts of the router that it stops, and counts the goroutines and
// requests that a stop waits for.
type Lifecycle struct {
	clock    func() time.Time
	stop     chan struct{} // closed when the router stops
	stopOnce sync.Once
	tasks    TaskGroup // loops, workers, fetches and requests that a stop waits for
}

// New returns a Lifecycle whose Now reads clock.
func New(clock func() time.Time) *Lifecycle {
	return &Lifecycle{clock: clock, stop: make(chan struct{})}
}

// IsStopping reports whether the router stops.
func (l *Lifecycle) IsStopping() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// ErrStopping returns the error of requests that come while the router stops.
func ErrStopping() *engine.Error {
	return &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
}

// RunEvery does something again and again until the router stops.
func (l *Lifecycle) RunEvery(d time.Duration, do func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
			do()
		}
	}
}

// Now is the time as it is stored: in UTC, to the microsecond, so that a thing looks the
// same before and after a restart.
func (l *Lifecycle) Now() time.Time { return l.clock().UTC().Truncate(time.Microsecond) }

// StopContext gives a context that ends when the router stops.
func (l *Lifecycle) StopContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-l.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Sleep sleeps; false says that the router stops.
func (l *Lifecycle) Sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.stop:
		return false
	case <-timer.C:
		return true
	}
}

const RecordRetryDelay = time.Second // after a store that could not write

// ExpireEvery is the time between two looks for what has expired or is not used any more.
const ExpireEvery = 15 * time.Second

// Stopping returns a channel that is closed when the router stops.
func (l *Lifecycle) Stopping() <-chan struct{} { return l.stop }

// Spawn runs do in a goroutine that a stop waits for; false if the router takes up nothing
// any more.
func (l *Lifecycle) Spawn(do func()) bool { return l.tasks.Go(do) }

// Begin counts a request that a stop waits for until end; false if the router takes up
// nothing any more.
func (l *Lifecycle) Begin() bool { return l.tasks.Add() }

// End says that a request that began is over.
func (l *Lifecycle) End() { l.tasks.Done() }

// StopNow tells all parts that the router stops.
func (l *Lifecycle) StopNow() { l.stopOnce.Do(func() { close(l.stop) }) }

// Refuse lets nothing begin any more.
func (l *Lifecycle) Refuse() { l.tasks.Close() }

// Wait waits until nothing is left.
func (l *Lifecycle) Wait() { l.tasks.Wait() }
