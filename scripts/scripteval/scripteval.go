// Package scripteval answers what a filter and a transform do with an event. Previews, samples,
// comparisons, shadow versions, test cases and the command line all use Evaluate, so that their
// answers agree.
package scripteval

import (
	"context"
	"errors"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// Transformer compiles and runs transforms, as *sandbox.Pool does. Errors of the script are
// *scripts.Error.
type Transformer interface {
	// Compile checks and compiles a source.
	Compile(ctx context.Context, source string) (*scripts.Program, error)
	// Run returns the result of a program for an event; req is the request before the transform.
	Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error)
}

// Scripts holds a compiled filter and transform, either of which may be missing.
type Scripts struct {
	Filter      *filter.Filter // nil: every event matches
	Transform   *scripts.Program
	Transformer Transformer     // runs Transform
	Request     scripts.Request // as the transform sees it at first

	FilterError    *scripts.Error // why the filter does not compile; then Filter is nil
	TransformError *scripts.Error // why the transform does not compile; then Transform is nil
}

// FilterCompiler compiles filters: filter.Compile, or a cache of it.
type FilterCompiler func(source string, schemas ...[]byte) (*filter.Filter, error)

// Compile compiles a filter and a transform; an empty source is none. Errors of the scripts are in
// the result.
func Compile(
	ctx context.Context, t Transformer, compileFilter FilterCompiler,
	filterSource, transformSource string, schemas ...[]byte,
) (s Scripts, err error) {
	s.Transformer = t
	if filterSource != "" {
		s.Filter, err = compileFilter(filterSource, schemas...)
		if s.FilterError, err = Fault(err); err != nil {
			return s, err
		}
	}
	if transformSource != "" {
		s.Transform, err = t.Compile(ctx, transformSource)
		s.TransformError, err = Fault(err)
	}
	return s, err
}

// Error returns the error of the script that does not compile, and which it is; nil if both do.
func (s *Scripts) Error() (_ *scripts.Error, source string) {
	return first(s.FilterError, s.TransformError)
}

// Fault returns err as the script's own fault, or as another error: a busy sandbox, for example.
func Fault(err error) (*scripts.Error, error) {
	if e, ok := errors.AsType[*scripts.Error](err); ok && e.ScriptFault() {
		return e, nil
	}
	return nil, err
}

// Outcome is the result of a filter and a transform for an event.
type Outcome struct {
	Matched        bool                 // the event passes the filter, or there is none that compiles
	Explanation    *scripts.Explanation // of the filter, if it was requested
	FilterError    *scripts.Error       // of compiling or running the filter
	TransformError *scripts.Error       // of compiling or running the transform

	Ran       bool           // the transform ran to its end
	Result    scripts.Result // of the transform; of a failed run only CPU and Console
	FilterCPU time.Duration
}

// Judged reports whether the filter, if there is one, compiles, so that Matched is its result.
func (o *Outcome) Judged() bool {
	return o.FilterError == nil || o.FilterError.Phase == scripts.PhaseRun
}

// Diagnostics lists what is wrong with the scripts: errors of both, and warnings of the transform,
// whose source this is.
func (o *Outcome) Diagnostics(transform string) []scripts.Diagnostic {
	list := append(o.FilterError.Diagnostics("filter"), o.TransformError.Diagnostics("transform")...)
	return append(list, scripts.Warnings(transform)...)
}

// Error returns the error of the filter or else of the transform, and which of them failed; nil if
// neither did.
func (o *Outcome) Error() (_ *scripts.Error, source string) {
	return first(o.FilterError, o.TransformError)
}

func first(filter, transform *scripts.Error) (_ *scripts.Error, source string) {
	if filter != nil {
		return filter, "filter"
	}
	if transform != nil {
		return transform, "transform"
	}
	return nil, ""
}

// Sent reports whether a request would be sent.
func (o *Outcome) Sent() bool {
	return o.Matched && o.FilterError == nil && o.TransformError == nil && !o.Result.Dropped
}

// CPU returns the CPU time of the scripts.
func (o *Outcome) CPU() time.Duration { return o.FilterCPU + o.Result.CPU }

// Evaluate runs the filter and, if it matches, the transform. A script that does not compile does
// not prevent the other one from running. explain records the value of each part of the filter. The
// error is not the scripts'.
func Evaluate(ctx context.Context, s *Scripts, ev *scripts.Event, explain bool) (*Outcome, error) {
	o := &Outcome{Matched: true, FilterError: s.FilterError, TransformError: s.TransformError}
	if s.Filter != nil {
		in := filter.NewInput(ev)
		defer in.Release()
		began := time.Now()
		if explain {
			ex := s.Filter.Explain(in)
			o.Explanation, o.Matched, o.FilterError = &ex, ex.Matched, ex.Error
		} else if err := o.setMatch(s.Filter.Match(in)); err != nil {
			return o, err
		}
		o.FilterCPU = time.Since(began)
	}
	if s.Transform == nil || !o.Matched {
		return o, nil
	}
	return o, o.setResult(s.Transformer.Run(ctx, s.Transform, ev, s.Request))
}

// Filtered returns the outcome of a filter that was run elsewhere. The error is not the script's.
func Filtered(matched bool, err error) (*Outcome, error) {
	o := &Outcome{}
	return o, o.setMatch(matched, err)
}

// Transformed returns the outcome of a transform that was run elsewhere. The error is not the
// script's.
func Transformed(res scripts.Result, err error) (*Outcome, error) {
	o := &Outcome{Matched: true}
	return o, o.setResult(res, err)
}

func (o *Outcome) setMatch(matched bool, err error) error {
	o.Matched = matched
	o.FilterError, err = Fault(err)
	return err
}

func (o *Outcome) setResult(res scripts.Result, err error) error {
	if o.TransformError, err = Fault(err); err != nil {
		return err
	}
	if failed := o.TransformError; failed != nil {
		o.Result = scripts.Result{CPU: failed.CPU, Console: failed.Console}
		return nil
	}
	o.Ran, o.Result = true, res
	return nil
}
