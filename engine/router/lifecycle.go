package router

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
	tasks    taskGroup // loops, workers, fetches and requests that a stop waits for
}

func newLifecycle(clock func() time.Time) *Lifecycle {
	return &Lifecycle{clock: clock, stop: make(chan struct{})}
}

// isStopping reports whether the router stops.
func (l *Lifecycle) isStopping() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func errStopping() *engine.Error {
	return &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
}

// runEvery does something again and again until the router stops.
func (l *Lifecycle) runEvery(d time.Duration, do func()) {
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

// now is the time as it is stored: in UTC, to the microsecond, so that a thing looks the
// same before and after a restart.
func (l *Lifecycle) now() time.Time { return l.clock().UTC().Truncate(time.Microsecond) }

// stopContext gives a context that ends when the router stops.
func (l *Lifecycle) stopContext() (context.Context, context.CancelFunc) {
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

// sleep sleeps; false says that the router stops.
func (l *Lifecycle) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.stop:
		return false
	case <-timer.C:
		return true
	}
}

const recordRetryDelay = time.Second // after a store that could not write

const expireEvery = 15 * time.Second
