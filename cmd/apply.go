package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"switchhook/cmd/manifest"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/scripteval"
	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

type applyCommand struct {
	clientFlags `embed:""`
	Folder      string `short:"f" name:"folder" help:"Folder with the YAML files and the files that they name." placeholder:"DIR" required:""`
	DryRun      bool   `help:"Show the plan and run the tests, but change nothing."`
	Yes         bool   `short:"y" env:"-" help:"Don't ask before changing something."`
	Prune       bool   `env:"-" help:"Delete subscriptions and scripts that apply created and that no file has any more."`
	Account     string `help:"Account of entries that name none; by default the key's own." placeholder:"NAME"`
}

// pendingStatus is the exit status of a dry run that would change something.
const pendingStatus = 3

// Help implements kong.HelpProvider.
func (*applyCommand) Help() string {
	return `The files are described in docs/apply.md. In short:

  event_types:
    - {name: order.created, schema: order.schema.json, samples: [order.json]}
  scripts:
    - {name: order-text, file: order-text.ts, tests: order-text.test.json}
  subscriptions:
    - {name: chat, event: order.created, target_url: "https://example.com/hook",
       transform_script: order-text, headers: {Authorization: "Bearer ${CHAT_TOKEN}"}}

The plan is shown, the tests of all scripts are run on this machine, and only if they pass the router is changed: event types first, then scripts, then subscriptions. Applying again changes nothing.

Exit status: 0 the router matches the files; 3 with --dry-run: it does not; 1 a file is wrong, a test fails, the plan was not confirmed, or the router refuses a change; 2 the command line is wrong.`
}

// Run applies the files.
func (c *applyCommand) Run(ctx context.Context) error {
	interactive := term.IsTerminal(int(os.Stdin.Fd()))
	if !c.DryRun && !c.Yes && !interactive {
		return errors.New("standard input is not a terminal, so the plan cannot be confirmed: give --yes, or --dry-run to see the plan")
	}
	set, err := manifest.Load(c.Folder, c.Account, lookupVariable)
	if err != nil {
		return fileProblems(err)
	}
	router, err := c.client()
	if err != nil {
		return err
	}
	plan, state, err := c.plan(ctx, router, set)
	if err != nil {
		return err
	}
	text := planText(plan, colours())
	fmt.Print(text)
	if err := c.check(ctx, set, state); err != nil {
		return err
	}
	changes := plan.Changes()
	switch {
	case changes == 0:
		fmt.Println("nothing to change")
		return nil
	case c.DryRun:
		fmt.Printf("%d %s to make; this was a dry run\n", changes, plural(changes, "change"))
		return &statusError{status: pendingStatus}
	}
	if !c.Yes {
		if !confirmed(os.Stdin, fmt.Sprintf("Make %s? [y/N] ", countedNoun(changes, "change"))) {
			return errors.New("nothing was changed")
		}
		// The state may have changed while the plan was shown.
		again, _, err := c.plan(ctx, router, set)
		if err != nil {
			return err
		}
		if planText(again, false) != planText(plan, false) {
			return errors.New("the router has changed since the plan was made; nothing was changed, run apply again")
		}
	}
	return (&applier{router: router, set: set}).run(ctx, plan)
}

func (c *applyCommand) plan(ctx context.Context, router *client, set *manifest.Set) (*manifest.Plan, *manifest.State, error) {
	state, err := readState(ctx, router, set, c.Account, c.Prune)
	if err != nil {
		return nil, nil, err
	}
	plan, err := manifest.NewPlan(set, state, c.Prune)
	return plan, state, fileProblems(err)
}

// fileProblems puts each problem on its own line.
func fileProblems(err error) error {
	all, ok := errors.AsType[manifest.Problems](err)
	if !ok {
		return err
	}
	fmt.Fprintln(os.Stderr, printable(all.Error()))
	return fmt.Errorf("%s in the files; nothing was changed", countedNoun(len(all), "mistake"))
}

// lookupVariable is os.LookupEnv without trailing line breaks, which values read from files
// have.
func lookupVariable(name string) (string, bool) {
	value, set := os.LookupEnv(name)
	return strings.TrimRight(value, "\r\n"), set
}

func countedNoun(n int, noun string) string { return fmt.Sprintf("%d %s", n, plural(n, noun)) }

func confirmed(in io.Reader, question string) bool {
	fmt.Fprint(os.Stderr, question)
	answer, _ := bufio.NewReader(in).ReadString('\n') // no answer is no
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}

var signs = map[manifest.Action]string{manifest.Create: "+", manifest.Change: "~", manifest.Delete: "-"}

// planText formats a plan for people; unchanged things are only counted.
func planText(p *manifest.Plan, colours bool) string {
	w := &testWriter{colours: colours}
	kept := 0
	for _, s := range p.Steps {
		if s.Action == manifest.Unchanged {
			kept++
			continue
		}
		line := fmt.Sprintf("%s %s %s %s", signs[s.Action], s.Action, s.What, stepName(s))
		if s.Detail != "" && s.Action != manifest.Change {
			line += " (" + printable(s.Detail) + ")"
		}
		fmt.Fprintln(w, w.paint(map[manifest.Action]string{manifest.Create: green, manifest.Delete: red}[s.Action], line))
		w.diff(s.Diff, "    ")
	}
	if kept > 0 {
		fmt.Fprintf(w, "= %d unchanged\n", kept)
	}
	return w.String()
}

func stepName(s *manifest.Step) string {
	name := printable(s.Name)
	if s.Account != "" {
		name += " of " + printable(s.Account)
	}
	return name
}

// check runs the tests of the scripts and compiles the subscriptions' inline sources, on
// this machine.
func (c *applyCommand) check(ctx context.Context, set *manifest.Set, state *manifest.State) error {
	var runner scripteval.Transformer
	if needsSandbox(set) {
		pool, err := startSandbox(false)
		if err != nil {
			return err
		}
		defer pool.Close()
		runner = pool
	}
	checks := checker{runner: runner, writer: &testWriter{colours: colours()}}
	for _, s := range set.Scripts {
		checks.script(ctx, s)
	}
	for _, s := range set.Subscriptions {
		checks.subscription(ctx, s, set, schemasFor(s, set, state))
	}
	fmt.Fprint(os.Stderr, checks.writer.String())
	if checks.passed+checks.failed > 0 {
		fmt.Printf("tests: %d passed, %d failed\n", checks.passed, checks.failed)
	}
	if checks.wrong > 0 {
		return fmt.Errorf("%s, so nothing was changed", countedScripts(checks.wrong))
	}
	return nil
}

func countedScripts(n int) string {
	if n == 1 {
		return "a script is wrong"
	}
	return fmt.Sprintf("%d scripts are wrong", n)
}

func needsSandbox(set *manifest.Set) bool {
	return slices.ContainsFunc(set.Scripts, func(s *manifest.Script) bool { return s.Kind == "transform" }) ||
		slices.ContainsFunc(set.Subscriptions, func(s *manifest.Subscription) bool { return s.Transform.Or("") != "" })
}

// schemasFor returns the schemas that a subscription's filter must match: those of all its
// event types, or none.
func schemasFor(sub *manifest.Subscription, set *manifest.Set, state *manifest.State) (schemas [][]byte) {
	known := map[string]json.RawMessage{}
	for _, t := range state.EventTypes {
		known[t.Name] = t.Schema
	}
	for _, t := range set.EventTypes {
		known[t.Name] = t.Schema
	}
	for _, name := range sub.Events.Or(nil) {
		if found := known[name]; len(found) == 0 || string(found) == "null" {
			return nil
		}
		schemas = append(schemas, known[name])
	}
	return schemas
}

// checker counts the passed checks and writes the failures.
type checker struct {
	runner                scripteval.Transformer
	writer                *testWriter
	passed, failed, wrong int
}

func (c *checker) script(ctx context.Context, s *manifest.Script) {
	r := scripttest.Run(ctx, c.runner, s.Suite())
	c.passed += r.Passed
	c.failed += r.Failed
	if r.OK() {
		return
	}
	c.wrong++
	if r.Broken != nil {
		where := s.SourceFile
		if where == "" {
			where = s.Place.String()
		} else if r.Broken.Error.Line > 0 {
			where = fmt.Sprintf("%s:%d", where, r.Broken.Error.Line)
		}
		c.broken(where, r.Broken.Error)
		return
	}
	fmt.Fprintf(c.writer, "%s: script %s\n", printable(s.TestsFile), printable(s.Name))
	for i := range r.Cases {
		if !r.Cases[i].Passed {
			c.writer.oneCase(&r.Cases[i])
		}
	}
}

func (c *checker) broken(where string, err error) {
	fmt.Fprintf(c.writer, "%s: %s\n", printable(where), printable(err.Error()))
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		c.writer.WriteString(indentLines(printable(e.Snippet), "  "))
	}
}

func (c *checker) subscription(ctx context.Context, s *manifest.Subscription, set *manifest.Set, schemas [][]byte) {
	source, where := s.Filter.Or(""), s.Place.String()+": subscription "+s.Name+": filter"
	if ref, ok := s.FilterScript.Get(); ok && ref.Version == nil && schemas != nil {
		for _, script := range set.Scripts {
			if script.Name != ref.Name || script.Account != s.Account {
				continue
			}
			if _, err := filter.Compile(script.Source); err == nil { // otherwise already reported
				source = script.Source
			}
		}
		where = s.Place.String() + ": subscription " + s.Name + ": filter_script " + ref.Name
	}
	if source != "" {
		if _, err := filter.Compile(source, schemas...); err != nil {
			c.wrong++
			c.broken(where, err)
		}
	}
	for _, key := range []struct{ name, source string }{{"policy.ordering_key", s.Policy.Or(api.Policy{}).OrderingKey.Or("")}, {"debounce.key", s.Debounce.Or(api.Debounce{}).Key.Or("")}} {
		if key.source == "" {
			continue
		}
		if _, err := filter.CompileKey(key.source, schemas...); err != nil {
			c.wrong++
			c.broken(s.Place.String()+": subscription "+s.Name+": "+key.name, err)
		}
	}
	transform := s.Transform.Or("")
	if transform == "" {
		return
	}
	if _, err := c.runner.Compile(ctx, transform); err != nil {
		c.wrong++
		c.broken(s.Place.String()+": subscription "+s.Name+": transform", err)
	}
}
