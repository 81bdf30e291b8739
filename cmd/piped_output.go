package cmd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// pipedOutput is standard output for a command that must clean up: if the reader closes the
// pipe, as in "demo | head -1", the context ends instead of the process.
type pipedOutput struct {
	ctx     context.Context
	end     context.CancelCauseFunc
	ignored chan os.Signal // SIGPIPE, on which Go would end the process
}

// pipeClosed is the exit status that a shell reports for SIGPIPE.
const pipeClosed = 128 + int(syscall.SIGPIPE)

var errNobodyReads = errors.New("the reader of standard output closed it")

func newPipedOutput(ctx context.Context) (*pipedOutput, context.Context) {
	o := &pipedOutput{ignored: make(chan os.Signal, 1)}
	signal.Notify(o.ignored, syscall.SIGPIPE)
	o.ctx, o.end = context.WithCancelCause(ctx)
	return o, o.ctx
}

// Write writes, and ends the context if that fails.
func (o *pipedOutput) Write(text []byte) (int, error) {
	n, err := os.Stdout.Write(text)
	switch {
	case errors.Is(err, syscall.EPIPE):
		o.end(errNobodyReads)
	case err != nil:
		o.end(&outputError{err})
	}
	return n, err
}

// failure returns the error of a command that ended because its output could not be
// written; nil if it ended for another reason.
func (o *pipedOutput) failure() error {
	cause := context.Cause(o.ctx)
	if errors.Is(cause, errNobodyReads) {
		return &statusError{status: pipeClosed}
	}
	if failed, ok := errors.AsType[*outputError](cause); ok {
		return failed.error
	}
	return nil
}

// outputError is the reason why standard output cannot be written.
type outputError struct{ error }

func (o *pipedOutput) close() {
	signal.Stop(o.ignored)
	o.end(nil)
}
