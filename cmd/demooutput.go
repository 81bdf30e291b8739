package cmd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// demoOutput is standard output for a command that has to tidy up: where nobody reads on,
// as in "demo | head -1", the context ends instead of the process.
type demoOutput struct {
	ctx     context.Context
	end     context.CancelCauseFunc
	ignored chan os.Signal // SIGPIPE, which Go would let end the process
}

// pipeClosed is the exit status that a shell gives for SIGPIPE.
const pipeClosed = 128 + int(syscall.SIGPIPE)

var errNobodyReads = errors.New("nobody reads standard output")

func newDemoOutput(ctx context.Context) (*demoOutput, context.Context) {
	o := &demoOutput{ignored: make(chan os.Signal, 1)}
	signal.Notify(o.ignored, syscall.SIGPIPE)
	o.ctx, o.end = context.WithCancelCause(ctx)
	return o, o.ctx
}

// Write writes, and ends the context where that fails.
func (o *demoOutput) Write(text []byte) (int, error) {
	n, err := os.Stdout.Write(text)
	if err != nil {
		o.end(errNobodyReads)
	}
	return n, err
}

func (o *demoOutput) closed() bool { return errors.Is(context.Cause(o.ctx), errNobodyReads) }

func (o *demoOutput) close() {
	signal.Stop(o.ignored)
	o.end(nil)
}
