package scripts

import (
	"fmt"
	"time"
)

// Program is a compiled transform: what a sandbox process needs to run it. It is
// immutable and may be shared and stored.
type Program struct {
	Hash   string // SHA-256, in hex, of the author's source and the compiler's version
	Source string // as the author wrote it
	Code   string // the JavaScript that is run
	Map    []byte // the source map that leads from Code back to Source
}

// TimeoutError returns the error of a run that used more CPU time than allowed.
func (l Limits) TimeoutError() *Error {
	return &Error{Phase: PhaseTimeout, Message: "timeout after " + milliseconds(l.Soft)}
}

// InRegexp is appended to the message of a TimeoutError raised in a regular expression.
const InRegexp = " in a regular expression"

// MemoryError returns the error of a run that used more memory than allowed.
func (l Limits) MemoryError() *Error {
	return &Error{Phase: PhaseMemory, Message: "memory limit " + size(l.Memory)}
}

// OutputError returns the error of a run whose body is larger than allowed.
func (l Limits) OutputError() *Error {
	return &Error{Phase: PhaseOutput, Message: "result larger than " + size(int64(l.Result))}
}

// SourceError returns the error of a source text that is longer than allowed.
func (l Limits) SourceError() *Error {
	return &Error{Phase: PhaseLint, Message: "source larger than " + size(int64(l.Source))}
}

func milliseconds(d time.Duration) string {
	if d%time.Millisecond == 0 {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.String()
}

func size(n int64) string {
	switch {
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n > 0 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
