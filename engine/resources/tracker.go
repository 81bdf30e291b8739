// Package resources tracks the resources that the router itself lacks: files, memory, ports, name
// servers, sandbox processes.
//
// A shortage is not a failure of a target: no attempt was made. The delivery returns to its queue
// unchanged and waits: together with all others if nothing could be sent at all, otherwise with
// those of its subscription. The shortage is logged, counted, and a reason in /readyz.
package resources

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/retry"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
	"switchhook/scripts"
)

// Tracker tracks the resources that the router itself lacks.
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

// Shortage is the reason why an attempt was not made. The zero Shortage is a sandbox that was only
// busy.
type Shortage struct {
	Resource string
	err      error
}

// Everywhere reports whether no delivery can be attempted. Ports run out for one address only, and
// name servers are needed only for hosts without an idle connection: other targets can be reached.
func (s *Shortage) Everywhere() bool {
	switch target.Shortage(s.Resource) {
	case target.ShortageFiles, target.ShortageMemory, target.ShortageProxy:
		return true
	}
	return false
}

// ShortageIn returns what the router lacked for an attempt, or nil if it was made.
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
			return nil // a retry would not help
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

// cause returns why a request was not sent, including addresses that the owner of the target must
// not see.
func cause(err error) error {
	var failed *target.Error
	if errors.As(err, &failed) && failed.Unwrap() != nil {
		return failed.Unwrap()
	}
	return err
}

// RecordShortage counts and logs a shortage.
func (r *Tracker) RecordShortage(why *Shortage) {
	if why == nil || why.Resource == "" {
		return
	}
	r.metrics.Shortages.WithLabelValues(why.Resource).Inc()
	if why.Everywhere() { // idle connections may hold the resource
		if t, ok := r.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
	if r.shortages.record(why, time.Now()) {
		r.log.Error("deliveries wait: the router lacks "+telemetry.ResourceTexts[why.Resource], "resource", why.Resource, "error", why.err)
	}
}

const (
	// shortageLogged is the interval at which a lasting shortage is logged.
	shortageLogged = time.Minute
	// shortageShown is how long a shortage is reported after it was last met: longer than the
	// deliveries that met it wait.
	shortageShown = 2 * MaxShortWait
)

// shortages are the current and recent shortages. Times are monotonic.
type shortages struct {
	any atomic.Bool // now is not empty
	mu  sync.Mutex
	now map[string]*shortageSeen
}

type shortageSeen struct{ last, logged time.Time }

// record records a shortage, and reports whether it must be logged.
func (s *shortages) record(why *Shortage, now time.Time) bool {
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

// current returns the resources that are lacking, and removes and returns those whose shortage is
// over: it has not been met for shortageShown.
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

// CurrentShortages returns the resources that are lacking, and logs the shortages that are over.
func (r *Tracker) CurrentShortages() []string {
	lacking, over := r.shortages.current(time.Now())
	for _, resource := range over {
		r.log.Info("deliveries continue: the shortage is over", "resource", resource)
	}
	return lacking
}

// Lacking returns a sentence for each resource that deliveries wait for. Events are still accepted.
func (r *Tracker) Lacking() (reasons []string) {
	for _, resource := range r.CurrentShortages() {
		reasons = append(reasons, "deliveries wait: the router lacks "+telemetry.ResourceTexts[resource])
	}
	return reasons
}

// Error returns the text for a user who waits for an attempt.
func (s *Shortage) Error() string {
	if s.Resource == "" {
		return "the sandbox has no time for the transform; try again in a moment"
	}
	text, _, _ := strings.Cut(telemetry.ResourceTexts[s.Resource], ":")
	return fmt.Sprintf("nothing was sent: the router lacks %s; try again later", text)
}

const (
	// FirstHalt is the first pause of all deliveries in a shortage that affects them all. It
	// doubles each time without an attempt, up to LastHalt.
	FirstHalt = 50 * time.Millisecond
	// LastHalt is the longest pause of all deliveries in a shortage.
	LastHalt = 5 * time.Second
	// FirstShortWait is the first pause of one subscription in a shortage. It doubles each time,
	// up to MaxShortWait.
	FirstShortWait = 500 * time.Millisecond
	// MaxShortWait is the longest pause of one subscription in a shortage.
	MaxShortWait = 30 * time.Second
)
