package scripts

import (
	"encoding/json"
	"fmt"
)

// TestReport is the result of running a script's test cases.
type TestReport struct {
	Passed     int              `json:"passed"`
	Failed     int              `json:"failed"`
	DurationMS float64          `json:"duration_ms"`
	Broken     *BrokenScript    `json:"broken,omitempty"` // a script does not compile, so no case was run
	Cases      []TestCaseReport `json:"cases"`
}

// OK reports whether the scripts compile and every case passed.
func (r *TestReport) OK() bool { return r.Broken == nil && r.Failed == 0 }

// String returns a short summary of the report.
func (r *TestReport) String() string {
	if r.Broken != nil {
		return fmt.Sprintf("the %s does not compile: %v", r.Broken.Script, r.Broken.Error)
	}
	return fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
}

// BrokenScript is a script that does not compile.
type BrokenScript struct {
	Script string `json:"script"` // "filter" or "transform"
	Error  *Error `json:"error"`
}

// TestCaseReport is the result of one test case.
type TestCaseReport struct {
	Name       string        `json:"name"`
	Passed     bool          `json:"passed"`
	Failures   []TestFailure `json:"failures,omitempty"`
	Got        TestOutcome   `json:"got"`
	DurationMS float64       `json:"duration_ms"` // including the sandbox's overhead
}

// TestFailure is one expectation that was not met.
type TestFailure struct {
	Expected string `json:"expected"` // which one: "body", "headers"; empty for the case as a whole
	Message  string `json:"message"`
	Diff     string `json:"diff,omitempty"` // lines: "- " expected, "+ " actual, "  " both
}

// TestOutcome is the result of the scripts for a test case's event.
type TestOutcome struct {
	Matched     bool                `json:"matched"`
	Error       *Error              `json:"error,omitempty"`
	ErrorIn     string              `json:"error_in,omitempty"` // "filter" or "transform"
	Ran         bool                `json:"transform_ran"`
	Dropped     bool                `json:"dropped,omitempty"`
	DropReason  string              `json:"drop_reason,omitempty"`
	Method      string              `json:"method,omitempty"`
	Path        string              `json:"path,omitempty"`
	Query       map[string][]string `json:"query,omitempty"`
	Headers     map[string]string   `json:"headers,omitempty"` // including Content-Type
	Body        json.RawMessage     `json:"body,omitempty"`    // a body that is not JSON is a string
	Console     []string            `json:"console,omitempty"`
	TransformMS float64             `json:"transform_ms,omitempty"` // CPU time
}
