// Package suite runs test cases for filters and transforms: an event goes in, and what
// comes of it is compared with what its author expects. The command line runs the cases
// that lie beside scripts in files, and the engine those of a script before a version of
// it goes live; both through Run.
//
// The package knows scripts and the files of cases, nothing of subscriptions, storage or
// HTTP, and it sends nothing.
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
	// Compile checks a source and makes of it what Run takes.
	Compile(ctx context.Context, source string) (*scripts.Program, error)
	// Run gives the request that a program makes of an event; req is what would be sent without it.
	Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error)
}

// Suite is a pair of scripts, either of which may be missing, and their cases.
type Suite struct {
	Filter    string // expr source; empty lets every event through
	Transform string // JavaScript or TypeScript source; empty makes no request
	Schemas   [][]byte
	Cases     []Case
	KeepBody  int // bytes of each Got.Body that the report keeps; 0: all of them
}

// TargetPath is the path that a transform finds in its request; there is no query and
// there are no headers, and the method is POST.
const TargetPath = "/hook"

// Report is what came of a suite.
type Report struct {
	Passed     int          `json:"passed"`
	Failed     int          `json:"failed"`
	DurationMS float64      `json:"duration_ms"`
	Broken     *Broken      `json:"broken,omitempty"` // a script does not compile, so no case was run
	Cases      []CaseReport `json:"cases"`
}

// OK tells whether the scripts compile and every case passed.
func (r *Report) OK() bool { return r.Broken == nil && r.Failed == 0 }

// Broken is a script that does not compile.
type Broken struct {
	Script string         `json:"script"` // "filter" or "transform"
	Error  *scripts.Error `json:"error"`
}

// CaseReport is what came of one case.
type CaseReport struct {
	Name       string    `json:"name"`
	Passed     bool      `json:"passed"`
	Failures   []Failure `json:"failures,omitempty"`
	Got        Got       `json:"got"`
	DurationMS float64   `json:"duration_ms"` // the sandbox's overhead included
}

// Failure is one expectation that was not met.
type Failure struct {
	Expected string `json:"expected"` // which: "body", "headers"; empty where it is the case as a whole
	Message  string `json:"message"`
	Diff     string `json:"diff,omitempty"` // lines: "- " what was expected, "+ " what came, "  " both
}

// Got is what came of an event.
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
	Headers     map[string]string `json:"headers,omitempty"` // Content-Type among them
	Body        json.RawMessage   `json:"body,omitempty"`    // a body that is no JSON is a string
	Console     []string          `json:"console,omitempty"`
	TransformMS float64           `json:"transform_ms,omitempty"` // CPU time

	text string // the body as it is sent
}

// Run compiles a suite's scripts and runs its cases one after the other. When ctx ends,
// the cases that are left fail.
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

// pair is a suite's scripts, compiled; each may be nil.
type pair struct {
	runner    Runner
	filter    *filter.Filter
	transform *scripts.Program
}

func compile(ctx context.Context, runner Runner, s *Suite) (p pair, _ *Broken) {
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

// scriptError is err as a script's error, which it is unless a Runner breaks its word.
func scriptError(err error) *scripts.Error {
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		return e
	}
	return &scripts.Error{Phase: scripts.PhaseBusy, Message: err.Error()}
}

func (p pair) run(ctx context.Context, c *Case) CaseReport {
	r := CaseReport{Name: c.Name}
	began := time.Now()
	r.Got = p.try(ctx, c)
	r.DurationMS = milliseconds(time.Since(began))
	r.Failures = p.judge(&c.Expect, &r.Got)
	r.Passed = len(r.Failures) == 0
	return r
}

// try sends an event through the scripts, as far as the case asks for it. An event comes
// to the transform only through the filter, as in the router.
func (p pair) try(ctx context.Context, c *Case) (got Got) {
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
	got.take(&res)
	return got
}

// take notes a transform's result.
func (g *Got) take(res *scripts.Result) {
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
		g.Body, _ = marshal(g.text) // a string can always be written
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// String is the report in a few words.
func (r *Report) String() string {
	if r.Broken != nil {
		return fmt.Sprintf("the %s does not compile: %v", r.Broken.Script, r.Broken.Error)
	}
	return fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
}
