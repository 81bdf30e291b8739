package catalog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/scripts"
)

// What keeps a subscription's events from being sent need not be its target: its transform
// may fail on every event, or its filter, or what is stored of it can't be used. Such a
// subscription is failing, too. It is counted in memory, as errors of filters are.

// FailingAfter errors in a row a filter counts as failing, and the account is told of it or
// of a transform: one event that is not as the others says little.
const FailingAfter = 5

// Streak counts failures since the last success.
type Streak struct {
	any atomic.Bool // there are some

	mu    sync.Mutex
	count int
	since time.Time
	cause engine.HealthCause
	last  string
}

// Fail counts a failure, and gives how many there are.
func (s *Streak) Fail(now time.Time, cause engine.HealthCause, text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		s.since = now
	}
	s.count++
	s.cause, s.last = cause, text
	s.any.Store(true)
	return s.count
}

// Succeed ends the streak.
func (s *Streak) Succeed() {
	if !s.any.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count, s.since, s.last = 0, time.Time{}, ""
	s.any.Store(false)
}

// Over shows the failures in h, if there are as many as least.
func (s *Streak) Over(h engine.Health, least int) engine.Health {
	if !s.any.Load() {
		return h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count >= least {
		h.FailingSince, h.Failures, h.LastError, h.Cause = s.since, s.count, s.last, s.cause
	}
	return h
}

// takeStreaks keeps what is known of a filter and a transform, if they are the same as
// before.
func (r *CompiledSubscription) takeStreaks(old *CompiledSubscription) {
	if old == nil {
		return
	}
	if old.FilterSource == r.FilterSource {
		r.Filtering = old.Filtering
	}
	if old.TransformSource == r.TransformSource && (old.ConfigErr == nil) == (r.ConfigErr == nil) {
		r.Preparing = old.Preparing
		r.Worked.Store(old.Worked.Load())
	}
}

// Health gives how a subscription fares whose target fares as h says.
func (r *CompiledSubscription) Health(h engine.Health) engine.Health {
	if h.State() != engine.HealthHealthy {
		h.Cause = engine.CauseTarget
		return h
	}
	if h = r.Preparing.Over(h, 1); h.Cause == "" {
		h = r.Filtering.Over(h, FailingAfter)
	}
	return h
}

// ScriptTrouble says how a script fails, without what it says itself: that may hold data of
// an event.
func ScriptTrouble(err error) string {
	var se *scripts.Error
	if !errors.As(err, &se) {
		return "makes a request that can't be sent"
	}
	text := map[scripts.Phase]string{
		scripts.PhaseLint: "does not compile", scripts.PhaseCompile: "does not compile", scripts.PhaseRun: "fails",
		scripts.PhaseOutput: "returns more than it may", scripts.PhaseCrash: "takes its process down",
	}[se.Phase]
	if text == "" {
		text = "is stopped: " + se.Message // for its time or memory
	}
	if se.Line > 0 {
		text += fmt.Sprintf(" at line %d, column %d", se.Line, se.Column)
	}
	return text
}
