package router

import (
	"context"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// Shadow is a candidate version that runs beside the live one on live traffic. What it
// makes is compared and never sent.
type Shadow struct {
	Version int
	Until   time.Time
	Skipped int64 // outcomes that were not compared, because too much was going on
	ChangeCounts
}

const (
	maxShadowTime        = 7 * 24 * time.Hour
	maxConcurrentShadows = 2 // runs at one time: live traffic goes first
)

// shadows holds the candidates that run. The zero value holds none.
type shadows struct {
	mu    sync.RWMutex
	byID  map[engine.ID]*shadow
	slots chan struct{}
}

type shadow struct {
	candidate *scriptRunner

	mu    sync.Mutex
	state Shadow
}

// StartShadow lets a version of a script run beside the live one for a time, and begins
// to count anew. Errors: CodeInvalid, CodeNotFound, CodeConflict where nothing is live.
func (e *Engine) StartShadow(ctx context.Context, account, idOrName string, version int, last time.Duration) (Shadow, error) {
	s, err := e.Script(account, idOrName)
	if err != nil {
		return Shadow{}, err
	}
	switch {
	case version < 1:
		return Shadow{}, engine.Invalid("version", "must be the number of a version, 1 or above")
	case s.Live == 0:
		return Shadow{}, &engine.Error{Code: engine.CodeConflict, Message: "no version of this script is live, so there is nothing to compare with"}
	case version == s.Live:
		return Shadow{}, engine.Invalid("version", "%d is the live one; name another", version)
	case last <= 0 || last > maxShadowTime:
		return Shadow{}, engine.Invalid("duration", "must be 1s to %s", maxShadowTime)
	}
	v, err := e.version(ctx, engine.ScriptRef{Script: s.ID, Version: version})
	if err != nil {
		return Shadow{}, err
	}
	candidate, err := e.newRunner(ctx, s.Kind, v.Source, scripts.Request{})
	if err != nil {
		return Shadow{}, err
	}
	sh := &shadow{candidate: candidate, state: Shadow{Version: version, Until: e.now().Add(last)}}
	e.shadows.mu.Lock()
	defer e.shadows.mu.Unlock()
	e.shadows.byID[s.ID] = sh
	return sh.state, nil
}

// StopShadow ends a script's shadow run and forgets its counts.
func (e *Engine) StopShadow(account, idOrName string) error {
	s, err := e.Script(account, idOrName)
	if err != nil {
		return err
	}
	if !e.shadows.stop(s.ID) {
		return engine.NotFound("shadow run of script", s.Name)
	}
	return nil
}

// Close ends a shadow run; it tells whether there was one.
func (x *shadows) stop(id engine.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.byID[id] != nil
	delete(x.byID, id)
	return was
}

// Shadow gives the counts of a script's shadow run, also after its time. Error:
// CodeNotFound.
func (e *Engine) Shadow(account, idOrName string) (Shadow, error) {
	s, err := e.Script(account, idOrName)
	if err != nil {
		return Shadow{}, err
	}
	sh := e.shadows.of(s.ID)
	if sh == nil {
		return Shadow{}, engine.NotFound("shadow run of script", s.Name)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.state, nil
}

func (x *shadows) of(id engine.ID) *shadow {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[id]
}

// running gives the shadow of a live version, if one is on for it.
func (x *shadows) running(ref engine.ScriptRef, now time.Time) *shadow {
	if ref.Script == 0 {
		return nil
	}
	sh := x.of(ref.Script)
	if sh == nil || now.After(sh.state.Until) || ref.Version == sh.state.Version {
		return nil
	}
	return sh
}

// compareFilter compares the candidate of a filter with the live verdict.
func (s *shadow) compareFilter(in *filter.Input, matched bool, liveErr error) {
	live, err := filterOutcome(matched, liveErr)
	if err != nil {
		return
	}
	if candidate, err := filterOutcome(s.candidate.filter.Match(in)); err == nil {
		s.count(compare(live, candidate))
	}
}

func (s *shadow) count(c Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.add(c)
}

// compareTransform compares the candidate of a transform with what the live version made,
// in the background, or not at all when too many such runs are on.
func (e *Engine) compareTransform(r *compiledSubscription, ev *engine.Event, res scripts.Result, liveErr error) {
	sh := e.shadows.running(r.transformRef, e.cfg.Now())
	if sh == nil || r.dryRun {
		return
	}
	live, err := transformOutcome(res, liveErr)
	if err != nil {
		return
	}
	select {
	case e.shadows.slots <- struct{}{}:
	default:
		sh.mu.Lock()
		sh.state.Skipped++
		sh.mu.Unlock()
		return
	}
	begun := e.tasks.Go(func() {
		defer func() { <-e.shadows.slots }()
		candidate := *sh.candidate
		candidate.request = r.request()
		ctx, cancel := context.WithTimeout(context.Background(), e.cfg.Timeout)
		defer cancel()
		made, err := candidate.outcome(ctx, ev)
		if err != nil {
			e.log.Debug("shadow run failed", "event_id", ev.ID.Format(engine.EventPrefix), "subscription_id", r.sub.ID.Format(engine.SubscriptionPrefix), "account", ev.Account, "phase", scriptProblem(err))
			return
		}
		sh.count(compare(live, made))
	})
	if !begun {
		<-e.shadows.slots
	}
}
