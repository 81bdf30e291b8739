// Package cmd is the command line: one file for each command, and the wiring of the
// router's parts.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// Version is the program's version; release builds set it.
var Version = "0.1.0-dev"

type commands struct {
	Serve         serveCommand         `cmd:"" help:"Run the router."`
	Demo          demoCommand          `cmd:"" help:"Subscribe, publish, filter, transform, sign, deliver and retry some events in a temporary folder, and show it."`
	Send          sendCommand          `cmd:"" help:"Publish an event, or a file of them, to a running router."`
	Listen        listenCommand        `cmd:"" help:"Run a local receiver that verifies and prints deliveries."`
	Preview       previewCommand       `cmd:"" help:"Run a filter and a transform on one event, without a router, and show the request."`
	Test          testCommand          `cmd:"" help:"Run the test cases of filters and transforms."`
	Scripts       scriptsCommand       `cmd:"" help:"Manage the scripts of a running router: push, pull, diff, compare, activate."`
	Apply         applyCommand         `cmd:"" help:"Make a running router's event types, scripts and subscriptions match the files of a folder."`
	Subscriptions subscriptionsCommand `cmd:"" help:"List the subscriptions of a running router, with the health of their targets."`
	Replays       replaysCommand       `cmd:"" help:"Send past events of a running router again, and control replays."`
	Keys          keysCommand          `cmd:"" help:"List, create, rotate and delete API keys of a running router."`
	Accounts      accountsCommand      `cmd:"" help:"Show what the accounts of a running router use of their quotas, and what fills their storage."`
	Backup        backupCommand        `cmd:"" help:"Copy the database to a file, even while a router uses it."`
	Restore       restoreCommand       `cmd:"" help:"Restore a database from a backup, while no router uses it."`
	Secrets       secretsCommand       `cmd:"" help:"Change the key that encrypts the secrets in the database."`
	Types         typesCommand         `cmd:"" help:"Write TypeScript types of events, requests and helpers for editors."`
	Completion    completionCommand    `cmd:"" help:"Print a completion script for a shell."`
	Version       versionCommand       `cmd:"" help:"Print the version."`
}

const description = `Switchhook routes events to webhooks.

Try it: switchhook demo

Run it: switchhook serve --dev

Publish: switchhook send order.created '{"id": 1001, "total": 120}'

Flags can also be set in the environment: --data is SWITCHHOOK_DATA. Those that skip a
question or a check, such as --force and --yes, can't.`

// Main runs the command in args and returns the exit status: 0 for success, 1 for a
// failure, 2 for an invalid command line. preview and test have further statuses.
func Main(args []string) int {
	var c commands
	status := -1
	unsetEmptyVariables()
	parser := newParser(&c, kong.Exit(func(code int) { status = code }))
	if len(args) > 0 && args[0] == completeWord {
		for _, word := range completions(parser.Model.Node, args[1:]) {
			fmt.Println(word)
		}
		return 0
	}
	parsed, err := parser.Parse(normalizeArgs(args))
	if status >= 0 { // --help was given and printed
		return status
	}
	if err == nil {
		err = checkValues(parsed)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "switchhook: %v\n", err)
		if wrong, ok := errors.AsType[*kong.ParseError](err); ok {
			parsed = wrong.Context
		}
		fmt.Fprintf(os.Stderr, "Run \"switchhook %s--help\" for the commands and flags.\n", commandPath(parsed))
		return usageStatus
	}
	c.Serve.unknown = unknownVariables(parser.Model.Node, os.Environ())
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, end := context.WithCancelCause(context.Background())
	context.AfterFunc(signals, func() {
		stop() // first: after ctx ends, a second signal must end the process at once
		end(context.Cause(signals))
	})
	parsed.BindTo(ctx, (*context.Context)(nil))
	return exitStatus(parsed.Run())
}

// newParser returns the parser of the command line.
func newParser(c *commands, options ...kong.Option) *kong.Kong {
	parser, err := kong.New(c, append([]kong.Option{
		kong.Name("switchhook"), kong.Description(description), kong.UsageOnError(),
		kong.DefaultEnvars(strings.TrimSuffix(variablePrefix, "_")), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(helpWithDefault), kong.NamedMapper("path", kong.MapperFunc(decodePath)),
	}, options...)...)
	if err != nil {
		panic(err) // an error in the struct tags above
	}
	return parser
}

// normalizeArgs maps help, --version and -v to the commands that kong knows.
func normalizeArgs(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(args[1:len(args):len(args)], "--help")
	case args[0] == "--version" || args[0] == "-v":
		return []string{"version"}
	}
	return args
}

// statusError ends the process with its own exit status.
type statusError struct {
	status int
	err    error // nil: already reported
}

// Error returns the text of the wrapped error.
func (e *statusError) Error() string { return fmt.Sprint(e.err) }

// usageStatus is the exit status of an invalid command line.
const usageStatus = 2

// usageError returns an error in the command line that kong cannot detect.
func usageError(format string, args ...any) error {
	return &statusError{usageStatus, fmt.Errorf(format, args...)}
}

// exitStatus reports an error and returns its exit status.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	status := 1
	if e, ok := errors.AsType[*statusError](err); ok {
		if status = e.status; e.err == nil {
			return status
		}
	}
	// With a limit: standard error may have no reader.
	told := make(chan struct{})
	go func() {
		defer close(told)
		fmt.Fprintf(os.Stderr, "switchhook: %s\n", errorText(err))
	}()
	select {
	case <-told:
	case <-time.After(logFlushTime):
	}
	return status
}

// helpWithDefault adds a flag's default, which kong omits if there is a placeholder.
func helpWithDefault(v *kong.Value) string {
	help := kong.DefaultHelpValueFormatter(v)
	if v.HasDefault && v.Default != "" && v.Flag != nil && v.Flag.PlaceHolder != "" {
		return strings.Replace(help, " ($", " (default "+v.Default+", $", 1)
	}
	return help
}

// commandPath returns the command as far as it was parsed, with a trailing space.
func commandPath(ctx *kong.Context) string {
	if ctx == nil || ctx.Command() == "" {
		return ""
	}
	return ctx.Selected().Path() + " "
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("switchhook", Version)
	return nil
}
