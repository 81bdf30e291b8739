// Package resources knows what the router itself lacks: files, memory, ports, name servers,
// sandbox processes. Then deliveries wait, and no target is to blame.
package resources

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"switchhook/engine"
	"switchhook/engine/retry"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
	"switchhook/scripts"
	"sync"
	"sync/atomic"
	"time"
)

// Tracker knows what the router itself lacks (files, ports, name servers, sandbox
// processes): then deliveries wait, and no target is to blame.
type Tracker struct {
	cfg     settings.Config
	log     *slog.Logger
	metrics *telemetry.Metrics

	shortages shortages
}

// New returns a Tracker.
func New(cfg settings.Config, metrics *telemetry.Metrics) *Tracker {
	return &Tracker{cfg: cfg, log: cfg.Logger, metrics: metrics}
}

// What the router itself lacks is no failure of a target: no attempt was made. The delivery
// goes back to its queue as it was, and waits: with all others where nothing could be sent
// at all, otherwise with those of its subscription. It is logged, counted, and a reason in
// /readyz.

// Shortage is what an attempt could not be made for. The zero shortage is a sandbox that
// was only busy.
type Shortage struct {
	Resource string
	err      error
}

// Everywhere reports whether no delivery can be attempted. Ports are missing for one
// address, names for hosts that have none kept open: the targets of others can be reached.
func (s *Shortage) Everywhere() bool {
	switch target.Shortage(s.Resource) {
	case target.ShortageFiles, target.ShortageMemory, target.ShortageProxy:
		return true
	}
	return false
}

// ShortageIn tells what the router lacked for an attempt; nil where it was made.
func (r *Tracker) ShortageIn(x retry.Result, phase string) *Shortage {
	if x.Err == nil {
		return nil
	}
	var script *scripts.Error
	if errors.As(x.Err, &script) {
		switch {
		case script.ScriptFault():
			return nil
		case script.Cause == nil:
			return &Shortage{}
		}
		return &Shortage{telemetry.ResourceSandbox, script.Cause}
	}
	switch phase {
	case engine.PhaseEvent:
		if code := engine.ErrorCode(x.Err); code == engine.CodeNotFound || code == engine.CodeUnreadable {
			return nil // which is so the next time, too
		}
		return &Shortage{telemetry.ResourceStore, x.Err}
	case engine.PhaseTransform, engine.PhaseRefused:
		return nil
	}
	if resource := r.cfg.Guard.Shortage(x.Err); resource != "" {
		return &Shortage{string(resource), cause(x.Err)}
	}
	return nil
}

// cause is why a request was not sent, with the addresses that the target's owner is not
// shown.
func cause(err error) error {
	var failed *target.Error
	if errors.As(err, &failed) && failed.Unwrap() != nil {
		return failed.Unwrap()
	}
	return err
}

// RecordShortage counts and tells a shortage.
func (r *Tracker) RecordShortage(why *Shortage) {
	if why == nil || why.Resource == "" {
		return
	}
	r.metrics.Shortages.WithLabelValues(why.Resource).Inc()
	if why.Everywhere() { // they may be kept connections that nobody uses
		if t, ok := r.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
	if r.shortages.note(why, time.Now()) {
		r.log.Error("deliveries wait: the router lacks "+telemetry.ResourceTexts[why.Resource], "resource", why.Resource, "error", why.err)
	}
}

const (
	// shortageLogged is how often a shortage that goes on is logged.
	shortageLogged = time.Minute
	// shortageShown is how long one shows after it was met last: longer than deliveries wait
	// that met it.
	shortageShown = 2 * MaxShortWait
)

// shortages are what the router lacks, or lacked a moment ago. The times are of a clock
// that nobody sets.
type shortages struct {
	any atomic.Bool // there is one
	mu  sync.Mutex
	now map[string]*shortageSeen
}

type shortageSeen struct{ last, logged time.Time }

// recordStrike keeps a shortage, and reports whether it is to be logged.
func (s *shortages) note(why *Shortage, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.now[why.Resource]
	if seen == nil {
		if s.now == nil {
			s.now = map[string]*shortageSeen{}
		}
		seen = &shortageSeen{}
		s.now[why.Resource] = seen
		s.any.Store(true)
	}
	seen.last = now
	if !seen.logged.IsZero() && now.Sub(seen.logged) < shortageLogged {
		return false
	}
	seen.logged = now
	return true
}

// current lists what is lacking. over are those that have not been met for so long that
// they are not lacking any more.
func (s *shortages) current(now time.Time) (lacking, over []string) {
	if !s.any.Load() {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for resource, seen := range s.now {
		if now.Sub(seen.last) < shortageShown {
			lacking = append(lacking, resource)
			continue
		}
		over = append(over, resource)
		delete(s.now, resource)
	}
	s.any.Store(len(s.now) > 0)
	slices.Sort(lacking)
	return lacking, over
}

// CurrentShortages logs those that are over.
func (r *Tracker) CurrentShortages() []string {
	lacking, over := r.shortages.current(time.Now())
	for _, resource := range over {
		r.log.Info("deliveries go on: what the router lacked is there again", "resource", resource)
	}
	return lacking
}

// Lacking says, a sentence each, for want of what deliveries wait; nil for want of nothing.
// Events are accepted all the same.
func (r *Tracker) Lacking() (reasons []string) {
	for _, resource := range r.CurrentShortages() {
		reasons = append(reasons, "deliveries wait: the router lacks "+telemetry.ResourceTexts[resource])
	}
	return reasons
}

// shortageError is what somebody is told who waits for an attempt.
func (why *Shortage) Error() string {
	if why.Resource == "" {
		return "the sandbox has no time for the transform; try again in a moment"
	}
	text, _, _ := strings.Cut(telemetry.ResourceTexts[why.Resource], ":")
	return fmt.Sprintf("nothing was sent: the router lacks %s; try again later", text)
}

const (
	// Deliveries wait first firstHalt for what all of them lack, and twice as long each time
	// in which none went out, up to lastHalt.
	FirstHalt = 50 * time.Millisecond
	// LastHalt is the longest pause of all deliveries in a shortage.
	LastHalt = 5 * time.Second
	// Likewise for what those of one subscription lack.
	FirstShortWait = 500 * time.Millisecond
	// MaxShortWait is the longest pause of one subscription in a shortage.
	MaxShortWait = 30 * time.Second
)
