// Package lifecycle tells the parts of the router when it stops, and counts the goroutines and
// requests that a stop waits for.
package lifecycle

import (
	"context"
	"time"

	"switchhook/engine"
)

// Lifecycle tells the parts of the router when it stops, and counts the goroutines and requests
// that a stop waits for.
type Lifecycle struct {
	clock func() time.Time
	ctx   context.Context // ends when the router stops
	stop  context.CancelFunc
	tasks TaskGroup // loops, workers, fetches and requests that a stop waits for
}

// New returns a Lifecycle whose Now reads clock.
func New(clock func() time.Time) *Lifecycle {
	l := &Lifecycle{clock: clock}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// IsStopping reports whether the router stops.
func (l *Lifecycle) IsStopping() bool {
	return l.ctx.Err() != nil
}

// ErrStopping returns the error of requests that come while the router stops.
func ErrStopping() *engine.Error {
	return &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
}

// RunEvery calls do every d until the router stops.
func (l *Lifecycle) RunEvery(d time.Duration, do func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// Now returns the time with the precision of the store: in UTC, to the microsecond, so that a value
// is the same before and after a restart.
func (l *Lifecycle) Now() time.Time { return l.clock().UTC().Truncate(time.Microsecond) }

// StopContext returns the context of background work: it ends when the router stops.
func (l *Lifecycle) StopContext() context.Context { return l.ctx }

// Sleep sleeps for d; it returns false, early, if the router stops.
func (l *Lifecycle) Sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// RecordRetryDelay is the delay before a failed read or write of the store is retried.
const RecordRetryDelay = time.Second

// ExpireEvery is the interval of the loops that remove what has expired or is unused.
const ExpireEvery = 15 * time.Second

// Stopping returns a channel that is closed when the router stops.
func (l *Lifecycle) Stopping() <-chan struct{} { return l.ctx.Done() }

// Spawn runs do in a goroutine that a stop waits for; it returns false after Refuse.
func (l *Lifecycle) Spawn(do func()) bool { return l.tasks.Go(do) }

// Begin counts a request that a stop waits for, until End; it returns false after Refuse.
func (l *Lifecycle) Begin() bool { return l.tasks.Add() }

// End ends a request that Begin counted.
func (l *Lifecycle) End() { l.tasks.Done() }

// StopNow ends StopContext and closes the channel of Stopping.
func (l *Lifecycle) StopNow() { l.stop() }

// Refuse makes Spawn and Begin return false from now on.
func (l *Lifecycle) Refuse() { l.tasks.Close() }

// Wait waits until all goroutines and requests have ended.
func (l *Lifecycle) Wait() { l.tasks.Wait() }
