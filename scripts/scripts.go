// Package scripts holds the types that filters and transforms share: the event they
// read, the request they make, the limits they run under and the errors they return.
//
// The work is done in its sub-packages: scripts/filter evaluates expr expressions,
// scripts/transform runs JavaScript, scripts/sandbox runs transforms in child processes,
// scripts/jsonindex reads the payloads. None of them knows a database, an HTTP framework or
// a subscription.
package scripts

import (
	"fmt"
	"time"

	"switchhook/scripts/jsonindex"
)

// Event is the view of one event that a filter or transform gets.
type Event struct {
	ID       string
	Type     string
	Account  string
	Time     time.Time         // when it happened, according to the publisher
	Received time.Time         // when the router accepted it; the clock inside a transform
	Headers  map[string]string // may be nil
	Data     []byte            // JSON
	Doc      jsonindex.Value   // Data, parsed; the zero Value if it is not parsed yet
}

// Request is the part of a delivery's HTTP request that a transform may see and change.
// The host comes from the subscription, never from the script.
type Request struct {
	Method  string
	Path    string              // starts with "/", escaped as on the wire
	Query   map[string][]string // decoded
	Headers map[string]string   // without the reserved ones, which the router sets
}

// Result is the output of a transform for one event.
type Result struct {
	Body        []byte // sent as it is
	ContentType string // "application/json", or "text/plain; charset=utf-8" if the script returned a string
	Dropped     bool   // the script called drop: nothing is sent
	DropReason  string
	Request     *Request // nil if the script did not change the request
	Console     []string // one line per call, level first: "log: …"
	CPU         time.Duration
	Memory      int64 // total bytes that the run allocated, including those freed before its end
}

// DropMessage returns why the script dropped the event; "" if it did not.
func (r *Result) DropMessage() string {
	if r.Dropped && r.DropReason == "" {
		return "dropped by the transform"
	}
	return r.DropReason
}

// Limits bounds one run of a transform.
type Limits struct {
	Soft         time.Duration // CPU time after which the run is interrupted
	Hard         time.Duration // CPU time after which its process is killed
	Memory       int64         // bytes a child process may allocate above its size at start
	Source       int           // bytes of source text
	Result       int           // bytes of the body it returns
	ConsoleLines int
	ConsoleBytes int // in all lines of one run
	CallDepth    int
}

// DefaultLimits returns the limits that apply unless the operator sets others.
func DefaultLimits() Limits {
	return Limits{
		Soft:         50 * time.Millisecond,
		Hard:         150 * time.Millisecond,
		Memory:       64 << 20,
		Source:       64 << 10,
		Result:       1 << 20,
		ConsoleLines: 100,
		ConsoleBytes: 16 << 10,
		CallDepth:    256,
	}
}

// Phase is the step in which a script failed.
type Phase string

// The phases in which a script can fail.
const (
	PhaseLint    Phase = "lint"    // refused before it was parsed, or because it uses something unsupported
	PhaseCompile Phase = "compile" // does not parse, or has a type error
	PhaseRun     Phase = "run"     // threw, or returned a value that can't be sent
	PhaseTimeout Phase = "timeout" // ran longer than allowed
	PhaseMemory  Phase = "memory"  // used more memory than allowed
	PhaseOutput  Phase = "output"  // returned more than allowed
	PhaseCrash   Phase = "crash"   // crashed its process
	PhaseBusy    Phase = "busy"    // was not run: no process was free, or the router is stopping
)

// Error is a script's failure, with its place in the author's source if known.
type Error struct {
	Phase   Phase  `json:"phase"`
	Message string `json:"message"`
	Location
	Stack   []string     `json:"stack,omitempty"`   // innermost first: "transform (3:14)"
	Console []string     `json:"console,omitempty"` // lines the run had written before it failed
	Others  []Diagnostic `json:"others,omitempty"`  // further errors of the same compilation

	CPU   time.Duration `json:"-"` // CPU time until the failure; 0 if not known
	Cause error         `json:"-"` // with PhaseBusy: the resource that the machine lacks to run scripts; nil if it is only busy
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// Error returns the message, with line and column if known.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (line %d, column %d)", e.Message, e.Line, e.Column)
}

// ScriptFault reports whether the script itself caused the error; if not, the run may be
// retried in another process.
func (e *Error) ScriptFault() bool { return e.Phase != PhaseBusy }
