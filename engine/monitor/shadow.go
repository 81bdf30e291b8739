package monitor

import (
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/scripts/filter"
	"switchhook/scripts/scripteval"
)

// Shadow is a candidate version that runs beside the live one on live traffic. Its results are
// compared and never sent.
type Shadow struct {
	Version int
	Until   time.Time
	Skipped int64 // outcomes that were not compared because of load
	scripteval.ChangeCounts
}

const (
	maxShadowTime = 7 * 24 * time.Hour

	// Runs at the same time, of all accounts and of one: live traffic goes first.
	maxConcurrentShadows, maxAccountShadows = 16, 2
)

// shadows holds the running candidates. The zero value is empty.
type shadows struct {
	mu     sync.RWMutex
	byID   map[engine.ID]*shadow
	places *fairlimit.Limiter
}

type shadow struct {
	candidate scripteval.Scripts

	mu    sync.Mutex
	state Shadow
}

// stop ends a shadow run and reports whether there was one.
func (x *shadows) stop(id engine.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.byID[id] != nil
	delete(x.byID, id)
	return was
}

func (x *shadows) of(id engine.ID) *shadow {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[id]
}

// running returns the shadow of a live version, if there is one.
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

// compareFilter compares the candidate of a filter with the live result.
func (s *shadow) compareFilter(in *filter.Input, matched bool, liveErr error) {
	live, err := scripteval.Filtered(matched, liveErr)
	if err != nil {
		return
	}
	if candidate, err := scripteval.Filtered(s.candidate.Filter.Match(in)); err == nil {
		s.count(scripteval.Compare(live, candidate))
	}
}

func (s *shadow) skip() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Skipped++
}

func (s *shadow) count(c scripteval.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Add(c)
}
