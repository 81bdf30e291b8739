package ingest

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/lifecycle"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// match returns the subscriptions that match ev. Each distinct filter runs once, and once for each
// script that has it as a version. The error is a CodeBusy, that of spent.
func (p *Publisher) match(
	candidates []*catalog.CompiledSubscription, ev *scripts.Event, spent *catalog.MatchTime,
) ([]*catalog.CompiledSubscription, error) {
	if !slices.ContainsFunc(candidates, func(r *catalog.CompiledSubscription) bool { return r.Filter.Source != "" }) {
		return candidates, nil
	}
	in := filter.NewInput(ev)
	defer in.Release()
	type result struct {
		ok  bool
		err error
	}
	type use struct { // each script's runs are counted and shadowed separately, even if sources are equal
		filter *filter.Filter
		ref    engine.ScriptRef
	}
	known := make(map[use]result, len(candidates))
	matched := make([]*catalog.CompiledSubscription, 0, len(candidates))
	for _, r := range candidates {
		if r.Filter.Source == "" {
			matched = append(matched, r)
			continue
		}
		f, err := p.catalog.CompiledFilter(r)
		res, seen := known[use{f, r.Filter.Ref}]
		if !seen {
			// A stop does not wait for users' filters; operational events are published last and
			// would be lost.
			if p.life.IsStopping() && !engine.Operational(ev.Type) {
				return nil, lifecycle.ErrStopping()
			}
			if err := spent.Check(); err != nil {
				return nil, err
			}
			if res.err = err; err == nil {
				res.ok, res.err = p.runFilter(r, f, in)
			}
			if f != nil {
				known[use{f, r.Filter.Ref}] = res
			}
		}
		if res.err != nil {
			p.catalog.RecordFilterError(r, res.err)
			p.outbox.CountFilterFailure(r, engine.Operational(ev.Type))
			continue
		}
		r.Filter.Streak.Succeed()
		if res.ok {
			matched = append(matched, r)
		} else {
			p.metrics.Filtered.Inc()
		}
	}
	return matched, nil
}

// runFilter evaluates a filter. For a named script it records the run and also runs its shadow, if
// there is one.
func (p *Publisher) runFilter(r *catalog.CompiledSubscription, f *filter.Filter, in *filter.Input) (bool, error) {
	if r.Filter.Ref.Script == 0 {
		return f.Match(in)
	}
	began := time.Now()
	ok, err := f.Match(in)
	p.monitor.RecordFilterRun(r.Filter.Ref, time.Since(began), in, ok, err)
	return ok, err
}
