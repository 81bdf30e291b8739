// Package scripttest runs test cases for filters and transforms: it compares the outcome for
// an event with the author's expectations. The command line runs cases from files beside the
// scripts, and the engine runs the cases of a script before a version of it goes live; both
// use Run.
//
// The package knows scripts and files of cases, but no subscriptions, storage or HTTP, and it
// sends nothing.
package scripttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/scripteval"
)

// Suite is a filter and a transform, either of which may be missing, and their cases.
type Suite struct {
	Filter    string // expr source; empty matches every event
	Transform string // JavaScript or TypeScript source; empty makes no request
	Schemas   [][]byte
	Cases     []Case
	KeepBody  int // maximum bytes of each Got.Body in the report; 0: no limit
}

// targetPath is the path of the request that a transform gets; the request has no query and
// no headers, and the method is POST.
const targetPath = "/hook"

// outcome is the outcome for an event, with the body as it is sent.
type outcome struct {
	scripts.TestOutcome
	text string
}

// Run compiles a suite's scripts and runs its cases one after the other. When ctx ends, the
// remaining cases fail.
func Run(ctx context.Context, t scripteval.Transformer, s Suite) (r scripts.TestReport) {
	began := time.Now()
	defer func() { r.DurationMS = milliseconds(time.Since(began)) }()
	r.Cases = make([]scripts.TestCaseReport, 0, len(s.Cases))
	compiled, err := scripteval.Compile(ctx, t, filter.Compile, s.Filter, s.Transform, s.Schemas...)
	if r.Broken = brokenScript(&compiled, err); r.Broken != nil {
		return r
	}
	compiled.Request = scripts.Request{Method: http.MethodPost, Path: targetPath, Query: map[string][]string{}, Headers: map[string]string{}}
	for i := range s.Cases {
		c := runCase(ctx, compiled, &s.Cases[i])
		if s.KeepBody > 0 && len(c.Got.Body) > s.KeepBody {
			c.Got.Body = json.RawMessage(strconv.Quote(fmt.Sprintf("%d bytes", len(c.Got.Body))))
		}
		if c.Passed {
			r.Passed++
		} else {
			r.Failed++
		}
		r.Cases = append(r.Cases, c)
	}
	return r
}

// brokenScript returns the script that does not compile; nil if both do.
func brokenScript(s *scripteval.Scripts, err error) *scripts.BrokenScript {
	failed, source := s.Error()
	switch {
	case failed != nil:
		return &scripts.BrokenScript{Script: source, Error: failed}
	case err != nil:
		return &scripts.BrokenScript{Script: "transform", Error: notRun(err)}
	}
	return nil
}

// notRun returns an error that is not the script's as a *scripts.Error.
func notRun(err error) *scripts.Error {
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		return e
	}
	return &scripts.Error{Phase: scripts.PhaseBusy, Message: err.Error()}
}

// runCase runs the scripts on the event of a case, as far as its expectations need.
func runCase(ctx context.Context, s scripteval.Scripts, c *Case) scripts.TestCaseReport {
	r := scripts.TestCaseReport{Name: c.Name}
	began := time.Now()
	if c.Expect.Matches != nil && !c.Expect.beyondFilter() {
		s.Transform = nil
	}
	o, err := scripteval.Evaluate(ctx, &s, c.Event.Event(), false)
	r.DurationMS = milliseconds(time.Since(began))
	got := gotOf(o)
	if err != nil {
		got.Error, got.ErrorIn, got.Ran = notRun(err), "transform", true
	}
	r.Got, r.Failures = got.TestOutcome, checkExpectations(&c.Expect, &got, s.Transform != nil)
	r.Passed = len(r.Failures) == 0
	return r
}

// gotOf returns the outcome of a case.
func gotOf(o *scripteval.Outcome) (got outcome) {
	got.Matched, got.Ran, got.Console = o.Matched, o.Ran || o.TransformError != nil, o.Result.Console
	if got.Error, got.ErrorIn = o.Error(); o.Ran {
		got.setResult(&o.Result)
	}
	return got
}

// setResult stores a transform's result in g.
func (g *outcome) setResult(res *scripts.Result) {
	g.TransformMS = milliseconds(res.CPU)
	if g.Dropped, g.DropReason = res.Dropped, res.DropReason; g.Dropped {
		return
	}
	g.Method, g.Path, g.Headers = http.MethodPost, targetPath, map[string]string{}
	if req := res.Request; req != nil {
		g.Method, g.Path = req.Method, req.Path
		maps.Copy(g.Headers, req.Headers)
		for name, values := range req.Query {
			if g.Query == nil {
				g.Query = map[string][]string{}
			}
			g.Query[name] = values
		}
	}
	if g.Headers["Content-Type"] == "" {
		g.Headers["Content-Type"] = res.ContentType
	}
	g.text = string(res.Body)
	if g.Body = res.Body; !json.Valid(g.Body) {
		g.Body, _ = marshal(g.text) // a string can always be encoded
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
