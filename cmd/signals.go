package cmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// serviceSignals are signals that would end a Go program at once, or that Go ignores only
// by chance, and that must not end a router with deliveries in flight: a supervisor, a log
// rotation or a shell sends them.
var serviceSignals = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGXFSZ}

// catchSignals handles the signals of a service until ctx ends: SIGHUP calls reload, and
// the rest of serviceSignals is only logged. Writing to a closed pipe fails from then on
// instead of ending the process. The returned context ends early, to drain, when SIGHUP
// means that the terminal is gone.
func catchSignals(ctx context.Context, log *slog.Logger, reload <-chan func()) (context.Context, context.CancelCauseFunc) {
	signal.Ignore(syscall.SIGPIPE)
	onTerminal := terminalOnInput()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, serviceSignals...)
	ctx, end := context.WithCancelCause(ctx)
	var again func() // nil until the router runs
	go func() {
		for {
			select {
			case <-ctx.Done(): // the signals stay caught: draining must not be interrupted either
				return
			case again = <-reload:
			case s := <-signals:
				switch {
				case s != syscall.SIGHUP:
					log.Info("signal ignored", "signal", s.String())
				case onTerminal && !terminalOnInput():
					end(errTerminalGone)
				case again == nil:
					log.Info("SIGHUP: still starting, nothing is reloaded")
				default:
					again()
				}
			}
		}
	}()
	return ctx, end
}

var errTerminalGone = errors.New("the terminal is gone")

// terminalOnInput reports whether standard input is a terminal that still exists.
func terminalOnInput() bool { return term.IsTerminal(int(os.Stdin.Fd())) }
