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
)

// Runner compiles and runs transforms, as *sandbox.Pool does.
type Runner interface {
	// Compile checks and compiles a source.
	Compile(ctx context.Context, source string) (*scripts.Program, error)
	// Run returns the result of a program for an event; req is the request before the transform.
	Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error)
}

// Suite is a filter and a transform, either of which may be missing, and their cases.
type Suite struct {
	Filter    string // expr source; empty matches every event
	Transform string // JavaScript or TypeScript source; empty makes no request
	Schemas   [][]byte
	Cases     []Case
	KeepBody  int // maximum bytes of each Got.Body in the report; 0: no limit
}

// TargetPath is the path of the request that a transform gets; the request has no query and
// no headers, and the method is POST.
const TargetPath = "/hook"

// Report is the result of a suite.
type Report struct {
	Passed     int          `json:"passed"`
	Failed     int          `json:"failed"`
	DurationMS float64      `json:"duration_ms"`
	Broken     *Broken      `json:"broken,omitempty"` // a script does not compile, so no case was run
	Cases      []CaseReport `json:"cases"`
}

// OK reports whether the scripts compile and every case passed.
func (r *Report) OK() bool { return r.Broken == nil && r.Failed == 0 }

// Broken is a script that does not compile.
type Broken struct {
	Script string         `json:"script"` // "filter" or "transform"
	Error  *scripts.Error `json:"error"`
}

// CaseReport is the result of one case.
type CaseReport struct {
	Name       string    `json:"name"`
	Passed     bool      `json:"passed"`
	Failures   []Failure `json:"failures,omitempty"`
	Got        Got       `json:"got"`
	DurationMS float64   `json:"duration_ms"` // including the sandbox's overhead
}

// Failure is one expectation that was not met.
type Failure struct {
	Expected string `json:"expected"` // which one: "body", "headers"; empty for the case as a whole
	Message  string `json:"message"`
	Diff     string `json:"diff,omitempty"` // lines: "- " expected, "+ " actual, "  " both
}

// Got is the outcome for an event.
type Got struct {
	Matched     bool              `json:"matched"`
	Error       *scripts.Error    `json:"error,omitempty"`
	ErrorIn     string            `json:"error_in,omitempty"` // "filter" or "transform"
	Ran         bool              `json:"transform_ran"`
	Dropped     bool              `json:"dropped,omitempty"`
	DropReason  string            `json:"drop_reason,omitempty"`
	Method      string            `json:"method,omitempty"`
	Path        string            `json:"path,omitempty"`
	Query       map[string]Values `json:"query,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"` // including Content-Type
	Body        json.RawMessage   `json:"body,omitempty"`    // a body that is not JSON is a string
	Console     []string          `json:"console,omitempty"`
	TransformMS float64           `json:"transform_ms,omitempty"` // CPU time

	text string // the body as it is sent
}

// Run compiles a suite's scripts and runs its cases one after the other. When ctx ends, the
// remaining cases fail.
func Run(ctx context.Context, runner Runner, s Suite) (r Report) {
	began := time.Now()
	defer func() { r.DurationMS = milliseconds(time.Since(began)) }()
	r.Cases = make([]CaseReport, 0, len(s.Cases))
	p, broken := compile(ctx, runner, &s)
	if broken != nil {
		r.Broken = broken
		return r
	}
	for i := range s.Cases {
		c := p.run(ctx, &s.Cases[i])
		if s.KeepBody > 0 && len(c.Got.Body) > s.KeepBody {
			c.Got.Body, c.Got.text = json.RawMessage(strconv.Quote(fmt.Sprintf("%d bytes", len(c.Got.Body)))), ""
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

// compiledScripts holds a suite's compiled scripts; each may be nil.
type compiledScripts struct {
	runner    Runner
	filter    *filter.Filter
	transform *scripts.Program
}

func compile(ctx context.Context, runner Runner, s *Suite) (p compiledScripts, _ *Broken) {
	p.runner = runner
	var err error
	if s.Filter != "" {
		if p.filter, err = filter.Compile(s.Filter, s.Schemas...); err != nil {
			return p, &Broken{"filter", scriptError(err)}
		}
	}
	if s.Transform != "" {
		if p.transform, err = runner.Compile(ctx, s.Transform); err != nil {
			return p, &Broken{"transform", scriptError(err)}
		}
	}
	return p, nil
}

// scriptError returns err as a *scripts.Error, wrapping one of another type.
func scriptError(err error) *scripts.Error {
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		return e
	}
	return &scripts.Error{Phase: scripts.PhaseBusy, Message: err.Error()}
}

func (p compiledScripts) run(ctx context.Context, c *Case) CaseReport {
	r := CaseReport{Name: c.Name}
	began := time.Now()
	r.Got = p.runCase(ctx, c)
	r.DurationMS = milliseconds(time.Since(began))
	r.Failures = p.checkExpectations(&c.Expect, &r.Got)
	r.Passed = len(r.Failures) == 0
	return r
}

// runCase runs the scripts of a case, as far as its expectations need. The transform runs only
// if the filter matches, as in the router.
func (p compiledScripts) runCase(ctx context.Context, c *Case) (got Got) {
	ev := c.Event.Event()
	fail := func(where string, err error) Got {
		got.Error, got.ErrorIn = scriptError(err), where
		got.Console = got.Error.Console
		return got
	}
	got.Matched = true
	if p.filter != nil {
		in := filter.NewInput(ev)
		defer in.Release()
		var err error
		if got.Matched, err = p.filter.Match(in); err != nil {
			return fail("filter", err)
		}
	}
	onlyFilter := c.Expect.Matches != nil && !c.Expect.beyondFilter()
	if !got.Matched || p.transform == nil || onlyFilter {
		return got
	}
	got.Ran = true
	res, err := p.runner.Run(ctx, p.transform, ev, scripts.Request{Method: http.MethodPost, Path: TargetPath, Query: map[string][]string{}, Headers: map[string]string{}})
	if err != nil {
		return fail("transform", err)
	}
	got.setResult(&res)
	return got
}

// setResult stores a transform's result in g.
func (g *Got) setResult(res *scripts.Result) {
	g.Console, g.TransformMS = res.Console, milliseconds(res.CPU)
	if g.Dropped, g.DropReason = res.Dropped, res.DropReason; g.Dropped {
		return
	}
	g.Method, g.Path, g.Headers = http.MethodPost, TargetPath, map[string]string{}
	if req := res.Request; req != nil {
		g.Method, g.Path = req.Method, req.Path
		maps.Copy(g.Headers, req.Headers)
		for name, values := range req.Query {
			if g.Query == nil {
				g.Query = map[string]Values{}
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

// String returns a short summary of the report.
func (r *Report) String() string {
	if r.Broken != nil {
		return fmt.Sprintf("the %s does not compile: %v", r.Broken.Script, r.Broken.Error)
	}
	return fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
}
