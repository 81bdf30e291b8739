package ingest

import (
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// match returns the routes whose subscriptions want ev. Each distinct filter runs once, and
// once for each script that it is a version of. The error is a CodeBusy: the filters were
// not through by the deadline.
func (p *Publisher) match(candidates []*catalog.CompiledSubscription, ev *scripts.Event, deadline time.Time) ([]*catalog.CompiledSubscription, error) {
	if !slices.ContainsFunc(candidates, func(r *catalog.CompiledSubscription) bool { return r.FilterSource != "" }) {
		return candidates, nil
	}
	in := filter.NewInput(ev)
	defer in.Release()
	type result struct {
		ok  bool
		err error
	}
	type use struct { // a script's runs are counted and shadowed as its own, whoever has the same text
		filter *filter.Filter
		ref    engine.ScriptRef
	}
	known := make(map[use]result, len(candidates))
	matched := make([]*catalog.CompiledSubscription, 0, len(candidates))
	for _, r := range candidates {
		if r.FilterSource == "" {
			matched = append(matched, r)
			continue
		}
		f, err := p.catalog.CompiledFilter(r)
		res, seen := known[use{f, r.FilterRef}]
		if !seen {
			// A stop waits for no user's filters; what the router itself has to tell is
			// published last, and is lost if it is not.
			if time.Now().After(deadline) || p.life.IsStopping() && !engine.Operational(ev.Type) {
				return nil, catalog.ErrFiltersTooSlow
			}
			if res.err = err; err == nil {
				res.ok, res.err = p.runFilter(r, f, in)
			}
			if f != nil {
				known[use{f, r.FilterRef}] = res
			}
		}
		if res.err != nil {
			p.catalog.RecordFilterError(r, res.err)
			p.outbox.CountFilterFailure(r, engine.Operational(ev.Type))
			continue
		}
		r.Filtering.Succeed()
		if res.ok {
			matched = append(matched, r)
		} else {
			p.metrics.Filtered.Inc()
		}
	}
	return matched, nil
}

// runFilter evaluates a filter. Those of named scripts are counted, and run beside their
// shadow if there is one.
func (p *Publisher) runFilter(r *catalog.CompiledSubscription, f *filter.Filter, in *filter.Input) (bool, error) {
	if r.FilterRef.Script == 0 {
		return f.Match(in)
	}
	began := time.Now()
	ok, err := f.Match(in)
	p.monitor.RecordFilterRun(r.FilterRef, time.Since(began), in, ok, err)
	return ok, err
}
