package regexp2

import (
	"errors"
	"sync/atomic"
)

// ErrStopped is the error of a match that a Guard has stopped.
var ErrStopped = errors.New("regexp2: stopped")

// Guard can stop matches and learns of those that fail, for programs that reach regexp2
// through a library that does neither.
type Guard struct {
	stop   atomic.Bool
	failed func(error)
}

var currentGuard atomic.Pointer[Guard]

// NewGuard makes a Guard. failed is called, by the goroutine that matches, with the error of
// each match that ends with one: ErrStopped, or ErrBacktrackingStackLimit.
func NewGuard(failed func(error)) *Guard { return &Guard{failed: failed} }

// SetGuard puts all matches of the process that begin after it under g, nil for none.
func SetGuard(g *Guard) { currentGuard.Store(g) }

// Stop ends the matches under g that are on, and all later ones. Any goroutine may call it.
func (g *Guard) Stop() { g.stop.Store(true) }

func (g *Guard) stopped() bool { return g != nil && g.stop.Load() }
