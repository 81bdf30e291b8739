// Package monitor records the runs of scripts: statistics, and shadow versions that run beside the
// live one.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
	"switchhook/engine/settings"
	"switchhook/engine/telemetry"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/scripteval"

	"github.com/prometheus/client_golang/prometheus"
)

// Monitor records the runs of scripts: statistics, strikes, and the comparison of a candidate
// version that runs beside the live one (shadow).
type Monitor struct {
	cfg     settings.Config
	log     *slog.Logger
	life    *lifecycle.Lifecycle
	catalog *catalog.Catalog

	scripts scriptCounts
	shadows shadows
}

// New returns a Monitor.
func New(cfg settings.Config, catalog *catalog.Catalog, life *lifecycle.Lifecycle) *Monitor {
	places := fairlimit.New(fairlimit.Limits{Units: maxConcurrentShadows, PerAccount: maxAccountShadows})
	cfg.Registerer.MustRegister(telemetry.NewPlacesCollector("shadow_runs", places))
	return &Monitor{
		cfg: cfg, log: cfg.Logger, life: life, catalog: catalog,
		shadows: shadows{byID: map[engine.ID]*shadow{}, places: places},
	}
}

// Forget drops the statistics of a deleted script.
func (m *Monitor) Forget(script engine.ID) {
	m.shadows.stop(script)
	m.scripts.forget(script)
}

// ScriptStats returns the statistics of a script's runs since the router started.
func (m *Monitor) ScriptStats(id engine.ID) ScriptStats { return m.scripts.of(id) }

// RecordRun counts a transform's run, and quarantines the transform after too many strikes.
func (m *Monitor) RecordRun(r *catalog.CompiledSubscription, ev *engine.Event, a *engine.Attempt, dropped string, err error) {
	var se *scripts.Error
	if errors.As(err, &se) && !se.ScriptFault() {
		return // it did not run
	}
	m.scripts.add(r.Transform.Ref.Script, a.Script.CPU, dropped != "", err)
	if err == nil && !r.Transform.Worked.Load() {
		r.Transform.Worked.Store(true)
	}
	m.catalog.RecordRun(r, a.Script.Hash, ev, err)
}

// RecordFilterRun counts a run of a filter, and compares it with its shadow if there is one.
func (m *Monitor) RecordFilterRun(ref engine.ScriptRef, took time.Duration, in *filter.Input, ok bool, err error) {
	m.scripts.add(ref.Script, took, !ok && err == nil, err)
	if sh := m.shadows.running(ref, m.cfg.Now()); sh != nil {
		sh.compareFilter(in, ok, err)
	}
}

// StartShadow runs a version of a script beside the live one for a time, with new counts. Errors:
// CodeInvalid, CodeNotFound, CodeConflict if no version is live.
func (m *Monitor) StartShadow(ctx context.Context, account, idOrName string, version int, last time.Duration) (Shadow, error) {
	s, err := m.catalog.Script(account, idOrName)
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
	v, err := m.catalog.Version(ctx, engine.ScriptRef{Script: s.ID, Version: version})
	if err != nil {
		return Shadow{}, err
	}
	candidate, err := m.catalog.CompileScript(ctx, s, v.Source)
	if err != nil {
		return Shadow{}, err
	}
	sh := &shadow{candidate: candidate, state: Shadow{Version: version, Until: m.life.Now().Add(last)}}
	m.shadows.mu.Lock()
	defer m.shadows.mu.Unlock()
	m.shadows.byID[s.ID] = sh
	return sh.state, nil
}

// StopShadow ends a script's shadow run and drops its counts.
func (m *Monitor) StopShadow(account, idOrName string) error {
	s, err := m.catalog.Script(account, idOrName)
	if err != nil {
		return err
	}
	if !m.shadows.stop(s.ID) {
		return engine.NotFound("shadow run of script", s.Name)
	}
	return nil
}

// Shadow returns the counts of a script's shadow run, even after its end. Error: CodeNotFound.
func (m *Monitor) Shadow(account, idOrName string) (Shadow, error) {
	s, err := m.catalog.Script(account, idOrName)
	if err != nil {
		return Shadow{}, err
	}
	sh := m.shadows.of(s.ID)
	if sh == nil {
		return Shadow{}, engine.NotFound("shadow run of script", s.Name)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.state, nil
}

// CompareTransform compares the candidate of a transform with the live version's result, in the
// background; it does nothing if too many such runs are running.
func (m *Monitor) CompareTransform(r *catalog.CompiledSubscription, ev *engine.Event, res scripts.Result, liveErr error) {
	sh := m.shadows.running(r.Transform.Ref, m.cfg.Now())
	if sh == nil {
		return
	}
	live, err := scripteval.Transformed(res, liveErr)
	if err != nil {
		return
	}
	release, err := m.shadows.places.Acquire(context.Background(), r.Sub.Account, "", 1)
	if err != nil {
		sh.skip()
		return
	}
	begun := m.life.Spawn(func() {
		defer release()
		candidate := sh.candidate
		candidate.Request = catalog.RequestOf(r)
		ctx, cancel := context.WithTimeout(context.Background(), m.cfg.Timeout)
		defer cancel()
		made, err := scripteval.Evaluate(ctx, &candidate, catalog.ScriptEvent(ev, jsonindex.Value{}), false)
		if err != nil {
			m.log.Debug("shadow run failed", "event_id", ev.ID.Format(engine.EventPrefix), "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "account", ev.Account, "phase", telemetry.ScriptProblem(err))
			return
		}
		sh.count(scripteval.Compare(live, made))
	})
	if !begun {
		release()
	}
}

// Collector returns the metrics of scripts.
func (m *Monitor) Collector() prometheus.Collector { return &m.scripts }
