package router

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"switchhook/engine"
	"switchhook/engine/retry"
	"switchhook/engine/target"
	"switchhook/scripts"
	"sync"
	"sync/atomic"
	"time"
)

// What the router itself lacks is no failure of a target: no attempt was made. The delivery
// goes back to its queue as it was, and waits: with all others where nothing could be sent
// at all, otherwise with those of its subscription. It is logged, counted, and a reason in
// /readyz.

// shortage is what an attempt could not be made for. The zero shortage is a sandbox that
// was only busy.
type shortage struct {
	resource string
	err      error
}

// everywhere reports whether no delivery can be attempted. Ports are missing for one
// address, names for hosts that have none kept open: the targets of others can be reached.
func (s *shortage) everywhere() bool {
	switch target.Shortage(s.resource) {
	case target.ShortageFiles, target.ShortageMemory, target.ShortageProxy:
		return true
	}
	return false
}

// shortageIn tells what the router lacked for an attempt; nil where it was made.
func (r *ResourceMonitor) shortageIn(x retry.Result, phase string) *shortage {
	if x.Err == nil {
		return nil
	}
	var script *scripts.Error
	if errors.As(x.Err, &script) {
		switch {
		case script.ScriptFault():
			return nil
		case script.Cause == nil:
			return &shortage{}
		}
		return &shortage{resourceSandbox, script.Cause}
	}
	switch phase {
	case phaseEvent:
		if code := engine.ErrorCode(x.Err); code == engine.CodeNotFound || code == engine.CodeUnreadable {
			return nil // which is so the next time, too
		}
		return &shortage{resourceStore, x.Err}
	case phaseTransform, phaseRefused:
		return nil
	}
	if resource := r.cfg.Guard.Shortage(x.Err); resource != "" {
		return &shortage{string(resource), cause(x.Err)}
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

// noteShortage counts and tells a shortage.
func (r *ResourceMonitor) noteShortage(why *shortage) {
	if why == nil || why.resource == "" {
		return
	}
	r.metrics.shortages.WithLabelValues(why.resource).Inc()
	if why.everywhere() { // they may be kept connections that nobody uses
		if t, ok := r.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
	if r.shortages.note(why, time.Now()) {
		r.log.Error("deliveries wait: the router lacks "+resourceTexts[why.resource], "resource", why.resource, "error", why.err)
	}
}

const (
	// shortageLogged is how often a shortage that goes on is logged.
	shortageLogged = time.Minute
	// shortageShown is how long one shows after it was met last: longer than deliveries wait
	// that met it.
	shortageShown = 2 * maxShortWait
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
func (s *shortages) note(why *shortage, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.now[why.resource]
	if seen == nil {
		if s.now == nil {
			s.now = map[string]*shortageSeen{}
		}
		seen = &shortageSeen{}
		s.now[why.resource] = seen
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

// lookAtShortages logs those that are over.
func (r *ResourceMonitor) lookAtShortages() []string {
	lacking, over := r.shortages.current(time.Now())
	for _, resource := range over {
		r.log.Info("deliveries go on: what the router lacked is there again", "resource", resource)
	}
	return lacking
}

// Lacking says, a sentence each, for want of what deliveries wait; nil for want of nothing.
// Events are accepted all the same.
func (r *ResourceMonitor) Lacking() (reasons []string) {
	for _, resource := range r.lookAtShortages() {
		reasons = append(reasons, "deliveries wait: the router lacks "+resourceTexts[resource])
	}
	return reasons
}

// shortageError is what somebody is told who waits for an attempt.
func (why *shortage) Error() string {
	if why.resource == "" {
		return "the sandbox has no time for the transform; try again in a moment"
	}
	text, _, _ := strings.Cut(resourceTexts[why.resource], ":")
	return fmt.Sprintf("nothing was sent: the router lacks %s; try again later", text)
}

const (
	// Deliveries wait first firstHalt for what all of them lack, and twice as long each time
	// in which none went out, up to lastHalt.
	firstHalt = 50 * time.Millisecond
	lastHalt  = 5 * time.Second
	// Likewise for what those of one subscription lack.
	firstShortWait = 500 * time.Millisecond
	maxShortWait   = 30 * time.Second
)

// ResourceMonitor knows what the router itself lacks (files, ports, name servers, sandbox
// processes): then deliveries wait, and no target is to blame.
type ResourceMonitor struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics

	shortages shortages
}

func newResourceMonitor(cfg Config, metrics *Metrics) *ResourceMonitor {
	return &ResourceMonitor{cfg: cfg, log: cfg.Logger, metrics: metrics}
}
