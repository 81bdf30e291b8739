// Package scripts holds the words that filters and transforms share: the event they
// see, the request they make, the limits they run under and the errors they end in.
//
// The work is done below it: scripts/filter evaluates expr expressions, scripts/transform
// runs JavaScript, scripts/sandbox does so in child processes, scripts/jsondoc reads the
// payloads. None of them knows a database, an HTTP framework or a subscription.
package scripts

import (
	"fmt"
	"strings"
	"time"

	"switchhook/scripts/jsonindex"
)

// Event is what a filter or transform sees of one event.
type Event struct {
	ID       string
	Type     string
	Account  string
	Time     time.Time         // when it happened, as the publisher says
	Received time.Time         // when the router took it; the clock inside a transform
	Headers  map[string]string // may be nil
	Data     []byte            // JSON
	Doc      jsonindex.Value   // Data, read; the zero Value where nobody has read it yet
}

// Request is the HTTP request that a delivery makes, as far as a transform may see
// and change it. The host is the subscription's and never the script's.
type Request struct {
	Method  string
	Path    string              // starts with "/", escaped as on the wire
	Query   map[string][]string // decoded
	Headers map[string]string   // without those that the router itself sets
}

// Result is what a transform made of an event.
type Result struct {
	Body        []byte // what is sent
	ContentType string // "application/json", or "text/plain; charset=utf-8" where the script returned a string
	Dropped     bool   // the script called drop: nothing is sent
	DropReason  string
	Request     *Request // nil where the script left the request alone
	Console     []string // a line each, level first: "log: …"
	CPU         time.Duration
	Memory      int64 // bytes that the run allocated in all, also what was free again at its end
}

// Limits bounds one run of a transform.
type Limits struct {
	Soft         time.Duration // CPU time after which the run is interrupted
	Hard         time.Duration // CPU time after which its process is killed
	Memory       int64         // bytes a child process may take above its size at start
	Source       int           // bytes of source text
	Result       int           // bytes of the body it returns
	ConsoleLines int
	ConsoleBytes int // in all lines of one run
	CallDepth    int
}

// DefaultLimits are the limits that hold where the operator sets none.
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

// Phase says in which step a script failed.
type Phase string

// The phases of a script's life in which it can fail.
const (
	PhaseLint    Phase = "lint"    // refused before it was parsed, or for what it uses
	PhaseCompile Phase = "compile" // does not parse, or has a type error
	PhaseRun     Phase = "run"     // threw, or returned what can't be sent
	PhaseTimeout Phase = "timeout" // ran longer than allowed
	PhaseMemory  Phase = "memory"  // took more memory than allowed
	PhaseOutput  Phase = "output"  // returned more than allowed
	PhaseCrash   Phase = "crash"   // took its process down
	PhaseBusy    Phase = "busy"    // was not run: no process was free, or the router is stopping
)

// Error is a script's failure, with the place in its author's source where one is known.
type Error struct {
	Phase   Phase    `json:"phase"`
	Message string   `json:"message"`
	Line    int      `json:"line,omitempty"`    // 1-based, 0 where unknown
	Column  int      `json:"column,omitempty"`  // 1-based
	Snippet string   `json:"snippet,omitempty"` // the source line and a caret below it
	Stack   []string `json:"stack,omitempty"`   // innermost first: "transform (3:14)"
	Console []string `json:"console,omitempty"` // what the run had written before it failed

	CPU   time.Duration `json:"-"` // what the run took until it failed; 0 where it is not known
	Cause error         `json:"-"` // with PhaseBusy: what the machine lacks to run scripts; nil where it is only busy
}

// Unwrap gives the Cause.
func (e *Error) Unwrap() error { return e.Cause }

// Error gives the message, with line and column where they are known.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (line %d, column %d)", e.Message, e.Line, e.Column)
}

// ScriptFault tells whether the script itself is to blame; false means that the run may be
// tried again elsewhere.
func (e *Error) ScriptFault() bool { return e.Phase != PhaseBusy }

// Snippet gives the numbered line of source with a caret below the column, both
// 1-based; long lines are cut around the column. It is empty where the line does not exist.
func Snippet(source string, line, column int) string {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	text := []rune(strings.ReplaceAll(strings.TrimSuffix(lines[line-1], "\r"), "\t", " "))
	column = max(1, min(column, len(text)+1))
	const width = 100
	from := max(0, column-1-width/2)
	to := min(len(text), from+width)
	return string(text[from:to]) + "\n" + strings.Repeat(" ", column-1-from) + "^"
}
