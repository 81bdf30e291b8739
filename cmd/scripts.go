package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"switchhook/cmd/manifest"
	"switchhook/scripts"
	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

type scriptsCommand struct {
	clientFlags `embed:""`
	Account     string                 `help:"Account of the scripts; another one than the key's own needs an admin key." placeholder:"NAME"`
	List        scriptsListCommand     `cmd:"" help:"List the scripts."`
	Push        scriptsPushCommand     `cmd:"" help:"Store a file as a new version of a script, and test it."`
	Pull        scriptsPullCommand     `cmd:"" help:"Write scripts and their test cases into files."`
	Diff        scriptsDiffCommand     `cmd:"" help:"Compare the live version with a file or another version, or two versions."`
	Live        scriptsLiveCommand     `cmd:"" help:"Make a version live."`
	Rollback    scriptsRollbackCommand `cmd:"" help:"Make the previous live version live again."`
	Shadow      scriptsShadowCommand   `cmd:"" help:"Run a version beside the live one on new events and count the differences; its results are not sent."`
	Compare     scriptsCompareCommand  `cmd:"" help:"Run a version or a file on stored events and show what it would change; nothing is sent."`
}

// find returns a client, and the script that name refers to.
func (c *scriptsCommand) find(ctx context.Context, name string) (*client, *api.Script, error) {
	router, err := c.client()
	if err != nil {
		return nil, nil, err
	}
	s, err := router.script(ctx, c.Account, name)
	if err == nil && s == nil {
		err = fmt.Errorf("there is no script %q; \"switchhook scripts list\" lists the scripts", name)
	}
	return router, s, err
}

// showReport prints the failed test cases and a summary.
func showReport(r *scripts.TestReport) {
	if r == nil {
		return
	}
	w := &testWriter{colours: colours()}
	for i := range r.Cases {
		if !r.Cases[i].Passed {
			w.oneCase(&r.Cases[i])
		}
	}
	fmt.Fprintf(w, "tests: %s\n", printable(r.String()))
	fmt.Print(w.String())
}

// showRefusal prints the test cases because of which the router refused a request.
func showRefusal(err error) {
	if e, ok := errors.AsType[*api.Error](err); ok {
		showReport(e.Tests)
	}
}

type scriptsListCommand struct{}

// Run lists the scripts.
func (scriptsListCommand) Run(ctx context.Context, root *commands) error {
	router, err := root.Scripts.client()
	if err != nil {
		return err
	}
	list, err := api.Collect(router.ListScripts(ctx, api.ListScriptsParams{Account: root.Scripts.Account}))
	if err != nil {
		return err
	}
	w := newTable()
	fmt.Fprintln(w, "NAME\tKIND\tLIVE\tUSED BY\tRUNS\tERRORS\tID\tDESCRIPTION")
	for _, s := range list {
		live := "-"
		if s.LiveVersion != nil {
			live = strconv.Itoa(*s.LiveVersion)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", printable(s.Name), s.Kind, live, s.UsedBy, s.Stats.Runs, s.Stats.Errors, s.ID, oneLine(s.Description))
	}
	return w.Flush()
}

// oneLine formats a text for a cell of a table.
func oneLine(text string) string {
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

type scriptsPushCommand struct {
	Name  string `arg:"" help:"The script's name."`
	File  string `arg:"" help:"File with the source."`
	Kind  string `help:"filter or transform, for a new script; by default derived from the file's extension." placeholder:"KIND" enum:"filter,transform," default:""`
	Note  string `help:"Description of the change." placeholder:"TEXT" multiline:""`
	Cases string `help:"The version's test cases, as JSON or a file; by default those of the version before." placeholder:"JSON|FILE" multiline:"" maxlen:"16777216"`
	Live  bool   `help:"Make the version live if its tests pass."`
}

// Help implements kong.HelpProvider.
func (*scriptsPushCommand) Help() string {
	return `A missing script is created. If the source equals that of the newest version, no new version is created, and that one gets the cases of --cases. Older versions keep theirs.

Exit status: 0 the version is stored, with --live it is live; 1 it does not compile, or with --live its tests fail; 2 the command line is wrong.`
}

// Run pushes a version.
func (c *scriptsPushCommand) Run(ctx context.Context, root *commands) error {
	source, err := readScriptFile(c.File)
	if err != nil {
		return err
	}
	cases, err := c.readCases()
	if err != nil {
		return err
	}
	router, err := root.Scripts.client()
	if err != nil {
		return err
	}
	s, err := router.script(ctx, root.Scripts.Account, c.Name)
	if err != nil {
		return err
	}
	made := s == nil
	if made {
		if s, err = c.create(ctx, router, root.Scripts.Account); err != nil {
			return err
		}
	}
	v, before, err := c.pushVersion(ctx, router, s, source, cases)
	if err != nil {
		if made { // do not leave a script without a version behind
			err = errors.Join(err, router.DeleteScript(context.WithoutCancel(ctx), s.ID))
		}
		return err
	}
	switch {
	case made:
		fmt.Printf("created the %s %s; this is version %d\n", s.Kind, printable(s.Name), v.Version)
	case before == v.Version:
		fmt.Printf("%s: version %d has this source already\n", printable(s.Name), v.Version)
	default:
		fmt.Printf("%s: this is version %d\n", printable(s.Name), v.Version)
	}
	showWarnings(v.Warnings)
	showReport(v.Tests)
	if !c.Live {
		return nil
	}
	if _, err := router.setLive(ctx, s.ID, v.Version, false, forceLive(s.Name, v.Version)); err != nil {
		return err
	}
	fmt.Printf("version %d is live\n", v.Version)
	return nil
}

func (c *scriptsPushCommand) readCases() (json.RawMessage, error) {
	if c.Cases == "" {
		return nil, nil
	}
	text, name, err := readJSONValue("--cases", c.Cases)
	if err != nil {
		return nil, err
	}
	folder := filepath.Dir(name)
	if name == "--cases" || name == standardInput {
		name, folder = name+".json", "."
	}
	cases, err := scripttest.ReadCases(name, text, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(folder, filepath.FromSlash(name))
		}
		return os.ReadFile(name)
	})
	if wrong, ok := errors.AsType[*scripttest.ParseError](err); ok {
		return nil, fmt.Errorf("%s:%d: %w", name, wrong.Line, wrong)
	}
	return json.Marshal(append([]scripttest.Case{}, cases...))
}

func (c *scriptsPushCommand) create(ctx context.Context, router *client, account string) (*api.Script, error) {
	kind := c.Kind
	if kind == "" {
		kind = manifest.KindOf(c.File)
	}
	if kind == "" {
		return nil, fmt.Errorf("%s does not say by its ending whether it is a filter (.expr) or a transform (.js, .ts): give --kind", c.File)
	}
	return router.CreateScript(ctx, api.CreateScriptRequest{Account: account, Name: c.Name, Kind: kind})
}

// pushVersion stores a version; before is the number of the newest version so far.
func (c *scriptsPushCommand) pushVersion(ctx context.Context, router *client, s *api.Script, source string, cases json.RawMessage) (v *api.ScriptVersion, before int, err error) {
	if c.Kind != "" && c.Kind != s.Kind {
		return nil, 0, fmt.Errorf("%s is a %s; a script's kind can't be changed", s.Name, s.Kind)
	}
	newest, err := router.version(ctx, s, api.LatestVersion)
	if err != nil {
		return nil, 0, err
	}
	if newest != nil {
		before = newest.Version
	}
	v, err = router.CreateScriptVersion(ctx, s.ID, api.CreateScriptVersionRequest{Source: source, Note: c.Note, Cases: cases})
	return v, before, err
}

type scriptsDiffCommand struct {
	Name  string `arg:"" help:"The script's name."`
	First string `arg:"" optional:"" help:"A file, or the number of a version; by default the newest version. Compared with the live version unless SECOND is given." placeholder:"FILE|VERSION"`
	Other string `arg:"" optional:"" name:"second" help:"The number of another version." placeholder:"VERSION"`
}

// differsStatus is the exit status of diff and compare if there is a difference.
const differsStatus = 3

// Help implements kong.HelpProvider.
func (*scriptsDiffCommand) Help() string {
	return `A version is a number, "live" or "latest". Lines with - are in the first, or live, version only, lines with + in the other.

Exit status: 0 no difference; 3 a difference; 1 an error; 2 the command line is wrong.`
}

// Run compares two versions.
func (c *scriptsDiffCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	from, to := api.LiveVersion, c.First
	if to == "" {
		to = api.LatestVersion
	}
	if c.Other != "" {
		from, to = c.First, c.Other
	}
	a, nameA, err := router.source(ctx, s, from)
	if err != nil {
		return err
	}
	b, nameB, err := router.source(ctx, s, to)
	if err != nil {
		return err
	}
	text := scripttest.Diff(a, b)
	if text == "" {
		fmt.Printf("%s and %s are the same\n", printable(nameA), printable(nameB))
		return nil
	}
	w := &testWriter{colours: colours()}
	fmt.Fprintf(w, "--- %s\n+++ %s\n", printable(nameA), printable(nameB))
	w.diff(text, "")
	fmt.Print(w.String())
	return &statusError{status: differsStatus}
}

// source returns a version or, if there is none, a file, and its name.
func (c *client) source(ctx context.Context, s *api.Script, named string) (source, name string, err error) {
	_, notNumber := strconv.Atoi(named)
	switch {
	case named == api.LiveVersion && s.LiveVersion == nil:
		return "", "", fmt.Errorf("no version of %s is live", s.Name)
	case named == api.LatestVersion:
		v, err := c.newest(ctx, s)
		if err != nil {
			return "", "", err
		}
		return v.Source, fmt.Sprintf("%s, version %d", s.Name, v.Version), nil
	case named == api.LiveVersion || notNumber == nil:
		v, err := c.GetScriptVersion(ctx, s.ID, named)
		if err != nil {
			return "", "", err
		}
		name := fmt.Sprintf("%s, version %d", s.Name, v.Version)
		if v.Live {
			name += ", live"
		}
		return v.Source, name, nil
	}
	text, err := os.ReadFile(named)
	return string(text), named, err
}

type scriptsLiveCommand struct {
	Name    string `arg:"" help:"The script's name."`
	Version int    `arg:"" help:"The version's number." min:"1" max:"1000000000"`
	Force   bool   `env:"-" help:"Make it live even if its tests fail."`
}

// Help implements kong.HelpProvider.
func (*scriptsLiveCommand) Help() string {
	return `Exit status: 0 the version is live; 1 its tests fail, or another error; 2 the command line is wrong.`
}

// Run makes a version live.
func (c *scriptsLiveCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	return router.switchTo(ctx, s, c.Version, c.Force)
}

// switchTo makes a version live and prints the previous one.
func (c *client) switchTo(ctx context.Context, s *api.Script, version int, force bool) error {
	report, err := c.setLive(ctx, s.ID, version, force, "--force makes it live anyway")
	if err != nil {
		showRefusal(err)
		return err
	}
	showReport(report)
	switch {
	case s.LiveVersion == nil:
		fmt.Printf("%s: version %d is live\n", printable(s.Name), version)
	case *s.LiveVersion == version:
		fmt.Printf("%s: version %d was live already\n", printable(s.Name), version)
	default:
		fmt.Printf("%s: version %d is live; it was version %d\n", printable(s.Name), version, *s.LiveVersion)
	}
	return nil
}

type scriptsRollbackCommand struct {
	Name  string `arg:"" help:"The script's name."`
	Force bool   `env:"-" help:"Do it even if that version was never live and fails its tests, or no longer compiles."`
}

// Help implements kong.HelpProvider.
func (*scriptsRollbackCommand) Help() string {
	return `Of the versions below the live one, this is the one that was live last; if none was, the highest. A version that was live before goes live again even if its tests fail now. "switchhook scripts live NAME VERSION" makes any other one live.

Exit status: 0 the older version is live; 1 there is none, it was never live and its tests fail, or another error; 2 the command line is wrong.`
}

// Run makes the previous live version live again.
func (c *scriptsRollbackCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	if s.LiveVersion == nil {
		return fmt.Errorf("no version of %s is live", s.Name)
	}
	v, err := router.liveBefore(ctx, s)
	if err != nil {
		return err
	}
	if v == nil {
		return fmt.Errorf("version %d of %s is live, and there is none before it", *s.LiveVersion, s.Name)
	}
	return router.switchTo(ctx, s, v.Version, c.Force)
}
