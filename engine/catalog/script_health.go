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

// A subscription can also fail before its target is reached: its transform or filter may fail on
// every event, or its stored row can't be used. Such a subscription counts as failing, too. These
// failures are counted in memory, as filter errors are.

// FailingAfter is the number of consecutive errors after which a filter counts as failing and the
// account is notified of it or of a transform: one unusual event proves little.
const FailingAfter = 5

// reportFailingEvery is the shortest time between two operational events about the failures of one
// script of a subscription: the events must not feed what makes them.
const reportFailingEvery = time.Minute

// Streak counts consecutive failures.
type Streak struct {
	any atomic.Bool // the streak is not empty

	mu    sync.Mutex
	count int
	since time.Time
	cause engine.HealthCause
	last  string

	reported time.Time
}

// Fail counts a failure and reports whether the account must be notified of the streak.
func (s *Streak) Fail(now time.Time, cause engine.HealthCause, text string) (notify bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		s.since = now
	}
	s.count++
	s.cause, s.last = cause, text
	s.any.Store(true)
	if notify = s.count == FailingAfter && now.Sub(s.reported) >= reportFailingEvery; notify {
		s.reported = now
	}
	return notify
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

// Over returns h with the failures added if there are at least least.
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

// inheritStreaks copies the streaks of old for a filter and a transform that did not change.
func (r *CompiledSubscription) inheritStreaks(old *CompiledSubscription) {
	if old == nil {
		return
	}
	if old.Filter.Source == r.Filter.Source {
		r.Filter.Streak = old.Filter.Streak
	}
	if old.Transform.Source == r.Transform.Source && (old.ConfigErr == nil) == (r.ConfigErr == nil) {
		r.Preparing = old.Preparing
		r.Transform.Worked.Store(old.Transform.Worked.Load())
	}
}

// Health returns the health of a subscription whose target's health is h.
func (r *CompiledSubscription) Health(h engine.Health) engine.Health {
	if h.State() != engine.HealthHealthy {
		h.Cause = engine.CauseTarget
		return h
	}
	if h = r.Preparing.Over(h, 1); h.Cause == "" {
		h = r.Filter.Streak.Over(h, FailingAfter)
	}
	return h
}

// ScriptTrouble describes how a script fails, without the script's own message: that may contain
// data of an event.
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
		text = "is stopped: " + se.Message // by its time or memory limit
	}
	if se.Line > 0 {
		text += fmt.Sprintf(" at line %d, column %d", se.Line, se.Column)
	}
	return text
}
